//! Salted passwords that a client keeps.

use super::*;

/// What the work gives with these credentials, for the salt of the test below.
fn salted_for(credentials: Credentials, iterations: u32) -> SaltedPassword {
    let config =
        client::Config::builder().nonces(|| Nonce::new("rOprNGfwEbeRWgbNEkqO")).build().unwrap();
    let choice = Mechanism::ScramSha256;
    let mut exchange = client::Exchange::new(&config, &Channel::tls(), choice, credentials);
    let client::Step::Response(response) = exchange.step() else { panic!() };
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    response.challenge(format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}"));
    let client::Step::Derive(derive) = exchange.step() else { panic!() };
    derive.run();
    derive.salted().unwrap().clone()
}

#[test]
fn a_password_that_was_changed_is_not_taken_for_the_kept_one() {
    let old = salted_for(Credentials::password("user", "old").unwrap(), 4096);
    let new = Credentials::password("user", "new").unwrap().salted(old.clone());
    // It would panic if the work were spared.
    let _ = salted_for(new, 4096);
}

#[test]
fn a_kept_password_spares_the_work() {
    let nonce = || Nonce::new("rOprNGfwEbeRWgbNEkqO");
    let config = client::Config::builder().nonces(nonce).build().unwrap();
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,";
    let mut credentials = Credentials::password("user", "pencil").unwrap();
    for (iterations, work) in [(4096, true), (4096, false), (5000, true)] {
        let mut exchange = client::Exchange::new(
            &config,
            &Channel::tls(),
            Mechanism::ScramSha256,
            credentials.clone(),
        );
        let client::Step::Response(response) = exchange.step() else { panic!() };
        response.challenge(format!("{first}i={iterations}"));
        let mut derived = false;
        if let client::Step::Derive(derive) = exchange.step() {
            derived = true;
            let salted = std::thread::spawn({
                let job = derive.job();
                move || job.run()
            });
            let salted = salted.join().unwrap();
            // That of another password, which comes late, has no place here.
            let other = Credentials::password("user", "another").unwrap();
            derive.answer(salted_for(other, iterations));
            assert!(derive.salted().is_none());
            credentials = credentials.salted(salted.clone());
            derive.answer(salted);
            assert!(derive.salted().is_some());
        }
        assert_eq!(derived, work);
        let client::Step::Response(response) = exchange.step() else { panic!() };
        let message = String::from_utf8(response.data().unwrap().to_vec()).unwrap();
        if iterations == 4096 {
            assert!(message.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
        }
    }
}

#[test]
fn scram_is_not_chosen_where_it_cannot_begin() {
    let name = Credentials::password("\u{ad}", "pencil").unwrap();
    let channel = Channel::tls();
    let choose = |only: &[Mechanism]| {
        let config = client::Config::builder().mechanisms(only).build().unwrap();
        config.choose(&name, &channel, "AUTH SCRAM-SHA-256 PLAIN")
    };
    let both = [Mechanism::ScramSha256, Mechanism::Plain];
    assert_eq!(choose(&both), Ok(Mechanism::Plain));
    // And the reason is not that the account of another was asked for.
    let alone = [Mechanism::ScramSha256];
    assert_eq!(choose(&alone), Err(NoMechanism::Unprepared));
}
