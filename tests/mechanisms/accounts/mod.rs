//! One name for each account, by every mechanism, and one behaviour for all who do not sign in.

mod locks;
mod names;
mod tokens;
mod unanswered;

use core::{cell::RefCell, mem, str, time::Duration};
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use smtp_auth::{
    sasl::{
        self, Answer, Authenticator, Authorize, AuthorizeAnswer, Channel, CheckPassword,
        CheckToken, CramSecret, CramSecretFor, Failure, FoldName, Mechanism, Nonce, RefusalKind,
        ScramHash, ScramKeys, ScramKeysFor, TokenAnswer, as_sent,
        client::{self, Credentials},
        prepare_lower_case,
    },
    server::{Config, Event, Session},
};

const PASSWORD: &str = "tanstaaftanstaaf";

const WITH_PASSWORD: [Mechanism; 6] = [
    Mechanism::Plain,
    Mechanism::Login,
    Mechanism::CramMd5,
    Mechanism::ScramSha1,
    Mechanism::ScramSha256,
    Mechanism::ScramSha512,
];

/// `tim`, as others write it: with a soft hyphen, in full width, with a joiner.
const OTHERWISE: [&str; 3] = ["t\u{ad}im", "\u{ff54}\u{ff49}\u{ff4d}", "tim\u{200d}"];

fn config(fold: Option<FoldName>) -> Arc<Config> {
    let mechanisms = WITH_PASSWORD.iter().chain(&[Mechanism::OauthBearer, Mechanism::Xoauth2]);
    let mut sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(mechanisms)
        .nonces(|| Ok(Nonce::new("3rfcNHYJY1ZVvWVs7j").unwrap()))
        .salt_key("the key of the decoys' salts")
        .scram_iterations(1);
    if let Some(fold) = fold {
        sasl = sasl.fold_names(fold);
    }
    let config = Config::builder("mail.example.org").sasl(sasl.build().unwrap());
    Arc::new(config.max_attempts(1000).build().unwrap())
}

/// `tim` and `ann`, who have one password; `t.i.m` is another name of `tim`'s, with its keys, and `t-i-m` one with
/// keys of its own.
#[derive(Default)]
struct Store {
    /// The names whose attempts are used up.
    locked: Vec<&'static str>,
    /// What it was asked: the kind of question, and the name folded, and as it was sent.
    asked: RefCell<Vec<(&'static str, String, String)>>,
}

impl Store {
    fn look_up<T>(
        &self,
        kind: &'static str,
        (name, sent): (&str, &str),
        found: impl FnOnce() -> T,
    ) -> Answer<T> {
        self.asked.borrow_mut().push((kind, name.to_owned(), sent.to_owned()));
        let answer = match name {
            "ann" => Answer::accept(found()),
            "tim" | "t.i.m" | "t-i-m" => Answer::accept(found()).of("tim"),
            _ => Answer::reject(),
        };
        let full = self.locked.contains(&name)
            || answer.account().is_some_and(|account| self.locked.contains(&account));
        if full { answer.lock() } else { answer }
    }
}

impl Authenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &WITH_PASSWORD
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let names = (ask.authcid(), ask.authcid_as_sent());
        let answer = self.look_up("password", names, || ());
        if ask.password().expose() == PASSWORD {
            return answer;
        }
        let account = answer.account().unwrap_or(ask.authcid());
        let wrong = Answer::reject().of(account);
        if self.locked.contains(&account) { wrong.lock() } else { wrong }
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let names = (ask.authcid(), ask.authcid_as_sent());
        self.look_up("secret", names, || CramSecret::from_password(PASSWORD))
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let names = (ask.authcid(), ask.authcid_as_sent());
        let salt = if names.0 == "t-i-m" { b"sixteen others.." } else { b"sixteen octets.." };
        self.look_up("keys", names, || keys(ask.hash(), salt))
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        self.asked.borrow_mut().push(("token", ask.authzid().unwrap_or("").into(), String::new()));
        TokenAnswer::Accept("tim".into())
    }

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        self.asked.borrow_mut().push(("authorize", ask.authzid().unwrap().into(), String::new()));
        AuthorizeAnswer::Reject
    }
}

fn keys(hash: ScramHash, salt: &[u8]) -> ScramKeys {
    ScramKeys::from_password(hash, PASSWORD, salt, 1).unwrap()
}

/// What a client sees and the server logs of one attempt to sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    replies: Vec<String>,
    pauses: Vec<Duration>,
    why: Option<Failure>,
    /// The names that a limit counts by.
    counted: Vec<String>,
    /// Whose sign-in it was, and as whom.
    signed_in: Option<(String, String)>,
}

/// One attempt in a session. The client has lines to say: for each challenge, decoded, the next one.
fn attempt(
    config: &Arc<Config>,
    store: &impl Authenticator,
    command: &str,
    mut respond: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Seen {
    let mut session = Session::new(Arc::clone(config));
    session.tls_started(Channel::tls());
    session.receive(format!("EHLO c\r\n{command}\r\n").as_bytes());
    let (mut seen, mut out, mut begun) = (Seen::default(), Vec::new(), false);
    loop {
        match session.next(&mut out) {
            Event::NeedInput => {
                let text = String::from_utf8(mem::take(&mut out)).unwrap();
                let last = text.lines().last().unwrap_or_default().to_owned();
                assert!(begun || !last.is_empty());
                begun = true;
                seen.replies.push(last.clone());
                let Some(challenge) = last.strip_prefix("334 ") else { return seen };
                let line = respond(&STANDARD.decode(challenge).unwrap());
                let line = line.map_or("*".into(), |line| STANDARD.encode(line));
                session.receive(format!("{line}\r\n").as_bytes());
            }
            Event::Query(query) => query.answer_with(store),
            Event::AuthFailed(failed) => {
                seen.pauses.push(failed.pause);
                assert_eq!(seen.why.replace(failed.why), None, "counted twice");
                let names = [failed.authcid(), failed.account()].into_iter().flatten();
                seen.counted.extend(names.map(str::to_owned));
            }
            Event::Authenticated(who) => {
                seen.signed_in = Some((who.authcid().into(), who.acts_as().into()));
            }
            Event::Hello(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(octet, key)| *octet = *key);
    let inner = Sha256::new().chain_update(block.map(|octet| octet ^ 0x36)).chain_update(data);
    let outer = Sha256::new().chain_update(block.map(|octet| octet ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().into()
}

/// A SCRAM-SHA-256 client that sends a name as it is.
fn scram(bare: &str, gs2: &str, password: &str, server_first: &str) -> String {
    let [nonce, salt, _] = server_first.split(',').collect::<Vec<_>>().try_into().unwrap();
    let mut salt = STANDARD.decode(&salt[2..]).unwrap();
    salt.extend(1u32.to_be_bytes());
    let client_key = hmac(&hmac(password.as_bytes(), &salt), b"Client Key");
    let without = format!("c={},{nonce}", STANDARD.encode(gs2));
    let signed = format!("{bare},{server_first},{without}");
    let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
    let mut proof = client_key;
    proof.iter_mut().zip(signature).for_each(|(octet, other)| *octet ^= other);
    format!("{without},p={}", STANDARD.encode(proof))
}

/// Signs in by a name that is sent as it is.
fn as_is(
    (config, store): (&Arc<Config>, &impl Authenticator),
    mechanism: Mechanism,
    (authzid, name): (&str, &str),
    password: &str,
) -> Seen {
    let gs2 = if authzid.is_empty() { "n,,".into() } else { format!("n,a={authzid},") };
    let bare = format!("n={name},r=fyko+d2lbbFgONRv9qkxdawL");
    let command = match mechanism {
        Mechanism::Plain => {
            let all = format!("{authzid}\0{name}\0{password}");
            format!("AUTH PLAIN {}", STANDARD.encode(all))
        }
        Mechanism::Login | Mechanism::CramMd5 => format!("AUTH {mechanism}"),
        _ => format!("AUTH {mechanism} {}", STANDARD.encode(format!("{gs2}{bare}"))),
    };
    let (mut round, mut first) = (0, Vec::new());
    attempt(config, store, &command, |challenge| {
        round += 1;
        Some(match (mechanism, round) {
            (Mechanism::Login, 1) => name.as_bytes().to_vec(),
            (Mechanism::Login, _) => password.as_bytes().to_vec(),
            (Mechanism::CramMd5, _) => {
                let credentials = Credentials::password("tim", password).unwrap();
                let own = client::Config::default();
                let mut client =
                    client::Exchange::new(&own, &Channel::tls(), mechanism, credentials);
                let client::Step::Response(response) = client.step() else { panic!() };
                response.challenge(challenge);
                let client::Step::Response(response) = client.step() else { panic!() };
                let digest = response.data().unwrap().strip_prefix(b"tim").unwrap();
                [name.as_bytes(), digest].concat()
            }
            (Mechanism::ScramSha256, 1) => {
                first = challenge.to_vec();
                let first = str::from_utf8(&first).unwrap();
                scram(&bare, &gs2, password, first).into_bytes()
            }
            // The server's proof has been read.
            (_, 2) => Vec::new(),
            // Nobody has this proof.
            (_, _) => {
                let first = str::from_utf8(challenge).unwrap();
                let nonce = first.split(',').next().unwrap();
                let proof = STANDARD.encode([0; 64]);
                format!("c={},{nonce},p={proof}", STANDARD.encode(&gs2)).into_bytes()
            }
        })
    })
}

/// Without the salts themselves, of which no two accounts have one; their length stays.
fn masked(replies: Vec<String>) -> Vec<String> {
    let mask = |reply: String| {
        let decoded = reply.strip_prefix("334 ").and_then(|text| STANDARD.decode(text).ok());
        let text = decoded.and_then(|octets| String::from_utf8(octets).ok());
        let Some((before, rest)) = text.as_deref().and_then(|text| text.split_once(",s=")) else {
            return reply;
        };
        let (salt, after) = rest.split_once(',').unwrap();
        format!("{before},s={},{after}", "x".repeat(salt.len()))
    };
    replies.into_iter().map(mask).collect()
}

/// A client of the crate's.
fn honest(
    server: &Arc<Config>,
    store: &impl Authenticator,
    mechanism: Mechanism,
    name: &str,
    password: &str,
) -> Seen {
    let own = client::Config::builder()
        .scram_iterations(1, 1)
        .nonces(|| Ok(Nonce::new("fyko+d2lbbFgONRv9qkxdawL").unwrap()))
        .build()
        .unwrap();
    let credentials = Credentials::password(name, password).unwrap();
    let mut client = client::Exchange::new(&own, &Channel::tls(), mechanism, credentials);
    let mut say = |challenge: Option<&[u8]>| {
        if let (Some(challenge), client::Step::Response(response)) = (challenge, client.step()) {
            response.challenge(challenge);
        }
        loop {
            match client.step() {
                client::Step::Derive(derive) => derive.run(),
                client::Step::Response(response) => break response.data().map(<[u8]>::to_vec),
                _ => break None,
            }
        }
    };
    let first = say(None).map(|first| format!(" {}", STANDARD.encode(first)));
    let command = format!("AUTH {mechanism}{}", first.unwrap_or_default());
    attempt(server, store, &command, |challenge| say(Some(challenge)))
}

/// Signs in by a token, which may be empty.
fn token(
    server: &Arc<Config>,
    users: &impl Authenticator,
    mechanism: Mechanism,
    token: &str,
    respond: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Seen {
    let bearer = if token.is_empty() { String::new() } else { format!("Bearer {token}") };
    let first = match mechanism {
        Mechanism::OauthBearer => format!("n,a=tim,\u{1}auth={bearer}\u{1}\u{1}"),
        _ => format!("user=tim\u{1}auth=Bearer {token}\u{1}\u{1}"),
    };
    attempt(server, users, &format!("AUTH {mechanism} {}", STANDARD.encode(first)), respond)
}
