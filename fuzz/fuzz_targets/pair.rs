//! A client's session and a server's, each configured in any way, talk to each other: they come to
//! their end, agree on who has signed in, and it is nobody with wrong credentials.
#![no_main]

use std::{collections::VecDeque, mem, sync::Arc};

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use smtp_auth::{
    client::{self, AuthError, Envelope, Error, Outcome, Tls, TryNext},
    command::Command,
    reply::Reply,
    sasl::{
        Answer, Authenticator, Authorize, AuthorizeAnswer, BindingPolicy, Channel, ChannelBinding,
        CheckAnonymous, CheckExternal, CheckPassword, CheckToken, CramSecret, CramSecretFor,
        Custom, CustomAnswer, Mechanism, ScramKeys, ScramKeysFor, ServerMechanism, TokenAnswer,
        client::{self as client_sasl, ClientMechanism, Credentials, CustomResponse, NoMechanism},
        server as server_sasl,
    },
    server::{self, StartTls},
};
use smtp_auth_fuzz::{
    END_POINT, EXPORTED, ITERATIONS, KEYS, OWN, PASSWORD, POLICIES, SCRAM, TOKEN, hash_of,
    mechanisms, pick,
};

/// Bits of what each side can bind to, above the kinds: whether the -PLUS mechanisms are left out; of the
/// server's, whether somebody strikes them from its list; of the client's, whether its account is locked,
/// and whether it signs in by another name of the account.
const UNBOUND: u8 = 4;
const STRUCK: u8 = 8;
const LOCKED: u8 = 16;
const ALIAS: u8 = 32;

/// How both are configured, and what they sign in with.
#[derive(Debug, Arbitrary)]
struct Setting {
    server_mechanisms: u16,
    client_mechanisms: u16,
    server_policy: u8,
    client_policy: u8,
    server_bindings: u8,
    client_bindings: u8,
    /// Whether somebody stands between, with a TLS connection to each side.
    between: bool,
    implicit_tls: bool,
    starttls: u8,
    tls: u8,
    server_cleartext: bool,
    client_cleartext: bool,
    withhold: bool,
    try_next: u8,
    max_tries: u8,
    max_response: Option<u8>,
    open: bool,
    certificate: bool,
    credentials: u8,
    right: bool,
    acting_as: u8,
    /// What the client does where it is not signed in.
    on_failure: Vec<u8>,
    /// How many octets go over at once; none for all.
    pace: u8,
}

const ACCOUNTS: [&str; 3] = ["tim", "ann", "bob"];

/// The names of one account.
const NAMES: [&str; 2] = ["tim", "tim@example.org"];

impl Setting {
    fn listed(set: u16) -> Vec<Mechanism> {
        let all = mechanisms();
        let listed = |place: usize| set == 0 || set >> (place % 16) & 1 == 1;
        all.into_iter().enumerate().filter_map(|(at, own)| listed(at).then_some(own)).collect()
    }

    fn server(&self) -> Option<server::Config> {
        let sasl = server_sasl::Config::builder("mail.example.org")
            .mechanisms(Self::listed(self.server_mechanisms))
            .without(self.left_out(self.server_bindings))
            .scram_iterations(ITERATIONS)
            .allow_cleartext(self.server_cleartext)
            .channel_binding(pick(&POLICIES, self.server_policy))
            .max_response(self.max_response.map_or(usize::MAX, usize::from));
        let starttls =
            [StartTls::Offered, StartTls::Unavailable, StartTls::Off, StartTls::Required];
        let config = server::Config::builder("mail.example.org")
            .sasl(sasl.build().ok()?)
            .starttls(pick(&starttls, self.starttls))
            .allow_unauthenticated(self.open);
        Some(config.build().expect("a good name"))
    }

    fn client(&self) -> Option<client::Config> {
        let sasl = client_sasl::Config::builder()
            .mechanisms(Self::listed(self.client_mechanisms))
            .without(self.left_out(self.client_bindings))
            .scram_iterations(ITERATIONS, ITERATIONS)
            .allow_cleartext(self.client_cleartext)
            .channel_binding(pick(&POLICIES, self.client_policy));
        let try_next = [TryNext::IfUnusable, TryNext::Never, TryNext::Always];
        let config = client::Config::builder("client.example.org")
            .sasl(sasl.build().ok()?)
            .tls(pick(&[Tls::Required, Tls::IfOffered, Tls::Never], self.tls))
            .initial_response(!self.withhold)
            .try_next(pick(&try_next, self.try_next))
            .max_tries(u32::from(self.max_tries));
        Some(config.build().expect("a good name"))
    }

    /// The mechanisms that a side has not, though it lists SCRAM.
    fn left_out(&self, bits: u8) -> Vec<Mechanism> {
        let bound = |own: &&Mechanism| own.binds_channel();
        if bits & UNBOUND == 0 { Vec::new() } else { SCRAM.iter().filter(bound).copied().collect() }
    }

    /// The mechanisms that a side has over a connection that it can bind to, or not.
    fn has(&self, set: u16, bits: u8, policy: u8) -> Vec<Mechanism> {
        let listed = Self::listed(set);
        // SCRAM brings its -PLUS.
        let hash = |own: &Mechanism| listed.iter().any(|other| hash_of(*own) == hash_of(*other));
        let plus = SCRAM.iter().filter(|own| own.binds_channel() && hash(own));
        let all: Vec<_> = plus.chain(&listed).copied().collect();
        let out = self.left_out(bits);
        let binds = bits & 3 != 0 && pick(&POLICIES, policy) != BindingPolicy::None;
        let has = |own: &Mechanism| !out.contains(own) && (binds || !own.binds_channel());
        all.into_iter().filter(has).collect()
    }

    /// Whether both sides can bind, so that SCRAM without it means that a -PLUS was struck from the list.
    fn binds(&self) -> bool {
        let server = self.has(self.server_mechanisms, self.server_bindings, self.server_policy);
        let client = self.has(self.client_mechanisms, self.client_bindings, self.client_policy);
        [server, client].iter().all(|own| own.iter().any(|own| own.binds_channel()))
    }

    /// What somebody between the two lets through of what the server says.
    fn let_through(&self, said: Vec<u8>) -> Vec<u8> {
        if self.server_bindings & STRUCK == 0 {
            return said;
        }
        let said = String::from_utf8(said).expect("a server's replies are ASCII");
        let lines = said.split_inclusive("\r\n").map(|line| match line.get(4..9) {
            Some("AUTH ") => {
                let words = line.trim_end().split(' ').filter(|word| !word.ends_with("-PLUS"));
                words.collect::<Vec<_>>().join(" ") + "\r\n"
            }
            _ => line.to_owned(),
        });
        lines.collect::<String>().into()
    }

    fn is_locked(&self) -> bool {
        self.client_bindings & LOCKED != 0
    }

    fn credentials(&self, right: bool) -> Credentials {
        let (password, token) = if right { (PASSWORD, TOKEN) } else { ("wrong", "wrong") };
        let made = match self.credentials % 5 {
            0 if self.client_bindings & ALIAS != 0 => {
                Credentials::password("tim@example.org", password)
            }
            0 => Credentials::password("tim", password),
            1 => Credentials::token("tim", token),
            2 => Ok(Credentials::external()),
            3 => Credentials::anonymous("trace"),
            _ => Ok(Credentials::custom(OWN)),
        };
        let credentials = made.expect("good credentials");
        match self.acting_as % 4 {
            0 => credentials,
            other => credentials.acting_as(ACCOUNTS[usize::from(other) - 1]).expect("a good name"),
        }
    }

    fn channel(kinds: u8, exported: [u8; 32], end_point: &[u8]) -> Channel {
        let end_point = ChannelBinding::tls_server_end_point(end_point).expect("it has data");
        let mut channel = Channel::tls();
        if kinds & 1 != 0 {
            channel = channel.with_binding(ChannelBinding::tls_exporter(exported));
        }
        if kinds & 2 != 0 {
            channel = channel.with_binding(end_point);
        }
        channel
    }

    fn server_channel(&self) -> Channel {
        let channel = Self::channel(self.server_bindings, EXPORTED, END_POINT);
        if self.certificate { channel.with_identity("tim").expect("a good name") } else { channel }
    }

    fn client_channel(&self) -> Channel {
        let other = if self.between { ([8; 32], &b"other"[..]) } else { (EXPORTED, END_POINT) };
        Self::channel(self.client_bindings, other.0, other.1)
    }

    /// Whether right credentials have to do, if there is a mechanism at all.
    fn is_for_all(&self) -> bool {
        let binds_alike = [self.server_bindings & 3, self.client_bindings & 3];
        let never = BindingPolicy::None;
        let unbound = pick(&POLICIES, self.client_policy) == never;
        let alike = unbound || binds_alike[0] == binds_alike[1] || binds_alike[1] == 0;
        let named = matches!(self.acting_as % 4, 0..=2);
        let lets_in = self.right || matches!(self.credentials % 5, 2 | 3);
        let left_alone = !self.between && self.server_bindings & STRUCK == 0;
        let open = !self.is_locked() || !self.credentials.is_multiple_of(5);
        alike && left_alone && named && lets_in && open && self.max_response.is_none()
    }
}

/// Accounts, of which tim, who has another name, may act as ann, and not as bob.
struct Accounts {
    right: bool,
    locked: bool,
}

impl Accounts {
    fn answer<T>(&self, name: &str, answer: Answer<T>) -> Answer<T> {
        let answer = if self.locked { answer.lock() } else { answer };
        if name == "tim" { answer } else { answer.of("tim") }
    }
}

impl Authenticator for Accounts {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        let right = NAMES.contains(&ask.authcid()) && ask.password().expose() == PASSWORD;
        self.answer(ask.authcid(), right.into())
    }

    fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let secret = NAMES.contains(&ask.authcid()).then(|| CramSecret::from_password(PASSWORD));
        self.answer(ask.authcid(), secret.into())
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = || KEYS.iter().find(|keys| keys.hash() == ask.hash()).cloned();
        let keys = NAMES.contains(&ask.authcid()).then(keys).flatten();
        self.answer(ask.authcid(), keys.into())
    }

    fn check_token(&self, ask: &CheckToken) -> TokenAnswer {
        (ask.token().expose() == TOKEN).then(|| "tim".to_owned()).into()
    }

    fn check_external(&self, ask: &CheckExternal) -> Answer<String> {
        Answer::accept(ask.identity().to_owned())
    }

    fn check_anonymous(&self, ask: &CheckAnonymous) -> Answer {
        assert_eq!(ask.trace(), Some("trace"));
        Answer::accept(())
    }

    fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        assert!(self.right || ask.response().is_none_or(|sent| sent != b"right"));
        ask.step_with(|| Ticket { asked: false })
    }

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        assert_eq!(ask.authcid(), "tim");
        (ask.authzid() == Some("ann")).into()
    }
}

/// A mechanism of the application's own, on the server.
struct Ticket {
    asked: bool,
}

impl ServerMechanism for Ticket {
    fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer {
        match response {
            Some(b"right") => CustomAnswer::Accept { authcid: "tim".into(), authzid: None },
            Some(_) if self.asked => CustomAnswer::Fail(smtp_auth::sasl::Failure::Rejected),
            _ => {
                self.asked = true;
                CustomAnswer::Challenge(b"ticket?".into())
            }
        }
    }
}

/// The same on the client.
struct Holder {
    right: bool,
}

impl ClientMechanism for Holder {
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
        match challenge {
            None => CustomResponse::NoInitialResponse,
            Some(_) if self.right => CustomResponse::Complete(b"right".into()),
            Some(_) => CustomResponse::Complete(b"wrong".into()),
        }
    }
}

/// The two, and what is on the way between them.
struct Pair {
    setting: Setting,
    accounts: Accounts,
    client: client::Session,
    server: server::Session,
    to_client: VecDeque<u8>,
    to_server: VecDeque<u8>,
    client_done: bool,
    server_done: bool,
    client_waits: bool,
    right: bool,
    on_failure: std::vec::IntoIter<u8>,
    mails: u32,
    taken: u32,
    sent: u32,
    last_error: Option<Error>,
}

impl Pair {
    /// `None` for what cannot be configured.
    fn new(mut setting: Setting) -> Option<Self> {
        let config = Arc::new(setting.client()?);
        let mut client = client::Session::new(config, setting.credentials(setting.right));
        let mut server = server::Session::new(setting.server()?.into());
        if setting.implicit_tls {
            client.tls_started(setting.client_channel());
            server.tls_started(setting.server_channel());
        }
        let (right, on_failure) = (setting.right, mem::take(&mut setting.on_failure));
        Some(Self {
            accounts: Accounts { right, locked: setting.is_locked() },
            client,
            server,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            client_done: false,
            server_done: false,
            client_waits: false,
            right,
            on_failure: on_failure.into_iter(),
            mails: 0,
            taken: 0,
            sent: 0,
            last_error: None,
            setting,
        })
    }

    /// What of the way goes over at once.
    fn portion(pace: u8, way: &mut VecDeque<u8>) -> Vec<u8> {
        let octets = if pace == 0 { way.len() } else { way.len().min(pace.into()) };
        way.drain(..octets).collect()
    }

    /// The server goes on until it waits. Returns whether anything happened.
    fn serve(&mut self) -> bool {
        use server::Event;
        let octets = Self::portion(self.setting.pace, &mut self.to_server);
        if self.server_done {
            return !octets.is_empty();
        }
        let (mut out, mut events) = (Vec::new(), 0);
        self.server.receive(&octets);
        loop {
            match self.server.next(&mut out) {
                Event::NeedInput => break,
                Event::Query(query) => query.answer_with(&self.accounts),
                Event::Command(command, ask) => ask.reply(match command {
                    Command::Mail(_) | Command::Rcpt(_) => Reply::OK,
                    _ => Reply::NOT_IMPLEMENTED,
                }),
                Event::StartOfData(permission) => permission.accept(),
                Event::EndOfData(ask) => {
                    self.taken += 1;
                    ask.reply(Reply::OK);
                }
                Event::Authenticated(who) => {
                    assert_eq!(who.authcid() == "tim", !who.is_anonymous())
                }
                Event::AuthFailed(_) | Event::Hello(_) | Event::Data(_) | Event::Reset => {}
                Event::StartTls => {
                    assert_eq!(self.server.tls_started(self.setting.server_channel()), 0);
                    // The client begins TLS when it has read the reply.
                    break;
                }
                Event::Close => {
                    self.server_done = true;
                    break;
                }
            }
            events += 1;
        }
        let happened = events > 0 || !octets.is_empty() || !out.is_empty();
        self.to_client.extend(self.setting.let_through(out));
        happened
    }

    /// The client goes on until it waits. Returns whether anything happened.
    fn submit(&mut self) -> bool {
        use client::Event;
        let octets = Self::portion(self.setting.pace, &mut self.to_client);
        if self.client_done {
            return !octets.is_empty();
        }
        let (mut out, mut events) = (Vec::new(), 0);
        self.client.receive(&octets);
        self.client_waits = false;
        loop {
            match self.client.next(&mut out) {
                Ok(Event::NeedInput) => {
                    self.client_waits = true;
                    break;
                }
                Ok(Event::StartTls) => self.client.tls_started(self.setting.client_channel()),
                Ok(Event::Derive(ask)) => ask.run(),
                Ok(Event::Custom(ask)) => {
                    let right = self.right;
                    let response = ask.step_with(|| Holder { right });
                    ask.answer(response);
                }
                Ok(Event::NotAuthenticated(failed)) => {
                    let good = self.right == self.setting.right && self.setting.is_for_all();
                    assert!(
                        !good || is_for_want_of_a_mechanism(failed.reason()),
                        "right credentials came to nothing: {:?}, {:?}",
                        failed.reason(),
                        self.setting,
                    );
                    match self.on_failure.next() {
                        None => failed.quit(),
                        Some(byte) if byte % 4 == 0 => failed.go_on(),
                        Some(byte) if byte % 4 == 1 => failed.try_next(),
                        Some(byte) => {
                            self.right = byte & 4 != 0;
                            self.accounts.right |= self.right;
                            failed.retry(self.setting.credentials(self.right));
                        }
                    }
                }
                Ok(Event::Ready(ready)) if self.mails < 2 => {
                    self.mails += 1;
                    let envelope = Envelope::new(Some("tim@example.org"), ["ann@example.org"]);
                    ready.send(envelope.expect("good addresses"));
                }
                Ok(Event::Ready(ready)) => ready.quit(),
                Ok(Event::Message(body)) => {
                    body.write(b"Subject: x\r\n\r\n.dot\r\n", &mut out).expect("good lines");
                    body.end(&mut out).expect("good lines");
                }
                Ok(Event::Refused { .. }) => {}
                Ok(Event::Sent(outcome)) => {
                    self.sent += u32::from(matches!(outcome, Outcome::Accepted { .. }));
                }
                Ok(Event::Close) => {
                    self.client_done = true;
                    break;
                }
                Err(error) => {
                    self.last_error = Some(error);
                    self.client_done = true;
                    break;
                }
            }
            events += 1;
            assert!(events < 1000, "the client goes on for ever");
        }
        let happened = events > 0 || !octets.is_empty() || !out.is_empty();
        self.to_server.extend(out);
        happened
    }

    fn run(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "the two do not come to an end: {:?}", self.setting);
            let served = self.serve();
            let submitted = self.submit();
            if !served && !submitted {
                break;
            }
        }
        if self.server_done && !self.client_done {
            assert!(self.client_waits);
            self.last_error = self.client.eof().err();
            self.client_done = true;
        }
    }

    fn check(&self) {
        assert!(self.client_done, "both wait for each other: {:?}", self.setting);
        let (setting, who) = (&self.setting, self.server.identity());
        let mechanism = who.map(|who| who.mechanism());
        assert_eq!(self.client.authenticated(), mechanism, "they do not agree: {setting:?}");
        assert_eq!(self.sent, self.taken);
        assert!(self.taken == 0 || who.is_some() || setting.open);
        assert!(!matches!(
            self.last_error,
            Some(
                Error::InjectedBeforeTls
                    | Error::NotAReply(_)
                    | Error::Unsolicited(_)
                    | Error::EarlySuccess
                    | Error::ServerNotAuthentic
                    | Error::BareLineEnd
                    | Error::MessageEnded
            )
        ));
        let (Some(who), Some(mechanism)) = (who, mechanism) else { return };
        let proven = mechanism.takes_password() || mechanism.takes_token() || mechanism == OWN;
        assert!(self.right || !proven, "signed in with wrong credentials: {setting:?}");
        assert!(!mechanism.binds_channel() || !setting.between);
        assert_eq!(who.authcid(), if who.is_anonymous() { "anonymous" } else { "tim" });
        let other = setting.acting_as % 4 == 2;
        assert_eq!(who.authzid(), other.then_some("ann"));
        let server =
            setting.has(setting.server_mechanisms, setting.server_bindings, setting.server_policy);
        let client =
            setting.has(setting.client_mechanisms, setting.client_bindings, setting.client_policy);
        assert!(server.contains(&mechanism) && client.contains(&mechanism));
        let tls = self.client.channel().is_tls();
        let unbound = hash_of(mechanism).is_some() && !mechanism.binds_channel();
        let struck = setting.server_bindings & STRUCK != 0 && setting.binds();
        assert!(!(tls && unbound && struck), "a -PLUS was struck from the list unseen");
        assert!(!setting.is_locked() || !mechanism.takes_password(), "a locked account");
        assert_eq!(tls, self.server.channel().is_tls());
        let cleartext = setting.server_cleartext && setting.client_cleartext;
        assert!(tls || cleartext || !mechanism.needs_tls());
        let policies = [setting.server_policy, setting.client_policy];
        let policies = policies.map(|policy| pick(&POLICIES, policy));
        assert!(!policies.contains(&BindingPolicy::Required) || mechanism.binds_channel());
        assert!(!policies.contains(&BindingPolicy::None) || !mechanism.binds_channel());
    }
}

/// Whether there was nothing to sign in by.
fn is_for_want_of_a_mechanism(why: &AuthError) -> bool {
    matches!(
        why,
        AuthError::NoMechanism(
            NoMechanism::NotOffered
                | NoMechanism::OnlyAfterTls
                | NoMechanism::InCommon
                | NoMechanism::OtherCredentials
                | NoMechanism::WithoutBinding
                | NoMechanism::WithoutTls
                | NoMechanism::ActingAs
        )
    )
}

fuzz_target!(|setting: Setting| {
    let Some(mut pair) = Pair::new(setting) else { return };
    pair.run();
    pair.check();
});
