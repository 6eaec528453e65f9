//! A client that hands in one message by the book, but for one line.

use std::{sync::Arc, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsConnector, rustls::ClientConnection};

use super::wire::{Cut, Over, Stream, Wire};
use crate::example_server::PASSWORD;

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// In front of STARTTLS.
    FirstEhlo,
    StartTls,
    Ehlo,
    /// AUTH, with all that it takes.
    Auth,
    /// AUTH LOGIN, and its two responses.
    AuthLogin,
    Name,
    Password,
    Mail,
    Rcpt,
    Data,
    /// The message.
    Header,
    Blank,
    Body,
    Dot,
    Quit,
}

/// The lines of a session in TLS, and of one without.
pub const WITH_TLS: [Line; 12] = [
    Line::FirstEhlo,
    Line::StartTls,
    Line::Ehlo,
    Line::Auth,
    Line::Mail,
    Line::Rcpt,
    Line::Data,
    Line::Header,
    Line::Blank,
    Line::Body,
    Line::Dot,
    Line::Quit,
];
pub const WITHOUT_TLS: [Line; 12] = [
    Line::Ehlo,
    Line::AuthLogin,
    Line::Name,
    Line::Password,
    Line::Mail,
    Line::Rcpt,
    Line::Data,
    Line::Header,
    Line::Blank,
    Line::Body,
    Line::Dot,
    Line::Quit,
];

/// How each message ends.
pub const THE_END: &str = "so it ends\r\n";

/// Stands in a message twice, and tells which it is.
fn mark(id: usize) -> String {
    format!("<{id}>")
}

/// The number in a message's first mark.
pub fn marked(message: &[u8]) -> Option<usize> {
    let parts = message.split(|&octet| octet == b'<').skip(1);
    let number = |part: &[u8]| {
        let end = part.iter().position(|&octet| octet == b'>')?;
        std::str::from_utf8(&part[..end]).ok()?.parse().ok()
    };
    parts.into_iter().find_map(number)
}

impl Line {
    fn octets(self, id: usize) -> Vec<u8> {
        (self.text(id) + "\r\n").into_bytes()
    }

    fn text(self, id: usize) -> String {
        match self {
            Self::FirstEhlo | Self::Ehlo => "EHLO client.example.org".into(),
            Self::StartTls => "STARTTLS".into(),
            Self::Auth => {
                let credentials = format!("\0tim\0{PASSWORD}");
                format!("AUTH PLAIN {}", BASE64_STANDARD.encode(credentials))
            }
            Self::AuthLogin => "AUTH LOGIN".into(),
            Self::Name => BASE64_STANDARD.encode("tim"),
            Self::Password => BASE64_STANDARD.encode(PASSWORD),
            Self::Mail => "MAIL FROM:<tim@example.org>".into(),
            Self::Rcpt => "RCPT TO:<ann@example.org>".into(),
            Self::Data => "DATA".into(),
            Self::Header => format!("Subject: {} scripted", mark(id)),
            Self::Blank => String::new(),
            Self::Body => format!("{} and {}", mark(id), THE_END.trim_end()),
            Self::Dot => ".".into(),
            Self::Quit => "QUIT".into(),
        }
    }

    /// The code of the reply; a message's lines have none.
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::FirstEhlo | Self::Ehlo | Self::Mail | Self::Rcpt | Self::Dot => Some("250"),
            Self::StartTls => Some("220"),
            Self::Auth | Self::Password => Some("235"),
            Self::AuthLogin | Self::Name => Some("334"),
            Self::Data => Some("354"),
            Self::Quit => Some("221"),
            Self::Header | Self::Blank | Self::Body => None,
        }
    }
}

/// Where in a line something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    Before,
    Half,
    /// All but the LF.
    Cr,
    Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    Cut(Where, Cut),
    /// No octet more, until the server closes.
    Silence(Where),
    /// A pause within the line.
    Slow(Where),
    OctetByOctet,
    Twice,
    /// This within the line.
    Inserted(&'static [u8]),
    /// Megabytes within the line.
    Endless,
    /// Megabytes of commands in front of it, and no reply is read.
    Flood,
    /// Another command in front of it.
    First(&'static str),
}

/// What the server said.
#[derive(Debug, Default)]
pub struct Heard {
    /// The replies' codes, in order.
    pub codes: Vec<String>,
    /// Which of them was the first to the line that deviates, or to the command in front of it.
    pub at: usize,
}

impl Heard {
    /// Whether the server took the message.
    pub fn acknowledged(&self) -> bool {
        self.codes.windows(2).any(|pair| pair[0] == "354" && pair[1] == "250")
    }
}

/// How a client plays its part.
pub struct Script<'a> {
    pub id: usize,
    pub lines: &'a [Line],
    pub tls: &'a TlsConnector,
    pub at: usize,
    pub deviation: Deviation,
}

const PAUSE: Duration = Duration::from_millis(50);
const MEGABYTES: usize = 8 << 20;
/// A server that takes nothing for so long has stopped reading.
const STALLED: Duration = Duration::from_millis(300);

/// Plays a session until the server has closed, or there is no way on.
pub async fn play(port: u16, script: &Script<'_>) -> Heard {
    let mut heard = Heard::default();
    let _ = connection(port, script, &mut heard).await;
    heard
}

async fn connection(port: u16, script: &Script<'_>, heard: &mut Heard) -> Result<(), Over> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let mut outside = Dialogue { wire: Wire::new(socket), script, heard, next: 0 };
    outside.reply().await?;
    outside.heard.codes.clear();
    if !outside.run().await? {
        return Ok(());
    }
    let Dialogue { wire, heard, next, .. } = outside;
    let name = "localhost".try_into().unwrap();
    let stream = script.tls.connect(name, wire.stream).await?;
    Dialogue { wire: Wire::new(stream), script, heard, next }.run().await.map(drop)
}

/// How a client begins TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// This in place of its hello.
    Garbage(&'static [u8]),
    /// This without an end.
    Flood(&'static [u8]),
    /// So many octets of its hello.
    Cut(usize, Cut),
}

/// Fails to begin TLS, and waits until the server has closed.
pub async fn fail_at_tls(port: u16, starttls: bool, tls: &TlsConnector, how: Handshake) {
    let _ = try_tls(port, starttls, tls, how).await;
}

async fn try_tls(
    port: u16,
    starttls: bool,
    tls: &TlsConnector,
    how: Handshake,
) -> Result<(), Over> {
    let mut wire = Wire::new(TcpStream::connect(("127.0.0.1", port)).await?);
    if starttls {
        wire.write(b"EHLO client.example.org\r\nSTARTTLS\r\n").await?;
        while !wire.line().await?.starts_with("220 2.0.0 ") {}
    }
    match how {
        Handshake::Garbage(octets) => wire.write(octets).await?,
        Handshake::Flood(octets) => drop(wire.flood(octets).await),
        Handshake::Cut(octets, how) => {
            let config = Arc::clone(tls.config());
            let mut tls = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
            let mut hello = Vec::new();
            tls.write_tls(&mut hello)?;
            hello.truncate(octets);
            wire.write(&hello).await?;
            wire.cut(how).await;
            if how == Cut::Rst {
                return Ok(());
            }
        }
    }
    wire.wait_for_the_end().await;
    Ok(())
}

struct Dialogue<'a, S> {
    wire: Wire<S>,
    script: &'a Script<'a>,
    heard: &'a mut Heard,
    next: usize,
}

impl<S: Stream> Dialogue<'_, S> {
    /// Whether TLS is to begin.
    async fn run(&mut self) -> Result<bool, Over> {
        while let Some(&line) = self.script.lines.get(self.next) {
            // The replies may be others from here on.
            let deviated = self.next > self.script.at;
            if deviated && !self.script.lines[self.next..].contains(&Line::StartTls) {
                return self.rest().await.map(|()| false);
            }
            let here = self.next == self.script.at;
            self.next += 1;
            let replies = if here { self.deviate(line).await? } else { self.say(line).await? };
            for _ in 0..replies {
                self.reply().await?;
            }
            let good = self.heard.codes.last().map(String::as_str) == line.code();
            if line == Line::StartTls && good {
                return Ok(true);
            }
        }
        self.hear_out().await.map(|()| false)
    }

    /// Says the line, and how many replies there are to it.
    async fn say(&mut self, line: Line) -> Result<usize, Over> {
        self.wire.write(&line.octets(self.script.id)).await?;
        Ok(usize::from(line.code().is_some()))
    }

    async fn rest(&mut self) -> Result<(), Over> {
        let lines = self.script.lines[self.next..].iter();
        let rest: Vec<u8> = lines.flat_map(|line| line.octets(self.script.id)).collect();
        self.wire.write(&rest).await?;
        self.hear_out().await
    }

    /// Says no more, and hears all that there is to be heard.
    async fn hear_out(&mut self) -> Result<(), Over> {
        self.wire.cut(Cut::Goodbye).await;
        loop {
            self.reply().await?;
        }
    }

    async fn reply(&mut self) -> Result<(), Over> {
        loop {
            let line = self.wire.line().await?;
            if line.as_bytes().get(3) != Some(&b'-') {
                self.heard.codes.push(line[..3].to_owned());
                return Ok(());
            }
        }
    }

    /// Says the line in another way; how many replies are to be waited for.
    async fn deviate(&mut self, line: Line) -> Result<usize, Over> {
        self.heard.at = self.heard.codes.len();
        let octets = line.octets(self.script.id);
        let end = octets.len() - 2;
        let (start, rest) = octets.split_at(end.div_ceil(2));
        // Where a message's line deviates, or DATA or its end does, what is a reply to what is not
        // sure: all is heard at the end.
        let lockstep = matches!(
            line,
            Line::FirstEhlo | Line::Ehlo | Line::Auth | Line::AuthLogin | Line::StartTls
        );
        let replies = |n: usize| if lockstep { n } else { 0 };
        match self.script.deviation {
            Deviation::Cut(place, how) => {
                self.wire.write(up_to(&octets, place)).await?;
                self.wire.cut(how).await;
                if how != Cut::Rst {
                    self.hear_out().await?;
                }
                Err(Over)
            }
            Deviation::Silence(place) => {
                self.wire.write(up_to(&octets, place)).await?;
                loop {
                    self.reply().await?;
                }
            }
            Deviation::Slow(place) => {
                let first = up_to(&octets, place);
                self.wire.write(first).await?;
                time::sleep(PAUSE).await;
                self.wire.write(&octets[first.len()..]).await?;
                Ok(usize::from(line.code().is_some()))
            }
            Deviation::OctetByOctet => {
                self.wire.write_octet_by_octet(&octets).await?;
                Ok(usize::from(line.code().is_some()))
            }
            Deviation::Twice => {
                self.wire.write(&octets.repeat(2)).await?;
                // What stands behind STARTTLS is dropped.
                Ok(replies(if line == Line::StartTls { 1 } else { 2 }))
            }
            Deviation::Inserted(octets) => {
                self.wire.write(&[start, octets, rest].concat()).await?;
                Ok(replies(1))
            }
            Deviation::Endless => {
                self.wire.write(start).await?;
                self.wire.write(&b"x".repeat(MEGABYTES)).await?;
                self.wire.write(rest).await?;
                Ok(replies(1))
            }
            Deviation::Flood => {
                let commands = b"NOOP\r\n".repeat(1_000);
                for _ in 0..MEGABYTES / commands.len() {
                    if time::timeout(STALLED, self.wire.write(&commands)).await.is_err() {
                        break;
                    }
                }
                self.wire.cut(Cut::Rst).await;
                Err(Over)
            }
            Deviation::First(command) => {
                self.wire.write(format!("{command}\r\n").as_bytes()).await?;
                self.reply().await?;
                self.say(line).await
            }
        }
    }
}

fn up_to(octets: &[u8], place: Where) -> &[u8] {
    let end = match place {
        Where::Before => 0,
        Where::Half => octets.len() / 2,
        Where::Cr => octets.len() - 1,
        Where::Behind => octets.len(),
    };
    &octets[..end]
}
