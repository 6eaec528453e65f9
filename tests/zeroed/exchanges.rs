//! Exchanges at each level, cut off at each step.

use super::*;

#[test]
fn exchanges() {
    for length in LENGTHS {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            cut_off(&format!("{mechanism}, {length}"), |steps, end| {
                bare_sasl(mechanism, &secrets, steps, end)
            });
        }
    }
}

/// What is made of a password, and is as good as it in one mechanism or one exchange.
#[test]
fn keys_states_and_proofs() {
    let secrets = Secrets::of(40);
    for mechanism in mechanisms() {
        let made = made_of_password(mechanism, &secrets);
        look_for(&made.iter().map(|octets| &**octets).collect::<Vec<_>>());
        cut_off(&format!("{mechanism}"), |steps, end| bare_sasl(mechanism, &secrets, steps, end));
        cut_off(&format!("{mechanism}"), |steps, end| lines(mechanism, &secrets, steps, end));
    }
}

fn made_of_password(mechanism: Mechanism, secrets: &Secrets) -> Vec<Vec<u8>> {
    let mut made = Vec::new();
    let states = CramSecret::from_password(&secrets.password);
    made.extend([states.states().0.to_vec(), states.states().1.to_vec()]);
    if let Some(hash) = ScramHash::of(mechanism) {
        let keys = ScramKeys::from_password(hash, &secrets.password, b"salt", 1).unwrap();
        let text = keys.to_text();
        let (_, stored) = text.expose().rsplit_once('$').unwrap();
        made.extend(stored.split(':').map(|key| STANDARD.decode(key).unwrap()));
        made.extend(salted(hash, &secrets.password));
        // As HMAC uses them.
        for pad in [0x36, 0x5c] {
            let padded = |key: &Vec<u8>| key.iter().map(|octet| octet ^ pad).collect();
            made.extend(made.iter().skip(2).take(4).map(padded).collect::<Vec<_>>());
        }
    }
    // The last response of the client ends in its proof or digest.
    let choice = mechanism;
    let credentials = credentials(mechanism, secrets);
    let mut client =
        sasl::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
    let initial = response(&mut client, secrets).map(<[u8]>::to_vec);
    let mut server = sasl::server::Exchange::new(&server_config(), &channel(), mechanism, initial);
    loop {
        match server.step() {
            sasl::server::Step::Query(query) => answer(query, secrets),
            sasl::server::Step::Challenge(challenge) => {
                if let sasl::client::Step::Response(slot) = client.step() {
                    slot.challenge(challenge.data());
                }
                let said = response(&mut client, secrets).unwrap();
                let text = String::from_utf8_lossy(said).into_owned();
                if let Some((_, proof)) = text.rsplit_once(",p=") {
                    made.push(STANDARD.decode(proof).unwrap());
                }
                if mechanism == Mechanism::CramMd5 {
                    let digits = text.rsplit_once(' ').unwrap().1;
                    let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                    made.extend([digits.into(), (0..32).step_by(2).map(octet).collect()]);
                }
                challenge.respond(said);
            }
            sasl::server::Step::Done(_) => return made,
        }
    }
}

/// SaltedPassword and ClientKey (RFC 5802 §3).
fn salted(hash: ScramHash, password: &str) -> [Vec<u8>; 2] {
    macro_rules! of {
        ($hash:ty, $length:literal) => {{
            let mut salted = vec![0; $length];
            pbkdf2::pbkdf2_hmac::<$hash>(password.as_bytes(), b"salt", 1, &mut salted);
            let mut client_key = Hmac::<$hash>::new_from_slice(&salted).unwrap();
            client_key.update(b"Client Key");
            [salted, client_key.finalize().into_bytes().to_vec()]
        }};
    }
    match hash {
        ScramHash::Sha1 => of!(sha1::Sha1, 20),
        ScramHash::Sha256 => of!(sha2::Sha256, 32),
        _ => of!(sha2::Sha512, 64),
    }
}

#[test]
fn exchanges_that_are_refused_at_once() {
    let secrets = Secrets::of(28);
    let none = sasl::server::Config::builder("mail.example.org")
        .mechanisms([Mechanism::Anonymous])
        .build()
        .unwrap();
    let short = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .max_response(8)
        .build()
        .unwrap();
    for config in [none, short].map(Arc::new) {
        for &mechanism in Mechanism::COMPILED {
            for channel in [channel(), Channel::cleartext()] {
                let ((), found) = looking(|| {
                    let first = [b"\0tim\0", secrets.password.as_bytes()].concat();
                    sasl::server::Exchange::new(&config, &channel, mechanism, Some(first));
                });
                assert_eq!(found, 0, "{mechanism}");
            }
        }
    }
}

/// The lines of AUTH. What is appended to the caller's buffers is the caller's, who has them zeroed;
/// that they grow meanwhile leaves nothing.
fn lines(mechanism: Mechanism, secrets: &Secrets, steps: usize, end: End) -> bool {
    let choice = mechanism;
    let credentials = credentials(mechanism, secrets);
    let mut client =
        auth::client::Exchange::new(&client_config(choice), &channel(), choice, credentials);
    let (mut from_client, mut from_server) = (Zeroed::default(), Vec::new());
    let mut sent = client_lines(&mut client, &mut from_client.0, secrets);
    let server = {
        let line = from_client.0[sent..].trim_ascii_end();
        auth::server::Exchange::new(&server_config(), &channel(), &line["AUTH ".len()..])
    };
    let (mut client, mut server, mut over) = (Box::new(client), Box::new(server), false);
    for step in 0..steps {
        end.before(steps - step);
        match server.step(&mut from_server) {
            auth::server::Step::Query(query) => answer(query, secrets),
            auth::server::Step::NeedLine(slot) => {
                if let auth::client::Step::NeedReply(reply) = client.step(&mut from_client.0) {
                    reply.reply(ReplyRef::parse(&from_server).unwrap());
                }
                from_server.clear();
                sent = client_lines(&mut client, &mut from_client.0, secrets);
                slot.line(from_client.0[sent..].trim_ascii_end());
            }
            auth::server::Step::Done(outcome) => {
                assert!(outcome.is_ok(), "{mechanism}");
                over = true;
                break;
            }
        }
    }
    end.after();
    over
}

/// Where what the client writes next begins.
fn client_lines(
    client: &mut auth::client::Exchange,
    out: &mut Vec<u8>,
    secrets: &Secrets,
) -> usize {
    let mark = out.len();
    loop {
        match client.step(out) {
            auth::client::Step::Derive(ask) => derive(ask),
            auth::client::Step::Custom(ask) => respond_custom(ask, secrets),
            auth::client::Step::NeedReply(_) => return mark,
            auth::client::Step::Done(outcome) => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn exchanges_of_lines() {
    for length in LENGTHS {
        let secrets = Secrets::of(length);
        for mechanism in mechanisms() {
            cut_off(&format!("{mechanism}, {length}"), |steps, end| {
                lines(mechanism, &secrets, steps, end)
            });
        }
    }
}
