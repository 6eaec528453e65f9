//! Names of accounts: how they are folded, so that an account has one, and who a client claims to be.

use alloc::{borrow::Cow, boxed::Box, string::String};

use super::{Failure, MAX_MESSAGE, check_name, is_printable_ascii, prepare};

/// Folds a name: every way to write an account's name gives one. `None` for a name that no account can
/// have.
///
/// It has to be pure, and to leave alone what it has folded. [`prepare`] is the default;
/// [`prepare_lower_case`] and [`as_sent`] are the others at hand.
pub type FoldName = fn(&str) -> Option<Cow<'_, str>>;

/// [`prepare`], in lower case: `Tim`, `TIM` and `ｔｉｍ` are `tim`.
///
/// Without the feature `saslprep` it allows printable ASCII alone.
pub fn prepare_lower_case(name: &str) -> Option<Cow<'_, str>> {
    if is_printable_ascii(name) {
        let lower = !name.bytes().any(|octet| octet.is_ascii_uppercase());
        return prepare(name)
            .map(|name| if lower { name } else { name.to_ascii_lowercase().into() });
    }
    // What is in lower case may have to be composed anew.
    let lower = prepare(name)?.to_lowercase();
    prepare(&lower).map(|name| name.into_owned().into())
}

/// The name as it was sent, for a store in which each way to write a name is an account of its own.
///
/// Bans, quotas and logs that are to hold for one person then have to fold names themselves.
pub fn as_sent(name: &str) -> Option<Cow<'_, str>> {
    Some(name.into())
}

/// A name that is not as it was sent. In a box of its own, as most are.
pub(super) type Folded = Option<Box<Box<str>>>;

/// What the configuration says of every response.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The longest response to take, in octets.
    pub(super) max_response: u32,
    pub(super) fold: FoldName,
    /// Whether everybody who is proven is asked about.
    pub(super) authorize_always: bool,
}

impl Rules {
    pub(super) fn max_response(&self) -> usize {
        usize::try_from(self.max_response).unwrap_or(usize::MAX)
    }

    /// Of an exchange that takes no response.
    pub(super) const NOTHING: Self =
        Self { max_response: 0, fold: as_sent, authorize_always: false };

    /// The name folded; `None` where that changes nothing.
    #[inline]
    pub(super) fn fold(&self, name: &str) -> Result<Folded, Failure> {
        check_name(name)?;
        let folded = (self.fold)(name).ok_or(Failure::Malformed("the user name is not allowed"))?;
        // The same memory, as a rule.
        if core::ptr::eq(&*folded, name) || folded == name {
            return Ok(None);
        }
        // No longer than another mechanism could bring it: SASLprep makes eighteen characters of some.
        if folded.len() > self.max_response().min(MAX_MESSAGE).max(name.len()) {
            return Err(Failure::Malformed("the user name is too long"));
        }
        check_name(&folded).map(|folded| Some(Box::new(folded.into())))
    }

    /// The account that a client wants to act as.
    pub(super) fn authzid(&self, name: &str) -> Result<Box<Authzid>, Failure> {
        let folded = self.fold(name)?;
        Ok(Box::new(Authzid { sent: name.into(), folded }))
    }

    /// The same where an empty name is none.
    pub(super) fn authzid_if_any(&self, name: &str) -> Result<Option<Box<Authzid>>, Failure> {
        (!name.is_empty()).then(|| self.authzid(name)).transpose()
    }
}

/// The account that a client wants to act as, in a box, as most name none.
#[derive(Clone, Debug)]
pub(super) struct Authzid {
    sent: Box<str>,
    folded: Folded,
}

impl Authzid {
    /// One that is folded as it is.
    pub(super) fn folded(name: &str) -> Self {
        Self { sent: name.into(), folded: None }
    }

    /// The name, folded.
    pub(super) fn as_str(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.sent)
    }

    pub(super) fn into_folded(self) -> Box<str> {
        self.folded.map_or(self.sent, |folded| *folded)
    }

    /// Whether it is the client itself, by the name that it gave, folded, or by its account's.
    pub(super) fn is_own(&self, claimed: &str, account: &str) -> bool {
        let own = self.as_str();
        own == claimed || own == account || *self.sent == *account
    }
}

/// Who a client claims to be, kept where it failed to prove that.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// The name, folded.
    pub(super) authcid: String,
    /// The account that has this name among others, if the store says so.
    pub(super) account: Option<Box<Box<str>>>,
}
