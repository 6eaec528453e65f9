//! The measurements: a table for the terminal, and a table and its summary for the documentation.

use std::{fmt::Write, path::Path, process::Command};

use crate::{
    measure,
    works::{Kind, Row, Work},
};

/// What was measured of a row.
pub struct Measured {
    pub row: &'static Row,
    pub ns: f64,
    pub instructions: u64,
    pub allocations: u64,
    /// Instructions with fat LTO, where they were counted.
    pub lto: Option<u64>,
}

pub struct Result {
    pub work: &'static Work,
    pub rows: Vec<Measured>,
}

impl Result {
    /// Measures a work; with fat LTO too, where there is such a program.
    pub fn of(
        work: &'static Work,
        program: &Path,
        lto: Option<&Path>,
    ) -> std::result::Result<Self, String> {
        let times = measure::times(work);
        let rows = work.rows.iter().zip(times).map(|(row, ns)| {
            let instructions = measure::instructions(program, work, row)?;
            let lto = lto.map(|lto| measure::instructions(lto, work, row)).transpose()?;
            Ok(Measured { row, ns, instructions, allocations: measure::allocations(row), lto })
        });
        Ok(Self { work, rows: rows.collect::<std::result::Result<_, String>>()? })
    }

    pub fn ours(&self) -> &Measured {
        &self.rows[0]
    }

    /// The fastest of a kind.
    pub fn best(&self, kind: Kind) -> Option<&Measured> {
        let rows = self.rows.iter().filter(|measured| measured.row.kind == kind);
        rows.min_by(|one, other| one.ns.total_cmp(&other.ns))
    }

    /// What this crate is compared with: the best peer and the yardstick, where there are such.
    pub fn rivals(&self) -> impl Iterator<Item = &Measured> {
        [Kind::Peer, Kind::Yardstick].into_iter().filter_map(|kind| self.best(kind))
    }

    /// For the terminal.
    pub fn print(&self) {
        println!("\n{}: {}", self.work.name, self.work.about);
        let best = self.rivals().next();
        for measured in &self.rows {
            let Measured { row, ns, instructions, allocations, lto } = measured;
            let mut line = format!("  {:<20}{ns:>12.0} ns", row.who);
            let _ = write!(line, "{instructions:>12} instr{allocations:>5} alloc");
            if let Some(best) = best {
                let share = *instructions as f64 / best.instructions as f64;
                let _ = write!(line, "{:>8.2} time{share:>7.2} instr", ns / best.ns);
            }
            if let Some(lto) = lto {
                let _ = write!(line, "{lto:>8} instr with LTO");
            }
            if row.aside.is_some() {
                line.push_str("  [less what is not its own]");
            }
            if !row.note.is_empty() {
                let _ = write!(line, "  ({})", row.note);
            }
            println!("{line}");
        }
    }
}

/// The machine, the date, the compiler and the peers.
pub fn circumstances() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("a machine without a name", |(_, name)| name);
    let says = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let date = says("date", &["+%Y-%m-%d"]).unwrap_or_default();
    let rustc = says("rustc", &["--version"]).unwrap_or_default();
    format!("{name}; {date}; {rustc}; {}", peers().join(", "))
}

/// The peers with their versions, as `Cargo.lock` has them.
fn peers() -> Vec<String> {
    const PEERS: [&str; 8] =
        ["lettre", "mail-send", "mailin", "rsasl", "sasl", "scram", "smtp-codec", "smtp-proto"];
    let packages = include_str!("../Cargo.lock").split("[[package]]").filter_map(|package| {
        let field = |name| {
            package.lines().find_map(|line: &str| {
                line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')
            })
        };
        Some((field("name")?, field("version")?))
    });
    packages
        .filter(|(name, _)| PEERS.contains(name))
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

/// The table for `docs/benchmarks.md`.
pub fn markdown(results: &[Result]) -> String {
    let mut out = format!("Measured with `benches/peers` on {}.\n\n", circumstances());
    out += "| | task | compared with | ns | instructions | allocations | ratio of times |\n";
    out += "| --- | --- | --- | --: | --: | --: | --: |\n";
    for result in results {
        let ours = result.ours();
        for rival in result.rivals() {
            let note = if rival.row.kind == Kind::Peer { "" } else { " (part of the task only)" };
            let _ = writeln!(
                out,
                "| {} | {} | {}{note} | {} / {} | {} / {} | {} / {} | {:.2} |",
                result.work.name,
                result.work.about,
                rival.row.who,
                grouped(ours.ns.round() as u64),
                grouped(rival.ns.round() as u64),
                grouped(ours.instructions),
                grouped(rival.instructions),
                ours.allocations,
                rival.allocations,
                ours.ns / rival.ns
            );
        }
    }
    out
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The line of the README that sums the table up.
pub fn summary(results: &[Result]) -> String {
    let ratio = |result: &Result| Some(result.ours().ns / result.best(Kind::Peer)?.ns);
    let ratios: Vec<f64> = results.iter().filter_map(ratio).collect();
    let faster = ratios.iter().filter(|ratio| **ratio < 1.0).count();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!(
        "In {faster} of {} tasks, smtp-auth is faster than the fastest other crate measured. Across all tasks, its \
        time is {least:.2} to {most:.2} times that crate's time.\n",
        ratios.len()
    )
}

const MARKS: [&str; 2] = ["<!-- peers -->", "<!-- /peers -->"];

/// The document with that text between its marks, or `None` if it has none.
pub fn insert(document: &str, text: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (head, rest) = document.split_once(begin)?;
    let (_, tail) = rest.split_once(end)?;
    Some(format!("{head}{begin}\n\n{text}\n{end}{tail}"))
}

pub fn no_marks(document: &str) -> String {
    let [begin, end] = MARKS;
    format!("{document} has no {begin} … {end}")
}
