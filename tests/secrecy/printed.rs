//! No secret in anything that a host may print, by every mechanism, with right and with wrong
//! credentials.

use std::{marker::PhantomData, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::{
    Secret, client,
    reply::ReplyRef,
    sasl::{
        self, Answer, Authenticator, Authorize, AuthorizeAnswer, Channel, ChannelBinding,
        CheckAnonymous, CheckExternal, CheckPassword, CheckToken, CramSecret, CramSecretFor,
        Mechanism, Query, SaltedPassword, ScramHash, ScramKeys, ScramKeysFor, ScramParts,
        TokenAnswer, TokenError, client::Credentials,
    },
    server,
};

use crate::forms::{Shown, forms, numbers};

const USER: &str = "timothy@example.org";
const PASSWORD: &str = "Qz7rightPasswordXw9";
const WRONG: &str = "Kj4wrongPasswordVb2";
const TOKEN: &str = "Hd5rightTokenPl8.mn6";
const WRONG_TOKEN: &str = "Gf3wrongTokenRs1.tk7";
const BINDING: &[u8; 32] = b"Ys2whatBindsToThisConnectionZc05";
const SALT: &[u8] = b"a salt of the test";

fn keys(hash: ScramHash, password: &str) -> ScramKeys {
    ScramKeys::from_password(hash, password, SALT, 4096).unwrap()
}

/// What may be seen nowhere but in what the client sends, or in the store.
fn secrets() -> Vec<String> {
    let mut secrets = Vec::new();
    for text in [PASSWORD, WRONG, TOKEN, WRONG_TOKEN] {
        secrets.extend(forms(text.as_bytes()));
    }
    secrets.extend(forms(BINDING));
    let (outer, inner) = {
        let states = CramSecret::from_password(PASSWORD);
        (*states.states().0, *states.states().1)
    };
    secrets.extend([forms(&outer), forms(&inner)].concat());
    for hash in [ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512] {
        let text = keys(hash, PASSWORD).to_text();
        let (_, stored) = text.expose().rsplit_once('$').unwrap();
        for key in stored.split(':') {
            secrets.extend(forms(&STANDARD.decode(key).unwrap()));
        }
        for password in [PASSWORD, WRONG] {
            secrets.extend(forms(&salted(hash, password.as_bytes())));
        }
    }
    secrets
}

fn salted(hash: ScramHash, password: &[u8]) -> Vec<u8> {
    let mut salted = vec![0; if hash == ScramHash::Sha1 { 20 } else { 32 }];
    match hash {
        ScramHash::Sha1 => pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password, SALT, 4096, &mut salted),
        ScramHash::Sha256 => pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, SALT, 4096, &mut salted),
        // Half of it is enough to find it by.
        _ => pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password, SALT, 4096, &mut salted),
    }
    salted
}

/// What is secret in the lines of one exchange, as they were sent: each response, the digest or the
/// proof in it, and a server's proof.
fn sent_secrets(from_client: &str, from_server: &str) -> Vec<String> {
    let responses = from_client.lines().filter_map(|line| line.split(' ').next_back());
    let challenges = from_server.lines().filter_map(|line| line.strip_prefix("334 "));
    let mut secrets = Vec::new();
    for (word, of_client) in responses.map(|r| (r, true)).chain(challenges.map(|c| (c, false))) {
        let Ok(decoded) = STANDARD.decode(word) else { continue };
        let text = String::from_utf8_lossy(&decoded);
        let proof = text.split([' ', ',']).next_back().unwrap_or_default();
        let is_digest =
            of_client && proof.len() == 32 && proof.bytes().all(|o| o.is_ascii_hexdigit());
        let is_proof = proof.len() > 20 && (proof.starts_with("p=") || proof.starts_with("v="));
        if word.len() >= 8 && (of_client || is_proof) {
            secrets.extend([word.to_owned(), numbers(word.as_bytes())]);
        }
        if is_proof {
            secrets.extend(forms(&STANDARD.decode(&proof[2..]).unwrap()));
        }
        if is_digest {
            let digits: Vec<char> = proof.chars().collect();
            let octet = |two: &[char]| u8::from_str_radix(&String::from_iter(two), 16).unwrap();
            let octets: Vec<u8> = digits.chunks(2).map(octet).collect();
            secrets.extend([forms(proof.as_bytes()), forms(&octets)].concat());
        }
    }
    secrets
}

struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (ask.authcid() == USER && ask.password() == PASSWORD).into()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::accept(CramSecret::from_password(PASSWORD))
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        Answer::accept(keys(ask.hash(), PASSWORD))
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        match ask.token().expose() {
            TOKEN => TokenAnswer::Accept(USER.into()),
            _ => TokenAnswer::RejectWith(TokenError::INVALID_TOKEN.scope("mail")),
        }
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        Answer::accept(ask.identity().into())
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        (ask.trace() == Some("a guest")).into()
    }

    fn authorize(&self, _: &Authorize) -> AuthorizeAnswer {
        AuthorizeAnswer::Reject
    }
}

fn credentials(mechanism: Mechanism, right: bool) -> Credentials {
    match mechanism {
        Mechanism::External if right => Credentials::external(),
        Mechanism::External => Credentials::external().acting_as("another").unwrap(),
        Mechanism::Anonymous => {
            Credentials::anonymous(if right { "a guest" } else { "another" }).unwrap()
        }
        _ if mechanism.takes_token() => {
            Credentials::token(USER, if right { TOKEN } else { WRONG_TOKEN }).unwrap()
        }
        _ => Credentials::password(USER, if right { PASSWORD } else { WRONG }).unwrap(),
    }
}

fn channel() -> Channel {
    let binding = ChannelBinding::tls_exporter(*BINDING);
    Channel::tls().with_binding(binding).with_identity(USER).unwrap()
}

fn server_config() -> sasl::server::Config {
    let config = sasl::server::Config::builder("smtp.example.com").mechanisms(Mechanism::COMPILED);
    config.build().unwrap()
}

fn client_config(mechanism: Mechanism) -> sasl::client::Config {
    // That one and no other: SCRAM without its -PLUS form, where it is not named.
    sasl::client::Config::builder()
        .mechanisms([mechanism])
        .without(mechanism.plus())
        .build()
        .unwrap()
}

/// What the client and the server sent, and whether the client has signed in.
struct Dialogue {
    from_client: String,
    from_server: String,
    signed_in: bool,
}

/// A client's and a server's session in memory, and all of it printed.
fn sessions(mechanism: Mechanism, credentials: Credentials, shown: &Shown) -> Dialogue {
    let server_config = Arc::new(
        server::Config::builder("mail.example.org").sasl(server_config()).build().unwrap(),
    );
    let config = client::Config::builder("client.example.com")
        .sasl(client_config(mechanism))
        .build()
        .unwrap();
    shown.debug(&(&server_config, &config, &credentials, channel()));
    let mut server = server::Session::new(server_config);
    let mut client = client::Session::new(config.into(), credentials);
    let hook = shown.clone();
    server.trace(move |side, line| hook.text(&format!("{side}: {line}")));
    let hook = shown.clone();
    client.trace(move |side, line| hook.text(&format!("{side}: {line}")));
    server.tls_started(channel());
    client.tls_started(channel());
    let (mut from_client, mut from_server) = (Vec::new(), Vec::new());
    let mut signed_in = false;
    loop {
        let mut out = Vec::new();
        let open = server_turn(&mut server, &mut out, shown);
        client.receive(&out);
        from_server.append(&mut out);
        client_turn(&mut client, &mut out, shown);
        signed_in |= client.authenticated().is_some();
        server.receive(&out);
        from_client.append(&mut out);
        if !open {
            break;
        }
    }
    shown.debug(&client.eof());
    shown.debug(&server.into_parts());
    let text = |octets| String::from_utf8(octets).unwrap();
    Dialogue { from_client: text(from_client), from_server: text(from_server), signed_in }
}

/// Answers a copy, as a host does that looks up elsewhere.
fn settle(query: Query<'_>, shown: &Shown) {
    match query.job() {
        None => query.answer_with(&Users),
        Some(mut job) => {
            shown.debug(&job);
            job.query().answer_with(&Users);
            shown.debug(&job);
            assert!(query.answer_from(job));
        }
    }
}

/// Whether the connection stays open.
fn server_turn(server: &mut server::Session, out: &mut Vec<u8>, shown: &Shown) -> bool {
    loop {
        let event = server.next(out);
        shown.debug(&event);
        match event {
            server::Event::NeedInput => return true,
            server::Event::Close => return false,
            server::Event::Query(query) => settle(query, shown),
            server::Event::AuthFailed(failed) => {
                shown.both(&failed);
                shown.both(&failed.why);
            }
            server::Event::Authenticated(_) | server::Event::Hello(_) => {}
            other => panic!("{other:?}"),
        }
        shown.debug(server);
    }
}

fn client_turn(client: &mut client::Session, out: &mut Vec<u8>, shown: &Shown) {
    loop {
        let event = client.next(out).unwrap();
        shown.debug(&event);
        match event {
            client::Event::NeedInput | client::Event::Close => return,
            client::Event::Derive(derive) => {
                shown.debug(&derive.job());
                derive.run();
                shown.debug(&derive.salted());
                shown.debug(derive);
            }
            client::Event::NotAuthenticated(failed) => {
                shown.both(failed.reason());
                shown.both(&failed.error());
                failed.quit();
            }
            client::Event::Ready(ready) => ready.quit(),
            other => panic!("{other:?}"),
        }
        shown.debug(client);
    }
}

#[test]
fn of_sessions() {
    let secrets = secrets();
    for &mechanism in Mechanism::COMPILED {
        for right in [true, false] {
            let (shown, what) = (Shown::default(), format!("{mechanism}, right: {right}"));
            let dialogue = sessions(mechanism, credentials(mechanism, right), &shown);
            assert_eq!(dialogue.signed_in, right, "{what}");
            let code = if right { "\n235 " } else { "\n535 " };
            assert!(dialogue.from_server.contains(code), "{what}");
            assert!(shown.0.lock().unwrap().contains(&format!("C: AUTH {mechanism}")), "{what}");
            // The search finds what is there.
            let told = secrets.iter().any(|secret| dialogue.from_client.contains(secret));
            let tells =
                mechanism.takes_token() || matches!(mechanism, Mechanism::Plain | Mechanism::Login);
            assert_eq!(told, tells, "{what}");
            shown.has_none_of(&secrets, &what);
            let sent = sent_secrets(&dialogue.from_client, &dialogue.from_server);
            assert_eq!(sent.is_empty(), mechanism == Mechanism::External && right, "{what}");
            shown.has_none_of(&sent, &what);
            let replies = Shown::default();
            replies.text(&dialogue.from_server);
            for line in dialogue.from_server.lines().filter(|line| !line.starts_with("334")) {
                let line = format!("{}\r\n", line.replacen('-', " ", 1));
                replies.both(&ReplyRef::parse(line.as_bytes()).unwrap().to_reply());
            }
            replies.has_none_of(&secrets, &what);
        }
    }
}

#[test]
fn of_exchanges() {
    let secrets = secrets();
    for &mechanism in Mechanism::COMPILED {
        for right in [true, false] {
            let (shown, what) = (Shown::default(), format!("{mechanism}, right: {right}"));
            let mut client = sasl::client::Exchange::new(
                &client_config(mechanism),
                &channel(),
                mechanism,
                credentials(mechanism, right),
            );
            let initial = response(&mut client, &shown);
            let mut server = sasl::server::Exchange::new(
                &Arc::new(server_config()),
                &channel(),
                mechanism,
                initial,
            );
            let outcome = loop {
                let step = server.step();
                shown.debug(&step);
                match step {
                    sasl::server::Step::Challenge(challenge) => {
                        if let sasl::client::Step::Response(slot) = client.step() {
                            slot.challenge(challenge.data());
                            shown.debug(slot);
                        }
                        challenge.respond(response(&mut client, &shown).unwrap());
                        shown.debug(challenge);
                    }
                    sasl::server::Step::Query(query) => settle(query, &shown),
                    sasl::server::Step::Done(outcome) => break outcome.cloned(),
                }
                shown.debug(&(&server, &client));
            };
            assert_eq!(outcome.is_ok(), right, "{what}");
            shown.has_none_of(&secrets, &what);
        }
    }
}

/// What `==` takes in two secrets tells how much of them is alike, so there is none but that of
/// [`Secret`], which is in constant time.
#[test]
fn nothing_secret_is_compared_by_derive() {
    struct Of<T>(PhantomData<T>);
    trait Without {
        const HAS_EQ: bool = false;
    }
    impl<T> Without for Of<T> {}
    // One of the type's own comes before a trait's.
    impl<T: PartialEq> Of<T> {
        const HAS_EQ: bool = true;
    }
    let have = [
        Of::<Secret>::HAS_EQ,
        Of::<CramSecret>::HAS_EQ,
        Of::<ScramKeys>::HAS_EQ,
        Of::<ScramParts<'static>>::HAS_EQ,
        Of::<SaltedPassword>::HAS_EQ,
        Of::<Credentials>::HAS_EQ,
    ];
    assert_eq!(have, [true, false, false, false, false, false]);
}

/// What the client has for the server, its work done and printed.
fn response(client: &mut sasl::client::Exchange, shown: &Shown) -> Option<Vec<u8>> {
    if let sasl::client::Step::Derive(derive) = client.step() {
        derive.run();
        shown.debug(derive);
    }
    let step = client.step();
    shown.debug(&step);
    match step {
        sasl::client::Step::Response(response) => response.data().map(<[u8]>::to_vec),
        other => panic!("{other:?}"),
    }
}
