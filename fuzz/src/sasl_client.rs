//! Each mechanism's challenges to a client's exchange, the right ones or nearly so: it ends, there is
//! no success that the server has not said, nor one before all has been said, nor one of SCRAM
//! without the server's signature; and what is right throughout succeeds.

use std::vec;

use crate::{
    OWN, PASSWORD, POLICIES, SALT, SCRAM, Scram, TOKEN, channel, cram_digest, encode, hash_of,
    nearly, pick,
};
use smtp_auth::sasl::{
    BindingPolicy, Channel, ConfigError, Mechanism, Nonce,
    client::{Config, Credentials, CustomResponse, Exchange, Failure, Response, Step},
};

/// The bits of the second octet of the input.
const CLEARTEXT: u8 = 1;
const IN_TLS: u8 = 2;
const BARE_TLS: u8 = 4;
const ACTING_AS: u8 = 8;
const FROM_LIST: u8 = 16;
const OTHER_CREDENTIALS: u8 = 32;
const UNBOUND: u8 = 64;

/// What a server says, by octets of the input.
const UNDECODABLE: u8 = 253;
const REFUSED: u8 = 254;
const SUCCESS: u8 = 255;

fn credentials(mechanism: Mechanism, choice: u8, other: u8) -> Result<Credentials, ConfigError> {
    let all = [
        Credentials::password("tim", PASSWORD)?,
        Credentials::token("tim", TOKEN)?.for_server("mail.example.org", 587)?,
        Credentials::external(),
        Credentials::anonymous("trace")?,
        Credentials::custom(OWN),
        // SASLprep does not take it.
        Credentials::password("tim", "\u{2028}")?,
    ];
    let fitting = match mechanism {
        own if own.takes_password() => 0,
        own if own.takes_token() => 1,
        Mechanism::External => 2,
        Mechanism::Anonymous => 3,
        _ => 4,
    };
    let place = if choice & OTHER_CREDENTIALS != 0 { other.into() } else { fitting };
    let credentials = all[place % all.len()].clone();
    if choice & ACTING_AS == 0 { Ok(credentials) } else { credentials.acting_as("ann") }
}

/// A server that knows what is right.
struct Server {
    mechanism: Mechanism,
    honest: bool,
    /// Whether the client has the password that the server knows.
    same_password: bool,
    /// Whether the client supports channel binding.
    supports_binding: bool,
    /// What the client has sent; before anything, nothing.
    heard: Vec<Vec<u8>>,
    challenges: Vec<Vec<u8>>,
    scram: Option<Scram>,
    /// Whether success was the last that it said.
    success: bool,
    /// Whether a mechanism of the application's own has said all.
    complete: bool,
    /// What ends the exchange by another word than success.
    ended: bool,
}

impl Server {
    /// The right challenge, or `None` where all has been said.
    fn right(&mut self) -> Option<Vec<u8>> {
        let last = self.heard.last().map(Vec::as_slice).unwrap_or_default();
        let text = String::from_utf8_lossy(last).into_owned();
        Some(match (self.mechanism, self.challenges.len()) {
            (Mechanism::Login, 0) => b"Username:".into(),
            (Mechanism::Login, 1) => b"Password:".into(),
            (Mechanism::CramMd5, 0) => b"<fresh@mail.example.org>".into(),
            (mechanism, 0) if hash_of(mechanism).is_some() => {
                let nonce = text.rsplit_once(",r=").map_or("", |(_, nonce)| nonce);
                format!("r={nonce}fresh,s={},i=4", encode(SALT)).into()
            }
            (mechanism, 1) if hash_of(mechanism).is_some() => {
                let proof = self.scram.as_ref().and_then(|scram| scram.server_final(&text));
                proof.unwrap_or_default().into()
            }
            _ => return None,
        })
    }

    /// Keeps what the client has said, which has to be right if all before was.
    fn hear(&mut self, data: Option<&[u8]>) {
        let Some(data) = data else { return };
        self.heard.push(data.to_vec());
        let shows = data.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
        assert!(!shows || matches!(self.mechanism, Mechanism::Plain | Mechanism::Login));
        if let (Some(_), [first]) = (hash_of(self.mechanism), &self.heard[..]) {
            let flag = match self.mechanism.binds_channel() {
                true => &b"p=tls-exporter,"[..],
                false if self.supports_binding => b"y,",
                false => b"n,",
            };
            assert!(first.starts_with(flag), "the client says whether it saw no -PLUS");
        }
        if !self.same_password {
            return;
        }
        if let (Mechanism::CramMd5, Some(challenge)) = (self.mechanism, self.challenges.last()) {
            assert_eq!(data, format!("tim {}", cram_digest(challenge)).as_bytes());
        }
        if let (Some(hash), [first, last], [challenge]) =
            (hash_of(self.mechanism), &self.heard[..], &self.challenges[..])
        {
            let text = |octets: &[u8]| String::from_utf8(octets.into()).expect("it was read");
            let scram = Scram { hash, client_first: text(first), server_first: text(challenge) };
            assert_eq!(scram.proves(&text(last)), Some(true), "the client's proof is right");
            let nonce = scram.server_first.strip_prefix("r=client");
            assert!(nonce.is_some_and(|fresh| !fresh.starts_with(',')));
            self.scram = Some(scram);
        }
    }

    fn answer(&mut self, response: &mut Response, next: Option<(u8, Vec<u8>)>) {
        self.success = false;
        match next {
            None => match self.right() {
                Some(challenge) => self.challenge(response, challenge),
                None => self.succeed(response),
            },
            Some((UNDECODABLE, _)) => {
                self.ended = true;
                response.undecodable();
            }
            Some((REFUSED, _)) => {
                self.ended = true;
                response.refused();
            }
            Some((SUCCESS, _)) => self.succeed(response),
            Some((kind, octets)) => {
                let right = self.right();
                let challenge = nearly(kind, right.clone().unwrap_or_default(), octets);
                self.honest &= right.as_ref() == Some(&challenge);
                self.challenge(response, challenge);
            }
        }
    }

    fn challenge(&mut self, response: &mut Response, challenge: Vec<u8>) {
        self.challenges.push(challenge.clone());
        response.challenge(challenge);
    }

    fn succeed(&mut self, response: &mut Response) {
        self.honest &= self.right().is_none();
        self.success = true;
        response.success();
    }

    /// Whether that can be, by what was said.
    fn check(&self) {
        assert!(self.success && !self.ended);
        let (heard, said) = (self.heard.len(), self.challenges.len());
        match (self.mechanism, &self.challenges[..]) {
            (Mechanism::Login, _) => assert_eq!((heard, said), (2, 2)),
            (Mechanism::CramMd5, _) => assert_eq!((heard, said), (1, 1)),
            (Mechanism::Custom(_), _) => assert!(self.complete),
            (mechanism, [_, signature]) if hash_of(mechanism).is_some() => {
                let last = String::from_utf8(self.heard[1].clone()).expect("a text");
                let right = self.scram.as_ref().and_then(|scram| scram.server_final(&last));
                let signature = signature.split(|&octet| octet == b',').next();
                assert_eq!(signature, right.as_deref().map(str::as_bytes));
                assert_eq!(self.heard.get(2).map(Vec::as_slice), Some(&b""[..]));
            }
            (mechanism, _) => {
                assert!(hash_of(mechanism).is_none(), "the server has proven nothing");
                assert_eq!((heard, said), (1, 0));
            }
        }
    }
}

/// What a mechanism of the application's own says, by an octet of the input. Returns whether that is all.
fn respond(answers: &mut vec::IntoIter<u8>) -> CustomResponse {
    // Where the input ends, that is all.
    let byte = answers.next().unwrap_or(3);
    match byte % 4 {
        0 => CustomResponse::Fail,
        1 => CustomResponse::NoInitialResponse,
        2 => CustomResponse::Respond(vec![byte; usize::from(byte)]),
        _ => CustomResponse::Complete(vec![byte; usize::from(byte)]),
    }
}

/// The choices, the application's answers, and the messages with their kind.
pub type Input = ([u8; 4], Vec<u8>, Vec<(u8, Vec<u8>)>);

/// An exchange by one of the mechanisms.
pub fn run(
    mechanisms: &[Mechanism],
    ([mechanism, choice, policy, other], answers, messages): Input,
) {
    let offered = pick(mechanisms, mechanism);
    let mechanism = offered;
    let bound: Vec<_> = SCRAM.iter().filter(|own| own.binds_channel()).collect();
    let binds = choice & UNBOUND == 0;
    let policy = pick(&POLICIES, policy);
    let config = Config::builder()
        .mechanisms(crate::mechanisms())
        .without(if binds { vec![] } else { bound })
        .nonces(|| Nonce::new("client"))
        .scram_iterations(2, 10)
        .allow_cleartext(choice & CLEARTEXT != 0)
        .channel_binding(policy);
    let Ok(config) = config.build() else {
        assert!(!binds && policy == BindingPolicy::Required);
        return;
    };
    let channel = match choice & (IN_TLS | BARE_TLS) {
        0 => Channel::cleartext(),
        IN_TLS => channel(),
        _ => Channel::tls(),
    };
    let credentials = credentials(mechanism, choice, other).expect("good credentials");
    let same_password = choice & OTHER_CREDENTIALS == 0 || other % 6 != 5;
    let supports_binding = binds && policy != BindingPolicy::None && !channel.bindings().is_empty();
    // What is offered beside it is weaker, or takes other credentials.
    let chosen = config.choose(&credentials, &channel, &format!("AUTH {mechanism} LOGIN X-OTHER"));
    let must = supports_binding && mechanism.binds_channel() && choice & OTHER_CREDENTIALS == 0;
    assert!(!must || chosen == Ok(mechanism), "a -PLUS mechanism goes before all others");
    let mechanism = match chosen {
        Ok(chosen) if choice & FROM_LIST != 0 => chosen,
        _ => mechanism,
    };
    assert!(mechanism == offered || mechanism == Mechanism::Login);
    let mut exchange = Exchange::new(&config, &channel, mechanism, credentials);
    let mut server = Server {
        mechanism,
        honest: same_password,
        same_password,
        supports_binding,
        heard: Vec::new(),
        challenges: Vec::new(),
        scram: None,
        success: false,
        complete: false,
        ended: false,
    };
    let (mut answers, mut messages) = (answers.into_iter(), messages.into_iter());
    let bound = 100 + answers.len() + messages.len();
    let mut begun = false;
    for step in 0.. {
        assert!(step < bound, "the exchange comes to an end");
        match exchange.step() {
            Step::Response(response) => {
                begun = true;
                server.hear(response.data());
                server.answer(response, messages.next());
            }
            Step::Derive(ask) => {
                // Another job's result settles nothing.
                assert!(ask.salted().is_none());
                if other & 128 == 0 {
                    ask.run()
                } else {
                    ask.answer(ask.job().run())
                }
                assert!(ask.salted().is_some());
            }
            Step::Custom(ask) => {
                begun = true;
                let answer = respond(&mut answers);
                server.complete = matches!(answer, CustomResponse::Complete(_));
                server.honest &= server.complete;
                ask.answer(answer);
            }
            Step::Done(Ok(())) => {
                server.check();
                break;
            }
            Step::Done(Err(failure)) => {
                let good = begun && server.honest && !server.ended;
                assert!(!good, "{mechanism} should have succeeded: {failure}");
                assert!(begun || !matches!(failure, Failure::Refused { .. }));
                // By PLAIN an impostor would get the password.
                let in_scram = hash_of(mechanism).is_some() && !server.challenges.is_empty();
                assert!(!in_scram || !failure.may_try_next(), "{failure}");
                break;
            }
        }
    }
    assert!(matches!(exchange.step(), Step::Done(_)));
}
