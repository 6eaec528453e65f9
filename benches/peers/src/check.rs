//! Ceilings on this crate's own rows.

use std::path::Path;

use crate::{
    measure,
    works::{ALL, Kind},
};

/// Work, row, instructions, allocations. Some room is left above what is measured, as a compiler
/// makes of the same source a little more or less.
const CEILINGS: &[(&str, &str, u64, u64)] = &[
    ("commands", "smtp-auth", 3_070, 0),
    ("commands-8", "smtp-auth", 2_860, 0),
    ("ehlo", "smtp-auth", 2_590, 0),
    ("plain-server", "smtp-auth", 2_570, 1),
    ("login-server", "smtp-auth", 3_890, 2),
    ("cram-server", "smtp-auth", 5_930, 2),
    ("scram-server", "smtp-auth", 39_200, 4),
    ("scram-client", "smtp-auth", 28_600_000, 22),
    ("scram-kept", "smtp-auth", 40_000, 15),
    ("cram-client", "smtp-auth", 6_400, 3),
    ("cram-client", "smtp-auth, lines", 7_530, 2),
    // Of these, instructions for 1,000 octets, and allocations for a whole message.
    ("data", "smtp-auth", 3_200, 72),
    ("data-20m", "smtp-auth", 3_200, 1_260),
    ("data-4k", "smtp-auth", 1_500, 258),
    ("data-64k", "smtp-auth", 3_150, 23),
    ("data-998", "smtp-auth", 3_200, 72),
    ("data-1", "smtp-auth", 3_200, 72),
    ("data-0", "smtp-auth", 3_200, 72),
    ("data-dots", "smtp-auth", 8_300, 80),
    ("data-dots-1", "smtp-auth", 110_000, 84),
    ("body", "smtp-auth", 2_000, 0),
    ("body", "smtp-auth, pieces", 900, 0),
    ("body-1", "smtp-auth", 2_000, 0),
    ("body-1", "smtp-auth, pieces", 900, 0),
    ("body-dots", "smtp-auth", 3_450, 0),
    ("body-dots", "smtp-auth, pieces", 2_600, 0),
    ("session-server", "smtp-auth", 26_000, 14),
    ("session-client", "smtp-auth", 45_500, 25),
    ("hi-sha-1", "smtp-auth", 12_200_000, 4),
    ("hi-sha-256", "smtp-auth", 28_600_000, 4),
    ("hi-sha-512", "smtp-auth", 38_200_000, 4),
    ("xoauth2-server", "smtp-auth", 36_300, 11),
    ("xoauth2-server", "without AUTH", 8_000, 3),
    ("oauthbearer-server", "smtp-auth", 38_500, 12),
    ("xoauth2-client", "smtp-auth", 15_800, 1),
    ("oauthbearer-client", "smtp-auth", 18_100, 6),
];

/// Whether all stay below.
pub fn check(program: &Path) -> Result<bool, String> {
    let mut good = true;
    for work in ALL {
        for row in work.rows.iter().filter(|row| row.kind == Kind::Ours) {
            let named =
                |ceiling: &&(&str, &str, u64, u64)| (ceiling.0, ceiling.1) == (work.name, row.who);
            let &(.., most_instructions, most_allocations) = CEILINGS
                .iter()
                .find(named)
                .ok_or(format!("no ceiling for {} by {}", work.name, row.who))?;
            let instructions = measure::instructions(program, work, row)?;
            let allocations = measure::allocations(row);
            let below = instructions <= most_instructions && allocations <= most_allocations;
            println!(
                "{} {:<20}{:<18}{instructions:>10} of {most_instructions:>10} instructions\
                 {allocations:>4} of {most_allocations:>3} allocations",
                if below { "good" } else { "MORE" },
                work.name,
                row.who
            );
            good &= below;
        }
    }
    Ok(good)
}
