//! How often somebody may guess.

use super::*;

/// Wrong passwords, each from an address `127.0.0.N` and in a connection of its own.
fn guess(server: &Server, guesses: &[(u8, &str)]) {
    let mut clients: Vec<Client> = guesses.iter().map(|&(n, _)| server.client_from(n)).collect();
    for (client, (_, name)) in clients.iter_mut().zip(guesses) {
        client.ask(name, "wrong");
    }
    for client in &mut clients {
        assert_eq!(client.reply(), WRONG);
    }
}

#[test]
fn an_address_has_so_many_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "3"]);
    let (mut early, mut inside) = (server.client_from(2), server.client_from(2));
    assert!(inside.sign_in("tim", PASSWORD).starts_with("235 "));
    guess(&server, &[(2, "one"), (2, "two")]);
    assert!(server.client_from(2).sign_in("ann", PASSWORD).starts_with("235 "));
    guess(&server, &[(2, "three")]);
    let mut late = server.connect_from(2);
    assert_eq!((late.reply().as_str(), late.reply().as_str()), (GUESSED, ""));
    assert_eq!(early.sign_in("ann", PASSWORD), GUESSED);
    assert!(early.is_cut_off());
    // Who is signed in has nothing to guess, and others are others.
    assert_eq!(inside.send("Subject: inside\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    assert!(server.client_from(3).sign_in("ann", PASSWORD).starts_with("235 "));
}

#[test]
fn an_account_has_so_many_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    guess(&server, &[(2, "tim"), (3, "tim")]);
    // The right password is as wrong as any.
    assert_eq!(server.client_from(4).sign_in("tim", PASSWORD), WRONG);
    assert!(server.client_from(5).sign_in("ann", PASSWORD).starts_with("235 "));
}

#[test]
fn a_sign_in_clears_the_accounts_failures() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    for address in [2, 3] {
        guess(&server, &[(address, "tim")]);
        assert!(server.client_from(4).sign_in("tim", PASSWORD).starts_with("235 "));
    }
}

/// SCRAM asks for the keys before it hears the proof: whoever waits there has not got round.
#[test]
fn exchanges_begun_before_are_no_more_guesses() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    let first = BASE64_STANDARD.encode("n,,n=tim,r=fyko+d2lbbFgONRv9qkxdawL");
    let mut clients: Vec<Client> = (2..6).map(|n| server.client_from(n)).collect();
    for client in &mut clients {
        assert!(client.say(&format!("AUTH SCRAM-SHA-256 {first}")).starts_with("334 "));
    }
    let replies: Vec<_> = clients.iter_mut().map(|client| client.say("AAAA")).collect();
    assert!(replies[..2].iter().all(|reply| reply.starts_with("535 5.7.8 ")), "{replies:?}");
    assert_eq!(replies[2..], [GUESSED; 2]);
}

/// A locked account goes on to show its own salt, or who sees another knows that there is one.
#[test]
fn a_locked_account_shows_its_own_salt() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    let salt = |n: u8, name: &str| {
        let first = BASE64_STANDARD.encode(format!("n,,n={name},r=fyko+d2lbbFgONRv9qkxdawL"));
        let mut client = server.client_from(n);
        let reply = client.say(&format!("AUTH SCRAM-SHA-256 {first}"));
        let challenge = BASE64_STANDARD.decode(reply.strip_prefix("334 ").unwrap()).unwrap();
        let salt = String::from_utf8(challenge).unwrap().split_once(',').unwrap().1.to_owned();
        (salt, client)
    };
    for (n, name) in [(10, "tim"), (20, "nobody")] {
        let (before, _) = salt(n, name);
        guess(&server, &[(n + 1, name), (n + 2, name)]);
        assert_eq!(server.client_from(n + 3).sign_in(name, PASSWORD), WRONG);
        let (locked, mut client) = salt(n + 4, name);
        assert_eq!(locked, before, "{name}");
        assert_eq!(
            client.say("AAAA"),
            "535 5.7.8 Malformed credentials: the final message of SCRAM is malformed"
        );
    }
}

/// Every way to write a name is a guess at the same account.
#[test]
fn guesses_under_other_spellings_count() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    guess(&server, &[(2, "t\u{ad}im"), (3, "\u{ff54}im")]);
    assert_eq!(server.client_from(4).sign_in("tim\u{200d}", PASSWORD), WRONG);
    assert_eq!(server.client_from(5).sign_in("tim", PASSWORD), WRONG);
}

/// Clients hang up as soon as they are told that their token is refused.
#[test]
fn refused_tokens_meet_the_limit_as_passwords_do() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--token", "tim:abc", "--guess-limit", "10"]);
    let wrong = BASE64_STANDARD.encode("user=tim\u{1}auth=Bearer wrong\u{1}\u{1}");
    let mut told = 0;
    for _ in 0..10 {
        let mut clients: Vec<Client> = (0..30).map(|_| server.connect_from(2)).collect();
        for client in &mut clients {
            // Who is over the limit has been sent away already.
            let _ = client.write(format!("EHLO c\r\nAUTH XOAUTH2 {wrong}\r\n"));
        }
        for client in &mut clients {
            let mut reply = client.reply();
            while reply.starts_with("2") {
                reply = client.reply();
            }
            told += u32::from(reply.starts_with("334 "));
            assert!(reply.starts_with("334 ") || reply == GUESSED, "{reply}");
        }
    }
    assert_eq!(told, 10, "of 300");
}

#[test]
fn guessing_is_not_limited_where_that_is_off() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "off"]);
    // More than the ten by default, from one address and at one account.
    for _ in 0..3 {
        let mut client = server.client();
        (0..4).for_each(|_| assert_eq!(client.sign_in("tim", "wrong"), WRONG));
    }
    assert!(server.client().sign_in("tim", PASSWORD).starts_with("235 "));
}

/// How long the replies take to the first two failures of a connection.
fn pauses(options: &[&str]) -> [Duration; 2] {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), options);
    let mut client = server.client();
    [(); 2].map(|()| {
        let began = Instant::now();
        assert_eq!(client.sign_in("tim", "wrong"), WRONG);
        began.elapsed()
    })
}

#[test]
fn each_failure_is_answered_later() {
    let [first, second] = pauses(&[]);
    assert!(first >= Duration::from_secs(1), "{first:?}");
    assert!(second >= Duration::from_secs(2), "{second:?}");
}

#[test]
fn failures_are_answered_at_once_where_guessing_is_not_limited() {
    let pauses = pauses(&["--guess-limit", "off"]);
    assert!(pauses.iter().all(|&pause| pause < Duration::from_secs(1)), "{pauses:?}");
}

fn network(address: &str) -> Network {
    Network::from(address.parse::<IpAddr>().unwrap())
}

const TICK: Duration = Duration::from_millis(1);

#[test]
fn failures_count_for_their_network_and_their_account() {
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let (now, tim, here) = (Instant::now(), guesses.account("tim"), network("192.0.2.1"));
    let barred = || (guesses.bar_network(here, now), guesses.bar_account(tim, now));
    guesses.failed(here, ["tim"], now);
    assert_eq!(barred(), (false, false));
    guesses.failed(here, [], now);
    assert_eq!(barred(), (true, false));
    guesses.failed(network("192.0.2.2"), ["tim"], now);
    assert_eq!(barred(), (true, true));
    guesses.signed_in(tim);
    assert_eq!(barred(), (true, false));
}

/// Who has an account by ten names has no more guesses at it.
#[test]
fn an_alias_is_locked_with_its_account() {
    struct Users;

    impl Authenticator for Users {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            let right = ask.password().expose() == PASSWORD;
            Answer::from(right).of("tim")
        }
    }

    let config = sasl::server::Config::builder("localhost").mechanisms(Users.mechanisms());
    let config = Arc::new(config.build().unwrap());
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let sign_in = |name: &str, password: &str| {
        let now = Instant::now();
        let users = Limited { users: &Users, guesses: Some(&guesses), now };
        let response = format!("\0{name}\0{password}").into_bytes();
        let mut exchange =
            Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response));
        exchange.query().unwrap().answer_with(&users);
        let Step::Done(outcome) = exchange.step() else { panic!("it goes on") };
        let why = outcome.err();
        let names = [exchange.authcid(), exchange.account()].into_iter().flatten();
        guesses.failed(network("192.0.2.1"), names, now);
        why
    };
    assert_eq!(sign_in("t.im", "wrong"), Some(Failure::Rejected));
    assert_eq!(sign_in("ti.m", "wrong"), Some(Failure::Rejected));
    assert_eq!(sign_in("t.i.m", PASSWORD), Some(Failure::Locked));
    assert_eq!(sign_in("tim", PASSWORD), Some(Failure::Locked));
}

#[test]
fn failures_are_forgotten_one_by_one() {
    let guesses = Guesses::new(NonZeroU32::new(4).unwrap());
    let (begin, here, leak) = (Instant::now(), network("192.0.2.1"), WINDOW / 4);
    let barred = |now| guesses.bar_network(here, now);
    (0..4).for_each(|_| guesses.failed(here, [], begin));
    assert!(barred(begin + leak - TICK));
    assert!(!barred(begin + leak));
    // Room for one, and no more.
    guesses.failed(here, [], begin + leak);
    assert!(barred(begin + leak * 2 - TICK));
    assert!(!barred(begin + leak * 2));
    // When it has been quiet for the whole time there is room for all.
    for end in [begin + leak + WINDOW, begin + WINDOW * 4] {
        (0..3).for_each(|_| guesses.failed(here, [], end));
        assert!(!barred(end));
        guesses.failed(here, [], end);
        assert!(barred(end));
    }
}

#[test]
fn failures_beyond_the_limit_prolong_nothing() {
    let guesses = Guesses::new(NonZeroU32::new(2).unwrap());
    let (now, here) = (Instant::now(), network("192.0.2.1"));
    (0..50).for_each(|_| guesses.failed(here, [], now));
    assert!(guesses.bar_network(here, now + WINDOW / 2 - TICK));
    assert!(!guesses.bar_network(here, now + WINDOW / 2));
}

/// Where the time of one failure is no whole number of nanoseconds, too.
#[test]
fn every_limit_is_kept_to_the_failure() {
    for limit in [1, 2, 7, 10, 999, 100_003] {
        let guesses = Guesses::new(NonZeroU32::new(limit).unwrap());
        let (now, here) = (Instant::now(), network("192.0.2.1"));
        (1..limit).for_each(|_| guesses.failed(here, [], now));
        assert!(!guesses.bar_network(here, now), "{limit}");
        guesses.failed(here, [], now);
        assert!(guesses.bar_network(here, now), "{limit}");
    }
}

#[test]
fn a_table_of_failures_has_an_end() {
    let guesses = Guesses::new(NonZeroU32::MIN);
    let address = |n: usize| Network::from(IpAddr::from(Ipv4Addr::from(n as u32)));
    let now = Instant::now();
    for n in 0..=MAX_REMEMBERED.get() {
        guesses.failed(address(n), [], now);
    }
    let barred = |n| guesses.bar_network(address(n), now);
    assert_eq!([0, 1, MAX_REMEMBERED.get()].map(barred), [false, true, true]);
}

#[test]
fn an_address_of_ipv6_stands_for_its_64() {
    assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

#[test]
fn a_place_is_free_when_its_connection_ends() {
    let connections = Arc::new(Connections::new(2, 1));
    let (here, there) = (network("192.0.2.1"), network("192.0.2.2"));
    let place = connections.enter(here);
    let code = |network| connections.enter(network).map(drop).map_err(|reply| reply.to_string());
    assert!(code(here).unwrap_err().starts_with("421 4.7.0 "));
    let other = connections.enter(there);
    assert!(code(network("192.0.2.3")).unwrap_err().starts_with("421 4.3.2 "));
    drop(place);
    assert_eq!(code(here), Ok(()));
    drop(other);
    assert_eq!(code(there), Ok(()));
}
