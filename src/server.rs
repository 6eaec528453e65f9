//! The server side of the whole SMTP dialogue: framing, EHLO, STARTTLS, AUTH, mail transactions and QUIT.
//!
//! A [`Session`] authenticates clients and asks your application about their credentials. It accepts mail only from
//! authenticated clients, unless [`allow_unauthenticated`](Builder::allow_unauthenticated) is set. It enforces the
//! order of the commands in a transaction and finds the end of each message. Everything else about mail is up to the
//! application.
//!
//! A session does no I/O. Call [`receive`](Session::receive) with the octets that you read from the client. Then call
//! [`next`](Session::next), which appends the octets for the client to a buffer and returns the next [`Event`].
//!
//! | event | kind |
//! | --- | --- |
//! | [`Query`](Event::Query), [`Command`](Event::Command), [`StartOfData`](Event::StartOfData), [`EndOfData`](Event::EndOfData) | *Pending*. [`next`](Session::next) returns the same event until it is answered. |
//! | [`NeedInput`](Event::NeedInput), [`StartTls`](Event::StartTls), [`Close`](Event::Close) | *Pending*. Send the buffer. Then read from the client, begin TLS, or close the connection, depending on the event. |
//! | [`Hello`](Event::Hello), [`Authenticated`](Event::Authenticated), [`AuthFailed`](Event::AuthFailed), [`Data`](Event::Data), [`Reset`](Event::Reset) | *Notification*. The event needs no answer, and [`next`](Session::next) returns it only once. |
//!
//! Send the buffer only when the event is `NeedInput`, `StartTls` or `Close`. If you send it earlier, a pause at
//! `AuthFailed` does not delay the `535` reply.
//!
//! Read from the client only when the event is `NeedInput`. This applies backpressure to a fast client. The drawback
//! is that your application does not notice when a client disconnects during a long lookup. Therefore, set a time limit
//! for lookups.
//!
//! This server keeps messages in memory and limits how much memory they use:
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
//! /// The maximum numbers of simultaneous connections, in total and from one address. For IPv6, it is better to count
//! /// connections from each /64 prefix, as the guide's chapter on rate limiting explains.
//! const MAX_CONNECTIONS: usize = 500;
//! const MAX_PER_ADDRESS: usize = 20;
//! /// The maximum total size of all messages in octets, including those being received.
//! const MAX_HELD: usize = 64 << 20;
//! static HELD: AtomicUsize = AtomicUsize::new(0);
//!
//! #[derive(Default)]
//! struct Message { from: String, to: Vec<String>, octets: Vec<u8>, counted: usize }
//!
//! impl Message {
//!     /// Returns whether there is room for this number of additional octets.
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
//! /// Returns the reply to a command, and records the sender or recipient that it names.
//! fn reply_to(command: Command<'_>, message: &mut Message) -> Reply {
//!     let known = |name: &str| ["SIZE", "BODY", "AUTH"].iter().any(|known| known.eq_ignore_ascii_case(name));
//!     match command {
//!         Command::Mail(mail) if mail.parameters().iter().all(|parameter| known(parameter.name())) => {
//!             // The guide shows how to check that the address belongs to the account.
//!             *message = Message::default();
//!             message.from = mail.from().map(|from| from.as_str().to_owned()).unwrap_or_default();
//!             Reply::SENDER_OK
//!         }
//!         Command::Rcpt(rcpt) if rcpt.parameters().iter().next().is_none() => {
//!             if !rcpt.to().is_ascii() {
//!                 return Reply::MAILBOX_UNAVAILABLE; // this server does not offer SMTPUTF8
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
//! /// Serves one connection that already uses TLS. A server that offers STARTTLS begins TLS at `Event::StartTls`
//! /// instead, and then calls `session.tls_started`.
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
//!             Event::Command(command, pending) => pending.reply(reply_to(command, &mut message)),
//!             Event::StartOfData(permission) => {
//!                 fits = true;
//!                 permission.accept();
//!             }
//!             Event::Data(piece) => {
//!                 fits = fits && message.has_room(piece.len());
//!                 if fits { message.octets.extend_from_slice(piece) } else { message.octets = Vec::new() }
//!             }
//!             Event::EndOfData(pending) if fits => {
//!                 stored.lock().unwrap_or_else(PoisonError::into_inner).push(mem::take(&mut message));
//!                 pending.reply(Reply::OK);
//!             }
//!             Event::EndOfData(pending) => {
//!                 message = Message::default();
//!                 pending.reply(Reply::INSUFFICIENT_STORAGE);
//!             }
//!             Event::Reset => message = Message::default(),
//!             Event::Hello(_) | Event::Authenticated(_) => {}
//!             Event::StartTls | Event::Close => return socket.write_all(&out),
//!         }
//!     }
//! }
//!
//! /// Serves each connection on a separate thread, and closes connections that exceed the limits. `begin_tls` calls
//! /// your TLS library.
//! fn listen<S: Read + Write>(
//!     listener: TcpListener, begin_tls: fn(TcpStream) -> io::Result<S>, config: Arc<Config>,
//!     users: &(dyn Authenticator + Sync), stored: &Mutex<Vec<Message>>,
//! ) {
//!     thread::scope(|scope| {
//!         let mut open = Vec::<(_, thread::ScopedJoinHandle<'_, io::Result<()>>)>::new();
//!         loop {
//!             let Ok((socket, client)) = listener.accept() else {
//!                 thread::sleep(Duration::from_millis(100)); // for instance, no file descriptor is left
//!                 continue;
//!             };
//!             open.retain(|(_, connection)| !connection.is_finished());
//!             let from_address = open.iter().filter(|(address, _)| *address == client.ip()).count();
//!             if open.len() < MAX_CONNECTIONS && from_address < MAX_PER_ADDRESS {
//!                 let config = Arc::clone(&config);
//!                 let connection = scope.spawn(move || {
//!                     let timeout = Some(Duration::from_secs(300)); // of a silent client
//!                     socket.set_read_timeout(timeout).and(socket.set_write_timeout(timeout))?;
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

/// The default value of [`max_message`](Builder::max_message), the maximum size of a message in octets. The default is
/// 50 MiB. The limit applies to the message as it is sent, with attachments encoded in base64. Large providers accept
/// messages of this size.
pub const MAX_MESSAGE: u64 = 50 << 20;

/// The default value of [`max_attempts`](Builder::max_attempts), the number of failed authentication attempts that a
/// session allows. Five attempts are enough for a user who mistypes a password. After five attempts, a brute-force
/// attacker has to reconnect.
pub const MAX_ATTEMPTS: u32 = 5;

/// The default value of [`max_commands`](Builder::max_commands), the number of commands that a client may send before
/// it authenticates. A client that intends to authenticate needs about ten commands. A client that sends many more
/// occupies a connection that others could use.
pub const MAX_COMMANDS: u32 = 50;

/// The default value of [`max_recipients`](Builder::max_recipients), the number of recipients that a message may have.
/// This is ten times the number that every server must accept (RFC 5321 §4.5.3.1.8).
pub const MAX_RECIPIENTS: u32 = 1000;

/// The configuration of a server, including its extensions and limits. Use [`builder`](Self::builder) to create a
/// configuration. All sessions of a server share one configuration in an `Arc`.
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
    /// Once set, this field stays set, even if `starttls` changes.
    requires_tls: bool,
    unauthenticated: bool,
    legacy_auth: bool,
    dots: DotFinder,
}

/// Whether a server offers STARTTLS (RFC 3207), and whether it requires TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "an application may match on all of them")]
pub enum StartTls {
    /// The server offers STARTTLS, and also serves clients that do not use it.
    Offered,
    /// The server offers STARTTLS and requires TLS (RFC 3207 §4). Until TLS begins, the reply to EHLO does not list
    /// AUTH, and the server accepts only EHLO, HELO, NOOP, RSET, HELP, QUIT and STARTTLS. Every other command, known or
    /// unknown, is answered with `530 5.7.0`. An AUTH command that is answered in this way does not count as a failed
    /// attempt.
    Required,
    /// STARTTLS is temporarily unavailable. The reply to EHLO does not list STARTTLS, and the STARTTLS command is
    /// answered with `454 4.7.0`.
    Unavailable,
    /// The server does not support STARTTLS. The reply to EHLO does not list STARTTLS, and the STARTTLS command is
    /// answered with `502 5.5.1`.
    Off,
}

impl Config {
    /// Creates a builder for a server configuration. The server gives `hostname` as its name in the greeting and in the
    /// reply to EHLO.
    ///
    /// By default, EHLO lists STARTTLS, PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES, CHUNKING and SIZE, and the limits
    /// are [`MAX_MESSAGE`], [`MAX_ATTEMPTS`], [`MAX_COMMANDS`] and [`MAX_RECIPIENTS`]. [`sasl`](Builder::sasl) sets how
    /// clients authenticate, and has no default.
    ///
    #[cfg_attr(feature = "plain", doc = "```")]
    #[cfg_attr(not(feature = "plain"), doc = "```ignore")]
    /// use smtp_auth::{Mechanism, sasl, server::{Config, StartTls}};
    ///
    /// let sasl = sasl::server::Config::builder("mail.example.org").mechanisms([Mechanism::Plain]).build()?;
    /// let config = Config::builder("mail.example.org").sasl(sasl).starttls(StartTls::Required).build()?;
    /// assert_eq!(config.hostname(), "mail.example.org");
    /// # Ok::<(), smtp_auth::sasl::ConfigError>(())
    /// ```
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

    /// Returns the server's host name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the SASL configuration.
    pub fn sasl(&self) -> &Arc<sasl::Config> {
        &self.sasl
    }

    /// Returns the keywords that EHLO lists in addition to STARTTLS, AUTH and SIZE.
    pub fn keywords(&self) -> &[Keyword<'static>] {
        &self.keywords
    }

    /// Returns whether the server accepts mail from clients that have not authenticated.
    pub fn allows_unauthenticated(&self) -> bool {
        self.unauthenticated
    }

    /// Returns the configuration with a changed setting for STARTTLS. Use this method if another part of the program
    /// sets up TLS, or finds that TLS is unavailable.
    ///
    /// A configuration that [requires](StartTls::Required) TLS still requires TLS after this call. If the server then
    /// no longer offers STARTTLS, commands that need TLS are still answered with `530 5.7.0`.
    #[must_use]
    pub fn with_starttls(mut self, starttls: StartTls) -> Self {
        self.requires_tls |= starttls == StartTls::Required;
        self.starttls = starttls;
        self
    }

    /// Returns the configuration with a changed setting for [`authorize_always`](sasl::Builder::authorize_always). If
    /// the setting is on, the session returns an [`Authorize`](crate::sasl::Authorize) query for every client that has
    /// proven its identity. This method is for a driver that checks a rate limit when the query arrives. The driver
    /// must answer the query itself if the application has [not turned the setting
    /// on](sasl::Config::authorizes_always).
    #[must_use]
    pub fn with_authorize_always(mut self, always: bool) -> Self {
        Arc::make_mut(&mut self.sasl).set_authorize_always(always);
        self
    }

    fn declares(&self, command: &Unknown<'_>) -> bool {
        self.verbs.iter().any(|own| own.eq_ignore_ascii_case(command.verb()))
    }
}

/// A builder for a [`Config`], created by [`Config::builder`]. Every setting except [`sasl`](Self::sasl) has a default
/// value.
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
    /// Sets how clients authenticate. Without this setting, no client can authenticate, and [`build`](Self::build)
    /// fails unless [unauthenticated clients](Self::allow_unauthenticated) may send mail.
    pub fn sasl(mut self, sasl: impl Into<Arc<sasl::Config>>) -> Self {
        self.sasl = Some(sasl.into());
        self
    }

    /// Adds a keyword to those that EHLO lists, for instance DSN or SMTPUTF8. The application must implement what the
    /// extension requires of a server.
    pub fn keyword(mut self, keyword: Keyword<'static>) -> Self {
        self.keywords.push(keyword);
        self
    }

    /// Sets the keywords that EHLO lists in addition to STARTTLS, AUTH and SIZE. They replace the
    /// [default](Config::builder) keywords. If an extension imposes requirements on the server, as SMTPUTF8 does, the
    /// application must implement them.
    pub fn keywords(mut self, keywords: impl IntoIterator<Item = Keyword<'static>>) -> Self {
        self.keywords = keywords.into_iter().collect();
        self
    }

    /// Declares a custom command, and adds the keyword that announces it in EHLO. For example, declare the verb `ETRN`
    /// with the keyword `Keyword::other("ETRN", "")?`.
    ///
    /// If the client has sent EHLO and may send mail, the application receives the command and its arguments as
    /// [`Command::Unknown`]. Otherwise the session answers `503 5.5.1` or `530 5.7.0`. An unknown command that was not
    /// declared is answered with `500 5.5.2`, and the application never receives it.
    ///
    /// EHLO lists a keyword once, even if it announces several verbs. XCLIENT and BURL cannot be declared. This is
    /// because XCLIENT changes the client's identity, BURL fetches a message from elsewhere, and the session would not
    /// notice these effects.
    pub fn verb(mut self, verb: &str, keyword: Keyword<'static>) -> Self {
        self.verbs.push(verb.into());
        if !self.verb_keywords.contains(&keyword) {
            self.verb_keywords.push(keyword);
        }
        self
    }

    /// Sets the maximum size of a message in octets. EHLO announces it as SIZE (RFC 1870). The session discards the
    /// rest of a larger message and answers `552 5.3.4`.
    pub fn max_message(mut self, octets: u64) -> Self {
        self.max_message = octets;
        self
    }

    /// Sets how many failed authentication attempts a session allows. After that many failed attempts, any command
    /// except QUIT is answered with `421 4.7.0`, which ends the session. A number below three is raised to three (RFC
    /// 4954 §9).
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(3);
        self
    }

    /// Sets how many commands a client may send before it authenticates. After that many commands, any further command
    /// except QUIT is answered with `421 4.7.0`, which ends the session. A client that used ANONYMOUS does not count as
    /// authenticated. There is no limit if [unauthenticated clients](Self::allow_unauthenticated) may send mail.
    pub fn max_commands(mut self, commands: u32) -> Self {
        self.max_commands = commands;
        self
    }

    /// Sets how many recipients a message may have. The session refuses further recipients with `452 4.5.3`, and the
    /// client can send the message to them in another transaction. A number below 100 is raised to 100 (RFC 5321
    /// §4.5.3.1.8).
    pub fn max_recipients(mut self, recipients: u32) -> Self {
        self.max_recipients = recipients.max(100);
        self
    }

    /// Sets whether the server offers or requires STARTTLS. By default, the server offers STARTTLS but does not require
    /// it.
    pub fn starttls(mut self, starttls: StartTls) -> Self {
        self.starttls = starttls;
        self
    }

    /// Sets whether the server accepts mail from clients that have not authenticated, or that have authenticated only
    /// with ANONYMOUS. By default, the server answers such clients with `530 5.7.0`.
    pub fn allow_unauthenticated(mut self, allow: bool) -> Self {
        self.unauthenticated = allow;
        self
    }

    /// Sets whether EHLO also lists an `AUTH=` line, which old versions of Outlook Express need. By default, EHLO does
    /// not list this line.
    pub fn legacy_auth_line(mut self, legacy: bool) -> Self {
        self.legacy_auth = legacy;
        self
    }

    /// Builds the configuration.
    ///
    /// # Errors
    /// - [`ConfigError::HostName`] if the host name does not consist of 1 to 255 octets of printable ASCII, or contains
    ///   a space, `<` or `>`.
    /// - [`ConfigError::NoSasl`] if clients must authenticate but [`sasl`](Self::sasl) is not set.
    /// - [`ConfigError::Keyword`] if one of the [`keywords`](Self::keywords) occurs twice, or is STARTTLS, AUTH or
    ///   SIZE, which the session adds itself.
    /// - [`ConfigError::Verb`] if a [`verb`](Self::verb) does not consist of letters, is the verb of a command that the
    ///   crate implements, or is XCLIENT or BURL.
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
            // XCLIENT changes the client's identity, and BURL fetches a message from elsewhere.
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

/// Something that the application must do next, or something that has happened.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "a new pending event must break the build of an application that ignores it"
)]
pub enum Event<'a> {
    /// Pending: send the buffer, read from the client, and call [`receive`](Session::receive) with the octets.
    NeedInput,
    /// Pending: answer the query about the client's credentials.
    Query(Query<'a>),
    /// Notification: the client has authenticated.
    Authenticated(&'a Identity),
    /// Notification: the client has failed to authenticate. If a token was refused, this event is returned before the
    /// error is sent to the client. The client's response to the error does not change the result.
    AuthFailed(AuthFailed<'a>),
    /// Notification: the client has sent EHLO or HELO with its name.
    Hello(Hello<'a>),
    /// Pending: reply to MAIL, RCPT, VRFY, EXPN, HELP, or a command that the application has [declared](Builder::verb).
    ///
    /// The session has checked that MAIL and RCPT come in the right order, and that the client may send mail. It has
    /// also checked that no parameter occurs twice, and that the parameters SIZE, BODY and AUTH are valid. The session
    /// answers an unknown command with `500 5.5.2`, unless the application has declared the command. The application
    /// does not see the unknown command, because it may be a password from a client that is out of sync with the
    /// server.
    ///
    /// Everything else about extensions is up to the application, because the application sets the
    /// [`keywords`](Builder::keywords) in the reply to EHLO. If a command contains a parameter that the application
    /// does not support, the application should refuse the command with
    /// [`PARAMETER_NOT_RECOGNIZED`](Reply::PARAMETER_NOT_RECOGNIZED). For example, it should refuse BODY if the reply
    /// to EHLO does not list 8BITMIME. If the reply to EHLO does not list SMTPUTF8, the application should also refuse
    /// an address that [is not ASCII](crate::command::Mailbox::is_ascii).
    Command(Command<'a>, PendingReply<'a>),
    /// Pending: after DATA or the first BDAT (RFC 3030 §2), decide whether the client may send the message.
    StartOfData(Permission<'a>),
    /// Notification: a piece of the message, with dot-stuffing removed (RFC 5321 §4.5.2).
    Data(&'a [u8]),
    /// Pending: reply to the message as a whole. All of its octets have been returned as [`Data`](Self::Data). The message
    /// contains no bare CR or LF, and is no larger than [`max_message`](Builder::max_message).
    EndOfData(PendingReply<'a>),
    /// Notification: the transaction has ended without a message, because the client sent RSET, EHLO, HELO or STARTTLS,
    /// or because the message was refused. Discard what you have stored for the transaction. If the session ends during
    /// a transaction, it returns [`Close`](Self::Close) instead of this event.
    Reset,
    /// Pending: send the buffer, begin TLS, and call [`tls_started`](Session::tls_started).
    StartTls,
    /// Pending: send the buffer and close the connection. No other event follows.
    Close,
}

/// A failed authentication. `Display` writes the reason in a form that is suitable for logs.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AuthFailed<'a> {
    /// The reason for the failure.
    pub why: Failure,
    /// The number of failed attempts in this session, including this failure if it [counts as an
    /// attempt](Failure::is_attempt).
    pub attempts: u32,
    /// How long to wait before sending the reply. The pause is one second after the first failed attempt, and doubles
    /// with each further failed attempt, up to [`MAX_PAUSE`]. If this failure does not count as an attempt, the pause
    /// is zero. The session has no clock, so the application has to implement the pause. The pause slows down
    /// brute-force attacks without delaying other clients.
    pub pause: Duration,
    exchange: &'a auth::server::Exchange,
}

/// The longest [pause](AuthFailed::pause), which is 16 seconds. According to RFC 5321 §4.5.3.2, clients wait five
/// minutes for a reply, but users are less patient.
pub const MAX_PAUSE: Duration = Duration::from_secs(16);

/// Returns how long to wait before replying to a failed attempt. `attempts` is the number of failed attempts so far,
/// including the one that the server is about to answer. The pause is one second for the first attempt and doubles with
/// each further attempt, up to [`MAX_PAUSE`].
///
/// Call this function in a server that does not use a [`Session`]. A session provides the pause as
/// [`AuthFailed::pause`].
pub fn pause(attempts: u32) -> Duration {
    let doubled = 1u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(MAX_PAUSE)
}

impl<'a> AuthFailed<'a> {
    fn new(why: Failure, attempts: u32, exchange: &'a auth::server::Exchange) -> Self {
        let pause = if why.is_attempt() { pause(attempts) } else { Duration::ZERO };
        Self { why, attempts, pause, exchange }
    }

    /// Returns the account name that the client claims, in [folded](sasl::Builder::fold_names) form. Use this name for
    /// rate limiting, even if the account does not exist.
    ///
    /// Returns `None` for ANONYMOUS, or if the exchange ended before the client sent a name. If the client used a
    /// token, a certificate or a custom mechanism, this method also returns `None` when the exchange failed before the
    /// account was determined.
    ///
    /// Think twice before you log this name, because some people enter their password instead of their name.
    pub fn authcid(&self) -> Option<&'a str> {
        self.exchange.authcid()
    }

    /// Returns the account for which [`authcid`](Self::authcid) is an alias, or `None` if the name is not an alias. The
    /// application has specified this account in its [answer](crate::sasl::Answer::of) to the query. Rate limiting
    /// should also count failures for this account.
    pub fn account(&self) -> Option<&'a str> {
        self.exchange.account()
    }
}

impl fmt::Display for AuthFailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

/// The client's EHLO or HELO command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hello<'a> {
    /// The name that the client gave. The session does not verify it. It can be any text without spaces, control
    /// characters, or characters that change the direction of text.
    pub name: &'a str,
    /// Whether the client sent EHLO rather than HELO.
    pub extended: bool,
}

/// The handle with which the application replies to a command or to a complete message. **Each call to
/// [`next`](Session::next) returns the same event until it is answered.** To reply later, get the handle again from
/// [`Session::pending`].
#[derive(Debug)]
#[must_use = "the client waits for the reply"]
pub struct PendingReply<'a> {
    reply: &'a mut Option<Reply>,
    identity: Option<&'a Identity>,
}

impl<'a> PendingReply<'a> {
    /// Returns the authenticated identity, or `None` if the client has not authenticated. Unless
    /// [`allow_unauthenticated`](Builder::allow_unauthenticated) is set, HELP is the only command for which the
    /// identity can be `None`. If the client used ANONYMOUS, [`is_anonymous`](Identity::is_anonymous) returns `true`
    /// for the identity.
    pub fn identity(&self) -> Option<&'a Identity> {
        self.identity
    }

    /// Returns the value of the AUTH parameter of a MAIL command (RFC 4954 §5), or `None` if the parameter is missing.
    /// If the client has not authenticated, or has used only ANONYMOUS, the value is always [`MailAuth::UNKNOWN`]. The
    /// application decides whether an authenticated client may name another submitter in this parameter.
    pub fn mail_auth<'m>(&self, mail: &Mail<'m>) -> Option<MailAuth<'m>> {
        let claimed = mail.auth().ok()??;
        let is_proven = self.identity.is_some_and(|who| !who.is_anonymous());
        Some(if is_proven { claimed } else { MailAuth::UNKNOWN })
    }

    /// Sends the reply. A positive reply to MAIL begins a transaction, and a positive reply to RCPT adds a recipient to
    /// the transaction. A `3xx` reply is invalid here and is replaced by [`Reply::LOCAL_ERROR`]. A `421` reply ends the
    /// session.
    pub fn reply(self, reply: Reply) {
        let intermediate = matches!(reply.code(), 300..=399);
        *self.reply = Some(if intermediate { Reply::LOCAL_ERROR } else { reply });
    }
}

/// The handle for accepting or refusing a message that the client wants to send. **Each call to [`next`](Session::next)
/// returns the same event until it is answered.**
#[derive(Debug)]
#[must_use = "the client waits for the permission"]
pub struct Permission<'a> {
    answer: &'a mut Option<Result<(), Reply>>,
    identity: Option<&'a Identity>,
}

impl<'a> Permission<'a> {
    /// Returns the authenticated identity, or `None` if the client has not authenticated. The result can be `None` only
    /// if [`allow_unauthenticated`](Builder::allow_unauthenticated) is set.
    pub fn identity(&self) -> Option<&'a Identity> {
        self.identity
    }

    /// Allows the client to send the message. The octets of the message are then returned as [`Event::Data`]. If the
    /// client sent DATA, the session replies `354`.
    pub fn accept(self) {
        *self.answer = Some(Ok(()));
    }

    /// Refuses the message and ends the transaction. A reply that is not `4xx` or `5xx` is replaced by
    /// [`Reply::LOCAL_ERROR`].
    pub fn refuse(self, reply: Reply) {
        let refusal = reply.is_transient() || reply.is_permanent();
        *self.answer = Some(Err(if refusal { reply } else { Reply::LOCAL_ERROR }));
    }
}
