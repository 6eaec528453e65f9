//! What a server offers, kept.

use alloc::vec::Vec;

use crate::{
    ehlo::{Ehlo, Keyword},
    sasl::Mechanism,
};

/// What the server's reply to EHLO offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extensions {
    /// STARTTLS.
    pub starttls: bool,
    /// AUTH, and those of its mechanisms that are compiled in.
    pub mechanisms: Option<Vec<Mechanism>>,
    /// PIPELINING.
    pub pipelining: bool,
    /// 8BITMIME.
    pub eight_bit_mime: bool,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// SIZE, and the most octets of a message where the server says so.
    pub size: Option<u64>,
}

impl Extensions {
    /// With `x_exps` the line of that name serves where AUTH names no mechanism.
    pub(super) fn read(ehlo: Ehlo<'_>, x_exps: bool) -> Self {
        let mut all = Self::default();
        let mut unofficial = "";
        for keyword in ehlo.keywords() {
            match keyword {
                Keyword::StartTls => all.starttls = true,
                Keyword::Pipelining => all.pipelining = true,
                Keyword::EightBitMime => all.eight_bit_mime = true,
                Keyword::SmtpUtf8 => all.smtputf8 = true,
                Keyword::Size(limit) => all.size = Some(limit.unwrap_or(0)),
                Keyword::Auth(names) => add(names.iter(), &mut all.mechanisms),
                Keyword::Other { name, parameters } if name.eq_ignore_ascii_case("X-EXPS") => {
                    unofficial = parameters;
                }
                _ => {}
            }
        }
        if x_exps && !unofficial.is_empty() && all.mechanisms.as_ref().is_none_or(Vec::is_empty) {
            add(unofficial.split(' '), &mut all.mechanisms);
        }
        all
    }
}

fn add<'a>(names: impl Iterator<Item = &'a str>, mechanisms: &mut Option<Vec<Mechanism>>) {
    let known = mechanisms.get_or_insert_default();
    for mechanism in names.filter_map(Mechanism::from_name) {
        if !known.contains(&mechanism) {
            known.push(mechanism);
        }
    }
}
