//! One name for each account, by every mechanism, and one behaviour for all who do not sign in.
#![cfg(all(
    feature = "std",
    feature = "getrandom",
    feature = "saslprep",
    feature = "plain",
    feature = "login",
    feature = "cram-md5",
    feature = "scram-sha-1",
    feature = "scram-sha-256",
    feature = "scram-sha-512",
    feature = "oauthbearer",
    feature = "xoauth2"
))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]
#![allow(clippy::std_instead_of_alloc, reason = "a test has the standard library")]

use core::{cell::RefCell, mem, str, time::Duration};
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use smtp_auth::{
    sasl::{
        self, Answer, Authenticator, Authorize, Channel, CheckPassword, CheckToken, CramSecret,
        CramSecretFor, Failure, FoldName, Mechanism, Nonce, ScramHash, ScramKeys, ScramKeysFor,
        TokenAnswer, as_sent,
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

    fn authorize(&self, ask: &Authorize) -> Answer {
        self.asked.borrow_mut().push(("authorize", ask.authzid().into(), String::new()));
        Answer::reject()
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

/// The mechanisms by which [`as_is`] can succeed.
const SUCCEED: [Mechanism; 4] =
    [Mechanism::Plain, Mechanism::Login, Mechanism::CramMd5, Mechanism::ScramSha256];

#[test]
fn an_account_has_one_name() {
    let server = config(None);
    for name in OTHERWISE {
        for mechanism in SUCCEED {
            let store = Store::default();
            let seen = as_is((&server, &store), mechanism, ("", name), PASSWORD);
            let own = Some(("tim".to_owned(), "tim".to_owned()));
            assert_eq!(seen.signed_in, own, "{mechanism} {name:?}: {seen:?}");
            let asked = store.asked.take();
            let [(_, folded, sent)] = &asked[..] else { panic!("{asked:?}") };
            assert_eq!((folded.as_str(), sent.as_str()), ("tim", name), "{mechanism}");
        }
        for mechanism in WITH_PASSWORD {
            let seen = as_is((&server, &Store::default()), mechanism, ("", name), "wrong");
            assert_eq!(seen.counted, ["tim"], "{mechanism} {name:?}: {seen:?}");
        }
    }
}

/// The salts of those who do not exist are made of the folded name.
#[test]
fn a_name_that_nobody_has_has_one_salt() {
    let server = config(None);
    for mechanism in [Mechanism::ScramSha1, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let first = |name: &str| {
            as_is((&server, &Store::default()), mechanism, ("", name), "wrong").replies.remove(0)
        };
        for other in ["bo\u{ad}b", "\u{ff42}\u{ff4f}\u{ff42}", "bob\u{200d}"] {
            assert_eq!(first(other), first("bob"), "{mechanism} {other:?}");
        }
        assert_ne!(first("rob"), first("bob"));
    }
    let decoy = |name: &str| {
        let keys = server.sasl().decoy_keys(ScramHash::Sha256, name).unwrap();
        keys.to_text().expose().split('$').nth(1).unwrap().to_owned()
    };
    assert_eq!(decoy("bo\u{ad}b"), decoy("bob"));
}

#[test]
fn case_is_folded_where_the_configuration_says_so() {
    let fold = |fold: Option<FoldName>, mechanism, name| {
        let store = Store::default();
        let seen = as_is((&config(fold), &store), mechanism, ("", name), PASSWORD);
        (seen.signed_in.map(|(who, _)| who), store.asked.take().remove(0).1)
    };
    for mechanism in SUCCEED {
        let tim = (Some("tim".to_owned()), "tim".to_owned());
        for name in ["TIM", "Tim", "\u{ff34}im"] {
            assert_eq!(fold(Some(prepare_lower_case), mechanism, name), tim, "{mechanism} {name}");
        }
        assert_eq!(fold(None, mechanism, "Tim"), (None, "Tim".to_owned()), "{mechanism}");
        let joined = "tim\u{200d}";
        assert_eq!(
            fold(Some(as_sent), mechanism, joined),
            (None, joined.to_owned()),
            "{mechanism}"
        );
    }
}

#[test]
fn an_alias_is_counted_at_its_account_and_seen_by_nobody() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let try_as =
            |name, password| as_is((&server, &Store::default()), mechanism, ("", name), password);
        let seen = try_as("t.i.m", "wrong");
        assert_eq!(seen.counted, ["t.i.m", "tim"], "{mechanism}");
        // Once, where the store names the account for its own name, too.
        assert_eq!(try_as("tim", "wrong").counted, ["tim"], "{mechanism}");
        let (alias, other) = (masked(seen.replies), masked(try_as("b.o.b", "wrong").replies));
        assert_eq!(alias, other, "{mechanism}");
        if SUCCEED.contains(&mechanism) {
            let seen = try_as("t.i.m", PASSWORD);
            assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())), "{mechanism}");
            // The server's proof is over the client's words, which name the alias.
            let own = try_as("tim", PASSWORD).replies;
            assert_eq!((own.first(), own.last()), (seen.replies.first(), seen.replies.last()));
        }
    }
}

/// Two names that show one salt have one account, which exists. So a name whose keys have a salt of their own is not
/// seen to be another's, and one that has its account's is.
#[test]
fn an_alias_shows_the_salt_of_its_keys() {
    let server = config(None);
    let first = |name: &str| {
        let store = Store::default();
        as_is((&server, &store), Mechanism::ScramSha256, ("", name), "wrong").replies.remove(0)
    };
    assert_eq!(first("t.i.m"), first("tim"));
    assert_ne!(first("t-i-m"), first("tim"));
    assert_ne!(first("b-o-b"), first("bob"));
    let store = Store::default();
    let seen = as_is((&server, &store), Mechanism::ScramSha256, ("", "t-i-m"), PASSWORD);
    assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())));
}

#[test]
fn an_authzid_that_is_ones_own_is_no_foreign_one() {
    let server = config(None);
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256] {
        let own = [("tim", "tim"), ("tim", OTHERWISE[0]), (OTHERWISE[1], OTHERWISE[0])];
        let alias = [("t.i.m", "t.i.m"), ("tim", "t.i.m"), (OTHERWISE[2], "t.i.m")];
        for names in own.into_iter().chain(alias) {
            let store = Store::default();
            let seen = as_is((&server, &store), mechanism, names, PASSWORD);
            let tim = Some(("tim".into(), "tim".into()));
            assert_eq!(seen.signed_in, tim, "{mechanism} {names:?}: {seen:?}");
            let asked = store.asked.take();
            assert_eq!(asked.len(), 1, "{mechanism} {names:?}: {asked:?}");
        }
        let store = Store::default();
        let seen = as_is((&server, &store), mechanism, ("an\u{ad}n", "tim"), PASSWORD);
        assert_eq!(seen.why, Some(Failure::NotAuthorized));
        assert_eq!(store.asked.take().last().unwrap().1, "ann", "{mechanism}");
    }
    for name in OTHERWISE {
        let bearer = format!("n,a={name},\u{1}auth=Bearer abc\u{1}\u{1}");
        let xoauth2 = format!("user={name}\u{1}auth=Bearer abc\u{1}\u{1}");
        for (mechanism, first) in [("OAUTHBEARER", bearer), ("XOAUTH2", xoauth2)] {
            let store = Store::default();
            let command = format!("AUTH {mechanism} {}", STANDARD.encode(first));
            let seen = attempt(&server, &store, &command, |_| None);
            assert_eq!(seen.signed_in, Some(("tim".into(), "tim".into())), "{mechanism}: {seen:?}");
            let asked = store.asked.take();
            let [(_, authzid, _)] = &asked[..] else { panic!("{mechanism}: {asked:?}") };
            assert_eq!(authzid, "tim");
        }
    }
}

/// A name that turns out to be the client's own account's, or another's, when it is looked up.
#[test]
fn an_authzid_that_is_an_alias_of_ones_own_account_is_no_other() {
    struct Aliases(&'static str);
    impl Authenticator for Aliases {
        fn mechanisms(&self) -> &[Mechanism] {
            &WITH_PASSWORD
        }

        fn check_password(&self, _: &CheckPassword) -> Answer {
            Answer::accept(())
        }

        fn authorize(&self, _: &Authorize) -> Answer {
            Answer::accept(()).of(self.0)
        }
    }
    for (account, authzid) in [("tim", None), ("ann", Some("ann"))] {
        let mut exchange = sasl::server::Exchange::new(
            config(None).sasl(),
            &Channel::tls(),
            Mechanism::Plain,
            Some(b"t.i.m\0tim\0secret".to_vec()),
        );
        let who = loop {
            match exchange.step() {
                sasl::server::Step::Query(query) => query.answer_with(&Aliases(account)),
                sasl::server::Step::Done(outcome) => break outcome.cloned().unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((who.authcid(), who.authzid(), who.acts_as()), ("tim", authzid, account));
    }
}

/// Cancelling in the middle is an attempt at the account that was named.
#[test]
fn an_exchange_that_is_broken_off_counts_at_its_account() {
    let server = config(None);
    let begins = [
        (Mechanism::Login, OTHERWISE[0].to_owned(), false),
        (Mechanism::ScramSha256, format!("n,,n={},r=fyko+d2lbbFgONRv9qkxdawL", OTHERWISE[0]), true),
    ];
    let ends: [Option<&[u8]>; 3] = [None, Some(b"\xff"), Some(b"")];
    for (mechanism, first, initial) in begins {
        for end in ends {
            let store = Store::default();
            let command = match initial {
                true => format!("AUTH {mechanism} {}", STANDARD.encode(&first)),
                false => format!("AUTH {mechanism}"),
            };
            let mut says = (!initial).then(|| Some(first.clone().into_bytes())).into_iter();
            let seen = attempt(&server, &store, &command, |_| {
                says.next().unwrap_or_else(|| end.map(<[u8]>::to_vec))
            });
            assert!(seen.why.is_some_and(Failure::is_attempt), "{mechanism} {seen:?}");
            assert_eq!(seen.counted, ["tim"], "{mechanism} {end:?} {seen:?}");
        }
    }
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

/// Replies, round trips, salts, iteration counts, lengths, pauses, and what the store is asked.
#[test]
fn a_locked_account_is_told_apart_by_nothing() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let seen = |name, locked: bool, password| {
            let locked = if locked { vec!["tim", "bob"] } else { vec![] };
            let store = Store { locked, ..Store::default() };
            let seen = honest(&server, &store, mechanism, name, password);
            let asked: Vec<_> = store.asked.take().into_iter().map(|(kind, ..)| kind).collect();
            let log = if store.locked.is_empty() { Failure::Rejected } else { Failure::Locked };
            assert_eq!(seen.why, Some(log), "{mechanism} {name} {seen:?}");
            assert_eq!(seen.counted, [name]);
            (seen.replies, seen.pauses, asked)
        };
        let known = seen("tim", false, "wrong");
        assert_eq!(seen("tim", true, "wrong"), known, "{mechanism}");
        assert_eq!(seen("tim", true, PASSWORD), known, "{mechanism}");
        let unknown = seen("bob", false, "wrong");
        assert_eq!(seen("bob", true, "wrong"), unknown, "{mechanism}");
        assert_eq!(seen("bob", true, PASSWORD), unknown, "{mechanism}");
        let shape = |(replies, pauses, asked)| (masked(replies), pauses, asked);
        assert_eq!(shape(known), shape(unknown), "{mechanism}");
        let right = honest(&server, &Store::default(), mechanism, "tim", PASSWORD);
        assert!(right.signed_in.is_some(), "{mechanism} {right:?}");
    }
}

/// That is the application's mistake, and tells nothing of the password.
#[test]
fn an_alias_of_an_account_that_none_can_be_is_a_temporary_failure() {
    struct Wrong;

    impl Authenticator for Wrong {
        fn mechanisms(&self) -> &[Mechanism] {
            &[Mechanism::Plain]
        }

        fn check_password(&self, ask: &CheckPassword) -> Answer {
            Answer::from(ask.password().expose() == PASSWORD).of("x\u{7}y")
        }
    }

    let server = config(None);
    for password in [PASSWORD, "wrong"] {
        let seen = honest(&server, &Wrong, Mechanism::Plain, "tim", password);
        assert_eq!((seen.why, seen.counted), (Some(Failure::TempFail), vec!["tim".to_owned()]));
        assert!(seen.replies.last().unwrap().starts_with("454 "), "{:?}", seen.replies);
    }
}

/// An account that is locked under its own name is locked under each other.
#[test]
fn a_locked_account_is_locked_by_its_aliases_too() {
    let server = config(None);
    for mechanism in WITH_PASSWORD {
        let store = Store { locked: vec!["tim"], ..Store::default() };
        let locked = honest(&server, &store, mechanism, "t.i.m", PASSWORD);
        assert_eq!(locked.why, Some(Failure::Locked), "{mechanism}");
        let wrong = honest(&server, &Store::default(), mechanism, "t.i.m", "wrong");
        assert_eq!(locked.replies, wrong.replies, "{mechanism}");
    }
}

/// Offers what it cannot answer.
struct Nothing;

impl Authenticator for Nothing {
    fn mechanisms(&self) -> &[Mechanism] {
        &[]
    }
}

#[test]
fn what_nobody_can_answer_is_the_servers_mistake() {
    let server = config(None);
    for name in ["tim", "bob"] {
        for mechanism in WITH_PASSWORD {
            let seen = as_is((&server, &Nothing), mechanism, ("", name), PASSWORD);
            assert_eq!(seen.why, Some(Failure::NotImplemented(mechanism.name())), "{seen:?}");
            let reply = seen.replies.last().unwrap();
            assert!(reply.starts_with("454 4.7.0 "), "{mechanism} {name}: {reply}");
            assert_eq!(seen.pauses, [Duration::ZERO], "{mechanism}");
            assert!(!seen.why.unwrap().is_attempt());
            let log = seen.why.unwrap().to_string();
            assert!(log.contains(&format!("offers {mechanism}, which its authenticator")), "{log}");
        }
        for mechanism in [Mechanism::OauthBearer, Mechanism::Xoauth2] {
            let seen = token(&server, &Nothing, mechanism, name, |_| None);
            assert!(seen.replies.last().unwrap().starts_with("454 4.7.0 "), "{seen:?}");
            assert_eq!(seen.why, Some(Failure::NotImplemented(mechanism.name())));
        }
    }
}

/// Has secrets for nobody, or says that an account has none.
struct Without(bool);

impl Without {
    fn answer<T>(&self, name: &str) -> Answer<T> {
        if self.0 && name == "tim" { Answer::no_secret() } else { Answer::reject() }
    }
}

impl Authenticator for Without {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::CramMd5, Mechanism::ScramSha512]
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        self.answer(ask.authcid())
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        self.answer(ask.authcid())
    }
}

#[test]
fn an_account_without_keys_of_a_hash_has_a_wrong_password() {
    let server = config(None);
    for mechanism in [Mechanism::CramMd5, Mechanism::ScramSha1, Mechanism::ScramSha512] {
        let none = honest(&server, &Without(true), mechanism, "tim", PASSWORD);
        let wrong = honest(&server, &Without(false), mechanism, "tim", PASSWORD);
        assert_eq!((none.why, wrong.why), (Some(Failure::NoSecret), Some(Failure::Rejected)));
        // The log says why, and nothing else does.
        assert_eq!(Seen { why: wrong.why, ..none }, wrong, "{mechanism}");
        assert_eq!(wrong.pauses, [Duration::from_secs(1)]);
    }
}

/// Takes no token.
struct NoToken;

impl Authenticator for NoToken {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::OauthBearer, Mechanism::Xoauth2]
    }

    fn check_token(&self, _: &CheckToken) -> TokenAnswer {
        TokenAnswer::Reject
    }
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

/// It is counted before the client is told why, and once, whatever that then says.
#[test]
fn a_refused_token_is_one_attempt() {
    let server = config(None);
    let responses: [Option<&[u8]>; 4] = [Some(b""), Some(b"\x01"), None, Some(b"something else")];
    for mechanism in [Mechanism::OauthBearer, Mechanism::Xoauth2] {
        for sent in ["abc", ""] {
            for response in responses {
                let seen =
                    token(&server, &NoToken, mechanism, sent, |_| response.map(<[u8]>::to_vec));
                assert_eq!(seen.pauses, [Duration::from_secs(1)], "{mechanism} {seen:?}");
                assert!(seen.why.is_some_and(Failure::is_attempt));
                // XOAUTH2 has no question for an empty one.
                let told = sent.is_empty() && mechanism == Mechanism::Xoauth2;
                assert_eq!(seen.replies.len(), if told { 1 } else { 2 }, "{seen:?}");
            }
            let mut session = Session::new(Arc::clone(&server));
            session.tls_started(Channel::tls());
            let line = match mechanism {
                Mechanism::OauthBearer => format!("n,,\u{1}auth=Bearer {sent}\u{1}\u{1}"),
                _ => format!("user=tim\u{1}auth=Bearer {sent}\u{1}\u{1}"),
            };
            let line = format!("EHLO c\r\nAUTH {mechanism} {}\r\n", STANDARD.encode(line));
            session.receive(line.as_bytes());
            // Before the client has been sent anything, and so before it can hang up.
            let mut out = Vec::new();
            loop {
                match session.next(&mut out) {
                    Event::Query(query) => query.answer_with(&NoToken),
                    Event::AuthFailed(failed) => break assert_eq!(failed.attempts, 1),
                    Event::NeedInput => panic!("{mechanism} {sent:?}: the client is told first"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn refused_tokens_use_up_a_connections_attempts() {
    let sasl = sasl::server::Config::builder("mail.example.org");
    let sasl = sasl.mechanisms([Mechanism::Xoauth2]).build().unwrap();
    let config = Config::builder("mail.example.org").sasl(sasl).max_attempts(3).build().unwrap();
    let mut session = Session::new(config.into());
    session.tls_started(Channel::tls());
    let first = STANDARD.encode("user=tim\u{1}auth=Bearer abc\u{1}\u{1}");
    session.receive(b"EHLO c\r\n");
    (0..9).for_each(|_| session.receive(format!("AUTH XOAUTH2 {first}\r\n*\r\n").as_bytes()));
    let (mut out, mut attempts) = (Vec::new(), Vec::new());
    loop {
        match session.next(&mut out) {
            Event::Query(query) => query.answer_with(&NoToken),
            Event::AuthFailed(failed) => attempts.push(failed.attempts),
            Event::Close => break,
            Event::NeedInput => panic!("{attempts:?}"),
            _ => {}
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let out = String::from_utf8(out).unwrap();
    assert!(out.lines().last().unwrap().starts_with("421 4.7.0 "), "{out}");
}
