//! Decides which sender addresses an account may use in MAIL FROM. This is the application's responsibility: without
//! it, any authenticated client could impersonate any sender.

use std::collections::HashMap;

use smtp_auth_tokio::smtp_auth::{command::Mailbox, sasl::prepare};

/// Matches every address. It is not a valid address itself.
const ANY: &str = "*";

/// The addresses of each account, with all names folded. An account that is not listed may use its name if that is an
/// address. Otherwise, it may use its name at any domain.
pub(crate) struct Senders(HashMap<String, Vec<String>>);

impl Senders {
    /// Parses each `NAME:ADDRESS,…`. The address `*` means all addresses.
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
                    Err(why) => return Err(format!("{address:?} is not an address: {why}")),
                });
            }
        }
        Ok(Self(senders))
    }

    /// Returns whether the account may send as `from`. Any account may use the null sender, which delivery reports use.
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

/// Folds the name of an account, which may be an address.
fn fold_account(name: &str) -> String {
    Mailbox::parse(name).map_or_else(|_| fold(name), fold_address)
}

/// Folds an address. Domains are case-insensitive (RFC 1035 §2.3.3), and so are the names of accounts here.
fn fold_address(mailbox: Mailbox<'_>) -> String {
    let domain = mailbox.domain().unwrap_or_default().to_lowercase();
    format!("{}@{domain}", fold_local_part(mailbox))
}

/// Folds a local part without its quotes, because `"ann"` is the same local part as `ann` (RFC 5321 §4.1.2).
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

/// Converts a name for comparison. A name that SASLprep does not allow is only converted to lower case.
fn fold(name: &str) -> String {
    prepare(name).as_deref().unwrap_or(name).to_lowercase()
}
