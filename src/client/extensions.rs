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
    pub(super) fn read(ehlo: Ehlo<'_>) -> Self {
        let mut all = Self::default();
        for keyword in ehlo.keywords() {
            match keyword {
                Keyword::StartTls => all.starttls = true,
                Keyword::Pipelining => all.pipelining = true,
                Keyword::EightBitMime => all.eight_bit_mime = true,
                Keyword::SmtpUtf8 => all.smtputf8 = true,
                Keyword::Size(limit) => all.size = Some(limit.unwrap_or(0)),
                Keyword::Auth(names) => {
                    let known = all.mechanisms.get_or_insert_default();
                    for mechanism in names.iter().filter_map(Mechanism::from_name) {
                        if !known.contains(&mechanism) {
                            known.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        all
    }
}
