//! The works, and who does each of them.

mod commands;
mod cram_client;
mod cram_server;
mod data;
mod ehlo;
pub mod growth;
mod hi;
mod login;
mod oauth;
mod plain;
mod scram_client;
mod scram_kept;
mod scram_server;
mod session;

/// Does a work once, and panics if it does not come out as it has to. What a program sets up once
/// was done when this was made.
pub type Run = Box<dyn FnMut()>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This crate.
    Ours,
    /// A crate that others use for the same.
    Peer,
    /// Written for this comparison: no peer, but a bound.
    Yardstick,
}

/// An implementation of a work.
pub struct Row {
    pub who: &'static str,
    pub kind: Kind,
    /// Wherein it differs, if it does.
    pub note: &'static str,
    pub make: fn() -> Run,
    /// What of it is not its own: the other side, where that has to answer anew each time, or the
    /// command that makes a session ready for the next time. It is measured alone, and taken off.
    pub aside: Option<fn() -> Run>,
}

impl Row {
    const fn new(kind: Kind, who: &'static str, make: fn() -> Run) -> Self {
        Self { who, kind, note: "", make, aside: None }
    }

    const fn ours(make: fn() -> Run) -> Self {
        Self::new(Kind::Ours, "smtp-auth", make)
    }

    const fn peer(who: &'static str, make: fn() -> Run) -> Self {
        Self::new(Kind::Peer, who, make)
    }

    const fn yardstick(who: &'static str, make: fn() -> Run) -> Self {
        Self::new(Kind::Yardstick, who, make)
    }

    const fn named(mut self, who: &'static str) -> Self {
        self.who = who;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    const fn aside(mut self, aside: fn() -> Run) -> Self {
        self.aside = Some(aside);
        self
    }
}

pub struct Work {
    pub name: &'static str,
    /// What is measured, for a reader.
    pub about: &'static str,
    /// How often it is done for a count of instructions.
    pub times: u64,
    /// Into how many parts time and instructions are divided: into thousands of octets where a message is moved. Allocations
    /// are those of all.
    pub parts: u64,
    /// This crate's first row is the one that the others are compared with.
    pub rows: &'static [Row],
}

pub const ALL: &[Work] = &[
    commands::NINE,
    commands::EIGHT,
    ehlo::WORK,
    plain::WORK,
    login::WORK,
    cram_server::WORK,
    scram_server::WORK,
    scram_client::WORK,
    scram_kept::WORK,
    cram_client::WORK,
    data::LINES_76,
    data::LARGE,
    data::SMALL_PIECES,
    data::LARGE_PIECES,
    data::LINES_998,
    data::LINES_1,
    data::EMPTY,
    data::DOTS_76,
    data::DOTS_1,
    data::SENT_76,
    data::SENT_1,
    data::SENT_DOTS,
    session::SERVER,
    session::CLIENT,
    hi::SHA_1,
    hi::SHA_256,
    hi::SHA_512,
    oauth::XOAUTH2_SERVER,
    oauth::OAUTHBEARER_SERVER,
    oauth::XOAUTH2_CLIENT,
    oauth::OAUTHBEARER_CLIENT,
];

/// Those that no peer is compared in.
const ALONE: &[Work] = &[growth::COMMAND, growth::RESPONSE, growth::ENDLESS, growth::TRACED];

/// The work and its row of these names.
pub fn find(work: &str, who: &str) -> Option<&'static Row> {
    let work = ALL.iter().chain(ALONE).find(|candidate| candidate.name == work)?;
    work.rows.iter().find(|row| row.who == who)
}
