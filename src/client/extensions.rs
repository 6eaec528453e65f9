//! The extensions that a server offers.

use alloc::{string::String, vec::Vec};

use super::{Config, Limits};
use crate::{
    ehlo::{Ehlo, Keyword},
    sasl::Mechanism,
};

/// The extensions that a server offers in its reply to EHLO: all keywords with their parameters (RFC 5321 §4.1.1.1).
///
/// The extensions occupy at most 65,536 octets of memory, because the client rejects a reply to EHLO that exceeds this
/// size. When TLS begins, a session discards the extensions that were offered in cleartext (RFC 3207 §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// One line for each keyword: the keyword, a space, and the parameters.
    lines: String,
    /// The AUTH mechanisms that the crate implements or the configuration defines. `None` if the server does not offer
    /// AUTH.
    mechanisms: Option<Vec<Mechanism>>,
}

impl Extensions {
    pub(super) fn read(ehlo: Ehlo<'_>, config: &Config) -> Self {
        let room = ehlo.words().map(|(name, parameters)| name.len() + parameters.len() + 2).sum();
        let mut all = Self { lines: String::with_capacity(room), mechanisms: None };
        for (name, parameters) in ehlo.words() {
            for part in [name, " ", parameters, "\n"] {
                all.lines.push_str(part);
            }
            if name.eq_ignore_ascii_case("AUTH") {
                add(parameters, config, &mut all.mechanisms);
            }
        }
        // Some Exchange servers list their mechanisms there.
        if let Some(unofficial) = all.parameters("X-EXPS").filter(|_| config.x_exps) {
            let unofficial = String::from(unofficial);
            if !unofficial.is_empty() && all.mechanisms.as_ref().is_none_or(Vec::is_empty) {
                add(&unofficial, config, &mut all.mechanisms);
            }
        }
        all
    }

    /// Returns whether the server lists the keyword, for instance `offers("CHUNKING")`. The case of the keyword is
    /// ignored.
    pub fn offers(&self, keyword: &str) -> bool {
        self.parameters(keyword).is_some()
    }

    /// Returns the text after the keyword, or `None` if the server does not list the keyword. The text may be empty.
    /// The case of the keyword is ignored. If the server lists the keyword twice, the text of the first line is
    /// returned.
    pub fn parameters(&self, keyword: &str) -> Option<&str> {
        self.lines().find(|(name, _)| name.eq_ignore_ascii_case(keyword)).map(|(_, rest)| rest)
    }

    /// Returns every keyword, in the server's order.
    pub fn keywords(&self) -> impl Iterator<Item = Keyword<'_>> {
        self.lines().map(|(name, parameters)| Keyword::new(name, parameters))
    }

    /// Returns the AUTH mechanisms in the server's order, or `None` if the server does not offer AUTH. The result
    /// includes only mechanisms that the crate implements or the configuration defines.
    pub fn mechanisms(&self) -> Option<&[Mechanism]> {
        self.mechanisms.as_deref()
    }

    /// Returns the maximum size of a message in octets, if the server announces one with SIZE (RFC 1870 §4).
    pub fn max_size(&self) -> Option<u64> {
        self.keywords().find_map(|keyword| match keyword {
            Keyword::Size(limit) => limit.filter(|limit| *limit > 0),
            _ => None,
        })
    }

    /// Returns the limits that the server announces with LIMITS (RFC 9422).
    pub fn limits(&self) -> Limits {
        self.parameters("LIMITS").map_or_else(Limits::default, Limits::read)
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.lines().filter_map(|line| line.split_once(' '))
    }
}

fn add(names: &str, config: &Config, mechanisms: &mut Option<Vec<Mechanism>>) {
    let known = mechanisms.get_or_insert_default();
    for mechanism in names.split(' ').filter_map(|name| config.sasl.named(name)) {
        if !known.contains(&mechanism) {
            known.push(mechanism);
        }
    }
}
