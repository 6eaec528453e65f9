//! Who may use which sender's address, in MAIL FROM: the application's duty, as whoever has signed in
//! could pose as anybody else.

use std::collections::HashMap;

use smtp_auth_tokio::smtp_auth::{command::Mailbox, sasl::prepare};

/// Stands for every address. It is none itself.
const ANY: &str = "*";

/// The addresses of each account; all names are folded. An account that is not here has its own address, if its name is
/// one; if not, the address of its name in any domain.
pub(crate) struct Senders(HashMap<String, Vec<String>>);

impl Senders {
    /// Reads each `NAME:ADDRESS,…`; an address `*` stands for all.
    pub(crate) fn new(given: &[String]) -> Result<Self, String> {
        let mut senders = HashMap::<_, Vec<_>>::new();
        for entry in given {
            let pair = entry.split_once(':').ok_or_else(|| format!("{entry:?} has no `:`"))?;
            let addresses = senders.entry(fold_account(pair.0)).or_default();
            for address in pair.1.split(',') {
                let parsed = Mailbox::parse(address).map(fold_address);
                addresses.push(match parsed {
                    _ if address == ANY => ANY.to_owned(),
                    Ok(folded) => folded,
                    Err(why) => return Err(format!("{address:?} is no address: {why}")),
                });
            }
        }
        Ok(Self(senders))
    }

    /// Whether the account may send as `from`. The null sender, of delivery reports, is anybody's.
    pub(crate) fn may_use(&self, account: &str, from: Option<Mailbox<'_>>) -> bool {
        let Some(from) = from else { return true };
        let address = fold_address(from);
        match self.0.get(&fold_account(account)) {
            Some(own) => own.iter().any(|own| own == ANY || *own == address),
            None if Mailbox::parse(account).is_ok() => fold_account(account) == address,
            None => fold(account) == fold_local_part(from),
        }
    }
}

/// An account's name, which may be an address.
fn fold_account(name: &str) -> String {
    Mailbox::parse(name).map_or_else(|_| fold(name), fold_address)
}

/// A domain has no case (RFC 1035 §2.3.3), and neither has an account's name here.
fn fold_address(mailbox: Mailbox<'_>) -> String {
    let domain = mailbox.domain().unwrap_or_default().to_lowercase();
    format!("{}@{domain}", fold_local_part(mailbox))
}

/// Without the quotes: `"ann"` is the same local part as `ann` (RFC 5321 §4.1.2).
fn fold_local_part(mailbox: Mailbox<'_>) -> String {
    let text = mailbox.local_part();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let Some(quoted) = quoted else { return fold(text) };
    let mut characters = quoted.chars();
    let unescape = || match characters.next() {
        Some('\\') => characters.next(),
        other => other,
    };
    fold(&core::iter::from_fn(unescape).collect::<String>())
}

/// The form in which names are compared. What SASLprep does not allow stays as it is.
fn fold(name: &str) -> String {
    prepare(name).as_deref().unwrap_or(name).to_lowercase()
}
