//! What a server offers, kept.

use alloc::vec::Vec;

use super::Config;
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
    /// AUTH, and those of its mechanisms that the crate or the configuration knows.
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
    pub(super) fn read(ehlo: Ehlo<'_>, config: &Config) -> Self {
        let mut all = Self::default();
        let mut unofficial = "";
        for keyword in ehlo.keywords() {
            match keyword {
                Keyword::StartTls => all.starttls = true,
                Keyword::Pipelining => all.pipelining = true,
                Keyword::EightBitMime => all.eight_bit_mime = true,
                Keyword::SmtpUtf8 => all.smtputf8 = true,
                Keyword::Size(limit) => all.size = Some(limit.unwrap_or(0)),
                Keyword::Auth(names) => add(names.iter(), config, &mut all.mechanisms),
                Keyword::Other { name, parameters } if name.eq_ignore_ascii_case("X-EXPS") => {
                    unofficial = parameters;
                }
                _ => {}
            }
        }
        // Some Exchange servers have their mechanisms there.
        if config.x_exps
            && !unofficial.is_empty()
            && all.mechanisms.as_ref().is_none_or(Vec::is_empty)
        {
            add(unofficial.split(' '), config, &mut all.mechanisms);
        }
        all
    }
}

fn add<'a>(
    names: impl Iterator<Item = &'a str>,
    config: &Config,
    mechanisms: &mut Option<Vec<Mechanism>>,
) {
    let known = mechanisms.get_or_insert_default();
    for mechanism in names.filter_map(|name| config.sasl.named(name)) {
        if !known.contains(&mechanism) {
            known.push(mechanism);
        }
    }
}
