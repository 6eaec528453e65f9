//! What a server shows, and takes for a proof.

use super::*;

#[test]
fn passwords_are_prepared() {
    let plain = keys(ScramHash::Sha256, "IX").unwrap().to_text();
    assert_eq!(keys(ScramHash::Sha256, "\u{2168}").unwrap().to_text(), plain);
    assert!(keys(ScramHash::Sha256, "\u{ad}").is_none(), "it maps to nothing");
    assert!(keys(ScramHash::Sha256, "a\u{7}").is_none());
}

#[test]
fn who_does_not_exist_looks_like_who_does() {
    let config = server::Config::builder("smtp.example.com")
        .mechanisms(Mechanism::COMPILED)
        .salt_key("a key of the server")
        .nonces(|| Nonce::new("server"))
        .build()
        .unwrap();
    let config = Arc::new(config);
    let (known, why) = server_first(&config, "user", true);
    assert_eq!(
        (known.as_str(), why),
        (&*format!("r=abcserver,s={SALT},i=4096"), Failure::Rejected)
    );
    let (nobody, why) = server_first(&config, "nobody", false);
    assert_eq!(why, Failure::Rejected);
    assert_eq!(nobody.len(), known.len());
    assert_eq!(server_first(&config, "nobody", false).0, nobody, "the salt stays");
    assert_ne!(server_first(&config, "somebody", false).0, nobody, "and is the name's own");
    let other = server::Config::builder("smtp.example.com")
        .mechanisms(Mechanism::COMPILED)
        .salt_key("another key, as long")
        .nonces(|| Nonce::new("server"))
        .build()
        .unwrap();
    let other = Arc::new(other);
    assert_ne!(server_first(&other, "nobody", false).0, nobody, "and the server's");
}

/// The salt in what a server says first, or in a stored form.
fn salt(text: &str) -> &str {
    let behind = text.split_once("s=").or(text.split_once("4096:")).unwrap().1;
    behind.split([',', '$']).next().unwrap()
}

#[test]
fn decoy_keys_are_those_that_are_shown() {
    let config = server::Config::builder("smtp.example.com")
        .mechanisms(Mechanism::COMPILED)
        .salt_key("a key of the server")
        .build()
        .unwrap();
    let config = Arc::new(config);
    let stored = |hash| config.decoy_keys(hash, "nobody").unwrap().to_text();
    let (sha256, sha1) = (stored(ScramHash::Sha256), stored(ScramHash::Sha1));
    assert_eq!(salt(sha256.expose()), salt(&server_first(&config, "nobody", false).0));
    assert_ne!(
        salt(sha256.expose()),
        salt(sha1.expose()),
        "another for each hash, as real ones have"
    );
    assert!(!config.decoy_keys(ScramHash::Sha1, "nobody").unwrap().check_password(""));
}

/// What becomes of a right proof once it was altered.
fn altered(alter: impl Fn(&mut Vec<u8>)) -> Result<(), Failure> {
    let config = Arc::new(
        server::Config::builder("smtp.example.com")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    let credentials = Credentials::password("user", "pencil").unwrap();
    let choice = Mechanism::ScramSha256;
    let mut client =
        client::Exchange::new(&client::Config::default(), &Channel::tls(), choice, credentials);
    let first = response(&mut client).data().map(<[u8]>::to_vec);
    let mut exchange =
        server::Exchange::new(&config, &Channel::tls(), Mechanism::ScramSha256, first);
    loop {
        match exchange.step() {
            server::Step::Query(Query::ScramKeys(ask)) => ask.answer(keys(ask.hash(), "pencil")),
            server::Step::Query(other) => other.reject(),
            server::Step::Challenge(challenge) if challenge.is_final() => challenge.respond(""),
            server::Step::Challenge(challenge) => {
                response(&mut client).challenge(challenge.data());
                let said = response(&mut client).data().unwrap().to_vec();
                let said = String::from_utf8(said).unwrap();
                let (without_proof, proof) = said.rsplit_once(",p=").unwrap();
                let mut proof = STANDARD.decode(proof).unwrap();
                alter(&mut proof);
                challenge.respond(format!("{without_proof},p={}", STANDARD.encode(proof)));
            }
            server::Step::Done(outcome) => return outcome.map(|_| ()),
        }
    }
}

#[test]
fn a_proof_has_the_length_of_the_hash() {
    assert_eq!(altered(|_| {}), Ok(()));
    assert_eq!(altered(|proof| proof[31] ^= 1), Err(Failure::Rejected));
    assert_eq!(altered(|proof| proof.push(0)), Err(Failure::Rejected));
    assert_eq!(altered(|proof| proof.resize(64, 0)), Err(Failure::Rejected));
    assert_eq!(altered(|proof| proof.truncate(31)), Err(Failure::Rejected));
    assert_eq!(altered(Vec::clear), Err(Failure::Rejected));
    assert!(matches!(altered(|proof| proof.resize(65, 0)), Err(Failure::Malformed(_))));
}

/// The source is the host's, and what it does must not leave a question without a name.
#[test]
fn a_source_of_nonces_that_panics_changes_nothing() {
    let calls = AtomicU32::new(0);
    let source = move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("no nonce"),
        _ => Nonce::new("server"),
    };
    let config = Arc::new(
        server::Config::builder("smtp.example.com")
            .mechanisms(Mechanism::COMPILED)
            .nonces(source)
            .build()
            .unwrap(),
    );
    let first = Some(b"n,,n=user,r=abc".to_vec());
    let mut exchange =
        server::Exchange::new(&config, &Channel::tls(), Mechanism::ScramSha256, first);
    match exchange.step() {
        server::Step::Query(Query::ScramKeys(ask)) => ask.answer(keys(ask.hash(), "pencil")),
        other => panic!("{other:?}"),
    }
    let step = AssertUnwindSafe(|| matches!(exchange.step(), server::Step::Challenge(_)));
    assert!(catch_unwind(step).is_err());
    match exchange.step() {
        server::Step::Challenge(challenge) => {
            assert_eq!(challenge.data(), format!("r=abcserver,s={SALT},i=4096").as_bytes());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn keys_of_another_hash_are_none() {
    let config = Arc::new(
        server::Config::builder("smtp.example.com")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    let first = Some(b"n,,n=user,r=abc".to_vec());
    let mut exchange =
        server::Exchange::new(&config, &Channel::tls(), Mechanism::ScramSha256, first);
    match exchange.step() {
        server::Step::Query(Query::ScramKeys(ask)) => {
            ask.answer(Answer::from(keys(ScramHash::Sha1, "pencil")));
        }
        other => panic!("{other:?}"),
    }
    let server::Step::Challenge(challenge) = exchange.step() else { panic!() };
    assert!(!String::from_utf8_lossy(challenge.data()).contains(SALT));
}
