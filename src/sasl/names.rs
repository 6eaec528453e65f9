//! The names of accounts: how the names are folded, so that each account has one name, and the name that a client
//! claims.

use alloc::{borrow::Cow, boxed::Box, string::String};

use super::{Failure, MAX_MESSAGE, check_name, is_printable_ascii, prepare};

/// A function that folds account names, that is, converts all spellings of an account's name into one spelling. The
/// function returns `None` for a name that no account can have.
///
/// The function must be pure, that is, it must always return the same result for the same name. It must also be
/// idempotent, that is, it must not change a name that has already been folded. The default is [`prepare`]. The
/// crate also provides [`prepare_lower_case`] and [`as_sent`], and an application can supply its own function.
pub type FoldName = fn(&str) -> Option<Cow<'_, str>>;

/// Prepares a name with [`prepare`], and converts it to lower case. For example, `Tim`, `TIM` and `ｔｉｍ` become `tim`.
///
/// Returns `None` if SASLprep does not allow the name. Without the `saslprep` feature, only printable ASCII is allowed.
///
/// ```
/// use smtp_auth::sasl::prepare_lower_case;
///
/// assert_eq!(prepare_lower_case("Tim").as_deref(), Some("tim"));
/// assert_eq!(prepare_lower_case("\u{7}"), None);
/// ```
pub fn prepare_lower_case(name: &str) -> Option<Cow<'_, str>> {
    if is_printable_ascii(name) {
        let lower = !name.bytes().any(|octet| octet.is_ascii_uppercase());
        return prepare(name)
            .map(|name| if lower { name } else { name.to_ascii_lowercase().into() });
    }
    // The conversion to lower case may leave characters that have to be composed again.
    let lower = prepare(name)?.to_lowercase();
    prepare(&lower).map(|name| name.into_owned().into())
}

/// Returns the name unchanged, for a store in which each spelling of a name is a separate account.
///
/// With this function, each spelling is also a separate account in the application's bans, quotas and logs, unless the
/// application itself converts all spellings to one form.
pub fn as_sent(name: &str) -> Option<Cow<'_, str>> {
    Some(name.into())
}

/// A folded name that differs from the name as it was sent. It is boxed twice to be small, because it is rare.
pub(super) type Folded = Option<Box<Box<str>>>;

/// The parts of the configuration that apply to every response.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    /// The longest accepted response, in octets.
    pub(super) max_response: u32,
    pub(super) fold: FoldName,
    /// Whether [`Authorize`](super::Authorize) is asked about every authenticated user.
    pub(super) authorize_always: bool,
}

impl Rules {
    pub(super) fn max_response(&self) -> usize {
        usize::try_from(self.max_response).unwrap_or(usize::MAX)
    }

    /// The rules of an exchange that accepts no response.
    pub(super) const NOTHING: Self =
        Self { max_response: 0, fold: as_sent, authorize_always: false };

    /// Folds a name. Returns `None` if folding does not change it.
    #[inline]
    pub(super) fn fold(&self, name: &str) -> Result<Folded, Failure> {
        check_name(name)?;
        let folded = (self.fold)(name).ok_or(Failure::Malformed("the user name is not allowed"))?;
        // In most cases the function has returned the same memory.
        if core::ptr::eq(&*folded, name) || folded == name {
            return Ok(None);
        }
        // SASLprep can turn one character into eighteen. The result must not be longer than a name in any
        // response could be.
        if folded.len() > self.max_response().min(MAX_MESSAGE).max(name.len()) {
            return Err(Failure::Malformed("the user name is too long"));
        }
        check_name(&folded).map(|folded| Some(Box::new(folded.into())))
    }

    /// Folds the name of the account that a client wants to act as.
    pub(super) fn authzid(&self, name: &str) -> Result<Box<Authzid>, Failure> {
        let folded = self.fold(name)?;
        Ok(Box::new(Authzid { sent: name.into(), folded }))
    }

    /// Folds the name of the account that a client wants to act as. An empty name means that the client named none.
    pub(super) fn authzid_if_any(&self, name: &str) -> Result<Option<Box<Authzid>>, Failure> {
        (!name.is_empty()).then(|| self.authzid(name)).transpose()
    }
}

/// The account that a client wants to act as. The value is usually boxed, because most clients name no such account.
#[derive(Clone, Debug)]
pub(super) struct Authzid {
    sent: Box<str>,
    folded: Folded,
}

impl Authzid {
    /// Creates the value from a name that does not need folding.
    pub(super) fn folded(name: &str) -> Self {
        Self { sent: name.into(), folded: None }
    }

    /// Returns the folded name.
    pub(super) fn as_str(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.sent)
    }

    pub(super) fn into_folded(self) -> Box<str> {
        self.folded.map_or(self.sent, |folded| *folded)
    }

    /// Returns whether this is the client's own account, which is either the folded name that the client claimed, or
    /// the name of the account that the store returned.
    pub(super) fn is_own(&self, claimed: &str, account: &str) -> bool {
        let own = self.as_str();
        own == claimed || own == account || *self.sent == *account
    }
}

/// The name that a client claims. It is kept if the client fails to authenticate.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// The name, folded.
    pub(super) authcid: String,
    /// The account that this name is an alias of, if the store returned one.
    pub(super) account: Option<Box<Box<str>>>,
}
