//! A server that takes one message by the book, but for one place.

use std::{sync::Arc, time::Duration};

use smtp_auth::{
    auth::server::{Exchange, Step as Auth},
    sasl::{
        Answer, Authenticator, Channel, CheckPassword, CramSecret, CramSecretFor, Mechanism,
        ScramKeys, ScramKeysFor, server::Config,
    },
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConnection};

use super::wire::{Cut, Over, Stream, Wire};

/// What the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Greeting,
    Ehlo,
    StartTls,
    EhloInTls,
    /// A challenge, but not one that proves who the server is.
    Challenge,
    /// SCRAM's server-final message.
    Proof,
    /// To the sign-in.
    Verdict,
    Mail,
    Rcpt,
    Data,
    Message,
    Quit,
}

/// A line that the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub step: Step,
    /// Which line of its reply.
    pub line: usize,
    pub last: bool,
    pub code: String,
}

/// Where in a line something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Before,
    Within,
    Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    None,
    Cut(Where, Cut),
    /// No octet more, until the client leaves.
    Silence(Where),
    /// Late, but in time.
    Slow,
    /// The line's LF so late behind its CR.
    SlowLf,
    OctetByOctet,
    /// The reply once more, at once.
    Twice,
    /// The good reply to the next command, at once. The message is refused then, so that a client
    /// that took it in its turn would say that of a message that was not accepted.
    Ahead,
    /// A refusal behind the reply, at once.
    ThenClosing,
    /// The reply once more, in front of the next one.
    Again,
    /// This in place of the line's code; on the first line that is the whole reply.
    Code(&'static str),
    /// This in place of the line.
    Line(&'static [u8]),
    /// This in the line's text.
    Inserted(&'static [u8]),
    /// This without an end.
    Flood(&'static [u8]),
}

/// How the server begins TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Good,
    /// No octet, until the client leaves.
    Silence,
    /// This in place of its hello, then nothing.
    Garbage(&'static [u8]),
    /// This without an end.
    Flood(&'static [u8]),
    /// So many octets of what it has to say first.
    Cut(usize, Cut),
}

const CLOSING: &str = "421 4.3.2 Closing";
/// Octets that stand in replies, and are not for terminals.
pub const UNUSUAL: [&[u8]; 3] = [b"\x1b[2J\x07", b"\xff\xfe\x80", "é\u{9b}".as_bytes()];
const ACCEPTED: [&str; 2] = ["250-2.0.0 Stored", "250 2.0.0 as 4711"];
const REFUSED: [&str; 2] = ["554-5.6.0 Not", "554 5.6.0 stored"];

/// How a server plays its part.
#[derive(Clone)]
pub struct Script {
    pub tls: TlsAcceptor,
    /// TLS from the start.
    pub implicit: bool,
    pub handshake: Handshake,
    pub mechanism: Mechanism,
    pub pipelining: bool,
    /// The number of the line, of all that it says, where it deviates.
    pub at: usize,
    pub deviation: Deviation,
}

/// What the server has seen and said.
#[derive(Debug, Default)]
pub struct Seen {
    pub places: Vec<Place>,
    pub message: Option<Vec<u8>>,
    /// What was said to the message, octet by octet.
    verdict: Vec<u8>,
    /// What is to be said in front of the next reply.
    again: Vec<u8>,
    /// How many octets the client took of a flood.
    pub flooded: usize,
    /// A command came before the one in front of it was answered.
    pub hasty: bool,
}

impl Seen {
    /// Whether the message was accepted: the reply to it went out whole, is one, and begins with 2
    /// (RFC 5321 §4.2.1).
    pub fn acknowledged(&self) -> bool {
        let mut rest = &*self.verdict;
        while let Some(end) = rest.windows(2).position(|octets| octets == b"\r\n") {
            let line = &rest[..end];
            let clean = line.iter().all(|octet| !b"\r\n\0".contains(octet));
            if !clean || line.get(..3) != self.verdict.get(..3) || !line.starts_with(b"2") {
                return false;
            }
            if line.get(3) != Some(&b'-') {
                return line[1..3].iter().all(u8::is_ascii_digit) && line.get(3) == Some(&b' ');
            }
            rest = &rest[end + 2..];
        }
        false
    }
}

/// Serves one client.
pub async fn serve(listener: TcpListener, script: &Script) -> Seen {
    let mut seen = Seen::default();
    let _ = connection(listener, script, &mut seen).await;
    seen
}

async fn connection(listener: TcpListener, script: &Script, seen: &mut Seen) -> Result<(), Over> {
    let mut socket = listener.accept().await?.0;
    socket.set_nodelay(true)?;
    if !script.implicit {
        socket = Dialogue::new(socket, script, seen, false).run().await?;
    }
    if script.handshake != Handshake::Good {
        return fail_at_tls(Wire::new(socket), script, seen).await;
    }
    let stream = script.tls.accept(socket).await?;
    Dialogue::new(stream, script, seen, true).run().await.map(drop)
}

async fn fail_at_tls(
    mut wire: Wire<TcpStream>,
    script: &Script,
    seen: &mut Seen,
) -> Result<(), Over> {
    match script.handshake {
        Handshake::Good | Handshake::Silence => {}
        Handshake::Garbage(octets) => wire.write(octets).await?,
        Handshake::Flood(octets) => seen.flooded = wire.flood(octets).await,
        Handshake::Cut(octets, how) => {
            let mut tls = ServerConnection::new(Arc::clone(script.tls.config())).unwrap();
            let (mut buffer, mut flight) = ([0; 4096], Vec::new());
            while flight.is_empty() {
                let n = wire.stream.read(&mut buffer).await?;
                tls.read_tls(&mut &buffer[..n])?;
                tls.process_new_packets().map_err(|_| Over)?;
                while tls.wants_write() {
                    tls.write_tls(&mut flight)?;
                }
            }
            flight.truncate(octets);
            wire.write(&flight).await?;
            wire.cut(how).await;
            return Err(Over);
        }
    }
    wire.wait_for_the_end().await;
    Err(Over)
}

struct Dialogue<'a, S> {
    wire: Wire<S>,
    script: &'a Script,
    seen: &'a mut Seen,
    tls: bool,
}

impl<'a, S: Stream> Dialogue<'a, S> {
    fn new(stream: S, script: &'a Script, seen: &'a mut Seen, tls: bool) -> Self {
        Self { wire: Wire::new(stream), script, seen, tls }
    }

    /// Until TLS is to begin.
    async fn run(mut self) -> Result<S, Over> {
        if self.tls == self.script.implicit {
            self.say(Step::Greeting, &["220 mail.example.org ESMTP"]).await?;
        }
        loop {
            let line = self.wire.line().await?;
            self.seen.hasty |= self.wire.has_more();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match verb {
                "EHLO" => self.ehlo().await?,
                "STARTTLS" => {
                    if self.say(Step::StartTls, &["220 2.0.0 Begin"]).await? {
                        return Ok(self.wire.stream);
                    }
                }
                "AUTH" => self.auth(rest).await?,
                "MAIL" => drop(self.say(Step::Mail, &["250 2.1.0 Sender"]).await?),
                "RCPT" => drop(self.say(Step::Rcpt, &["250 2.1.5 Recipient"]).await?),
                "DATA" => self.data().await?,
                "RSET" => self.wire.write(b"250 2.0.0 Forgotten\r\n").await?,
                "*" => self.wire.write(b"501 5.7.0 Cancelled\r\n").await?,
                "QUIT" => {
                    self.say(Step::Quit, &["221 2.0.0 Goodbye"]).await?;
                    self.wire.cut(Cut::Goodbye).await;
                    return Err(Over);
                }
                _ => self.wire.write(b"500 5.5.2 Unknown\r\n").await?,
            }
        }
    }

    async fn ehlo(&mut self) -> Result<(), Over> {
        if !self.tls {
            let lines = ["250-mail.example.org", "250-SIZE 1000000", "250 STARTTLS"];
            return self.say(Step::Ehlo, &lines).await.map(drop);
        }
        let auth = format!("250 AUTH {}", self.script.mechanism.name());
        let extension =
            if self.script.pipelining { "250-PIPELINING" } else { "250-ENHANCEDSTATUSCODES" };
        self.say(Step::EhloInTls, &["250-mail.example.org", extension, &auth]).await.map(drop)
    }

    async fn auth(&mut self, command: &str) -> Result<(), Over> {
        let config = Arc::new(
            Config::builder("mail.example.org").mechanisms(Mechanism::COMPILED).build().unwrap(),
        );
        let mut exchange = Exchange::new(&config, &Channel::tls(), command.as_bytes());
        let (mut out, mut challenges) = (Vec::new(), 0);
        loop {
            match exchange.step(&mut out) {
                Auth::Query(query) => query.answer_with(&Users),
                Auth::NeedLine(slot) => {
                    let text = String::from_utf8(std::mem::take(&mut out)).unwrap();
                    challenges += 1;
                    let step = match challenges {
                        2 if self.script.mechanism == Mechanism::ScramSha256 => Step::Proof,
                        _ => Step::Challenge,
                    };
                    if !self.say(step, &[text.trim_end()]).await? {
                        return Ok(());
                    }
                    slot.line(self.wire.line().await?.as_bytes());
                }
                Auth::Done(_) => {
                    let text = String::from_utf8(out).unwrap();
                    return self.say(Step::Verdict, &[text.trim_end()]).await.map(drop);
                }
            }
        }
    }

    async fn data(&mut self) -> Result<(), Over> {
        if !self.say(Step::Data, &["354 Go on"]).await? {
            return Ok(());
        }
        self.seen.message = Some(self.wire.until(b"\r\n.\r\n").await?);
        let refused =
            self.script.deviation == Deviation::Ahead && self.seen.places.len() > self.script.at;
        let lines = if refused { REFUSED } else { ACCEPTED };
        self.say(Step::Message, &lines).await.map(drop)
    }

    /// Says the reply, or something else where the script wants it. Whether the reply was good.
    async fn say(&mut self, step: Step, lines: &[&str]) -> Result<bool, Over> {
        let first = self.seen.places.len();
        for (line, text) in lines.iter().enumerate() {
            let (last, code) = (line + 1 == lines.len(), text[..3].to_owned());
            self.seen.places.push(Place { step, line, last, code });
        }
        let (octets, end, good) = match self.script.at.checked_sub(first) {
            Some(n) if n < lines.len() => self.deviate(step, lines, n),
            _ => (joined(lines), Then::GoOn, true),
        };
        let octets = [std::mem::take(&mut self.seen.again), octets].concat();
        match end {
            Then::OctetByOctet => self.wire.write_octet_by_octet(&octets).await?,
            Then::Late(from) => {
                self.wire.write(&octets[..from]).await?;
                time::sleep(LATE).await;
                self.wire.write(&octets[from..]).await?;
            }
            _ => self.wire.write(&octets).await?,
        }
        if step == Step::Message {
            self.seen.verdict = octets;
        }
        match end {
            Then::GoOn | Then::Late(_) | Then::OctetByOctet => return Ok(good),
            Then::Again => {
                self.seen.again = joined(lines);
                return Ok(good);
            }
            Then::Cut(how) => self.wire.cut(how).await,
            Then::Silence => self.wire.wait_for_the_end().await,
            Then::Flood(octets) => self.seen.flooded = self.wire.flood(octets).await,
        }
        Err(Over)
    }

    /// What is to be said in place of the reply, what comes then, and whether the reply is still
    /// good.
    fn deviate(&self, step: Step, lines: &[&str], n: usize) -> (Vec<u8>, Then, bool) {
        let (before, line, behind) = (joined(&lines[..n]), lines[n], joined(&lines[n + 1..]));
        let whole = joined(lines);
        let up_to = |place: Where| match place {
            Where::Before => before.clone(),
            Where::Within => [&before, &line.as_bytes()[..line.len() / 2]].concat(),
            Where::Behind => [&before, line.as_bytes(), b"\r\n"].concat(),
        };
        let instead = |line: &[u8]| [&before, line, b"\r\n", &behind].concat();
        match self.script.deviation {
            Deviation::None => (whole, Then::GoOn, true),
            Deviation::Cut(place, how) => (up_to(place), Then::Cut(how), true),
            Deviation::Silence(place) => (up_to(place), Then::Silence, true),
            Deviation::Slow => (whole, Then::Late(0), true),
            Deviation::SlowLf => (whole, Then::Late(before.len() + line.len() + 1), true),
            Deviation::OctetByOctet => (whole, Then::OctetByOctet, true),
            Deviation::Twice => (whole.repeat(2), Then::GoOn, true),
            Deviation::Ahead => ([whole, joined(&[reply_behind(step)])].concat(), Then::GoOn, true),
            Deviation::ThenClosing => ([whole, joined(&[CLOSING])].concat(), Then::GoOn, true),
            Deviation::Again => (whole, Then::Again, true),
            Deviation::Code(code) if n == 0 => {
                let unusual = UNUSUAL.concat();
                let reply = [code.as_bytes(), b" Other ", &unusual, b" words\r\n"].concat();
                (reply, Then::GoOn, false)
            }
            Deviation::Code(code) => {
                (instead(format!("{code}{}", &line[3..]).as_bytes()), Then::GoOn, false)
            }
            Deviation::Line(octets) => (instead(octets), Then::GoOn, false),
            Deviation::Inserted(octets) => {
                let (code, text) = line.as_bytes().split_at(4);
                (instead(&[code, octets, text].concat()), Then::GoOn, true)
            }
            Deviation::Flood(octets) => (before, Then::Flood(octets), true),
        }
    }
}

/// What comes behind a reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Again,
    /// It, but from this octet on it is late.
    Late(usize),
    OctetByOctet,
    Cut(Cut),
    Silence,
    Flood(&'static [u8]),
}

/// Less than a client waits.
const LATE: Duration = Duration::from_millis(200);

fn joined(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect()
}

/// The reply that comes next, if all goes well.
fn reply_behind(step: Step) -> &'static str {
    match step {
        Step::Greeting | Step::StartTls => "250 mail.example.org",
        Step::Ehlo => "220 2.0.0 Begin",
        Step::EhloInTls | Step::Challenge | Step::Proof => "235 2.7.0 In",
        Step::Verdict | Step::Mail | Step::Data => "250 2.0.0 Yes",
        Step::Rcpt => "354 Go on",
        Step::Message | Step::Quit => "221 2.0.0 Goodbye",
    }
}

/// `tim`, and nobody else.
struct Users;

pub const USER: &str = "tim";
pub const PASSWORD: &str = crate::example_server::PASSWORD;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        Mechanism::COMPILED
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        (ask.authcid() == USER && ask.password().expose() == PASSWORD).into()
    }

    fn cram_secret(&self, _: &CramSecretFor) -> Answer<CramSecret> {
        Answer::accept(CramSecret::from_password(PASSWORD))
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        ScramKeys::from_password(ask.hash(), PASSWORD, b"a salt, 16 octets", 4096).into()
    }
}
