//! Stored forms, and what was never used.

use hmac::digest::common::hazmat::SerializableState;

use super::*;

/// A response of the application's own mechanism that nobody has taken.
#[test]
fn responses_that_are_not_used() {
    let secrets = Secrets::of(100);
    let respond = || CustomResponse::Respond(secrets.password.clone().into_bytes());
    let ((), found) = looking(|| {
        drop(respond());
        drop(respond().clone());
        let mechanism = Mechanism::custom(CUSTOM).unwrap();
        let choice = mechanism;
        let credentials = credentials(mechanism, &secrets);
        let mut client =
            sasl::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
        if let sasl::client::Step::Custom(ask) = client.step() {
            ask.answer(respond());
        }
    });
    assert_eq!(found, 0);
}

/// The texts of what a store keeps.
#[test]
fn stored_forms() {
    let secrets = Secrets::of(40);
    let states = CramSecret::from_password(&secrets.password);
    let upper = {
        let text = states.to_text();
        Secret::new(format!("{{CRAM-MD5}}{}", text.expose()[10..].to_ascii_uppercase()))
    };
    let keys = |hash| ScramKeys::from_password(hash, &secrets.password, b"salt", 1).unwrap();
    let text = states.to_text();
    let mut made = vec![&text.expose().as_bytes()[10..42], &text.expose().as_bytes()[42..]];
    made.extend([&states.states().0[..], &states.states().1[..]]);
    let lower = &text.expose().as_bytes()[10..];
    made.push(lower);
    look_for(&made);
    let ((), found) = looking(|| {
        assert_eq!(states.to_text(), text);
        for text in [text.expose(), upper.expose()] {
            assert!(text.parse::<CramSecret>().unwrap().check_password(&secrets.password));
        }
        assert!(format!("{}0", &upper.expose()[..10]).parse::<CramSecret>().is_err());
    });
    assert_eq!(found, 0, "CRAM-MD5");
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let text = keys(hash).to_text();
        let stored = text.expose().rsplit_once('$').unwrap().1;
        let decoded: Vec<_> = stored.split(':').map(|key| STANDARD.decode(key).unwrap()).collect();
        let mut made: Vec<&[u8]> = decoded.iter().map(|key| &**key).collect();
        made.extend(stored.split(':').map(str::as_bytes));
        look_for(&made);
        let ((), found) = looking(|| {
            assert_eq!(keys(hash).to_text(), text);
            let read: ScramKeys = text.expose().parse().unwrap();
            assert_eq!(read.to_text(), text);
        });
        assert_eq!(found, 0, "{hash:?}");
    }
}

/// The same as Dovecot encodes them once more; what is no such text, too.
#[test]
fn stored_forms_encoded_twice() {
    let secrets = Secrets::of(40);
    let hash = ScramHash::Sha256;
    let text = ScramKeys::from_password(hash, &secrets.password, b"salt", 1).unwrap().to_text();
    let fields = text.expose()["SCRAM-SHA-256$".len()..].replace([':', '$'], ",");
    look_for(&fields[3..].split(',').map(str::as_bytes).collect::<Vec<_>>());
    let digits: String = fields.bytes().map(|octet| format!("{octet:02x}")).collect();
    let encoded = [
        format!("{{SCRAM-SHA-256.b64}}{}", STANDARD.encode(&fields)),
        format!("{{SCRAM-SHA-256.hex}}{digits}"),
    ];
    let ((), found) = looking(|| {
        for encoded in &encoded {
            assert_eq!(encoded.parse::<ScramKeys>().unwrap().to_text(), text);
            assert!(encoded[..encoded.len() - 1].parse::<ScramKeys>().is_err());
            assert!(encoded[..encoded.len() - 40].parse::<ScramKeys>().is_err());
        }
    });
    assert_eq!(found, 0);
}

/// A salted password, the ClientKey and the keys that are made of it, and their parts. What is made next would
/// take along what they leave on the stack.
#[test]
fn salted_passwords_and_parts() {
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let length = ScramKeys::from_password(hash, "a", b"a", 1).unwrap().parts().stored_key.len();
        let salted = secret('s', length).into_bytes();
        let made = |salted: &[u8]| ScramKeys::from_salted_password(hash, salted, b"a", 1);
        let keys = made(&salted).unwrap();
        let parts = keys.parts();
        let builder = || sasl::server::Config::builder("a.example").mechanisms([Mechanism::Plain]);
        let config = Arc::new(builder().build().unwrap());
        let plain = Mechanism::Plain;
        look_for(&[&salted, parts.stored_key, parts.server_key]);
        let ((), found) = looking(|| {
            assert!(made(&salted[1..]).is_none());
            let too_short = ScramParts { server_key: &parts.server_key[1..], ..parts };
            assert!(ScramKeys::from_parts(too_short).is_none());
            drop(made(&salted));
            drop(Box::new(sasl::server::Exchange::new(&config, &channel(), plain, None)));
            drop(made(&salted));
            drop(Box::new(builder()));
            drop(ScramKeys::from_parts(parts));
            drop(Box::new(builder()));
        });
        assert_eq!(found, 0, "{hash:?}");
    }
}

/// What a password's salting computes with: the padded key, its states, and each `Ui` (RFC 5802 §2.2).
#[test]
fn what_salting_computes_with() {
    for length in [40, 150] {
        let password = secret('p', length);
        for (hash, made) in [
            (ScramHash::Sha1, of_salting::<sha1::Sha1, 64>(&password)),
            (ScramHash::Sha256, of_salting::<sha2::Sha256, 64>(&password)),
            (ScramHash::Sha512, of_salting::<sha2::Sha512, 128>(&password)),
        ] {
            look_for(&made.iter().map(|octets| &**octets).collect::<Vec<_>>());
            let mut stack = Stack::new();
            let ((), found) = looking(|| {
                let keys = ScramKeys::from_password(hash, &password, b"salt", 3).unwrap();
                stack.copy();
                assert!(keys.check_password(&password));
            });
            assert_eq!(found, 0, "{hash:?}, {length}");
            // The stack of a build that is not optimised is deeper than what is zeroed.
            if cfg!(not(debug_assertions)) {
                assert!(!stack.holds_any(), "{hash:?}, {length}");
                stack.copy();
                assert!(!stack.holds_any(), "{hash:?}, {length}");
            }
        }
    }
}

/// With a salt that is `salt`, and three iterations. A password that is longer than a block is none of it: the
/// hash's own buffer has that, where the stack of a build that is not optimised is deeper than what is zeroed.
fn of_salting<D, const BLOCK: usize>(password: &str) -> Vec<Vec<u8>>
where
    D: hmac::EagerHash + hmac::digest::Digest + SerializableState,
{
    let mac = |message: &[u8]| {
        let mac = Hmac::<D>::new_from_slice(password.as_bytes()).unwrap();
        mac.chain_update(message).finalize().into_bytes().to_vec()
    };
    let one = mac(b"salt\0\0\0\x01");
    let two = mac(&one);
    let sum = one.iter().zip(&two).map(|(one, two)| one ^ two).collect();
    let mut key =
        if password.len() > BLOCK { D::digest(password).to_vec() } else { password.into() };
    let mut made = vec![mac(&two), two, sum, key.clone()];
    key.resize(BLOCK, 0);
    for pad in [0x36, 0x5c] {
        let padded: Vec<u8> = key.iter().map(|octet| octet ^ pad).collect();
        let state = D::new_with_prefix(&padded).serialize();
        made.extend([padded[..20].to_vec(), state[..one.len()].to_vec()]);
    }
    made.push(one);
    made
}

/// The allocator sees what it is to see.
#[test]
fn what_is_not_zeroed_is_found() {
    let secrets = Secrets::of(28);
    let ((), found) = looking(|| {
        drop(secrets.password.clone());
        drop(STANDARD.encode(format!("\0tim\0{}", secrets.password)));
    });
    assert!(found >= 2);
}
