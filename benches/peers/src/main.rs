//! Compares this crate with other crates: time, instructions and allocations for the same work.
//!
//! ```sh
//! cargo run --release              # all works; or name some
//! cargo run --release -- docs      # all, into docs/benchmarks.md, README.md and peers.svg
//! cargo run --release -- check     # this crate alone, against ceilings, without times
//! cargo run --release -- growth    # how its cost grows with a line's length and pieces
//! ```
//!
//! valgrind (callgrind) counts the instructions, in cargo's default release profile. The instructions of
//! the command lines are also counted with fat LTO, for which a second program is built. valgrind does not
//! support SHA extensions, so the hashes are computed without them there, while the times are with them.

mod check;
mod growth;
mod inputs;
mod mailin;
mod measure;
mod ours;
mod plot;
mod report;
mod rsasl;
mod works;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use report::Result as Results;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match command(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[&str]) -> Result<bool, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    match arguments {
        ["check"] => Ok(check::check(&program)? & growth::check(&program)?),
        ["growth"] => growth::check(&program),
        ["docs"] => docs(&measure_all(&program, &[])?).map(|()| true),
        // What valgrind runs.
        ["run", work, who, side, times] => {
            let row = works::find(work, who).ok_or("no such row")?;
            measure::run(row, side, times.parse().map_err(|_| "not a number")?);
            Ok(true)
        }
        names => measure_all(&program, names).map(|_| true),
    }
}

/// Measures the works of these names, or all, and prints each as it is done.
fn measure_all(program: &Path, names: &[&str]) -> Result<Vec<Results>, String> {
    if let Some(name) = names.iter().find(|name| !works::ALL.iter().any(|work| work.name == **name))
    {
        return Err(format!("no work is named {name}"));
    }
    let chosen = works::ALL.iter().filter(|work| names.is_empty() || names.contains(&work.name));
    let with_lto = |work: &works::Work| work.name.starts_with("commands");
    let lto = chosen.clone().any(with_lto).then(|| build_with_lto(program)).transpose()?;
    println!("{}", report::circumstances());
    let measured = chosen.map(|work| {
        let lto = lto.as_deref().filter(|_| with_lto(work));
        let result = Results::of(work, program, lto)?;
        result.print();
        Ok(result)
    });
    measured.collect()
}

/// The same program with fat LTO, in the directory beside this one's.
fn build_with_lto(program: &Path) -> Result<PathBuf, String> {
    let target = program.parent().and_then(Path::parent).ok_or("the program has no directory")?;
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--profile", "lto", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status();
    if !status.map_err(|error| format!("cargo: {error}"))?.success() {
        return Err("the program with LTO does not build".into());
    }
    Ok(target.join("lto/peers"))
}

/// Writes the plot, the table in `docs/benchmarks.md`, and the line of the README that sums it up.
fn docs(results: &[Results]) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    plot::draw(results, &here.join("peers.svg")).map_err(|error| error.to_string())?;
    for (document, text) in
        [("docs/benchmarks.md", report::markdown(results)), ("README.md", report::summary(results))]
    {
        let path = here.join("../..").join(document);
        let old = fs::read_to_string(&path).map_err(|error| format!("{document}: {error}"))?;
        let new = report::insert(&old, &text).ok_or_else(|| report::no_marks(document))?;
        fs::write(&path, new).map_err(|error| format!("{document}: {error}"))?;
    }
    Ok(())
}
