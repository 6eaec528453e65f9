//! Each mechanism's messages to a server's exchange, the right ones or nearly so: it ends, nobody is
//! signed in without a yes for just that name and a right proof, and who does all right is.

use std::{sync::Arc, vec};

use crate::{
    KEYS, PASSWORD, POLICIES, Scram, TOKEN, channel, cram_digest, hash_of, nearly, pick, with,
};
use smtp_auth::sasl::{
    Answer, Channel, CramSecret, CustomAnswer, Identity, Mechanism, Nonce, Query,
    TokenAnswer, TokenError,
    server::{Challenge, Config, Exchange, Step},
};

/// The bits of the second octet of the input.
const CLEARTEXT: u8 = 1;
const IN_TLS: u8 = 2;
const BARE_TLS: u8 = 4;
const INITIAL: u8 = 8;
const ACTING_AS: u8 = 16;
const END_POINT_ONLY: u8 = 32;
const NOT_SEEN: u8 = 64;

/// A client that knows what is right.
struct Client {
    mechanism: Mechanism,
    choice: u8,
    /// Whether it has said what is right each time.
    honest: bool,
    sent: Vec<Vec<u8>>,
    scram: Option<Scram>,
    /// The challenge of CRAM-MD5, or what SCRAM's server says last.
    challenge: Vec<u8>,
}

impl Client {
    fn new(mechanism: Mechanism, choice: u8) -> Self {
        let (sent, challenge) = (Vec::new(), Vec::new());
        Self { mechanism, choice, honest: true, sent, scram: None, challenge }
    }

    /// Whether it wants to act as another.
    fn wants(&self) -> bool {
        self.choice & ACTING_AS != 0
    }

    /// The right message to a challenge.
    fn right(&mut self, challenge: &[u8]) -> Vec<u8> {
        let authzid = if self.wants() { "ann" } else { "" };
        let gs2 = if self.wants() { "a=ann" } else { "" };
        let flag = match self.mechanism.binds_channel() {
            true if self.choice & END_POINT_ONLY != 0 => "p=tls-server-end-point",
            true => "p=tls-exporter",
            false if self.choice & NOT_SEEN != 0 => "y",
            false => "n",
        };
        let message = match (self.mechanism, self.sent.len()) {
            (Mechanism::Plain, 0) => format!("{authzid}\0tim\0{PASSWORD}"),
            (Mechanism::Login, 0) => "tim".into(),
            (Mechanism::Login, 1) => PASSWORD.into(),
            (Mechanism::CramMd5, 0) => format!("tim {}", cram_digest(challenge)),
            (Mechanism::OauthBearer, 0) => format!("n,{gs2},\x01auth=Bearer {TOKEN}\x01\x01"),
            (Mechanism::Xoauth2, 0) => {
                let user = if self.wants() { "ann" } else { "tim" };
                format!("user={user}\x01auth=Bearer {TOKEN}\x01\x01")
            }
            (Mechanism::External, 0) => authzid.into(),
            (Mechanism::Anonymous, 0) => "trace".into(),
            (Mechanism::Custom(_), _) => "tim".into(),
            (mechanism, 0) if hash_of(mechanism).is_some() => {
                format!("{flag},{gs2},n=tim,r=nonce")
            }
            (_, 1) => {
                let last = self.scram.as_ref().and_then(Scram::client_final);
                last.unwrap_or_default()
            }
            _ => String::new(),
        };
        message.into()
    }

    /// The next message.
    fn message(&mut self, challenge: &[u8], kind: u8, octets: Vec<u8>) -> Vec<u8> {
        self.hear(challenge);
        let right = self.right(challenge);
        let message = nearly(kind, right.clone(), octets);
        self.honest &= message == right;
        self.sent.push(message.clone());
        message
    }

    /// Keeps what the server has said.
    fn hear(&mut self, challenge: &[u8]) {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok();
        if let (Some(hash), [first]) = (hash_of(self.mechanism), &self.sent[..]) {
            let first = text(first).zip(text(challenge));
            self.scram = first.map(|(client_first, server_first)| Scram {
                hash,
                client_first,
                server_first,
            });
        }
        self.challenge = challenge.to_vec();
    }

    /// Settles a challenge.
    fn answer(&mut self, challenge: &mut Challenge, next: Option<(u8, Vec<u8>)>) {
        match next {
            None => challenge.cancel(),
            Some((253, _)) => challenge.cancel(),
            Some((254, _)) => challenge.undecodable(),
            Some((255, _)) => challenge.too_long(),
            Some((kind, octets)) => {
                let data = challenge.data().to_vec();
                challenge.respond(self.message(&data, kind, octets));
                return;
            }
        }
        self.honest = false;
    }

    /// Whether a proof that the mechanism asks for has been sent.
    fn has_proven(&self) -> bool {
        match (self.mechanism, &self.sent[..]) {
            (Mechanism::CramMd5, [response]) => {
                response.ends_with(format!(" {}", cram_digest(&self.challenge)).as_bytes())
            }
            (mechanism, [_, last, confirmation]) if hash_of(mechanism).is_some() => {
                let last = std::str::from_utf8(last).expect("it was taken");
                let scram = self.scram.as_ref().expect("the server has said what it has");
                let server_final = scram.server_final(last).expect("it was taken");
                scram.proves(last) == Some(true)
                    && self.challenge == server_final.as_bytes()
                    && confirmation.is_empty()
            }
            (mechanism, _) => mechanism != Mechanism::CramMd5 && hash_of(mechanism).is_none(),
        }
    }
}

/// A host that answers by octets of the input.
struct Host {
    answers: vec::IntoIter<u8>,
    /// Whether it has said yes each time, and has the right keys.
    kind: bool,
    accepted: Option<String>,
    authorized: Option<String>,
    wanted: Option<String>,
    questions: u32,
}

impl Host {
    fn answer(&mut self, query: Query<'_>, client: &Client) {
        // Where the input ends, each answer is yes.
        let byte = self.answers.next().unwrap_or(2);
        let answer = match byte % 4 {
            0 => Answer::reject(),
            1 => Answer::temp_fail(),
            _ => Answer::accept(()),
        };
        let yes = answer == Answer::accept(());
        self.kind &= yes;
        self.questions += 1;
        let accept = |name: &str| yes.then(|| name.to_owned());
        let (first, last) = (client.sent.first(), client.sent.last());
        let is =
            |sent: Option<&Vec<u8>>, text: &str| sent.is_some_and(|sent| sent == text.as_bytes());
        match query {
            Query::CheckPassword(ask) => {
                let (authcid, password) = (ask.authcid(), ask.password().expose());
                self.wanted = ask.authzid().map(str::to_owned);
                let authzid = ask.authzid().unwrap_or_default();
                assert!(match ask.mechanism() {
                    Mechanism::Plain => is(first, &format!("{authzid}\0{authcid}\0{password}")),
                    _ => is(first, authcid) && is(last, password) && authzid.is_empty(),
                });
                self.accepted = accept(authcid);
                ask.answer(match answer {
                    Answer::accept(()) => Answer::accept(()),
                    Answer::reject() => Answer::reject(),
                    Answer::temp_fail() if byte & 4 != 0 => Answer::too_weak(),
                    Answer::temp_fail() if byte & 8 != 0 => Answer::transition_needed(),
                    Answer::temp_fail() => Answer::temp_fail(),
                });
            }
            Query::CramSecret(ask) => {
                assert!(first.is_some_and(|sent| sent.starts_with(ask.authcid().as_bytes())));
                self.accepted = accept(ask.authcid());
                ask.answer(with(answer, CramSecret::from_password(PASSWORD)));
            }
            Query::ScramKeys(ask) => {
                assert_eq!(Some(ask.hash()), hash_of(ask.mechanism()));
                self.accepted = accept(ask.authcid());
                let right = KEYS.iter().find(|keys| keys.hash() == ask.hash());
                let keys = match byte & 128 {
                    0 => right.expect("all hashes have keys").clone(),
                    // Perhaps those of another hash.
                    _ => KEYS[usize::from(byte >> 2) % KEYS.len()].clone(),
                };
                self.kind &= keys.hash() == ask.hash();
                if keys.hash() != ask.hash() {
                    self.accepted = None;
                }
                ask.answer(with(answer, keys));
            }
            Query::CheckToken(ask) => {
                let token = ask.token().expose().as_bytes();
                let sent = first.expect("a token was sent");
                assert!(sent.windows(token.len()).any(|part| part == token));
                self.accepted = accept("tim");
                self.wanted = ask.authzid().map(str::to_owned);
                ask.answer(match answer {
                    Answer::accept(()) => TokenAnswer::Accept("tim".into()),
                    Answer::temp_fail() => TokenAnswer::TempFail,
                    Answer::reject() if byte & 4 != 0 => {
                        TokenAnswer::RejectWith(TokenError::INSUFFICIENT_SCOPE.scope("a\"\n"))
                    }
                    Answer::reject() => TokenAnswer::Reject,
                });
            }
            Query::CheckExternal(ask) => {
                assert_eq!(ask.identity(), "tim");
                assert!(is(first, ask.authzid().unwrap_or_default()));
                self.accepted = accept("tim");
                self.wanted = ask.authzid().map(str::to_owned);
                ask.answer(with(answer, "tim".to_owned()));
            }
            Query::CheckAnonymous(ask) => {
                assert!(is(first, ask.trace().unwrap_or_default()));
                self.accepted = accept("anonymous");
                ask.answer(answer);
            }
            Query::Custom(ask) => {
                let rounds = ask.state().get_or_insert_with(|| Box::new(0_u8));
                *rounds.downcast_mut::<u8>().expect("what was put there") += 1;
                let sent = ask.response().and_then(|sent| String::from_utf8(sent.into()).ok());
                assert!(ask.response().is_none_or(|sent| last.is_some_and(|last| last == sent)));
                ask.answer(match (answer, sent) {
                    (Answer::accept(()), Some(authcid)) => {
                        self.accepted = Some(authcid.clone());
                        CustomAnswer::Accept { authcid, authzid: None }
                    }
                    (Answer::accept(()) | Answer::temp_fail(), _) => {
                        CustomAnswer::Challenge(vec![byte; usize::from(byte)])
                    }
                    (Answer::reject(), _) => CustomAnswer::Fail(smtp_auth::sasl::Failure::Rejected),
                });
            }
            Query::Authorize(ask) => {
                assert_eq!(self.accepted.as_deref(), Some(ask.authcid()));
                assert_ne!(ask.authcid(), ask.authzid());
                self.authorized = accept(ask.authzid());
                ask.answer(answer);
            }
            other => other.reject(),
        }
    }

    /// Whether that can be, by what was answered.
    fn check(&self, who: &Identity, client: &Client) {
        let printable = |name: &str| !name.is_empty() && !name.contains(char::is_control);
        assert_eq!(self.accepted.as_deref(), Some(who.authcid()));
        assert_eq!(self.authorized.as_deref(), who.authzid());
        assert_eq!(self.wanted.as_deref().unwrap_or(who.acts_as()), who.acts_as());
        assert!(printable(who.authcid()) && printable(who.acts_as()));
        assert_eq!(who.mechanism(), client.mechanism);
        assert!(client.has_proven(), "there is no right proof");
    }
}

fn config(policy: u8, choice: u8) -> Arc<Config> {
    let config =
        Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED).build().unwrap().and_then(|own| own.mechanisms(&crate::mechanisms()));
    let config = config.expect("a good name, and what is compiled in");
    Arc::new(
        config
            .nonces(|| Nonce::new("fresh"))
            .salt_key("key")
            .scram_iterations(1)
            .allow_cleartext(choice & CLEARTEXT != 0)
            .channel_binding(pick(&POLICIES, policy))
            .max_response(if policy & 128 != 0 { 64 } else { usize::MAX }),
    )
}

/// Whether an honest client, of whom the host thinks well, gets in.
fn is_for_all(config: &Config, channel: &Channel, client: &Client) -> bool {
    let bound = config.offered(channel).any(Mechanism::binds_channel);
    let misses_binding = client.choice & NOT_SEEN != 0 && bound;
    let cannot = misses_binding && !client.mechanism.binds_channel();
    config.offered(channel).any(|own| own == client.mechanism)
        && !(cannot && hash_of(client.mechanism).is_some())
        && client.sent.iter().all(|sent| sent.len() <= 64)
}

/// The choices, the host's answers, and the messages with their kind.
pub type Input = ([u8; 3], Vec<u8>, Vec<(u8, Vec<u8>)>);

/// An exchange by one of the mechanisms.
pub fn run(mechanisms: &[Mechanism], ([mechanism, choice, policy], answers, messages): Input) {
    let config = config(policy, choice);
    let channel = match choice & (IN_TLS | BARE_TLS) {
        0 => Channel::cleartext(),
        IN_TLS => channel(),
        _ => Channel::tls(),
    };
    let mut client = Client::new(pick(mechanisms, mechanism), choice);
    let mut messages = messages.into_iter();
    // Where the mechanism begins with a challenge, an initial response is wrong.
    let initial = (choice & INITIAL != 0).then(|| {
        let (kind, octets) = messages.next().unwrap_or_default();
        client.honest &= client.mechanism != Mechanism::CramMd5;
        client.message(b"", kind, octets)
    });
    let bound = 100 + messages.len();
    let mut exchange = Exchange::new(&config, &channel, client.mechanism, initial);
    let mut host = Host {
        answers: answers.into_iter(),
        kind: true,
        accepted: None,
        authorized: None,
        wanted: None,
        questions: 0,
    };
    for step in 0.. {
        assert!(step < bound, "the exchange comes to an end");
        match exchange.step() {
            Step::Challenge(challenge) => client.answer(challenge, messages.next()),
            Step::Query(query) => host.answer(query, &client),
            Step::Done(Ok(who)) => {
                host.check(who, &client);
                break;
            }
            Step::Done(Err(failure)) => {
                let good = client.honest && host.kind && is_for_all(&config, &channel, &client);
                assert!(!good, "{} should have signed in: {failure}", client.mechanism);
                break;
            }
        }
    }
    assert!(host.questions <= 2 || matches!(client.mechanism, Mechanism::Custom(_)));
    assert!(matches!(exchange.step(), Step::Done(_)));
}
