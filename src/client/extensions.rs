//! What a server offers, kept.

use alloc::{string::String, vec::Vec};

use super::{Config, Limits};
use crate::{
    ehlo::{Ehlo, Keyword},
    sasl::Mechanism,
};

/// What the server's reply to EHLO offers: all its keywords, with their parameters. It is as long as the reply at
/// most, 65,536 octets.
///
/// What a server says before TLS is gone when TLS begins (RFC 3207 §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// A line each: the keyword, a space, and the parameters.
    lines: String,
    /// Of AUTH, those of its mechanisms that the crate or the configuration knows; `None` where there is no AUTH.
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
        // Some Exchange servers have their mechanisms there.
        if let Some(unofficial) = all.parameters("X-EXPS").filter(|_| config.x_exps) {
            let unofficial = String::from(unofficial);
            if !unofficial.is_empty() && all.mechanisms.as_ref().is_none_or(Vec::is_empty) {
                add(&unofficial, config, &mut all.mechanisms);
            }
        }
        all
    }

    /// Whether the server lists the keyword, which is compared without case: `offers("CHUNKING")`.
    pub fn offers(&self, keyword: &str) -> bool {
        self.parameters(keyword).is_some()
    }

    /// What the server says after the keyword, which is compared without case. It may be empty; `None` where the
    /// server does not list the keyword. Of one that is listed twice, the first.
    pub fn parameters(&self, keyword: &str) -> Option<&str> {
        self.lines().find(|(name, _)| name.eq_ignore_ascii_case(keyword)).map(|(_, rest)| rest)
    }

    /// Every keyword, in the server's order.
    pub fn keywords(&self) -> impl Iterator<Item = Keyword<'_>> {
        self.lines().map(|(name, parameters)| Keyword::new(name, parameters))
    }

    /// Those of AUTH's mechanisms that the crate or the configuration knows, the server's order; `None` where the
    /// server does not offer AUTH.
    pub fn mechanisms(&self) -> Option<&[Mechanism]> {
        self.mechanisms.as_deref()
    }

    /// The most octets of a message, where the server says so by SIZE (RFC 1870 §4).
    pub fn max_size(&self) -> Option<u64> {
        self.keywords().find_map(|keyword| match keyword {
            Keyword::Size(limit) => limit.filter(|limit| *limit > 0),
            _ => None,
        })
    }

    /// What the server says by LIMITS that it takes at most (RFC 9422).
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
