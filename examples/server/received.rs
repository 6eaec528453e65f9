//! The header lines that the server puts in front of a message.

use core::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a `Received:` line says (RFC 5321 §4.4).
pub(crate) struct Received<'a> {
    /// The client's name as it gave it.
    pub(crate) from: &'a str,
    pub(crate) address: IpAddr,
    pub(crate) by: &'a str,
    pub(crate) with: &'static str,
    pub(crate) id: &'a str,
}

impl Received<'_> {
    /// The line with its CRLF. It is not folded: with the name cut it stays under 998 octets.
    pub(crate) fn line(&self) -> String {
        let Self { by, with, id, .. } = self;
        let literal = match self.address.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let (from, date) = (domain(self.from), date(SystemTime::now()));
        format!("Received: from {from} ({literal}) by {by} with {with} id {id}; {date}\r\n")
    }
}

/// A client may call itself `x) by bank.example with (`: what is not of a domain or an address
/// literal becomes `?`, lest it forges the rest of the line.
fn domain(name: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    name.chars().take(255).map(|c| if good(c) { c } else { '?' }).collect()
}

/// The protocol's name (RFC 3848, RFC 6531 §4.3).
pub(crate) fn protocol(extended: bool, utf8: bool, tls: bool, signed_in: bool) -> &'static str {
    match (extended, utf8, tls, signed_in) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, true, false) => "ESMTPS",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

/// `Tue, 24 Nov 2026 17:25:51 +0000` (RFC 5322 §3.3).
fn date(now: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400;
    // Years that begin in March, counted from the year 0, have their leap day at their end; 146,097
    // days are 400 years (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let era_day = (days + 719_468) % 146_097;
    let era = (days + 719_468) / 146_097;
    let year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * year + year / 4 - year / 100);
    let month = (5 * year_day + 2) / 153;
    let day = year_day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let name = |names: &[&'static str], n: u64| names.get(n as usize).copied().unwrap_or_default();
    let (weekday, month) = (name(&DAYS, days % 7), name(&MONTHS, month));
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day} {month} {year} {hour:02}:{minute:02}:{second:02} +0000")
}
