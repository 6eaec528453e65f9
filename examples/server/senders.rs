//! Who may use which sender's address, in MAIL FROM: the application's duty, as whoever has signed in
//! could pose as anybody else.

use std::collections::HashMap;

use smtp_auth::{command::Mailbox, sasl::prepare};

/// By the account that acts. An account that is not here has its own address, if its name is one;
/// if not, the address of its name in any domain.
pub(crate) struct Senders(HashMap<String, Vec<Sender>>);

#[derive(PartialEq, Eq)]
enum Sender {
    /// Folded.
    Address(String, String),
    Any,
}

impl Senders {
    /// Reads each `NAME:ADDRESS,…`; an address `*` stands for all.
    pub(crate) fn new(given: &[String]) -> Result<Self, String> {
        let mut senders = HashMap::<_, Vec<_>>::new();
        for entry in given {
            let (name, addresses) =
                entry.split_once(':').ok_or_else(|| format!("{entry:?} has no `:`"))?;
            let addresses =
                addresses.split(',').map(Sender::read).collect::<Result<Vec<_>, _>>()?;
            senders.entry(fold_name(name)).or_default().extend(addresses);
        }
        Ok(Self(senders))
    }

    /// Whether the account may send as `from`. The null sender, of delivery reports, is anybody's.
    pub(crate) fn may_use(&self, account: &str, from: Option<Mailbox<'_>>) -> bool {
        let Some(from) = from else { return true };
        let from = Sender::address(from);
        match self.0.get(&fold_name(account)) {
            Some(senders) => senders.contains(&Sender::Any) || senders.contains(&from),
            None => match (Mailbox::parse(account), from) {
                (Ok(own), from) => Sender::address(own) == from,
                (Err(_), Sender::Address(local_part, _)) => local_part == fold(account),
                (Err(_), Sender::Any) => false,
            },
        }
    }
}

impl Sender {
    fn read(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let mailbox =
            Mailbox::parse(text).map_err(|why| format!("{text:?} is no address: {why}"))?;
        Ok(Self::address(mailbox))
    }

    /// A domain has no case (RFC 1035 §2.3.3), and neither has an account's name here.
    fn address(mailbox: Mailbox<'_>) -> Self {
        let domain = mailbox.domain().unwrap_or_default().to_lowercase();
        Self::Address(fold(&unquoted(mailbox.local_part())), domain)
    }
}

/// What the quotes stand around: `"ann"` is the same local part as `ann` (RFC 5321 §4.1.2).
fn unquoted(local_part: &str) -> String {
    let quoted = local_part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(quoted) = quoted else { return local_part.to_owned() };
    let mut characters = quoted.chars();
    let unescape = || match characters.next() {
        Some('\\') => characters.next(),
        other => other,
    };
    core::iter::from_fn(unescape).collect()
}

/// An account's name, which may be an address.
fn fold_name(name: &str) -> String {
    match Mailbox::parse(name).map(Sender::address) {
        Ok(Sender::Address(local_part, domain)) => format!("{local_part}@{domain}"),
        _ => fold(name),
    }
}

/// The form in which names are compared. What SASLprep does not allow stays as it is.
fn fold(name: &str) -> String {
    prepare(name).as_deref().unwrap_or(name).to_lowercase()
}
