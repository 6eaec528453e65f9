//! The output: one screen for a person, or everything.

use std::{
    env,
    error::Error,
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::Path,
};

use smtp_auth_tokio::smtp_auth::Side;

use crate::{Attempt, Tim, wire::Line};

/// The number of columns on a screen.
const WIDTH: usize = 100;

/// Prints a dialogue: either line by line and in full, or so that it fits on a screen.
pub(crate) fn dialogue(attempt: &Attempt, tim: &Tim, in_full: bool) {
    let about = painted("2", "(as in a log; beside each ***, what was sent)");
    line(format_args!("\n{} {about}", painted("1", &attempt.title)));
    // On a screen, lines that one side sends in a row share a line.
    let share = |one: &Line, next: &Line| !in_full && one.side == next.side;
    for lines in attempt.lines.chunk_by(share) {
        let Some(Line { side, message, .. }) = lines.last() else { continue };
        let colour = if *side == Side::Client { "36" } else { "33" };
        let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
        let said = format!("{side}: {}", texts.join(" | "));
        if let Some(message) = message {
            let message = readable(message, tim, in_full);
            let said = painted(colour, format_args!("  {said:31}"));
            line(format_args!("{said}  {}", painted("2", message)));
        } else {
            let width = if in_full { usize::MAX } else { WIDTH };
            wrapped(&said, width).iter().for_each(|said| line(painted(colour, said)));
        }
    }
}

/// Prints a table of the mechanisms with which the client has authenticated.
pub(crate) fn mechanisms(attempts: &[Attempt], tim: &Tim) {
    let (mechanism, sent) = ("Mechanism", "What the client sent inside TLS, decoded");
    line(painted("1", format_args!("\n  {mechanism:18} {sent:57} Reply          Time")));
    for (mechanism, lines) in attempts.iter().filter_map(Attempt::authentication) {
        let is_end = |line: &Line| line.side == Side::Server && !line.text.starts_with("334");
        let (Some(begin), Some(end)) = (lines.first(), lines.iter().find(|line| is_end(line)))
        else {
            continue;
        };
        let Some((reply @ "235 2.7.0", _)) = end.text.split_at_checked(9) else { continue };
        let exchange = lines.iter().take_while(|line| !is_end(line));
        let messages = exchange.filter(|line| line.side == Side::Client);
        let messages = messages.filter_map(|line| line.message.as_deref());
        let sent: Vec<_> = messages.map(|message| readable(message, tim, false)).collect();
        let mut sent = format!("{:57}", sent.join("  "));
        for secret in [PASSWORD, TOKEN] {
            sent = sent.replace(secret, &painted("31", secret));
        }
        let mechanism = painted("1", format_args!("{:18}", mechanism.name()));
        let time = (end.at - begin.at).as_secs_f64() * 1000.0;
        line(format_args!("  {mechanism} {sent} {} {time:6.1} ms", painted("32", reply)));
    }
}

/// Prints the sentences that a person reads when something is refused.
pub(crate) fn refusals(attempts: &[Attempt]) {
    line(painted("1", "\nWhat is refused, and the sentence that a user reads"));
    for attempt in attempts {
        let Err(error) = &attempt.outcome else { continue };
        let lines = wrapped(&format!("{}: {error}", attempt.title), WIDTH).join("\n");
        line(lines.replacen(&attempt.title, &painted("1", &attempt.title), 1));
    }
}

pub(crate) fn success(stored: usize, folder: &Path, all: bool) {
    let more = if all { "" } else { " Every dialogue: cargo run --example demo -- --all" };
    line(format_args!("\n{}{more}", painted("32", "All went as it should.")));
    line(format_args!("The {stored} messages are in {}", folder.display()));
}

pub(crate) fn failure(error: &dyn Error) {
    line(format_args!("\n{}: {error}", painted("31", "This went wrong")));
}

const PASSWORD: &str = "[password]";
const TOKEN: &str = "[token]";

/// A message of a mechanism, without Tim's secrets and control characters. On a screen, long random parts (nonces, salts,
/// proofs) are cut.
fn readable(message: &str, tim: &Tim, in_full: bool) -> String {
    if message.is_empty() {
        return "(empty)".to_owned();
    }
    let message = message
        .replace(tim.password.as_str(), PASSWORD)
        .replace(tim.token.as_str(), TOKEN)
        .replace('\0', "\\0")
        .replace('\x01', "^A");
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let short = |part: &str| match part.split_at_checked(6) {
        Some((begin, rest)) if !in_full && part.len() > 16 => {
            format!("{begin}…{}", rest.trim_start_matches(is_inside))
        }
        _ => part.to_owned(),
    };
    message.split_inclusive(|c| !is_inside(c)).map(short).collect()
}

/// A text as lines of at most this width, indented.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![" ".to_owned()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                *line = format!("{line} {word}");
            }
            _ => lines.push(format!("     {word}")),
        }
    }
    lines
}

/// The text in colour, if the output is a terminal and colour is not turned off (<https://no-color.org>).
fn painted(colour: &str, text: impl Display) -> String {
    let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stdout().is_terminal() && !unwanted {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_string(),
    }
}

/// Prints a line. If nobody reads the output any more, the demo still runs to its end; `println!` would panic.
fn line(text: impl Display) {
    let _ = writeln!(io::stdout(), "{text}");
}
