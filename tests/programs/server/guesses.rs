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
    guess(&server, &[(2, "one"), (2, "two"), (2, "three")]);
    // The right password is as wrong as any, in a connection that was there before, too.
    assert_eq!(early.sign_in("ann", PASSWORD), WRONG);
    assert_eq!(server.client_from(2).sign_in("ann", PASSWORD), WRONG);
    // Who is signed in has nothing to guess, who has signed in from there is known, and others are others.
    assert_eq!(inside.send("Subject: inside\r\n\r\n").unwrap(), "250 2.0.0 Message stored");
    assert!(server.client_from(2).sign_in("tim", PASSWORD).starts_with("235 "));
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
fn an_owner_is_not_locked_out_from_elsewhere() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--guess-limit", "2"]);
    assert!(server.client_from(4).sign_in("tim", PASSWORD).starts_with("235 "));
    guess(&server, &[(2, "tim"), (3, "tim")]);
    assert_eq!(server.client_from(5).sign_in("tim", PASSWORD), WRONG);
    assert!(server.client_from(4).sign_in("tim", PASSWORD).starts_with("235 "));
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

/// Clients hang up as soon as they are told that their token is refused. Nobody guesses a token, but the failures count.
#[test]
fn refused_tokens_count_for_their_address() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path(), &["--token", "tim:abc", "--guess-limit", "10"]);
    let wrong = BASE64_STANDARD.encode("user=tim\u{1}auth=Bearer wrong\u{1}\u{1}");
    for _ in 0..10 {
        assert!(server.client_from(2).say(&format!("AUTH XOAUTH2 {wrong}")).starts_with("334 "));
    }
    assert_eq!(server.client_from(2).sign_in("tim", PASSWORD), WRONG);
    assert!(server.client_from(3).sign_in("tim", PASSWORD).starts_with("235 "));
    let right = BASE64_STANDARD.encode("user=tim\u{1}auth=Bearer abc\u{1}\u{1}");
    assert!(server.client_from(2).say(&format!("AUTH XOAUTH2 {right}")).starts_with("235 "));
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
