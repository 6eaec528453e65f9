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

/// What other programs made of `pencil`, each with a salt of its own.
#[test]
fn texts_of_other_programs() {
    for text in [
        // PostgreSQL 15: CREATE ROLE … PASSWORD 'pencil'; SELECT rolpassword FROM pg_authid
        "SCRAM-SHA-256$4096:EryE1LiTrRhsTTafcCCNZQ==$i5l30mNZNhOurRbncHVAaO0clb1vGssnWNYt2FuAy5I=:\
            4suI8y0Zppwc3g9tJ/SWh4sGTmN5o8Pj3dA8qh5xrVk=",
        // Dovecot 2.3: doveadm pw -s SCRAM-SHA-256 -p pencil, and with .b64, .base64 and .hex
        "{SCRAM-SHA-256}4096,OFt3c5ic12Fb5iMk+p0TIw==,ccv9qJ4R+SB/nSD5RTtIv81MUv4POtgE/F7+hZ05DfA=,\
            /ACo/A7ZzK4Qlfl3Qsf6YZb3VdQdGrROqXmTMdR1l9o=",
        "{SCRAM-SHA-256.B64}NDA5NixaOW0vSFNzL3ZHVFNkbXdZZ21yVXdnPT0sNWxFVm9INlYwakMyVytqR2twd2ZBdXdNK1N\
            IcVZnK3FpeE84MHpPS0F2UT0sbnAzS3Z0TlBxQWFxY09ESC9zK2wvVlZwaXNla1BKbldhNTIycThUSWF3bz0=",
        "{SCRAM-SHA-256.BASE64}NDA5NiwzdWp2emxYWHdtZ2paeFV1STUxb1VnPT0sbi9IdGsxc2xKK016RVlyTFdyUlJRMnNT\
            RnJFSmtpbTF2WHBzNnA5T0RTbz0sQ2xvTE1yN3VIR3lMZDlPNEs4NXR5QXNCemRaS1doOHhOV1JBa1BveXZXaz0=",
        "{SCRAM-SHA-1.HEX}343039362c70473135666933676438524c51574579792b325458513d3d2c326432734a36785344\
            5353525a59616b324c365336414a4c5744303d2c67466c6245423353413362796379734f425959796f783069386a\
            6b3d",
    ] {
        let read: ScramKeys = text.parse().unwrap();
        assert!(read.check_password("pencil"), "{text}");
        assert!(!read.check_password("Pencil"), "{text}");
        assert_eq!(read.to_text().expose().parse::<ScramKeys>().unwrap().to_text(), read.to_text());
    }
    let fields = &SHA_256["SCRAM-SHA-256$".len()..].replace([':', '$'], ",");
    let encoded = STANDARD.encode(fields);
    let digits: String = fields.bytes().map(|octet| format!("{octet:02X}")).collect();
    let read = |text: &str| text.parse::<ScramKeys>().map(|keys| keys.to_text()).ok();
    let own = SHA_256.parse::<ScramKeys>().unwrap().to_text();
    for good in [
        format!("{{scram-sha-256.hex}}{digits}"),
        format!("{{SCRAM-SHA-256.hex}}{}", digits.to_lowercase()),
        format!("{{SCRAM-SHA-256.b64}}{encoded}"),
        // Spaces, where `authPassword` may have them (RFC 3112 §2.1).
        format!("  {}  ", SHA_256.replace('$', "  $ ")),
    ] {
        assert_eq!(read(&good), Some(own.clone()), "{good}");
    }
    for broken in [
        format!("{{SCRAM-SHA-256.hex}}{encoded}"),
        format!("{{SCRAM-SHA-256.hex}}{}", &digits[1..]),
        format!("{{SCRAM-SHA-256.b64}}{fields}"),
        format!("{{SCRAM-SHA-256.b32}}{encoded}"),
        format!("{{SCRAM-SHA-256.}}{fields}"),
        format!("{{SCRAM-SHA-256.hex}}{digits}ff"),
        format!("{{SCRAM-SHA-256.hex}}{digits}f"),
        format!("{{SCRAM-SHA-256}}{fields},"),
        format!("{{SCRAM-SHA-256}} {fields}"),
        format!("{SHA_256}$"),
        SHA_256.replace(':', " : "),
        SHA_256.replace('$', "\t$"),
    ] {
        assert_eq!(read(&broken), None, "{broken}");
    }
}

/// RFC 7677 §3's password and salt, after `Hi` of Python's hashlib.
const SALTED: [(ScramHash, &str); 3] = [
    (ScramHash::Sha1, "147ea8339ba2ad1726ed688b8d20ea2fee09ecb0"),
    (ScramHash::Sha256, "c4a49510323ab4f952cac1fa99441939e78ea74d6be81ddf7096e87513dc615d"),
    (
        ScramHash::Sha512,
        "f16efe1be67f1d09502ebd5ed9262fddffba5a377ab4f0b687e5ed5ba0f50686\
            b8a4ae166476da8ab3b951d2fa9238b63998f45461bc33a464814949cec9631d",
    ),
];

#[test]
fn salted_passwords() {
    let salt = STANDARD.decode(SALT).unwrap();
    for (hash, digits) in SALTED {
        let digit = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let mut salted: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        let made = ScramKeys::from_salted_password(hash, &salted, &salt, 4096).unwrap();
        assert_eq!(made.to_text(), keys(hash, "pencil").unwrap().to_text());
        assert!(ScramKeys::from_salted_password(hash, &salted, &[], 4096).is_none());
        assert!(ScramKeys::from_salted_password(hash, &salted, &salt, 0).is_none());
        assert!(ScramKeys::from_salted_password(hash, &salted[1..], &salt, 4096).is_none());
        salted.push(0);
        assert!(ScramKeys::from_salted_password(hash, &salted, &salt, 4096).is_none());
    }
}

#[test]
fn parts() {
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let own = keys(hash, "pencil").unwrap();
        let parts = own.parts();
        let text = own.to_text();
        let (work, stored) = text.expose().rsplit_once('$').unwrap();
        let encoded = [parts.stored_key, parts.server_key].map(|key| STANDARD.encode(key));
        assert_eq!(encoded.join(":"), stored);
        assert_eq!((parts.hash, parts.iterations), (hash, 4096));
        assert_eq!(STANDARD.encode(parts.salt), work.rsplit_once(':').unwrap().1);
        assert_eq!(ScramKeys::from_parts(parts).unwrap().to_text(), text);
        let shown = format!("ScramParts {{ hash: {hash:?}, iterations: 4096, .. }}");
        assert_eq!(format!("{parts:?}"), shown);
        let (short, long) = (&parts.server_key[1..], &[0; 65][..]);
        for broken in [
            ScramParts { iterations: 0, ..parts },
            ScramParts { salt: &[], ..parts },
            ScramParts { stored_key: short, ..parts },
            ScramParts { server_key: short, ..parts },
            ScramParts { stored_key: long, ..parts },
            ScramParts { server_key: &[], ..parts },
        ] {
            assert!(ScramKeys::from_parts(broken).is_none(), "{broken:?}");
        }
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
