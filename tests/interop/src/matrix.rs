//! What came out, and the tables of it.

use core::ops::Add;
use std::{fmt, fs, path::Path};

use crate::{Result, home::write, sign_in::Transport};

const MARKS: [&str; 2] = ["<!-- interop -->\n", "<!-- /interop -->"];

/// What a check comes to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With what is to be known of it, if anything.
    Passed(Option<&'static str>),
    /// The server's reply was this one, as it was to be.
    Replied(&'static str),
    Failed(String),
    /// The peer does it wrong, and this is how.
    PeersFault(&'static str),
    /// The peer does not have it, and this is why.
    NotOffered(&'static str),
}

/// What a peer is known to do wrong.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) how: &'static str,
    /// What is said where it does so: another failure than this is not excused.
    pub(crate) seen: &'static str,
}

impl Outcome {
    /// Of what was tried, with what was said in doing so.
    pub(crate) fn of(
        tried: Result<()>,
        fault: Option<Fault>,
        is_said: impl Fn(&str, &str) -> bool,
        remark: Option<&'static str>,
    ) -> Self {
        match (tried, fault) {
            (Ok(()), None) => Self::Passed(remark),
            (Ok(()), Some(_)) => Self::Failed("passes, but a fault of it is on record".into()),
            (Err(why), Some(fault)) if is_said(&why, fault.seen) => Self::PeersFault(fault.how),
            (Err(why), _) => Self::Failed(why),
        }
    }
}

/// Which of a cell's halves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    RightSecret,
    WrongSecret,
    /// The cell has no halves.
    Whole,
}

impl Half {
    pub(crate) fn of(right: bool) -> Self {
        if right { Self::RightSecret } else { Self::WrongSecret }
    }
}

/// What is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) peer: &'static str,
    /// The mechanism, or what else is tried.
    pub(crate) row: &'static str,
    pub(crate) half: Half,
    pub(crate) transport: Transport,
}

pub(crate) struct Matrix {
    /// What the table shows: a heading, and what else is to be said first.
    title: &'static str,
    verbose: bool,
    /// With their versions.
    peers: Vec<(&'static str, String)>,
    checks: Vec<(Subject, Outcome)>,
}

impl Matrix {
    pub(crate) fn new(title: &'static str, verbose: bool) -> Self {
        Self { title, verbose, peers: Vec::new(), checks: Vec::new() }
    }

    pub(crate) fn peer(&mut self, name: &'static str, version: String) {
        self.peers.push((name, version));
    }

    pub(crate) fn add(&mut self, subject: Subject, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::Failed(_));
        if self.verbose || failed {
            eprintln!("{subject}: {outcome}");
        }
        self.checks.push((subject, outcome));
    }

    pub(crate) fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for (_, outcome) in &self.checks {
            match outcome {
                Outcome::Passed(_) | Outcome::Replied(_) => sum.passed += 1,
                Outcome::Failed(_) => sum.failed += 1,
                Outcome::PeersFault(_) => sum.faults += 1,
                Outcome::NotOffered(_) => sum.not_offered += 1,
            }
        }
        sum
    }

    /// In the order in which they were first looked at.
    fn rows(&self) -> Vec<&'static str> {
        let mut rows = Vec::new();
        for (subject, _) in &self.checks {
            if !rows.contains(&subject.row) {
                rows.push(subject.row);
            }
        }
        rows
    }

    fn table(&self, notes: &mut Notes) -> String {
        let mut head = vec![String::new()];
        head.extend(self.peers.iter().map(|(name, version)| format!("{name} {version}")));
        let mut lines = vec![head];
        for row in self.rows() {
            let mut line = vec![row.to_owned()];
            line.extend(self.peers.iter().map(|(peer, _)| self.cell(peer, row, notes)));
            lines.push(line);
        }
        markdown(&lines)
    }

    fn cell(&self, peer: &str, row: &str, notes: &mut Notes) -> String {
        let all: Vec<_> = self
            .checks
            .iter()
            .filter(|(subject, _)| (subject.peer, subject.row) == (peer, row))
            .collect();
        let half = |half| word(all.iter().filter(|(own, _)| own.half == half).map(|(_, out)| out));
        let mut text = match (half(Half::RightSecret), half(Half::WrongSecret), half(Half::Whole)) {
            (None, None, None) => "not tried".into(),
            (Some(right), Some(wrong), _) if right == wrong => right.into(),
            (Some(right), Some(wrong), _) => format!("{right} / {wrong}"),
            (right, wrong, whole) => whole.or(right).or(wrong).unwrap_or_default().into(),
        };
        let same =
            all.iter().all(|(_, outcome)| all.first().is_some_and(|(_, own)| own == outcome));
        for (subject, outcome) in all {
            if let Some(number) = notes.number(subject, outcome, same) {
                let mark = format!("[{number}]");
                if !text.contains(&mark) {
                    text = format!("{text} {mark}");
                }
            }
        }
        text
    }
}

const LEGEND: &str = "Every check is made with the right password, token or certificate, and with a wrong one. If a \
    cell shows two results, the first result is for the right password, token or certificate. The checks of the first \
    two tables are made over STARTTLS, over implicit TLS and, if the mechanism allows it, in cleartext. If the results \
    for these transports differ, the cell shows the worst result. A dash means that the other program does not offer \
    the mechanism.\n\n";

const NOT_OFFERED: &str = "–";

/// The worst of them; what is not offered in one transport hides nothing of the others.
fn word<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Option<&'static str> {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Failed(_) => (3, "failed"),
        Outcome::PeersFault(_) => (2, "fault of the peer"),
        Outcome::Passed(_) => (1, "passed"),
        Outcome::Replied(reply) => (1, *reply),
        Outcome::NotOffered(_) => (0, NOT_OFFERED),
    };
    outcomes.map(rank).max().map(|(_, word)| word)
}

/// The reasons below the tables, each once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The number of the note to this outcome, if it needs one. Where all of a cell are the same, there
    /// is no need to say in which transport.
    fn number(&mut self, subject: &Subject, outcome: &Outcome, same: bool) -> Option<usize> {
        let (peer, transport) = (subject.peer, subject.transport);
        let note = match outcome {
            Outcome::Passed(None) | Outcome::Replied(_) => return None,
            Outcome::Passed(Some(remark)) => format!("{peer}: {remark}"),
            Outcome::NotOffered(why) if same => format!("{peer}: {why}"),
            Outcome::NotOffered(why) => format!("{peer}: not tested with {transport}: {why}"),
            Outcome::PeersFault(how) => format!("{peer}: a fault of the peer: {how}"),
            Outcome::Failed(how) => format!("{peer}: failed over {transport}: {how}"),
        };
        let known = self.0.iter().position(|own| *own == note);
        let place = known.unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        });
        Some(place + 1)
    }
}

/// The tables, and their notes.
pub(crate) fn tables(all: &[Matrix]) -> String {
    let mut notes = Notes::default();
    let mut text = LEGEND.to_owned();
    for matrix in all {
        if !matrix.peers.is_empty() {
            text += &format!("{}\n\n{}\n", matrix.title, matrix.table(&mut notes));
        }
    }
    for (number, note) in (1..).zip(&notes.0) {
        text += &format!("[{number}] {note}\\\n");
    }
    text.trim_end_matches("\\\n").to_owned() + "\n"
}

fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            text += &format!("| {cell:width$} ");
        }
        text += "|\n";
        if number == 0 {
            text += &"| --- ".repeat(columns);
            text += "|\n";
        }
    }
    text
}

pub(crate) fn write_between_marks(file: &Path, tables: &str) -> Result<()> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let [begin, end] = MARKS;
    let parts = text.split_once(begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(end)?;
        Some((before, after))
    });
    let (before, after) = parts.ok_or_else(|| format!("{name}: no lines {begin} and {end}"))?;
    write(file, format!("{before}{begin}\n{tables}\n{end}{after}"))
}

/// How many checks came to what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    passed: usize,
    failed: usize,
    faults: usize,
    not_offered: usize,
}

impl Sum {
    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.passed + self.faults > 0
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            faults: self.faults + other.faults,
            not_offered: self.not_offered + other.not_offered,
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, faults, not_offered } = self;
        if *faults > 0 {
            writeln!(f, "skipped: {not_offered} not offered, {faults} for faults of the peers")?;
        }
        write!(f, "{passed} passed, {failed} failed, {} skipped", faults + not_offered)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = match self.half {
            Half::RightSecret => ", right secret",
            Half::WrongSecret => ", wrong secret",
            Half::Whole => "",
        };
        write!(f, "{}: {}{secret}, {}", self.peer, self.row, self.transport)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(_) => f.write_str("passed"),
            Self::Replied(reply) => f.write_str(reply),
            Self::Failed(how) => write!(f, "FAILED: {how}"),
            Self::PeersFault(how) => write!(f, "the peer's fault: {how}"),
            Self::NotOffered(why) => write!(f, "not offered: {why}"),
        }
    }
}
