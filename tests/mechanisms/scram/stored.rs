//! The stored forms of credentials.

use super::*;

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

#[test]
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
