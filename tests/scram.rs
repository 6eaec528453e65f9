//! SCRAM's stored forms, and what a client and a server must not believe.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::std_instead_of_alloc,
    reason = "a panic is how a test fails"
)]
#![cfg(all(
    feature = "plain",
    feature = "scram-sha-1",
    feature = "scram-sha-256",
    feature = "scram-sha-512"
))]

use core::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU32, Ordering},
};
use std::{panic::catch_unwind, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    auth,
    reply::ReplyRef,
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, CramSecret, CramSecretFor, Failure,
        Mechanism, Nonce, Query, SaltedPassword, ScramHash, ScramKeys, ScramKeysFor,
        client::{self, Credentials, NoMechanism},
        server,
    },
};

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
const SHA_256: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
    $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn keys(hash: ScramHash, password: &str) -> Option<ScramKeys> {
    ScramKeys::from_password(hash, password, &STANDARD.decode(SALT).unwrap(), 4096)
}

#[test]
fn stored_forms() {
    // RFC 7677 §3's account, in the form of RFC 5803 and in Dovecot's.
    let own = keys(ScramHash::Sha256, "pencil").unwrap();
    assert_eq!(own.to_text().expose(), SHA_256);
    let dovecot = "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let lower =
        [SHA_256.replace("SCRAM-SHA", "scram-sha"), dovecot.replace("SCRAM-SHA", "Scram-Sha")];
    for text in [SHA_256, dovecot, &lower[0], &lower[1]] {
        let read: ScramKeys = text.parse().unwrap();
        assert_eq!(read.to_text().expose(), SHA_256);
        assert!(read.check_password("pencil"));
        assert!(!read.check_password("Pencil"));
    }
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let text = keys(hash, "pencil").unwrap().to_text();
        assert_eq!(text.expose().parse::<ScramKeys>().unwrap().to_text(), text);
    }
    for broken in [
        "",
        "SCRAM-SHA-256",
        "SCRAM-SHA-256$0:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:c2FsdA==$WG5d8oPm3Ot=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-1$4096:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256-PLUS$4096:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "PLAIN$4096:c2FsdA==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
    ] {
        assert!(broken.parse::<ScramKeys>().is_err(), "{broken}");
    }
}

/// Dovecot's form of `CRAM-MD5`, with the password of RFC 2195.
const CRAM_MD5: &str = "{CRAM-MD5}d06d4e1b26fccaa4b0b61801132340a354b21152711fb604ca3e035e7015116b";

#[test]
#[cfg(feature = "cram-md5")]
fn stored_form_of_cram_md5() {
    let own = CramSecret::from_password("tanstaaftanstaaf");
    assert_eq!(own.to_text().expose(), CRAM_MD5);
    // Dovecot knows the scheme by two names, and takes them in any case.
    let alias = CRAM_MD5.replace("CRAM", "HMAC");
    let lower = [CRAM_MD5, &alias].map(str::to_lowercase);
    for text in [CRAM_MD5, &CRAM_MD5.to_uppercase(), &alias, &lower[0], &lower[1]] {
        let read: CramSecret = text.parse().unwrap();
        assert_eq!(read.to_text().expose(), CRAM_MD5);
        assert!(read.check_password("tanstaaftanstaaf"));
        assert!(!read.check_password("tanstaaftanstaag"));
        assert!(!read.check_password(""));
    }
    let digits = &CRAM_MD5["{CRAM-MD5}".len()..];
    for broken in [
        String::new(),
        digits.into(),
        "{CRAM-MD5}".into(),
        format!("{CRAM_MD5}0"),
        CRAM_MD5[..CRAM_MD5.len() - 1].into(),
        CRAM_MD5.replace('d', "g"),
        format!("{{PLAIN-MD5}}{digits}"),
        format!("{{CRAM-MD5}}{}é", &digits[2..]),
    ] {
        assert!(broken.parse::<CramSecret>().is_err(), "{broken}");
    }
}

/// A store that has what a Dovecot database has, and no passwords.
struct Store(Option<ScramKeys>, Option<CramSecret>, Vec<Mechanism>);

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &self.2
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let password = ask.password().expose();
        let by_keys = self.0.as_ref().is_some_and(|keys| keys.check_password(password));
        let by_states = self.1.as_ref().is_some_and(|states| states.check_password(password));
        (ask.authcid() == "tim" && (by_keys || by_states)).into()
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.1.clone().filter(|_| ask.authcid() == "tim").into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.0.clone().filter(|_| ask.authcid() == "tim").into()
    }
}

impl Store {
    fn new(scram: Option<ScramKeys>, cram: Option<CramSecret>) -> Self {
        let of_scram = scram.as_ref().map(|keys| keys.hash().mechanism());
        let of_cram = cram.as_ref().map(|_| Mechanism::CramMd5);
        let mechanisms = of_scram.into_iter().chain(of_cram).chain([Mechanism::Plain]).collect();
        Self(scram, cram, mechanisms)
    }
}

#[test]
#[cfg(feature = "cram-md5")]
fn a_store_without_passwords_serves_all_that_it_can() {
    let password = "tanstaaftanstaaf";
    let scram = keys(ScramHash::Sha256, password).unwrap();
    for store in [
        Store::new(Some(scram.clone()), None),
        Store::new(None, Some(CRAM_MD5.parse().unwrap())),
        Store::new(Some(scram), Some(CRAM_MD5.parse().unwrap())),
    ] {
        let config = server::Config::builder("smtp.example.com").mechanisms(store.mechanisms());
        let config = Arc::new(config.build().unwrap());
        let offered: Vec<_> = config.offered(&Channel::tls()).collect();
        assert_eq!(offered, store.mechanisms());
        for mechanism in offered {
            for (password, good) in [(password, true), ("another", false)] {
                let credentials = Credentials::password("tim", password).unwrap();
                let mut client = client::Exchange::new(
                    &client::Config::default(),
                    &Channel::tls(),
                    mechanism,
                    credentials,
                );
                let initial = response(&mut client).data().map(<[u8]>::to_vec);
                let mut server =
                    server::Exchange::new(&config, &Channel::tls(), mechanism, initial);
                let signed_in = loop {
                    match server.step() {
                        server::Step::Query(query) => query.answer_with(&store),
                        server::Step::Challenge(challenge) => {
                            response(&mut client).challenge(challenge.data());
                            challenge.respond(response(&mut client).data().unwrap());
                        }
                        server::Step::Done(outcome) => break outcome.is_ok(),
                    }
                };
                assert_eq!(signed_in, good, "{mechanism}");
            }
        }
    }
}

/// The response that the client has for the server, its work done.
fn response(client: &mut client::Exchange) -> &mut client::Response {
    if let client::Step::Derive(derive) = client.step() {
        derive.run();
    }
    match client.step() {
        client::Step::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
#[cfg(feature = "saslprep")]
fn passwords_are_prepared() {
    let plain = keys(ScramHash::Sha256, "IX").unwrap().to_text();
    assert_eq!(keys(ScramHash::Sha256, "\u{2168}").unwrap().to_text(), plain);
    assert!(keys(ScramHash::Sha256, "\u{ad}").is_none(), "it maps to nothing");
    assert!(keys(ScramHash::Sha256, "a\u{7}").is_none());
}

/// What a server says to the first message of that user.
fn server_first(config: &Arc<server::Config>, name: &str, known: bool) -> (String, Failure) {
    let first = format!("n,,n={name},r=abc").into_bytes();
    let mechanism = Mechanism::ScramSha256;
    let mut exchange = server::Exchange::new(config, &Channel::tls(), mechanism, Some(first));
    let mut said = String::new();
    loop {
        match exchange.step() {
            server::Step::Query(Query::ScramKeys(ask)) => {
                let own = keys(ask.hash(), "pencil").filter(|_| known);
                ask.answer(own);
            }
            server::Step::Query(other) => other.reject(),
            server::Step::Challenge(challenge) => {
                said = String::from_utf8(challenge.data().to_vec()).unwrap();
                let nonce = said.split(',').next().unwrap();
                let proof = STANDARD.encode([7; 32]);
                challenge.respond(format!("c=biws,{nonce},p={proof}"));
            }
            server::Step::Done(outcome) => return (said, outcome.unwrap_err()),
        }
    }
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

/// Where the client's exchange stands after the server has said that.
fn client_after(challenges: &[&str], config: &client::Config) -> Result<(), client::Failure> {
    let credentials = Credentials::password("user", "pencil").unwrap();
    let mechanism = Mechanism::ScramSha256;
    let mut exchange = client::Exchange::new(config, &Channel::tls(), mechanism, credentials);
    for challenge in challenges {
        match exchange.step() {
            client::Step::Response(response) if *challenge == "success" => response.success(),
            client::Step::Response(response) if *challenge == "undecodable" => {
                response.undecodable();
            }
            client::Step::Response(response) => response.challenge(*challenge),
            other @ (client::Step::Derive(_) | client::Step::Challenge(_)) => panic!("{other:?}"),
            client::Step::Done(outcome) => return outcome,
        }
        if let client::Step::Derive(derive) = exchange.step() {
            derive.run();
        }
    }
    match exchange.step() {
        client::Step::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_believes_only_a_server_that_proves_itself() {
    let nonce = || Nonce::new("rOprNGfwEbeRWgbNEkqO");
    let config = client::Config::builder().nonces(nonce).build().unwrap();
    let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let last = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    let not_authentic = Err(client::Failure::ServerNotAuthentic);
    for (challenges, expected) in [
        (&[first, last, "success"][..], Ok(())),
        (&[first, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="], not_authentic),
        (&[first, "v="], not_authentic),
        (&[first, "success"], not_authentic),
        (&["success"], not_authentic),
        (
            &[first, "e=invalid-proof"],
            Err(client::Failure::ServerError("the user name or password is wrong")),
        ),
        (&[first, "e=other-error"], Err(client::Failure::ServerError("it does not say which"))),
        (&[first, last, "more"], Err(client::Failure::MalformedServerMessage)),
        (&["r=rOprNGfwEbeRWgbNEkqO,s=c2FsdA==,i=4096"], not_authentic),
        (&["r=another,s=c2FsdA==,i=4096"], not_authentic),
        (
            &["r=rOprNGfwEbeRWgbNEkqO x,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqO\0,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqOé,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4095"], Err(client::Failure::Iterations(4095))),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=600001"],
            Err(client::Failure::Iterations(600_001)),
        ),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4294967296"],
            Err(client::Failure::Iterations(u32::MAX)),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=0"], Err(client::Failure::Iterations(0))),
        (&[first, "undecodable"], not_authentic),
        (&[first, "\u{fffd}"], not_authentic),
        (&["undecodable"], Err(client::Failure::MalformedServerMessage)),
        (&["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i="], Err(client::Failure::MalformedServerMessage)),
        (
            &["r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=04096"],
            Err(client::Failure::MalformedServerMessage),
        ),
        (&["r=rOprNGfwEbeRWgbNEkqOx,i=4096"], Err(client::Failure::MalformedServerMessage)),
        (
            &["m=x,r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=4096"],
            Err(client::Failure::MalformedServerMessage),
        ),
    ] {
        assert_eq!(client_after(challenges, &config), expected, "{challenges:?}");
        // Or an impostor would get the password by PLAIN.
        assert!(!expected.is_err_and(|failure| failure.may_try_next()), "{challenges:?}");
    }
}

/// The end of an AUTH exchange in which the server says all this, and whether it had its proof to send before
/// the last of it.
fn auth_after(replies: &[String]) -> (auth::client::Failure, bool) {
    let config =
        client::Config::builder().nonces(|| Nonce::new("rOprNGfwEbeRWgbNEkqO")).build().unwrap();
    let credentials = Credentials::password("user", "pencil").unwrap();
    let choice = Mechanism::ScramSha256;
    let mut exchange = auth::client::Exchange::new(&config, &Channel::tls(), choice, credentials);
    let (mut replies, mut owed) = (replies.iter(), false);
    loop {
        match exchange.step(&mut Vec::new()) {
            auth::client::Step::NeedReply(_) => {
                owed = exchange.awaits_proof();
                let auth::client::Step::NeedReply(slot) = exchange.step(&mut Vec::new()) else {
                    panic!()
                };
                slot.reply(ReplyRef::parse(replies.next().unwrap().as_bytes()).unwrap());
            }
            auth::client::Step::Derive(derive) => derive.run(),
            auth::client::Step::Challenge(_) => panic!(),
            auth::client::Step::Done(end) => return (end.unwrap_err().clone(), owed),
        }
    }
}

#[test]
fn a_failure_tells_whether_the_password_may_go_by_another_mechanism() {
    let challenge = |text: &str| format!("334 {}\r\n", STANDARD.encode(text));
    let first = challenge(
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    );
    let last = challenge("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    let few = challenge("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1");
    for code in ["435", "454", "500", "501", "504", "534", "535", "538", "550"] {
        let refusal = format!("{code} no\r\n");
        let all = |said: &[&String]| said.iter().map(|said| (*said).clone()).collect::<Vec<_>>();
        for (replies, owed, may) in [
            // The command itself.
            (all(&[&refusal]), false, true),
            (all(&[&first, &refusal]), true, false),
            (all(&[&first, &last, &refusal]), false, false),
            (all(&[&few, &refusal]), false, false),
            (all(&[&challenge("x"), &refusal]), false, false),
            (all(&[&"334 x\r\n".to_owned(), &refusal]), false, false),
        ] {
            let (failure, was_owed) = auth_after(&replies);
            assert_eq!((was_owed, failure.may_try_next()), (owed, may), "{replies:?}: {failure:?}");
        }
    }
    // Who closes, and what is out of step.
    for replies in [
        &["421 bye\r\n"][..],
        &["235-ok\r\n504 no\r\n"],
        &["250 ok\r\n"],
        &["235 ok\r\n"],
        &[&few, "235 ok\r\n"],
    ] {
        let replies: Vec<_> = replies.iter().map(|&said| said.to_owned()).collect();
        assert!(!auth_after(&replies).0.may_try_next(), "{replies:?}");
    }
    for said in ["250 ok\r\n", "354 ok\r\n", "235 ok\r\n"] {
        let impostor = auth::client::Failure::FalseSuccess(client::Failure::ServerNotAuthentic);
        assert_eq!(auth_after(&[first.clone(), said.into()]), (impostor, true), "{said}");
    }
}

#[test]
fn a_caller_sets_the_bounds_of_the_iterations() {
    let nonce = || Nonce::new("rOprNGfwEbeRWgbNEkqO");
    let config =
        client::Config::builder().nonces(nonce).scram_iterations(5000, 5001).build().unwrap();
    for (iterations, refused) in [(4999, true), (5000, false), (5001, false), (5002, true)] {
        let first = format!("r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i={iterations}");
        // Behind what is taken, success alone is not believed.
        let expected = match refused {
            true => client::Failure::Iterations(iterations),
            false => client::Failure::ServerNotAuthentic,
        };
        assert_eq!(client_after(&[&first, "success"], &config), Err(expected));
    }
}

#[test]
#[cfg(all(feature = "getrandom", feature = "cram-md5"))]
fn no_nonce_comes_twice() {
    let of_server = Arc::new(
        server::Config::builder("smtp.example.com")
            .mechanisms(Mechanism::COMPILED)
            .build()
            .unwrap(),
    );
    let of_client = client::Config::default();
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..50 {
        let mechanism = Mechanism::CramMd5;
        let mut exchange = server::Exchange::new(&of_server, &Channel::tls(), mechanism, None);
        let server::Step::Challenge(challenge) = exchange.step() else { panic!() };
        let challenge = String::from_utf8(challenge.data().to_vec()).unwrap();
        let nonce = challenge.strip_prefix('<').unwrap().strip_suffix("@smtp.example.com>");
        nonces.insert(nonce.unwrap().to_owned());

        let (first, _) = server_first(&of_server, "user", false);
        nonces.insert(first.split(',').next().unwrap().strip_prefix("r=abc").unwrap().to_owned());

        let credentials = Credentials::password("user", "pencil").unwrap();
        let choice = Mechanism::ScramSha256;
        let mut exchange = client::Exchange::new(&of_client, &Channel::tls(), choice, credentials);
        let first = String::from_utf8(response(&mut exchange).data().unwrap().to_vec()).unwrap();
        nonces.insert(first.rsplit_once(",r=").unwrap().1.to_owned());
    }
    assert_eq!(nonces.len(), 150);
    // 128 bits, as hexadecimal digits.
    assert!(nonces.iter().all(|nonce| nonce.len() == 32), "{nonces:?}");
}

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
