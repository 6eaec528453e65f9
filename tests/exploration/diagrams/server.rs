//! The server's side.

use smtp_auth::server::Event;

use super::{
    graph::{Beside, Frame, Group, Place, Route},
    walk::{Cause, Edge, START, Side},
};
use crate::{
    server::{Input, USUAL, World, input},
    world::World as _,
};

/// The lines of the exploration that are of the picture, and what they are called there.
const LINES: &[(&str, &str)] = &[
    ("EHLO client.example.org", "EHLO"),
    ("HELO client.example.org", "HELO"),
    ("NOOP", "NOOP"),
    ("RSET", "RSET"),
    ("STARTTLS", "STARTTLS"),
    ("QUIT", "QUIT"),
    ("HELP", "HELP"),
    ("MAIL FROM:<tim@example.org>", "MAIL"),
    ("RCPT TO:<ann@example.org>", "RCPT"),
    ("DATA", "DATA"),
    (".", "final dot"),
    ("BDAT 5\r\nabc", "BDAT"),
    ("BDAT 5 LAST\r\nabc", "BDAT LAST"),
    ("BDAT many", "BDAT"),
    ("auth plain AHRpbQBwdw==", "AUTH"),
    ("AUTH PLAIN VXJzZWwAdGltAHB3", "AUTH"),
    ("AUTH LOGIN", "AUTH"),
    ("AUTH SCRAM-SHA-256 biwsbj10aW0scj1hYmM=", "AUTH"),
    ("", "an empty line"),
    ("*", "*"),
    ("dGlt", "base64"),
];

pub(crate) const FRAME: Frame = Frame {
    places: &[
        Place { id: "connected", title: "not greeted", at: (100, 325) },
        Place { id: "greeted", title: "greeted", at: (285, 325) },
        Place { id: "signed_in", title: "signed in", at: (600, 325) },
        Place { id: "transaction", title: "in a transaction", at: (850, 325) },
        Place { id: "response", title: "response awaited", at: (460, 165) },
        Place { id: "query", title: "query pending", at: (460, 50) },
        Place { id: "data", title: "message awaited", at: (850, 485) },
        Place { id: "tls", title: "TLS awaited", at: (220, 485) },
        Place { id: "closed", title: "closed", at: (470, 485) },
    ],
    dot: (0, -70),
    group: Group {
        id: "command",
        title: "waiting for a command",
        members: &["connected", "greeted", "signed_in", "transaction"],
        corners: [(20, 220), (940, 395)],
    },
    routes: &[
        Route::new("[*]", "connected").label(20, -8),
        Route::new("connected", "connected").side(Beside::Below),
        Route::new("connected", "greeted").bend(14).label(0, -4),
        Route::new("greeted", "connected").bend(14).label(0, 4),
        Route::new("command", "tls").aim((-260, 0), (0, 0)).label(4, 8),
        Route::new("command", "closed").aim((-10, 0), (0, 0)).label(0, 4),
        Route::new("tls", "connected").aim((-20, 0), (25, 0)).label(-22, 18),
        Route::new("greeted", "query").bend(90).aim((-20, 0), (-20, 0)),
        Route::new("query", "greeted").bend(-60).aim((-20, 0), (0, 0)).label(-10, 4),
        Route::new("greeted", "response").bend(16).aim((20, 0), (-20, 0)).label(-10, -4),
        Route::new("response", "greeted").bend(16).aim((10, 0), (30, 0)).label(36, 10),
        Route::new("response", "response").side(Beside::Right).label(30, 0),
        Route::new("query", "query").side(Beside::Right).label(32, 0),
        Route::new("query", "response").bend(16).label(10, 0),
        Route::new("response", "query").bend(16).label(-14, 0),
        Route::new("response", "signed_in").aim((30, 0), (-20, 0)),
        Route::new("query", "signed_in").bend(95).aim((20, 0), (0, 0)),
        Route::new("signed_in", "signed_in").side(Beside::Below),
        Route::new("signed_in", "transaction").bend(-18).label(0, 6),
        Route::new("transaction", "signed_in").bend(-18).label(0, -34),
        Route::new("data", "data").side(Beside::Below),
        Route::new("data", "signed_in").aim((-20, 0), (40, 0)),
    ],
    codes: &[],
};

pub(crate) struct Server {
    world: World<USUAL>,
    /// Whether the last greeting was EHLO.
    extended: bool,
}

impl Side for Server {
    const INPUTS: u8 = World::<USUAL>::INPUTS;

    fn new() -> Self {
        Self { world: World::new(), extended: false }
    }

    fn cause(&mut self, number: u8) -> Option<Cause> {
        let place = self.place();
        let what = match input(number) {
            Input::Line(line) => {
                let (_, name) = LINES.iter().find(|(own, _)| *own == line)?;
                match place {
                    // It is more than one line.
                    Some("response") if *name == "BDAT" || *name == "BDAT LAST" => return None,
                    Some("response") if *name == "*" => "*",
                    Some("response") => "response",
                    Some("data") if *name != "final dot" => "a line",
                    _ => name,
                }
            }
            Input::Proof(_) => "response",
            Input::Host(_) => "",
            Input::Tls if place == Some("tls") => "TLS begins",
            Input::Tls | Input::Close => return None,
        };
        Some(Cause { what, code: None })
    }

    fn apply(&mut self, number: u8, cause: &Cause) -> bool {
        let applied = self.world.apply(number);
        match cause.what {
            _ if !applied => {}
            "EHLO" | "HELO" if self.world.last == 250 => self.extended = cause.what == "EHLO",
            "TLS begins" => self.extended = false,
            _ => {}
        }
        applied
    }

    fn place(&mut self) -> Option<&'static str> {
        let World { session, last, .. } = &mut self.world;
        let (signed_in, transaction) = (session.identity().is_some(), session.in_transaction());
        Some(match session.next(&mut Vec::new()) {
            Event::NeedInput => match last {
                334 => "response",
                354 => "data",
                _ if transaction => "transaction",
                _ if signed_in => "signed_in",
                _ if self.extended => "greeted",
                _ => "connected",
            },
            Event::Query(_) => "query",
            Event::Command(..) | Event::StartOfData(_) | Event::EndOfData(_) => return None,
            Event::StartTls => "tls",
            Event::Close => "closed",
            fact => panic!("{fact:?} is shown once"),
        })
    }

    /// Replies of success go without saying, but where the host answers. What is refused and moves
    /// nothing is left out.
    fn shown(&self, Edge { from, to, cause: Cause { what, .. } }: Edge) -> Option<Edge> {
        let replied = Some(self.world.last).filter(|_| from != "tls" && to != "query");
        let refused = replied.filter(|code| *code >= 400);
        let cause = match what {
            "" if to == "query" => Cause { what: "Authorize", code: None },
            _ if from == START || what.is_empty() => Cause { what, code: replied },
            _ if refused == Some(421) => Cause { what: "", code: refused },
            // By the host, which may choose another code.
            "DATA" if refused.is_some() => Cause { what: "DATA refused", code: None },
            "BDAT" if refused == Some(451) => Cause { what: "BDAT refused", code: None },
            _ => Cause { what, code: refused },
        };
        (from != to || refused.is_none()).then_some(Edge { from, to, cause })
    }

    fn session(&self) -> String {
        format!("{:?}", self.world.session)
    }

    fn fingerprint(&self) -> String {
        let mut shown = String::new();
        self.world.fingerprint(&mut shown);
        format!("{shown}{}", self.extended)
    }
}
