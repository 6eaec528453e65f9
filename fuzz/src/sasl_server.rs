//! Each mechanism's messages to a server's exchange, the right ones or nearly so: it ends, nobody is
//! signed in without a yes for just that name and a right proof, and who does all right is.

use std::sync::Arc;

use crate::{
    FOLDS, ITERATIONS, PASSWORD, POLICIES, SALT_KEY, Scram, TOKEN, channel, cram_digest, hash_of,
    nearly, pick,
    store::{Says, Store},
};
use smtp_auth::sasl::{
    Channel, Mechanism, Nonce, Query,
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

/// The same name in two forms: as it was sent, and as a question has it.
fn is_name(config: &Config, sent: &[u8], asked: &str) -> bool {
    let sent = std::str::from_utf8(sent).expect("it was taken");
    config.fold(sent).as_deref() == Some(asked)
}

/// What the questions have is what the client has sent.
fn check_question(query: &Query<'_>, client: &Client, config: &Config) {
    let first = client.sent.first().map(Vec::as_slice).unwrap_or_default();
    let last = client.sent.last().map(Vec::as_slice).unwrap_or_default();
    let is = |sent: &[u8], asked: &str| is_name(config, sent, asked);
    let if_any = |sent: &[u8], asked: Option<&str>| match asked {
        None => sent.is_empty(),
        Some(asked) => is(sent, asked),
    };
    match query {
        Query::CheckPassword(ask) if ask.mechanism() == Mechanism::Plain => {
            let parts: Vec<_> = first.split(|octet| *octet == 0).collect();
            let [authzid, authcid, password] = parts[..] else { panic!("it was taken") };
            assert!(if_any(authzid, ask.authzid()) && is(authcid, ask.authcid()));
            assert_eq!(password, ask.password().expose().as_bytes());
        }
        Query::CheckPassword(ask) => {
            assert!(is(first, ask.authcid()) && ask.authzid().is_none());
            assert_eq!(last, ask.password().expose().as_bytes());
        }
        Query::CramSecret(ask) => {
            let space = first.iter().rposition(|octet| *octet == b' ').expect("it was taken");
            assert!(is(&first[..space], ask.authcid()));
        }
        Query::ScramKeys(ask) => assert_eq!(Some(ask.hash()), hash_of(ask.mechanism())),
        Query::CheckToken(ask) => {
            let token = ask.token().expose().as_bytes();
            assert!(first.windows(token.len()).any(|part| part == token));
        }
        Query::CheckExternal(ask) => {
            assert_eq!(ask.identity(), "tim");
            assert!(if_any(first, ask.authzid()));
        }
        Query::CheckAnonymous(ask) => {
            assert_eq!(first, ask.trace().unwrap_or_default().as_bytes());
        }
        Query::Custom(ask) => assert!(ask.response().is_none_or(|sent| sent == last)),
        _ => {}
    }
}

fn config(policy: u8, choice: u8) -> Arc<Config> {
    let config = Config::builder("mail.example.org")
        .mechanisms(crate::mechanisms())
        .nonces(|| Nonce::new("fresh"))
        .salt_key(SALT_KEY)
        .scram_iterations(ITERATIONS)
        .allow_cleartext(choice & CLEARTEXT != 0)
        .channel_binding(pick(&POLICIES, policy))
        .fold_names(pick(&FOLDS, policy / 3))
        .authorize_always(policy & 64 != 0)
        .max_response(if policy & 128 != 0 { 64 } else { usize::MAX });
    Arc::new(config.build().expect("a good name, and what is compiled in"))
}

/// Whether an honest client, of whom the store thinks well, gets in.
fn is_for_all(config: &Config, channel: &Channel, client: &Client) -> bool {
    let bound = config.offered(channel).any(Mechanism::binds_channel);
    let misses_binding = client.choice & NOT_SEEN != 0 && bound;
    let cannot = misses_binding && !client.mechanism.binds_channel();
    config.offered(channel).any(|own| own == client.mechanism)
        && !(cannot && hash_of(client.mechanism).is_some())
        && client.sent.iter().all(|sent| sent.len() <= 64)
}

/// The choices, the store's answers, and the messages with their kind.
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
    // Where the input ends, each answer is yes.
    let mut store = Store::new(answers, Says::YES);
    store.always = policy & 64 != 0;
    // Whether the client was told that its token is no good.
    let mut told = false;
    for step in 0.. {
        assert!(step < bound, "the exchange comes to an end");
        match exchange.step() {
            Step::Challenge(challenge) => {
                let tells = challenge.data().starts_with(b"{\"status\"");
                client.answer(challenge, messages.next());
                assert_eq!(exchange.failure().is_some(), tells, "a refusal is known at once");
                told |= tells;
            }
            Step::Query(query) => {
                check_question(&query, &client, &config);
                let octet = store.octet();
                store.answer(query, &config, octet);
            }
            Step::Done(Ok(who)) => {
                store.check(who);
                assert_eq!(who.mechanism(), client.mechanism);
                assert!(client.has_proven(), "there is no right proof");
                assert!(!told, "signed in with a token that was refused");
                assert_eq!(exchange.failure(), None);
                break;
            }
            Step::Done(Err(failure)) => {
                let good = client.honest && store.kind && is_for_all(&config, &channel, &client);
                assert!(!good, "{} should have signed in: {failure}", client.mechanism);
                assert!(told || store.refused.is_none_or(|refused| refused == failure));
                assert_eq!(exchange.failure(), Some(failure));
                break;
            }
        }
    }
    assert!(store.questions <= 2 || matches!(client.mechanism, Mechanism::Custom(_)));
    assert!(matches!(exchange.step(), Step::Done(_)));
}
