//! The state machine of a connection.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::{
    AuthFailed, ClientLine, CloseReason, Cookie, Data, Event, Held, LineError, MAX_EXCHANGES,
    MAX_LINE, Properties, Request, ServerLine,
    fail::{fail, is_temporary},
    trace::Trace,
};
use crate::{
    Advance, Side,
    line::Lines,
    sasl::{
        Channel, Failure, Identity, Mechanism, Query, QueryJob, Refusal,
        server::{Config, Exchange, Step},
    },
};

/// The version of the protocol that the session announces.
const VERSION: ServerLine<'static> = ServerLine::Version { major: 1, minor: 2 };

/// The service's side of a connection from a mail server. The [module's documentation](super) contains an example of a
/// loop that uses a session.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    spid: u32,
    cuid: u32,
    cookie: Cookie,
    lines: Lines,
    stage: Stage,
    /// The oldest first.
    open: Vec<Open>,
    /// The number of exchanges that have begun.
    begun: u64,
    pending: Pending,
    trace: Trace,
}

/// The stage of the dialogue.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The server's handshake has yet to be written.
    Start,
    /// The session waits for VERSION.
    Version,
    /// The session waits for CPID. The client uses this minor version.
    Cpid(u32),
    /// Exchanges may begin.
    Ready(u32),
    Closed(CloseReason),
}

/// The event that the last call of `advance` found. The numbers are indices into the open exchanges.
#[derive(Debug)]
enum Pending {
    NeedInput,
    Query(usize),
    AuthFailed(usize),
    /// The exchange has ended, and is no longer among the open ones.
    Authenticated(Box<Open>),
    Close,
}

/// An open exchange.
#[derive(Debug)]
struct Open {
    number: u64,
    request: Box<Request>,
    /// The mechanism, if the session offers it.
    mechanism: Option<Mechanism>,
    exchange: Exchange,
    turn: Turn,
    /// Whether the application has been notified that the exchange has failed.
    reported: bool,
    /// Whether the application holds back the answer.
    held: bool,
    /// Whether the client receives no further answer.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Server,
    Application,
    Client,
}

impl Open {
    fn can_go_on(&mut self) -> bool {
        match self.turn {
            Turn::Server => !self.held || self.abandoned,
            Turn::Application => self.exchange.query().is_none_or(|query| query.is_answered()),
            Turn::Client => false,
        }
    }

    /// Ends the exchange, unless it has failed already.
    fn fail(&mut self, why: Failure) {
        if !self.reported {
            self.exchange = Exchange::refused(why);
        }
        self.turn = Turn::Server;
    }
}

impl Session {
    /// Creates the session for one connection. `spid` is the process ID, and `cuid` is a number that no other connection of
    /// the process has. Mail servers read these numbers and the cookie, but do not use them.
    ///
    /// All sessions of a service must share one configuration. If each session had its own, each would send a different
    /// SCRAM salt for an account that does not exist, which would allow user enumeration.
    pub fn new(config: Arc<Config>, spid: u32, cuid: u32, cookie: Cookie) -> Self {
        Self {
            config,
            spid,
            cuid,
            cookie,
            lines: Lines::default(),
            stage: Stage::Start,
            open: Vec::new(),
            begun: 0,
            pending: Pending::NeedInput,
            trace: Trace::default(),
        }
    }

    /// Passes each line of the dialogue to `hook`, without its LF and with every secret masked.
    pub fn trace(&mut self, hook: impl FnMut(Side, &str) + Send + Sync + 'static) {
        self.trace = Trace::new(hook);
    }

    /// Accepts octets that were read from the client. You can call this method at any time; it does not change the pending
    /// event. However, read from the client only if [`NeedInput`](Event::NeedInput) is pending. Otherwise, a fast client can
    /// make the session use an unlimited amount of memory.
    pub fn receive(&mut self, octets: &[u8]) {
        if !self.is_closed() {
            self.lines.receive(octets);
        }
    }

    /// Accepts octets that `read` writes directly into the session's buffer. `read` receives a slice of at most `room`
    /// octets, or of 1 octet if `room` is 0, and returns the number of octets that it has written. This method returns the
    /// same number, which is 0 at the end of the stream. If `read` fails, for example with `WouldBlock`, the session
    /// releases the memory again.
    ///
    /// The documentation of [`server::Session::receive_with`](crate::server::Session::receive_with) contains an example
    /// with tokio.
    ///
    /// # Errors
    /// Returns the error of `read`. In this case, the session has received nothing.
    pub fn receive_with<E>(
        &mut self,
        room: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let read = self.lines.receive_with(room, read);
        if self.is_closed() {
            let _ = self.lines.clear();
        }
        read
    }

    /// Advances the session, and returns the next event. This is [`advance`](Self::advance), followed by
    /// [`pending`](Self::pending). Appends the octets to send to `out`.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Event<'_> {
        let _ = self.advance(out);
        self.pending()
    }

    /// Advances the session, and returns whether it needs input. Appends the octets to send to `out`.
    ///
    /// **Each call moves past the event that is pending**, so look at [`pending`](Self::pending) after each call. A query
    /// stays pending for its exchange until it is answered, but is not returned again.
    pub fn advance(&mut self, out: &mut Vec<u8>) -> Advance {
        if self.is_closed() {
            return Advance::Event;
        }
        self.pending = Pending::NeedInput;
        if let Stage::Start = self.stage {
            self.greet(out);
            self.stage = Stage::Version;
        }
        loop {
            if let Some(place) = self.open.iter_mut().position(Open::can_go_on) {
                self.go_on(place, out);
            } else {
                match self.lines.next_lf(MAX_LINE) {
                    None => return Advance::NeedInput,
                    Some(Err(_)) => self.close(CloseReason::TooLong),
                    Some(Ok(())) => self.line(out),
                }
            }
            if !matches!(self.pending, Pending::NeedInput) {
                return Advance::Event;
            }
        }
    }

    /// Returns the event that the last call of [`advance`](Self::advance) found. This method does not advance the session,
    /// so you can call it any number of times.
    pub fn pending(&mut self) -> Event<'_> {
        match &mut self.pending {
            Pending::NeedInput => Event::NeedInput,
            Pending::Query(place) => match self.open.get_mut(*place) {
                Some(Open { request, exchange, .. }) => match exchange.query() {
                    Some(query) => Event::Query(request, query),
                    None => Event::NeedInput,
                },
                None => Event::NeedInput,
            },
            Pending::AuthFailed(place) => match self.open.get_mut(*place) {
                Some(open) => match open.exchange.failure() {
                    Some(why) => Event::AuthFailed(AuthFailed {
                        why,
                        request: &open.request,
                        mechanism: open.mechanism,
                        exchange: &open.exchange,
                        number: open.number,
                        held: &mut open.held,
                    }),
                    None => Event::NeedInput,
                },
                None => Event::NeedInput,
            },
            Pending::Authenticated(open) => match open.exchange.pending() {
                Step::Done(Ok(who)) => Event::Authenticated(&open.request, who),
                _ => Event::NeedInput,
            },
            Pending::Close => match self.stage {
                Stage::Closed(why) => Event::Close(why),
                _ => Event::NeedInput,
            },
        }
    }

    /// Returns the query with this [serial number](Query::serial), if it is still pending, so that you can answer it. For
    /// example, after a time limit, answer it with [`temp_fail`](Query::temp_fail). Then call [`advance`](Self::advance).
    pub fn query(&mut self, serial: u64) -> Option<Query<'_>> {
        let queries = self.open.iter_mut().filter_map(|open| open.exchange.query());
        queries.into_iter().find(|query| query.serial() == serial)
    }

    /// Answers a query with the answer that the application gave to its [copy](Query::job). Then call
    /// [`advance`](Self::advance).
    ///
    #[cfg_attr(all(feature = "getrandom", feature = "plain"), doc = "```")]
    #[cfg_attr(not(all(feature = "getrandom", feature = "plain")), doc = "```ignore")]
    /// use std::{sync::{Arc, mpsc}, thread};
    /// use smtp_auth::{Answer, Authenticator, CheckPassword, Mechanism, dovecot::{Cookie, Event, Session}, sasl::server::Config};
    ///
    /// struct Tim;
    /// impl Authenticator for Tim {
    ///     fn mechanisms(&self) -> &[Mechanism] {
    ///         &[Mechanism::Plain]
    ///     }
    ///     fn check_password(&self, ask: &CheckPassword) -> Answer {
    ///         (ask.password() == "tanstaaf").into()
    ///     }
    /// }
    ///
    /// let config = Arc::new(Config::builder("mail.example.org").answered_by(&Tim).build()?);
    /// let mut session = Session::new(config, 1, 1, Cookie::random()?);
    /// let (mut out, mut open, (done, answered)) = (Vec::new(), 2, mpsc::channel());
    /// session.receive(b"VERSION\t1\t0\nCPID\t7\n");
    /// session.receive(b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp=AHRpbQB0YW5zdGFhZg==\n");
    /// session.receive(b"AUTH\t2\tPLAIN\tservice=smtp\tsecured\tresp=AHRpbQBwZW5jaWw=\n");
    /// loop {
    ///     match session.next(&mut out) {
    ///         Event::Query(_, query) => match query.job() {
    ///             Some(mut job) => {
    ///                 let done = done.clone();
    ///                 thread::spawn(move || {
    ///                     job.query().answer_with(&Tim);
    ///                     done.send(job)
    ///                 });
    ///             }
    ///             None => query.not_implemented(), // a custom mechanism, which a session does not offer
    ///         },
    ///         Event::Authenticated(..) | Event::AuthFailed(_) => open -= 1,
    ///         // A real service waits for the client's octets and for an answer, whichever comes first.
    ///         Event::NeedInput if open > 0 => assert!(session.answer_from(answered.recv()?)),
    ///         Event::NeedInput | Event::Close(_) => break,
    ///     }
    /// }
    /// assert!(String::from_utf8(out)?.contains("OK\t1\tuser=tim\n"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Returns `false` if the query is no longer pending, for example because the client has cancelled the exchange.
    pub fn answer_from(&mut self, mut job: QueryJob) -> bool {
        let serial = job.query().serial();
        self.query(serial).is_some_and(|query| query.answer_from(job))
    }

    /// Releases an answer that is [delayed](AuthFailed::hold). Then call [`advance`](Self::advance).
    ///
    /// Returns `false` if the answer is no longer needed because the client has cancelled the exchange.
    pub fn release(&mut self, held: Held) -> bool {
        match self.open.iter_mut().find(|open| open.number == held.0) {
            Some(open) => {
                open.held = false;
                true
            }
            None => false,
        }
    }

    /// Returns the number of open exchanges. A service that is shutting down can close a connection without open exchanges,
    /// because the client connects again when it needs to.
    pub fn open_exchanges(&self) -> usize {
        self.open.len()
    }

    /// Returns whether all open exchanges are waiting for the client, so that the client is not waiting for any answer.
    ///
    /// Mail servers leave an exchange in this state if its user hangs up. A service that is shutting down should therefore
    /// wait only a short time for such exchanges.
    pub fn is_waiting_for_client(&self) -> bool {
        self.open.iter().all(|open| open.turn == Turn::Client)
    }

    fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed(_))
    }

    fn close(&mut self, why: CloseReason) {
        self.stage = Stage::Closed(why);
        self.pending = Pending::Close;
        self.open = Vec::new();
        let _ = self.lines.clear();
    }

    /// Writes a line.
    fn say(&mut self, line: &ServerLine<'_>, out: &mut Vec<u8>) {
        line.write(out);
        self.trace.server(line);
    }

    /// Writes the whole handshake, because Exim sends nothing before it has read all of it. MECH comes before SPID, because
    /// older versions of Postfix and Exim close the connection otherwise.
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.say(&VERSION, out);
        let config = Arc::clone(&self.config);
        // The mail server does not offer mechanisms that need TLS to users without TLS.
        for mechanism in config.offered(&Channel::tls()) {
            if let Some(properties) = Properties::of(mechanism) {
                self.say(&ServerLine::Mech(mechanism.name().into(), properties), out);
            }
        }
        self.say(&ServerLine::Spid(self.spid), out);
        self.say(&ServerLine::Cuid(self.cuid), out);
        self.say(&ServerLine::Cookie(self.cookie), out);
        self.say(&ServerLine::Done, out);
    }

    /// Handles a line of the client.
    fn line(&mut self, out: &mut Vec<u8>) {
        let line = ClientLine::parse(self.lines.shown());
        self.lines.give_back();
        self.trace.client(&line, |name| offered(&self.config, name).is_some());
        match (self.stage, line) {
            (Stage::Version, Ok(ClientLine::Version { major: 1, minor })) => {
                self.stage = Stage::Cpid(minor);
            }
            (Stage::Version, Ok(ClientLine::Version { major, .. })) => {
                self.close(CloseReason::Version(major));
            }
            (Stage::Cpid(minor), Ok(ClientLine::Cpid(_))) => self.stage = Stage::Ready(minor),
            (Stage::Ready(_), Ok(ClientLine::Auth(request, resp))) => {
                self.begin(request, resp, out);
            }
            (Stage::Ready(_), Ok(ClientLine::Cont(id, response))) => {
                self.respond(id, Some(response), out);
            }
            (Stage::Ready(_), Ok(ClientLine::Cancel(id))) => self.cancel(id),
            (Stage::Ready(_), Err(error)) => self.malformed(error, out),
            (_, Err(error)) => self.close(CloseReason::Malformed(error)),
            (_, Ok(_)) => self.close(CloseReason::Handshake),
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.open.iter().position(|open| open.request.id() == id)
    }

    fn malformed(&mut self, error: LineError, out: &mut Vec<u8>) {
        match error.id() {
            None => self.close(CloseReason::Malformed(error)),
            Some(id) if !error.begins() => self.respond(id, None, out),
            // The client could mistake the answer to one exchange for the answer to the other.
            Some(id) if self.place(id).is_some() => self.close(CloseReason::RepeatedId),
            Some(id) => self.fail(id, Failure::Syntax, None, out),
        }
    }

    fn begin(&mut self, request: Box<Request>, resp: Option<Data>, out: &mut Vec<u8>) {
        let id = request.id();
        if self.place(id).is_some() {
            return self.close(CloseReason::RepeatedId);
        }
        if self.open.len() >= MAX_EXCHANGES && !self.drop_oldest(out) {
            return self.fail(id, Failure::TempFail, None, out);
        }
        let channel = if request.is_secured() { Channel::tls() } else { Channel::cleartext() };
        let mechanism = offered(&self.config, request.mechanism());
        let exchange = match mechanism {
            Some(mechanism) => {
                let resp = resp.map(Data::into_vec);
                Exchange::new(&self.config, &channel, mechanism, resp)
            }
            None => Exchange::refused(Failure::Unsupported),
        };
        self.begun += 1;
        self.open.push(Open {
            number: self.begun,
            request,
            mechanism,
            exchange,
            turn: Turn::Server,
            reported: false,
            held: false,
            abandoned: false,
        });
    }

    /// Drops the oldest exchange that waits for the client, if there is one.
    fn drop_oldest(&mut self, out: &mut Vec<u8>) -> bool {
        let oldest = self.open.iter_mut().find(|open| open.turn == Turn::Client && !open.abandoned);
        let Some(open) = oldest else { return false };
        let id = open.request.id();
        self.cancel(id);
        self.say(&fail(id, Failure::Cancelled, None), out);
        true
    }

    /// Handles a response, which is `None` if it cannot be decoded.
    fn respond(&mut self, id: u32, response: Option<Data>, out: &mut Vec<u8>) {
        let Some(open) = self.place(id).and_then(|place| self.open.get_mut(place)) else {
            return self.fail(id, Failure::Cancelled, None, out);
        };
        match (open.turn, open.exchange.pending()) {
            (Turn::Client, Step::Challenge(challenge)) => {
                match response {
                    Some(response) => challenge.respond(response.into_vec()),
                    None => challenge.undecodable(),
                }
                open.turn = Turn::Server;
            }
            _ => open.fail(Failure::Malformed("the client responded before it was asked")),
        }
    }

    fn cancel(&mut self, id: u32) {
        let Some(open) = self.place(id).and_then(|place| self.open.get_mut(place)) else { return };
        open.abandoned = true;
        match (open.turn, open.exchange.pending()) {
            (Turn::Client, Step::Challenge(challenge)) => {
                challenge.cancel();
                open.turn = Turn::Server;
            }
            _ => open.fail(Failure::Cancelled),
        }
    }

    /// Continues an open exchange by one step.
    fn go_on(&mut self, place: usize, out: &mut Vec<u8>) {
        let Some(open) = self.open.get_mut(place) else { return };
        let id = open.request.id();
        if open.abandoned && open.reported {
            drop(self.open.remove(place));
            return;
        }
        let _ = open.exchange.step();
        if !open.reported && open.exchange.failure().is_some() {
            open.reported = true;
            open.turn = Turn::Server;
            self.pending = Pending::AuthFailed(place);
            return;
        }
        match open.exchange.pending() {
            Step::Query(_) => {
                open.turn = Turn::Application;
                self.pending = Pending::Query(place);
            }
            Step::Challenge(challenge) => {
                let challenge = Data::new(challenge.data());
                open.turn = Turn::Client;
                self.say(&ServerLine::Cont(id, challenge), out);
            }
            Step::Done(Ok(_)) => {
                let mut open = self.open.remove(place);
                if let Step::Done(Ok(who)) = open.exchange.pending() {
                    let user = Identity::acts_as(who).into();
                    self.say(&ServerLine::Ok { id, user: Some(user) }, out);
                }
                self.pending = Pending::Authenticated(Box::new(open));
            }
            Step::Done(Err(why)) => {
                let open = self.open.remove(place);
                self.fail(id, why, open.exchange.refusal(), out);
            }
        }
    }

    /// Answers a failure. A client that uses version 1.0 treats every FAIL as final, and only a closed connection as a
    /// temporary failure. The session therefore closes the connection, unless this would lose the answer to another
    /// exchange. An exchange that waits for the client does not count, because Postfix leaves the exchanges of users
    /// who hang up open.
    fn fail(&mut self, id: u32, why: Failure, refusal: Option<&Refusal>, out: &mut Vec<u8>) {
        match self.stage {
            Stage::Ready(0) if is_temporary(why) && self.is_waiting_for_client() => {
                self.close(CloseReason::TempFail);
            }
            _ => self.say(&fail(id, why, refusal), out),
        }
    }
}

/// Returns the mechanism with this name, if a session offers it with this configuration.
fn offered(config: &Config, name: &str) -> Option<Mechanism> {
    let named = config.named(name).filter(|own| Properties::of(*own).is_some())?;
    config.offered(&Channel::tls()).find(|own| *own == named)
}
