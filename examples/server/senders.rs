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

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(given: &[&str]) -> Result<Senders, String> {
        Senders::new(&given.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(given: &[&str], account: &str, may: &[&str], may_not: &[&str]) {
        let senders = senders(given).unwrap();
        let uses = |from: &&&str| senders.may_use(account, Some(Mailbox::parse(from).unwrap()));
        assert!(senders.may_use(account, None), "the null sender");
        assert_eq!(may.iter().find(|from| !uses(from)), None, "{account} may use it");
        assert_eq!(may_not.iter().find(uses), None, "{account} may not use it");
    }

    #[test]
    fn an_account_has_the_addresses_of_its_name() {
        let others = ["ann@example.org", "tim@tim", "timothy@example.org", "\"t im\"@example.org"];
        check(&[], "tim", &["tim@example.org", "tim@[192.0.2.1]", "TIM@EXAMPLE.org"], &others[..1]);
        check(&[], "tim", &["\"tim\"@example.org", r#""t\im"@example.org"#], &others[2..]);
        check(&[], "Tim", &["tim@example.org"], &others[..1]);
        check(
            &[],
            "t im",
            &["\"t im\"@example.org", r#""t\ im"@example.org"#],
            &["tim@example.org"],
        );
    }

    #[test]
    fn an_account_that_is_an_address_has_that_alone() {
        let own = ["Ann@example.org", "ann@EXAMPLE.ORG", "\"ann\"@example.org"];
        let others = ["ann@example.com", "ann@sub.example.org", "tim@example.org"];
        check(&[], "ann@example.org", &own, &others);
        check(&[], "ANN@Example.Org", &own, &others);
        let quoted = r#""ann@example.org"@example.com"#;
        check(&[], "ann@example.org", &[], &[quoted]);
    }

    #[cfg(feature = "saslprep")]
    #[test]
    fn names_are_prepared() {
        let composed = "ren\u{e9}@ex\u{e4}mple.org";
        check(&[], "rene\u{301}", &[composed, "REN\u{c9}@EX\u{c4}MPLE.org"], &["rene@example.org"]);
        check(&["rene\u{301}:ann@example.org"], "ren\u{e9}", &["ann@example.org"], &[composed]);
        // What SASLprep does not allow is itself alone.
        check(&[], "\u{1f600}", &["\u{1f600}@example.org"], &["\u{1f601}@example.org"]);
    }

    #[test]
    fn an_account_has_what_it_is_given_in_place_of_that() {
        let given = ["tim:Sales@example.org,tim@example.org", "TIM:info@example.org", "ann:*"];
        let may = ["sales@example.org", "tim@example.org", "info@EXAMPLE.org"];
        check(&given, "tim", &may, &["tim@example.com", "ann@example.org"]);
        check(&given, "ann", &["ann@example.org", "anyone@example.com"], &[]);
        check(&given, "bob", &["bob@example.org"], &["sales@example.org"]);
        check(&["ann@Example.org:bob@example.org"], "ann@example.org", &["bob@example.org"], &[]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for given in ["tim", "tim:", "tim:sales", "tim:a@b,", "tim:a@b, c@d", "tim:@example.org"] {
            assert!(senders(&[given]).is_err(), "{given}");
        }
    }
}
