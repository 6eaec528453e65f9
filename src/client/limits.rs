//! The limits that a server announces with LIMITS (RFC 9422).

use alloc::{collections::BTreeSet, string::String};

use super::Envelope;

/// The limits that a server announces with LIMITS (RFC 9422).
///
/// A limit is `None` if the server does not announce it, or if the announced value is invalid. A valid value has one to
/// six digits, and does not begin with 0. When TLS begins, a session discards the limits that were announced in
/// cleartext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// MAILMAX: the maximum number of messages that a client may begin over one connection, whatever their outcome.
    pub mail_max: Option<u32>,
    /// RCPTMAX: the maximum number of recipients of one message.
    pub rcpt_max: Option<u32>,
    /// RCPTDOMAINMAX: the maximum number of different recipient domains on one connection. To enforce this limit,
    /// a session has to remember the recipients' domains. It therefore ignores a limit above 1,000.
    pub rcpt_domain_max: Option<u32>,
}

/// A limit that a message would exceed. The field contains the value that the server announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// MAILMAX: the maximum number of messages over one connection.
    #[error(
        "the server accepts at most {0} messages over one connection (MAILMAX): send this one over another connection"
    )]
    MailMax(u32),
    /// RCPTMAX: the maximum number of recipients of one message.
    #[error(
        "the server accepts at most {0} recipients for one message (RCPTMAX): send the message several times, each time to some of the recipients"
    )]
    RcptMax(u32),
    /// RCPTDOMAINMAX: the maximum number of different recipient domains on one connection.
    #[error(
        "the server accepts recipients in at most {0} domains over one connection (RCPTDOMAINMAX): send to the other domains over another connection"
    )]
    RcptDomainMax(u32),
}

/// The maximum number of domains that a session remembers. A session does not count domains if the server allows more.
const MAX_DOMAINS: u32 = 1000;

impl Limits {
    /// Parses the parameters of LIMITS: `limit-name-value *( SP limit-name-value )`.
    pub(super) fn read(parameters: &str) -> Self {
        let mut limits = Self::default();
        for (name, value) in parameters.split(' ').filter_map(|word| word.split_once('=')) {
            let all = [
                ("MAILMAX", &mut limits.mail_max),
                ("RCPTMAX", &mut limits.rcpt_max),
                ("RCPTDOMAINMAX", &mut limits.rcpt_domain_max),
            ];
            for (known, limit) in all {
                // If a limit is announced twice, the lower value applies.
                if let Some(value) = value_of(value).filter(|_| name.eq_ignore_ascii_case(known)) {
                    *limit = Some(limit.map_or(value, |other| other.min(value)));
                }
            }
        }
        limits
    }
}

/// `limit-value = %x31-39 0*5DIGIT`
fn value_of(text: &str) -> Option<u32> {
    let is_number = text.len() <= 6 && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| is_number && !text.starts_with('0'))
}

/// The part of the limits that a session has used: the messages that it has begun, and the domains of their recipients.
#[derive(Debug, Default)]
pub(super) struct Used {
    messages: u32,
    /// In lower case. Empty unless the server limits the domains.
    domains: BTreeSet<String>,
}

impl Used {
    /// Fails if a message would exceed a limit.
    pub(super) fn check(&self, envelope: &Envelope, limits: Limits) -> Result<(), Limit> {
        let is_over =
            |count: usize, most: u32| usize::try_from(most).is_ok_and(|most| count > most);
        if let Some(most) = limits.mail_max.filter(|most| self.messages >= *most) {
            return Err(Limit::MailMax(most));
        }
        if let Some(most) = limits.rcpt_max.filter(|most| is_over(envelope.to.len(), *most)) {
            return Err(Limit::RcptMax(most));
        }
        let Some(most) = counted(limits) else { return Ok(()) };
        let mut more: BTreeSet<_> = envelope.recipients().map(domain).collect();
        more.retain(|domain| !self.domains.contains(domain));
        match is_over(self.domains.len() + more.len(), most) {
            true => Err(Limit::RcptDomainMax(most)),
            false => Ok(()),
        }
    }

    /// Counts a message that the session begins.
    pub(super) fn begin(&mut self) {
        self.messages = self.messages.saturating_add(1);
    }

    /// Counts the domains of the recipients for which the session sent RCPT.
    pub(super) fn told<'a>(&mut self, recipients: impl Iterator<Item = &'a str>, limits: Limits) {
        if counted(limits).is_some() {
            self.domains.extend(recipients.map(domain));
        }
    }
}

/// Returns the limit on domains, if the session counts them.
fn counted(limits: Limits) -> Option<u32> {
    limits.rcpt_domain_max.filter(|most| *most <= MAX_DOMAINS)
}

fn domain(address: &str) -> String {
    address.rsplit_once('@').unwrap_or_default().1.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_malformed_is_ignored() {
        let of = |text| {
            let Limits { mail_max, rcpt_max, rcpt_domain_max } = Limits::read(text);
            (mail_max, rcpt_max, rcpt_domain_max)
        };
        for (text, limits) in [
            ("", (None, None, None)),
            ("MAILMAX=1 RCPTMAX=20 RCPTDOMAINMAX=999999", (Some(1), Some(20), Some(999_999))),
            ("rcptmax=5  X_OTHER=1 FLAG", (None, Some(5), None)),
            ("MAILMAX=0 RCPTMAX=05 RCPTDOMAINMAX=1000000", (None, None, None)),
            ("MAILMAX= RCPTMAX RCPTDOMAINMAX=+1", (None, None, None)),
            ("MAILMAX=1;RCPTMAX=2 RCPTMAX=-1", (None, None, None)),
            ("MAILMAX=9 MAILMAX=3 MAILMAX=x", (Some(3), None, None)),
        ] {
            assert_eq!(of(text), limits, "{text}");
        }
    }
}
