//! How long names, passwords and tokens may be: what a line carries (RFC 4954 §4), and no other bound.

use std::sync::Arc;

use smtp_auth::{
    auth,
    reply::ReplyRef,
    sasl::{
        self, Answer, Channel, CramSecret, Failure, Identity, Mechanism, Query, ScramKeys,
        client::{Credentials, NoMechanism},
    },
};

/// What a server lists.
const ALL: &str = "AUTH SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN";

/// 12,288 octets of base64.
const LINE: usize = 9216;

fn client_config(mechanisms: &[Mechanism]) -> sasl::client::Config {
    let config = sasl::client::Config::builder().mechanisms(mechanisms).scram_iterations(1, 1);
    config.build().unwrap()
}

/// Both sides by the lines of AUTH; the server's outcome.
fn outcome(
    mechanism: Mechanism,
    credentials: Credentials,
    password: &str,
) -> Result<Identity, Failure> {
    let config = sasl::server::Config::builder("mail.example.org").mechanisms([mechanism]);
    let config = Arc::new(config.build().unwrap());
    let mut client = auth::client::Exchange::new(
        &client_config(&[mechanism]),
        &Channel::tls(),
        mechanism,
        credentials,
    );
    let (mut line, mut replies) = (Vec::new(), Vec::new());
    assert!(matches!(client.step(&mut line), auth::client::Step::NeedReply(_)), "{mechanism}");
    let args = line.strip_prefix(b"AUTH ").unwrap().trim_ascii_end();
    let mut server = auth::server::Exchange::new(&config, &Channel::tls(), args);
    loop {
        match server.step(&mut replies) {
            auth::server::Step::Query(Query::CheckPassword(ask)) => {
                ask.answer(ask.password().expose() == password);
            }
            auth::server::Step::Query(Query::CramSecret(ask)) => {
                ask.answer(Answer::accept(CramSecret::from_password(password)));
            }
            auth::server::Step::Query(Query::ScramKeys(ask)) => {
                ask.answer(ScramKeys::from_password(ask.hash(), password, b"salt", 1));
            }
            auth::server::Step::Query(Query::Authorize(ask)) => ask.answer(true),
            auth::server::Step::Query(other) => panic!("{other:?}"),
            auth::server::Step::Done(outcome) => return outcome.cloned(),
            auth::server::Step::NeedLine(slot) => {
                let auth::client::Step::NeedReply(reply) = client.step(&mut line) else { panic!() };
                reply.reply(ReplyRef::parse(&replies).unwrap());
                replies.clear();
                line.clear();
                if let auth::client::Step::Derive(ask) = client.step(&mut line) {
                    ask.run();
                }
                let _ = client.step(&mut line);
                slot.line(line.trim_ascii_end());
            }
        }
    }
}

fn credentials(password: &str) -> Credentials {
    Credentials::password("tim", password).unwrap()
}

#[test]
fn a_password_may_be_as_long_as_a_line_carries() {
    for (mechanism, most) in [
        (Mechanism::Plain, LINE - "\0tim\0".len()),
        (Mechanism::Login, LINE),
        (Mechanism::CramMd5, 100_000),
        (Mechanism::ScramSha256, 100_000),
    ] {
        for length in [1, 4096, 4097, 5000, most] {
            let password = "p".repeat(length);
            let who = outcome(mechanism, credentials(&password), &password);
            assert_eq!(who.unwrap().authcid(), "tim", "{mechanism}, {length}");
        }
    }
    let password = "p".repeat(LINE - "timothy\0tim\0".len());
    let credentials = credentials(&password).acting_as("timothy").unwrap();
    let who = outcome(Mechanism::Plain, credentials, &password).unwrap();
    assert_eq!(who.acts_as(), "timothy");
}

/// What PLAIN or LOGIN cannot carry goes by a mechanism that can, or by none.
#[test]
fn a_longer_password_goes_by_who_carries_it() {
    use Mechanism::{CramMd5, Login, Plain, ScramSha256};
    let choose = |credentials: &Credentials, offered: &[Mechanism]| {
        client_config(offered).choose(credentials, &Channel::tls(), ALL)
    };
    let password = |length| credentials(&"p".repeat(length));
    let most = LINE - "\0tim\0".len();
    assert_eq!(choose(&password(most), &[Plain, Login, CramMd5]), Ok(Plain));
    assert_eq!(choose(&password(most + 1), &[Plain, Login, CramMd5]), Ok(Login));
    assert_eq!(choose(&password(LINE + 1), &[Plain, Login, CramMd5]), Ok(CramMd5));
    assert_eq!(choose(&password(LINE + 1), &[Plain, Login, ScramSha256]), Ok(ScramSha256));
    assert_eq!(choose(&password(LINE + 1), &[Plain, Login]), Err(NoMechanism::TooLong));
    let acting = password(most).acting_as("timothy").unwrap();
    assert_eq!(choose(&acting, &[Plain, Login, CramMd5]), Err(NoMechanism::TooLong));
    let too_long = NoMechanism::TooLong.to_string();
    assert!(too_long.contains("too long"), "{too_long}");
}

/// SASLprep makes eighteen characters of this one.
const LIGATURE: &str = "\u{fdfa}";

fn first(name: &str) -> Vec<u8> {
    format!("n,,n={name},r=ofTheClient").into_bytes()
}

fn asked(config: sasl::server::Builder, name: &str) -> Result<usize, Failure> {
    let config = Arc::new(config.build().unwrap());
    let (mechanism, channel) = (Mechanism::ScramSha256, Channel::tls());
    let mut server = sasl::server::Exchange::new(&config, &channel, mechanism, Some(first(name)));
    match server.step() {
        sasl::server::Step::Query(Query::ScramKeys(ask)) => Ok(ask.authcid().len()),
        sasl::server::Step::Done(Err(failure)) => Err(failure),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_grows_no_longer_than_any_may_be() {
    let config =
        || sasl::server::Config::builder("mail.example.org").mechanisms([Mechanism::ScramSha256]);
    let grown = sasl::prepare(LIGATURE).unwrap().len();
    assert_eq!(asked(config(), &LIGATURE.repeat(10)), Ok(10 * grown));
    let most = LINE / grown;
    assert_eq!(asked(config(), &LIGATURE.repeat(most)), Ok(most * grown));
    let refused = asked(config(), &LIGATURE.repeat(most + 1));
    assert!(matches!(refused, Err(Failure::Malformed(_))), "{refused:?}");
    // The configuration's bound is one of what is prepared, too.
    assert_eq!(asked(config().max_response(100), &LIGATURE.repeat(3)), Ok(3 * grown));
    assert!(asked(config().max_response(100), &LIGATURE.repeat(4)).is_err());
    assert_eq!(asked(config(), &"n".repeat(9000)), Ok(9000));
}

/// A client's name is bounded at 1,024 octets: also once it is prepared.
#[test]
fn a_clients_name_grows_no_longer_either() {
    use Mechanism::{Plain, ScramSha256};
    let grown = sasl::prepare(LIGATURE).unwrap().len();
    for (count, scram) in [(1024 / grown, true), (1024 / grown + 1, false), (341, false)] {
        let credentials = Credentials::password(&LIGATURE.repeat(count), "secret").unwrap();
        let chosen =
            client_config(&[ScramSha256, Plain]).choose(&credentials, &Channel::tls(), ALL);
        let expected = if scram { ScramSha256 } else { Plain };
        assert_eq!(chosen.unwrap(), expected, "{count}");
        let only = client_config(&[ScramSha256]).choose(&credentials, &Channel::tls(), ALL);
        assert_eq!(only.is_ok(), scram, "{count}");
    }
}
