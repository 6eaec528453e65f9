//! The client's side.

use smtp_auth::client::{Event, Stage};

use super::{
    graph::{Beside, Frame, Group, Place, Route},
    walk::{Cause, Edge, Side},
};
use crate::{
    client::{Host, Input, World, input},
    world::World as _,
};

/// The replies of the exploration that are of the picture.
const REPLIES: &[&str] = &[
    "220 ready",
    "250 ok",
    "250-x\r\n250 STARTTLS",
    "250-x\r\n250-STARTTLS\r\n250 AUTH SCRAM-SHA-256 PLAIN",
    "250-x\r\n250 AUTH PLAIN",
    "334 ",
    "235 2.7.0 x",
    "354 go on",
    "421 4.3.2 x",
    "454 4.7.0 x",
    "535 5.7.8 x",
    "not a reply",
];

pub(crate) const FRAME: Frame = Frame {
    places: &[
        Place { id: "greeting", title: "greeting", at: (140, 110) },
        Place { id: "ehlo", title: "EHLO", at: (290, 110) },
        Place { id: "starttls", title: "STARTTLS", at: (160, 230) },
        Place { id: "auth", title: "AUTH", at: (460, 110) },
        Place { id: "envelope", title: "MAIL, RCPT", at: (660, 110) },
        Place { id: "data", title: "DATA", at: (850, 110) },
        Place { id: "message", title: "message", at: (885, 235) },
        Place { id: "rset", title: "RSET", at: (755, 235) },
        Place { id: "noop", title: "NOOP", at: (590, 185) },
        Place { id: "quit", title: "QUIT", at: (505, 245) },
        Place { id: "failed", title: "not signed in", at: (310, 380) },
        Place { id: "ready", title: "ready", at: (660, 380) },
        Place { id: "closed", title: "closed", at: (505, 380) },
        Place { id: "error", title: "error", at: (80, 380) },
    ],
    dot: (-95, 0),
    group: Group {
        id: "reply",
        title: "waiting for a reply",
        members: &[
            "greeting", "ehlo", "starttls", "auth", "envelope", "data", "message", "rset", "noop",
            "quit",
        ],
        corners: [(20, 40), (940, 290)],
    },
    routes: &[
        Route::new("ehlo", "starttls").bend(16).label(-14, 4),
        Route::new("starttls", "ehlo").bend(16).label(-8, 0),
        Route::new("ehlo", "failed").bend(-10).aim((10, 0), (0, 0)).label(0, 34),
        Route::new("starttls", "auth").bend(-10).label(20, -4),
        Route::new("starttls", "failed").aim((0, 0), (-20, 0)).label(-8, -6),
        Route::new("auth", "failed").bend(-14).aim((0, 0), (10, 0)).label(-10, 0),
        Route::new("failed", "auth").bend(-14).aim((10, 0), (0, 0)).label(10, 12),
        Route::new("failed", "failed").side(Beside::Below),
        Route::new("failed", "quit").aim((20, 0), (-10, 0)).label(-4, 0),
        Route::new("failed", "ready").bend(-34),
        Route::new("auth", "ready").aim((20, 0), (-20, 0)).label(0, -10),
        Route::new("ready", "envelope").bend(14).label(-10, 0),
        Route::new("envelope", "ready").bend(14).label(8, 0),
        Route::new("envelope", "rset").aim((20, 0), (0, 0)),
        Route::new("rset", "ready").label(-10, 0),
        Route::new("data", "ready").bend(36).label(16, -34),
        Route::new("message", "ready").aim((0, 0), (20, 0)),
        Route::new("reply", "error").aim((-400, 0), (0, 0)).label(0, 4),
        Route::new("ready", "noop").bend(8).aim((-10, 0), (0, 0)).label(-21, -4),
        Route::new("noop", "ready").bend(8).aim((0, 0), (-10, 0)).label(-29, -56),
        Route::new("ready", "quit").aim((-20, 0), (10, 0)).label(10, 0),
        Route::new("quit", "closed").label(0, 4),
    ],
    codes: &[220, 235, 250, 334, 354, 421, 454, 535],
};

pub(crate) struct Client(World<false>);

impl Client {
    fn awaits_tls(&mut self) -> bool {
        matches!(self.0.session.next(&mut Vec::new()), Ok(Event::StartTls))
    }

    /// A reply by its code, and one to EHLO by what of the offer counts.
    fn heard(&mut self, reply: &str) -> Cause {
        let tls = self.0.session.channel().is_tls();
        let what = match self.place() {
            Some("ehlo") if reply.contains("STARTTLS") && !tls => "250 STARTTLS",
            Some("ehlo") if reply.contains("AUTH") => "250 AUTH",
            _ => "",
        };
        let code = reply.get(..3).and_then(|code| code.parse().ok());
        Cause { what, code: code.filter(|_| what.is_empty()) }
    }
}

impl Side for Client {
    const INPUTS: u8 = World::<false>::INPUTS;

    fn new() -> Self {
        Self(World::new())
    }

    fn cause(&mut self, number: u8) -> Option<Cause> {
        let place = self.place();
        Some(match input(number) {
            Input::Says(reply) => {
                let offer = reply.contains("\r\n");
                if !REPLIES.contains(&reply) || offer && place != Some("ehlo") {
                    return None;
                }
                self.heard(reply)
            }
            Input::Honest => {
                let reply = self.0.reply.clone();
                self.heard(&reply)
            }
            Input::Tls if !self.awaits_tls() => return None,
            Input::Tls => Cause::default(),
            Input::Eof => Cause { what: "end", code: None },
            Input::Host(host) => {
                let what = match (place, host) {
                    (Some("ready"), Host::On) => "send",
                    (_, Host::Noop) => "noop",
                    // It goes the same ways.
                    (_, Host::Reset) => return None,
                    (_, Host::On) => "go on",
                    (_, Host::Quit) => "quit",
                    (_, Host::Next | Host::Retry) => "another try",
                };
                Cause { what, code: None }
            }
        })
    }

    fn apply(&mut self, number: u8, _: &Cause) -> bool {
        self.0.apply(number)
    }

    fn place(&mut self) -> Option<&'static str> {
        let session = &mut self.0.session;
        let step = session.stage();
        Some(match session.next(&mut Vec::new()) {
            Ok(Event::NeedInput) => match step {
                Stage::Greeting => "greeting",
                Stage::Ehlo => "ehlo",
                Stage::StartTls => "starttls",
                Stage::Auth => "auth",
                Stage::Mail | Stage::Rcpt => "envelope",
                Stage::Data => "data",
                Stage::Message => "message",
                Stage::Rset => "rset",
                Stage::Noop => "noop",
                Stage::Quit => "quit",
                other => panic!("{other:?}"),
            },
            Ok(Event::NotAuthenticated(_)) => "failed",
            Ok(Event::Ready(_)) => "ready",
            Ok(Event::StartTls | Event::Derive(_) | Event::Message(_)) => return None,
            Ok(Event::Close) => "closed",
            Ok(event) => panic!("{event:?} is shown once, or never here"),
            Err(_) => "error",
        })
    }

    fn shown(&self, edge: Edge) -> Option<Edge> {
        // After a `421`, of which the places tell nothing.
        if edge.to == "error" && ["failed", "ready"].contains(&edge.from) {
            return None;
        }
        let cause = match edge.to {
            "error" => Cause { what: "anything else", code: None },
            _ => edge.cause,
        };
        Some(Edge { cause, ..edge })
    }

    fn session(&self) -> String {
        format!("{:?}", self.0.session)
    }

    fn fingerprint(&self) -> String {
        let mut shown = String::new();
        self.0.fingerprint(&mut shown);
        shown
    }
}
