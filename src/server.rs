//! The server's side of the whole dialogue: framing, EHLO, STARTTLS, AUTH, the mail transaction's
//! order and octets, QUIT.
//!
//! A [`Session`] decides who may sign in, by what its host answers, and that nobody sends mail
//! before. Everything else about mail is the host's. It does no input or output: octets go in by
//! [`receive`](Session::receive), [`next`](Session::next) says what is to be done and appends
//! what is to be sent.
//!
//! | event | |
//! | --- | --- |
//! | [`Query`](Event::Query), [`Command`](Event::Command), [`StartOfData`](Event::StartOfData), [`EndOfData`](Event::EndOfData) | *pending*: shown again until it is answered |
//! | [`NeedInput`](Event::NeedInput), [`StartTls`](Event::StartTls), [`Close`](Event::Close) | *pending*: send what was appended, then read, wrap or close |
//! | [`Hello`](Event::Hello), [`Authenticated`](Event::Authenticated), [`AuthFailed`](Event::AuthFailed), [`Data`](Event::Data), [`Reset`](Event::Reset) | *notifications*: [`next`](Session::next) passes them, so that each is shown once |
//!
//! Send at `NeedInput`, `StartTls` and `Close` alone: a pause at `AuthFailed` then delays the
//! `535`. Do not read while something else is pending: that is what holds a fast client back. So a client
//! that leaves during a long look-up is not noticed by reading: bound the look-up's time.
//!
//! A server that keeps what it takes in memory, and bounds how much that is:
//!
#![cfg_attr(feature = "plain", doc = "```")]
#![cfg_attr(not(feature = "plain"), doc = "```ignore")]
//! use std::{
//!     io::{self, Read, Write}, mem, net::{TcpListener, TcpStream}, thread, time::Duration,
//!     sync::{Arc, Mutex, PoisonError, atomic::{AtomicUsize, Ordering::Relaxed}},
//! };
//! use smtp_auth::{
//!     Authenticator, Channel, Reply, command::Command, server::{Config, Event, Session},
//! };
//!
//! /// How many connections there are at once, and from one address (IPv6: better from one /64, as the
//! /// guide's chapter on guessers has it).
//! const MAX_CONNECTIONS: usize = 500;
//! const MAX_OF_ADDRESS: usize = 20;
//! /// How many octets all messages have together, those that are on their way among them.
//! const MAX_HELD: usize = 64 << 20;
//! static HELD: AtomicUsize = AtomicUsize::new(0);
//!
//! #[derive(Default)]
//! struct Message { from: String, to: Vec<String>, octets: Vec<u8>, counted: usize }
//!
//! impl Message {
//!     /// Whether there is room for so much more of it.
//!     fn has_room(&mut self, more: usize) -> bool {
//!         self.counted += more;
//!         HELD.fetch_add(more, Relaxed) + more <= MAX_HELD
//!     }
//! }
//!
//! impl Drop for Message {
//!     fn drop(&mut self) {
//!         HELD.fetch_sub(self.counted, Relaxed);
//!     }
//! }
//!
//! /// What to reply to a command; what it says of the message is noted.
//! fn command(command: Command<'_>, message: &mut Message) -> Reply {
//!     let known = |name: &str| ["SIZE", "BODY", "AUTH"].iter().any(|own| own.eq_ignore_ascii_case(name));
//!     match command {
//!         Command::Mail(mail) if mail.parameters().iter().all(|parameter| known(parameter.name())) => {
//!             // Whether that address is the account's to use, the guide's chapter on guessers checks.
//!             *message = Message::default();
//!             message.from = mail.from().map(|from| from.as_str().to_owned()).unwrap_or_default();
//!             Reply::SENDER_OK
//!         }
//!         Command::Rcpt(rcpt) if rcpt.parameters().iter().next().is_none() => {
//!             if !rcpt.to().is_ascii() {
//!                 return Reply::MAILBOX_UNAVAILABLE; // SMTPUTF8 is not offered; nor is it our domain
//!             }
//!             if !message.has_room(rcpt.to().as_str().len()) {
//!                 return Reply::INSUFFICIENT_STORAGE;
//!             }
//!             message.to.push(rcpt.to().as_str().to_owned());
//!             Reply::RECIPIENT_OK
//!         }
//!         Command::Mail(_) | Command::Rcpt(_) => Reply::PARAMETER_NOT_RECOGNIZED,
//!         Command::Vrfy(_) => Reply::CANNOT_VERIFY,
//!         _ => Reply::NOT_IMPLEMENTED,
//!     }
//! }
//!
//! /// One connection, inside TLS. Where TLS is to begin by STARTTLS, put the socket inside TLS there and
//! /// call `session.tls_started`.
//! fn serve(
//!     socket: &mut (impl Read + Write), config: Arc<Config>, users: &dyn Authenticator,
//!     stored: &Mutex<Vec<Message>>,
//! ) -> io::Result<()> {
//!     let mut session = Session::new(config); // one configuration for all connections
//!     let (mut out, mut message, mut fits) = (Vec::new(), Message::default(), true);
//!     session.tls_started(Channel::tls());
//!     loop {
//!         match session.next(&mut out) {
//!             Event::NeedInput => {
//!                 socket.write_all(&out)?;
//!                 out.clear();
//!                 if session.receive_with(4096, |room| socket.read(room))? == 0 {
//!                     return Ok(());
//!                 }
//!             }
//!             Event::Query(query) => query.answer_with(users),
//!             Event::AuthFailed(failed) => thread::sleep(failed.pause), // nothing is sent before `NeedInput`
//!             Event::Command(said, ask) => ask.reply(command(said, &mut message)),
//!             Event::StartOfData(permission) => {
//!                 fits = true;
//!                 permission.accept();
//!             }
//!             Event::Data(piece) => {
//!                 fits = fits && message.has_room(piece.len());
//!                 if fits { message.octets.extend_from_slice(piece) } else { message.octets = Vec::new() }
//!             }
//!             Event::EndOfData(ask) if fits => {
//!                 stored.lock().unwrap_or_else(PoisonError::into_inner).push(mem::take(&mut message));
//!                 ask.reply(Reply::OK);
//!             }
//!             Event::EndOfData(ask) => {
//!                 message = Message::default();
//!                 ask.reply(Reply::INSUFFICIENT_STORAGE);
//!             }
//!             Event::Reset => message = Message::default(),
//!             Event::Hello(_) | Event::Authenticated(_) => {}
//!             Event::StartTls | Event::Close => return socket.write_all(&out),
//!         }
//!     }
//! }
//!
//! /// A thread for each connection. What is in excess is closed. `begin_tls` is your TLS library's.
//! fn listen<S: Read + Write>(
//!     listener: TcpListener, begin_tls: fn(TcpStream) -> io::Result<S>, config: Arc<Config>,
//!     users: &(dyn Authenticator + Sync), stored: &Mutex<Vec<Message>>,
//! ) {
//!     thread::scope(|scope| {
//!         let mut open = Vec::<(_, thread::ScopedJoinHandle<'_, io::Result<()>>)>::new();
//!         loop {
//!             let Ok((socket, client)) = listener.accept() else {
//!                 thread::sleep(Duration::from_millis(100)); // no file descriptor is left
//!                 continue;
//!             };
//!             open.retain(|(_, connection)| !connection.is_finished());
//!             let of_address = open.iter().filter(|(address, _)| *address == client.ip()).count();
//!             if open.len() < MAX_CONNECTIONS && of_address < MAX_OF_ADDRESS {
//!                 let config = Arc::clone(&config);
//!                 let connection = scope.spawn(move || {
//!                     let time = Some(Duration::from_secs(300)); // that a client may be silent
//!                     socket.set_read_timeout(time).and(socket.set_write_timeout(time))?;
//!                     serve(&mut begin_tls(socket)?, config, users, stored)
//!                 });
//!                 open.push((client.ip(), connection));
//!             }
//!         }
//!     })
//! }
//! # use smtp_auth::{Answer, CheckPassword, Mechanism, sasl};
//! # struct Tim;
//! # impl Authenticator for Tim {
//! #     fn mechanisms(&self) -> &[Mechanism] {
//! #         &[Mechanism::Plain]
//! #     }
//! #     fn check_password(&self, ask: &CheckPassword) -> Answer {
//! #         (ask.password() == "tanstaaftanstaaf").into()
//! #     }
//! # }
//! # struct Socket(&'static [u8], Vec<u8>);
//! # impl Read for Socket {
//! #     fn read(&mut self, to: &mut [u8]) -> io::Result<usize> { self.0.read(to) }
//! # }
//! # impl Write for Socket {
//! #     fn write(&mut self, said: &[u8]) -> io::Result<usize> { self.1.write(said) }
//! #     fn flush(&mut self) -> io::Result<()> { Ok(()) }
//! # }
//! # let said = b"EHLO c\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nMAIL FROM:<tim@example.org> FOO=bar\r\n\
//! #     MAIL FROM:<tim@example.org> SIZE=9 SIZE=9\r\nMAIL FROM:<tim@example.org> BODY=NONSENSE\r\n\
//! #     MAIL FROM:<tim@example.org> SIZE=9 BODY=7BIT\r\nRCPT TO:<ann@example.org> NOTIFY=NEVER NOTIFY=NEVER\r\n\
//! #     RCPT TO:<ann@example.org> NOTIFY=NEVER\r\nswordfish\r\n\
//! #     RCPT TO:<ann@example.org>\r\nDATA\r\nHello\r\n.\r\nQUIT\r\n";
//! # let (mut socket, stored) = (Socket(said, Vec::new()), Mutex::new(Vec::new()));
//! # let sasl = sasl::server::Config::builder("mail.example.org").answered_by(&Tim).build()?;
//! # let config = Config::builder("mail.example.org").sasl(sasl).build()?;
//! # serve(&mut socket, Arc::new(config), &Tim, &stored)?;
//! # let replies = String::from_utf8(socket.1)?;
//! # let codes: Vec<_> = replies.lines().filter(|line| line.get(3..4) == Some(" ")).map(|line| &line[..3]).collect();
//! # assert_eq!(codes, ["220", "250", "235", "555", "501", "501", "250", "501", "555", "500", "250", "354", "250", "221"], "{replies}");
//! # let stored = stored.into_inner()?;
//! # assert_eq!((&*stored[0].from, &*stored[0].to[0], &*stored[0].octets), ("tim@example.org", "ann@example.org", &b"Hello\r\n"[..]));
//! # assert_eq!(HELD.load(Relaxed), "ann@example.orgHello\r\n".len());
//! # drop(stored);
//! # assert_eq!(HELD.load(Relaxed), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::{fmt, time::Duration};

use crate::{
    auth,
    command::{Command, Mail, MailAuth, Unknown},
    ehlo::Keyword,
    message::DotFinder,
    reply::Reply,
    sasl::{ConfigError, Failure, Identity, Query, server as sasl},
};

mod session;

pub use session::Session;

/// The largest message, in octets: 50 MiB, which is what large providers take, base64 included.
pub const MAX_MESSAGE: u64 = 50 << 20;

/// How many failed attempts to sign in a session takes: who mistypes has enough, and a guesser has to
/// connect anew.
pub const MAX_ATTEMPTS: u32 = 5;

/// How many commands a client may say before it signs in. A client that means to needs some ten; who
/// talks on holds a connection that others could use.
pub const MAX_COMMANDS: u32 = 50;

/// How many recipients a message has at most: ten times what every server has to take (RFC 5321
/// §4.5.3.1.8).
pub const MAX_RECIPIENTS: u32 = 1000;

/// What a server offers, and its limits; [`builder`](Self::builder) makes one. Shared by all of its sessions, in an
/// `Arc`.
#[derive(Clone, Debug)]
pub struct Config {
    hostname: Box<str>,
    sasl: Arc<sasl::Config>,
    keywords: Vec<Keyword<'static>>,
    verbs: Vec<Box<str>>,
    max_message: u64,
    max_attempts: u32,
    max_commands: u32,
    max_recipients: u32,
    starttls: StartTls,
    /// Stays, whatever `starttls` becomes.
    requires_tls: bool,
    unauthenticated: bool,
    legacy_auth: bool,
    dots: DotFinder,
}

/// Whether STARTTLS (RFC 3207) can be had, and whether it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "a host may match on all of them")]
pub enum StartTls {
    /// It is offered.
    Offered,
    /// It is offered, and required (RFC 3207 §4): before TLS, EHLO does not list AUTH, and every command but EHLO, HELO, NOOP,
    /// RSET, HELP, QUIT and STARTTLS, known or not, is answered `530 5.7.0`. An AUTH that is answered so is no attempt.
    Required,
    /// Not for the moment: it is not offered, and refused with `454 4.7.0`.
    Unavailable,
    /// Not at all: refused with `502 5.5.1`.
    Off,
}

impl Config {
    /// A configuration to be built, for a server that has this name in its greeting and in EHLO. It offers
    /// STARTTLS, PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING and SIZE. The limits are [`MAX_MESSAGE`],
    /// [`MAX_ATTEMPTS`], [`MAX_COMMANDS`] and [`MAX_RECIPIENTS`]. How clients authenticate,
    /// [`sasl`](Builder::sasl) says.
    pub fn builder(hostname: &str) -> Builder {
        Builder {
            hostname: hostname.into(),
            sasl: None,
            keywords: alloc::vec![
                Keyword::Pipelining,
                Keyword::EightBitMime,
                Keyword::EnhancedStatusCodes,
                Keyword::Chunking,
            ],
            verbs: Vec::new(),
            verb_keywords: Vec::new(),
            max_message: MAX_MESSAGE,
            max_attempts: MAX_ATTEMPTS,
            max_commands: MAX_COMMANDS,
            max_recipients: MAX_RECIPIENTS,
            starttls: StartTls::Offered,
            unauthenticated: false,
            legacy_auth: false,
        }
    }

    /// The server's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The part that concerns authentication.
    pub fn sasl(&self) -> &Arc<sasl::Config> {
        &self.sasl
    }

    /// What EHLO lists beside STARTTLS, AUTH and SIZE.
    pub fn keywords(&self) -> &[Keyword<'static>] {
        &self.keywords
    }

    /// Whether mail is taken from clients that have not authenticated.
    pub fn allows_unauthenticated(&self) -> bool {
        self.unauthenticated
    }

    /// The same configuration, but for whether STARTTLS can be had: for a server whose TLS is set up, or lost, elsewhere.
    /// A configuration that [requires](StartTls::Required) TLS goes on requiring it: where STARTTLS cannot be had any more,
    /// nothing is taken without TLS.
    #[must_use]
    pub fn with_starttls(mut self, starttls: StartTls) -> Self {
        self.requires_tls |= starttls == StartTls::Required;
        self.starttls = starttls;
        self
    }

    /// The same configuration, but for whether [`Authorize`](crate::sasl::Authorize) is asked of everybody who is
    /// [proven](sasl::Builder::authorize_always): for a driver that looks at a rate limit there, and answers for an
    /// authenticator that [was not to be asked](sasl::Config::authorizes_always).
    #[must_use]
    pub fn with_authorize_always(mut self, always: bool) -> Self {
        Arc::make_mut(&mut self.sasl).set_authorize_always(always);
        self
    }

    fn declares(&self, command: &Unknown<'_>) -> bool {
        self.verbs.iter().any(|own| own.eq_ignore_ascii_case(command.verb()))
    }
}

/// A [`Config`] to be built.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    hostname: Box<str>,
    sasl: Option<Arc<sasl::Config>>,
    keywords: Vec<Keyword<'static>>,
    verbs: Vec<Box<str>>,
    verb_keywords: Vec<Keyword<'static>>,
    max_message: u64,
    max_attempts: u32,
    max_commands: u32,
    max_recipients: u32,
    starttls: StartTls,
    unauthenticated: bool,
    legacy_auth: bool,
}

impl Builder {
    /// How clients authenticate. Without, none can.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.sasl = Some(sasl.into());
        self
    }

    /// Has EHLO list one more keyword, such as DSN or SMTPUTF8: what it asks of a server is for the application to do.
    pub fn keyword(mut self, keyword: Keyword<'static>) -> Self {
        self.keywords.push(keyword);
        self
    }

    /// What EHLO lists beside STARTTLS, AUTH and SIZE, in place of what [`builder`](Config::builder) says.
    /// SMTPUTF8 and what else asks something of the host is for the host to list.
    pub fn keywords(mut self, keywords: impl IntoIterator<Item = Keyword<'static>>) -> Self {
        self.keywords = keywords.into_iter().collect();
        self
    }

    /// Declares a command of the application's own, and adds the keyword by which EHLO announces it:
    /// `verb("ETRN", Keyword::other("ETRN", "")?)`. It comes as
    /// [`Command::Unknown`], with its arguments, from clients that have said EHLO and may send mail; from others it is
    /// answered `503 5.5.1` or `530 5.7.0`. Any other command that the crate does not know is answered `500 5.5.2` by
    /// the session, and the application never sees it.
    ///
    /// The keyword stands once in EHLO, however many verbs it announces. XCLIENT, after which the client is another, and
    /// BURL, which has a message from elsewhere, cannot be declared: the session would not know of that.
    pub fn verb(mut self, verb: &str, keyword: Keyword<'static>) -> Self {
        self.verbs.push(verb.into());
        if !self.verb_keywords.contains(&keyword) {
            self.verb_keywords.push(keyword);
        }
        self
    }

    /// The largest message to take, in octets; EHLO says so. What is larger is swallowed and
    /// answered `552 5.3.4`.
    pub fn max_message(mut self, octets: u64) -> Self {
        self.max_message = octets;
        self
    }

    /// How many failed attempts to sign in a session takes before it ends with `421 4.7.0`. Under
    /// three it is three (RFC 4954 §9).
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(3);
        self
    }

    /// How many commands a client may say before it has signed in, as a guest by ANONYMOUS has not; the next
    /// gets `421 4.7.0`. Where it need not sign in there is no such limit.
    pub fn max_commands(mut self, commands: u32) -> Self {
        self.max_commands = commands;
        self
    }

    /// How many recipients a message may have; the next gets `452 4.5.3`, and a client sends it in a
    /// message of its own. Under a hundred it is a hundred (RFC 5321 §4.5.3.1.8).
    pub fn max_recipients(mut self, recipients: u32) -> Self {
        self.max_recipients = recipients.max(100);
        self
    }

    /// Whether STARTTLS can be had, and whether it must: offered, but not required, by default.
    pub fn starttls(mut self, starttls: StartTls) -> Self {
        self.starttls = starttls;
        self
    }

    /// Whether mail is taken from clients that have not signed in, or only by ANONYMOUS. Off by
    /// default: they get `530 5.7.0`.
    pub fn allow_unauthenticated(mut self, allow: bool) -> Self {
        self.unauthenticated = allow;
        self
    }

    /// Whether EHLO also has an `AUTH=` line, for Outlook Express. Off by default.
    pub fn legacy_auth_line(mut self, legacy: bool) -> Self {
        self.legacy_auth = legacy;
        self
    }

    /// The configuration, if nothing in it contradicts the rest.
    ///
    /// # Errors
    /// [`ConfigError::HostName`] where the name is not 1 to 255 octets of printable ASCII without spaces, `<`,
    /// `>`; [`ConfigError::NoSasl`] where clients must authenticate and cannot; [`ConfigError::Keyword`] where the
    /// [`keywords`](Self::keywords) have one that the session writes by itself, or one twice; [`ConfigError::Verb`] where a
    /// [`verb`](Self::verb) is not letters, is that of a command that the crate knows, or XCLIENT or BURL.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Self { hostname, sasl, mut keywords, verbs, verb_keywords, unauthenticated, .. } = self;
        let sasl = match sasl {
            Some(sasl) => sasl,
            None if unauthenticated => Arc::new(sasl::Config::without_mechanisms(&hostname)),
            None => return Err(ConfigError::NoSasl),
        };
        sasl::Config::check_host(&hostname)?;
        for own in verb_keywords {
            if !keywords.contains(&own) {
                keywords.push(own);
            }
        }
        let cannot_be = |verb: &str| {
            // The next client, or the next message, would come from elsewhere.
            let changes_all = ["XCLIENT", "BURL"].iter().any(|own| own.eq_ignore_ascii_case(verb));
            changes_all || Unknown::new(verb, None).is_err()
        };
        if verbs.iter().any(|verb| cannot_be(verb)) {
            return Err(ConfigError::Verb);
        }
        let is = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        let is_bad = |(n, keyword): (usize, &Keyword<'_>)| {
            let name = keyword.name();
            let again = keywords.iter().skip(n + 1).any(|other| is(other.name(), name));
            again || ["STARTTLS", "AUTH", "SIZE"].iter().any(|own| is(own, name))
        };
        if keywords.iter().enumerate().any(is_bad) {
            return Err(ConfigError::Keyword);
        }
        Ok(Config {
            hostname,
            sasl,
            keywords,
            verbs,
            max_message: self.max_message,
            max_attempts: self.max_attempts,
            max_commands: self.max_commands,
            max_recipients: self.max_recipients,
            starttls: self.starttls,
            requires_tls: self.starttls == StartTls::Required,
            unauthenticated,
            legacy_auth: self.legacy_auth,
            dots: DotFinder::new(),
        })
    }
}

/// What the session needs, or what happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new obligation must break the build of a host that ignores it"
)]
pub enum Event<'a> {
    /// Pending: send what was appended, read from the client, [`receive`](Session::receive).
    NeedInput,
    /// Pending: answer it.
    Query(Query<'a>),
    /// The client has signed in.
    Authenticated(&'a Identity),
    /// It has not. Where a token is refused, this is shown before the client is told so, and what it then responds
    /// changes nothing.
    AuthFailed(AuthFailed<'a>),
    /// The client's EHLO or HELO: its name, as it gave it.
    Hello(Hello<'a>),
    /// Pending: a reply to MAIL, RCPT, VRFY, EXPN, HELP, or a command that the application
    /// [has declared](Builder::verb). No other command gets here: one that is unknown may be a password of a client
    /// that is out of step, and the session answers it with `500 5.5.2`. MAIL and
    /// RCPT come in order, and only from clients that may send, no parameter comes twice, and SIZE, BODY and
    /// AUTH are checked.
    ///
    /// What else an extension brings is the host's to judge, as it says by
    /// [`keywords`](Builder::keywords) which it has: of a parameter that it does not know
    /// ([`PARAMETER_NOT_RECOGNIZED`](Reply::PARAMETER_NOT_RECOGNIZED)), as BODY is where 8BITMIME is not listed,
    /// and of an address that [is not ASCII](crate::command::Mailbox::is_ascii) without SMTPUTF8.
    Command(Command<'a>, PendingReply<'a>),
    /// Pending: may the message come?
    StartOfData(Permission<'a>),
    /// Octets of the message, the dots of transparency removed.
    Data(&'a [u8]),
    /// Pending: the whole message has been shown, and is good. The reply says what becomes of it.
    EndOfData(PendingReply<'a>),
    /// The transaction has ended without a message, by RSET, EHLO, STARTTLS or a refusal: forget it.
    /// At the session's end there is only [`Close`](Self::Close).
    Reset,
    /// Pending: send what was appended, begin TLS, [`tls_started`](Session::tls_started).
    StartTls,
    /// Pending: send what was appended, close the connection. This stays.
    Close,
}

/// The client has failed to authenticate. `Display` says why.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuthFailed<'a> {
    /// Why.
    pub why: Failure,
    /// How many attempts at guessing the session has seen, this one included if it is one.
    pub attempts: u32,
    /// How long to wait before the reply is sent: a second, then twice as long for each attempt, up to
    /// [`MAX_PAUSE`]; nothing where this is no attempt. The session has no clock: it is the application that
    /// waits, which costs an attacker time and nobody else.
    pub pause: Duration,
    exchange: &'a auth::server::Exchange,
}

/// The longest [pause](AuthFailed::pause): clients wait for longer, five minutes by RFC 5321
/// §4.5.3.2, but their users do not.
pub const MAX_PAUSE: Duration = Duration::from_secs(16);

/// How long to wait before the reply to a failed attempt is sent, if that is attempt number `attempts`:
/// a second for the first, then twice as long each time, up to [`MAX_PAUSE`]. [`AuthFailed::pause`] has
/// it; this is for a server with a loop of its own.
pub fn pause(attempts: u32) -> Duration {
    let doubled = 1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(MAX_PAUSE)
}

impl<'a> AuthFailed<'a> {
    fn new(why: Failure, attempts: u32, exchange: &'a auth::server::Exchange) -> Self {
        let pause = if why.is_attempt() { pause(attempts) } else { Duration::ZERO };
        Self { why, attempts, pause, exchange }
    }

    /// Whom the client claims to be: the name, [folded](sasl::Builder::fold_names). A rate limit counts by it,
    /// whether there is such an account or not. `None` where the exchange did not come as far as a name, or the
    /// client was to be known by a token, a certificate, or a mechanism of the application's own, and was not proven to
    /// be an account; nor has a guest a name.
    ///
    /// Think twice before you log it: some people type their password in its place.
    pub fn authcid(&self) -> Option<&'a str> {
        self.exchange.authcid()
    }

    /// The account of which that name is an alias, as the store's [answer](crate::sasl::Answer::of) said: a rate
    /// limit counts there, too. `None` where it is that name itself.
    pub fn account(&self) -> Option<&'a str> {
        self.exchange.account()
    }
}

impl fmt::Display for AuthFailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

/// How the client greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello<'a> {
    /// The name that it gave itself: whatever it likes, without spaces, controls and what changes the
    /// direction of text.
    pub name: &'a str,
    /// Whether it said EHLO rather than HELO.
    pub extended: bool,
}

/// The handle of a command, or of a whole message, that waits for its reply. **The event is shown again until there
/// is one**: whoever replies later gets the handle anew by [`Session::pending`].
#[derive(Debug)]
#[must_use = "the client waits for the reply"]
pub struct PendingReply<'a> {
    reply: &'a mut Option<Reply>,
    identity: Option<&'a Identity>,
}

impl<'a> PendingReply<'a> {
    /// Who has authenticated, which decides what the client may do. `None` only where
    /// [`allow_unauthenticated`](Builder::allow_unauthenticated) is set; a guest of ANONYMOUS
    /// [is told apart](Identity::is_anonymous).
    pub fn identity(&self) -> Option<&'a Identity> {
        self.identity
    }

    /// What the AUTH parameter of that MAIL command is worth (RFC 4954 §5): `None` where it has none. From a
    /// client that has not authenticated it is [`MailAuth::UNKNOWN`], whatever it says; whether one that has may
    /// speak for others is for the application to know.
    pub fn mail_auth<'m>(&self, mail: &Mail<'m>) -> Option<MailAuth<'m>> {
        let claimed = mail.auth().ok()??;
        let is_proven = self.identity.is_some_and(|who| !who.is_anonymous());
        Some(if is_proven { claimed } else { MailAuth::UNKNOWN })
    }

    /// Replies. A positive reply to MAIL begins a transaction, one to RCPT adds a recipient to it. A `3xx`, which
    /// has no place here, becomes [`Reply::LOCAL_ERROR`]; after a `421` the session ends.
    pub fn reply(self, reply: Reply) {
        let intermediate = matches!(reply.code(), 300..=399);
        *self.reply = Some(if intermediate { Reply::LOCAL_ERROR } else { reply });
    }
}

/// The handle of a message that the client wants to send. **The event is shown again until it is answered.**
#[derive(Debug)]
#[must_use = "the client waits for the permission"]
pub struct Permission<'a> {
    answer: &'a mut Option<Result<(), Reply>>,
    identity: Option<&'a Identity>,
}

impl<'a> Permission<'a> {
    /// Who has authenticated, as [`PendingReply::identity`] has it.
    pub fn identity(&self) -> Option<&'a Identity> {
        self.identity
    }

    /// The message may come.
    pub fn accept(self) {
        *self.answer = Some(Ok(()));
    }

    /// It may not, and the transaction ends. A reply that is not a refusal becomes
    /// [`Reply::LOCAL_ERROR`].
    pub fn refuse(self, reply: Reply) {
        let refusal = reply.is_transient() || reply.is_permanent();
        *self.answer = Some(Err(if refusal { reply } else { Reply::LOCAL_ERROR }));
    }
}
