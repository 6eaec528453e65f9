//! How cost grows: with the length of a line, with the pieces that it comes in, with a hook.

use std::path::Path;

use crate::{
    measure,
    works::{Work, growth},
};

/// The most instructions that a call may cost that brings one octet, [`receive`] and [`next`]
/// together.
///
/// [`receive`]: smtp_auth::server::Session::receive
/// [`next`]: smtp_auth::server::Session::next
const MOST_FOR_A_CALL: u64 = 100;

/// Prints what it comes to, and whether it grows as it should.
pub fn check(program: &Path) -> Result<bool, String> {
    let mut good = true;
    let mut judge = |holds: bool, what: String| {
        println!("{} {what}", if holds { "good" } else { "MORE" });
        good &= holds;
    };
    for (work, lengths) in [(&growth::COMMAND, [512, 1024]), (&growth::RESPONSE, [6144, 12_288])] {
        let counts = counts(program, work)?;
        let [whole, whole_twice, octets, octets_twice] = counts[..] else { unreachable!() };
        judge(
            doubles(whole, whole_twice),
            format!("{} of {lengths:?} octets: {whole}, {whole_twice} instructions", work.about),
        );
        judge(
            doubles(octets, octets_twice),
            format!("the same octet by octet: {octets}, {octets_twice} instructions"),
        );
        for (length, whole, octets) in
            [(lengths[0], whole, octets), (lengths[1], whole_twice, octets_twice)]
        {
            let call = octets.saturating_sub(whole) / length;
            judge(
                call <= MOST_FOR_A_CALL,
                format!("for each call that brings one of {length} octets: {call} instructions"),
            );
        }
    }
    let counts_of_endless = counts(program, &growth::ENDLESS)?;
    let [half, megabyte] = counts_of_endless[..] else { unreachable!() };
    judge(
        doubles(half, megabyte),
        format!(
            "{}: {half} instructions for half a megabyte, {megabyte} for one",
            growth::ENDLESS.about
        ),
    );
    let traced = counts(program, &growth::TRACED)?;
    println!(
        "     {}: {} instructions without a hook for the dialogue, {} with one",
        growth::TRACED.about,
        traced[0],
        traced[1]
    );
    Ok(good)
}

fn counts(program: &Path, work: &Work) -> Result<Vec<u64>, String> {
    work.rows.iter().map(|row| measure::instructions(program, work, row)).collect()
}

/// Whether twice as much costs twice as much, but for a twentieth.
fn doubles(once: u64, twice: u64) -> bool {
    twice <= 2 * once + once / 20
}
