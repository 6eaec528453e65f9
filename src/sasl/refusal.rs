//! Refusals of the application's own, for users whose credentials are right.

use alloc::boxed::Box;
use core::fmt;

use super::ConfigError;

/// Why the application does not let a user in whose credentials are right, and what the user is told: an answer to
/// [`Authorize`](super::Authorize).
///
/// **It tells its receiver that the credentials are right**, and so whoever guesses passwords, too. A rate limit, a
/// locked account, or a rule about addresses or networks is never one: answer
/// [`AuthorizeAnswer::Reject`](super::AuthorizeAnswer::Reject) to these, which looks like a wrong password, and is
/// counted and delayed as one.
///
/// The kind is for other protocols, which have codes of their own; SMTP has the code, the enhanced code and the text.
///
/// ```
/// use smtp_auth::sasl::{Refusal, RefusalKind};
///
/// let expired = Refusal::new(RefusalKind::PasswordExpired, "Set a new password at\nhttps://example.org/account")?;
/// assert_eq!((expired.code(), expired.enhanced_code()), (525, (5, 7, 13)));
/// assert!(expired.clone().with_code(454, 7, 0).is_ok());
/// assert!(expired.with_code(421, 7, 0).is_err()); // would close the connection
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    kind: RefusalKind,
    code: u16,
    /// Subject and detail; the class is the code's.
    enhanced: (u16, u16),
    text: Box<str>,
}

/// Why a user whose credentials are right is not let in.
///
/// | kind | SMTP | IMAP (RFC 5530) | XMPP (RFC 6120 §6.5) |
/// | --- | --- | --- | --- |
/// | [`AccountDisabled`](Self::AccountDisabled) | `525 5.7.13` | `CONTACTADMIN` | `account-disabled` |
/// | [`PasswordExpired`](Self::PasswordExpired) | `525 5.7.13` | `EXPIRED` | `credentials-expired` |
/// | [`NeedsAppPassword`](Self::NeedsAppPassword) | `534 5.7.9` | `NOPERM` | `mechanism-too-weak` |
/// | [`OverQuota`](Self::OverQuota) | `552 5.2.2` | `OVERQUOTA` | `not-authorized` |
/// | [`Other`](Self::Other) | `550 5.7.1` | `NOPERM` | `not-authorized` |
///
/// SMTP's codes are the defaults; [`Refusal::with_code`] sets others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The account is disabled (RFC 5248, X.7.13).
    AccountDisabled,
    /// The password has expired.
    PasswordExpired,
    /// The account wants a password that was made for this program.
    NeedsAppPassword,
    /// The account has used up what it may.
    OverQuota,
    /// Something else, which the text says.
    Other,
}

impl RefusalKind {
    fn text(self) -> &'static str {
        match self {
            Self::AccountDisabled => "The account is disabled",
            Self::PasswordExpired => "The password has expired",
            Self::NeedsAppPassword => "The account needs an application password",
            Self::OverQuota => "The account is over its quota",
            Self::Other => "The account may not be used here",
        }
    }
}

impl fmt::Display for RefusalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Refusal {
    /// The most octets of the reply as a whole, codes and line ends included (RFC 5321 §4.5.3.1.5 has that for
    /// each line).
    const MAX: usize = 512;
    const MAX_LINES: usize = 5;

    /// A refusal with the kind's code.
    ///
    /// # Errors
    /// [`ConfigError::Refusal`] unless the text is 1 to 5 lines, separated by `\n`, of printable ASCII, none of them
    /// empty, and the reply has no more than 512 octets with its codes and line ends.
    pub fn new(kind: RefusalKind, text: &str) -> Result<Self, ConfigError> {
        let (code, enhanced) = match kind {
            RefusalKind::AccountDisabled | RefusalKind::PasswordExpired => (525, (7, 13)),
            RefusalKind::NeedsAppPassword => (534, (7, 9)),
            RefusalKind::OverQuota => (552, (2, 2)),
            RefusalKind::Other => (550, (7, 1)),
        };
        Self { kind, code, enhanced, text: text.into() }.checked()
    }

    /// The same with another code, and another subject and detail of its enhanced code (RFC 3463), whose class is
    /// the code's.
    ///
    /// # Errors
    /// [`ConfigError::Refusal`] unless the code is one of 400 to 599 without 421, which closes the connection, and
    /// subject and detail have up to three digits; or where longer codes make the reply longer than it may be.
    pub fn with_code(self, code: u16, subject: u16, detail: u16) -> Result<Self, ConfigError> {
        Self { code, enhanced: (subject, detail), ..self }.checked()
    }

    fn checked(self) -> Result<Self, ConfigError> {
        let is_code = matches!(self.code, 400..=599) && self.code != 421;
        let is_enhanced = self.enhanced.0 <= 999 && self.enhanced.1 <= 999;
        let is_line = |line: &str| !line.is_empty() && super::is_printable_ascii(line);
        let lines = self.text.split('\n').count();
        let (subject, detail) = self.enhanced;
        let codes = alloc::format!("{}-5.{subject}.{detail} ", self.code);
        let length =
            (codes.len() + "\r\n".len() - "\n".len()) * lines + "\n".len() + self.text.len();
        let good = is_code
            && is_enhanced
            && lines <= Self::MAX_LINES
            && length <= Self::MAX
            && self.text.split('\n').all(is_line);
        if good { Ok(self) } else { Err(ConfigError::Refusal) }
    }

    /// The kind.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The reply's code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code: class, subject and detail.
    pub fn enhanced_code(&self) -> (u8, u16, u16) {
        (if self.code < 500 { 4 } else { 5 }, self.enhanced.0, self.enhanced.1)
    }

    /// The text, its lines separated by `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// With the kind's code and text.
impl From<RefusalKind> for Refusal {
    fn from(kind: RefusalKind) -> Self {
        Self::new(kind, kind.text()).unwrap_or(Self {
            kind,
            code: 550,
            enhanced: (7, 1),
            text: kind.text().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [RefusalKind; 5] = [
        RefusalKind::AccountDisabled,
        RefusalKind::PasswordExpired,
        RefusalKind::NeedsAppPassword,
        RefusalKind::OverQuota,
        RefusalKind::Other,
    ];

    #[test]
    fn kinds_have_a_code_and_a_text() {
        for kind in KINDS {
            let refusal = Refusal::from(kind);
            assert_eq!(Refusal::new(kind, kind.text()), Ok(refusal.clone()));
            assert_eq!((refusal.kind(), refusal.text()), (kind, kind.text()));
        }
    }

    #[test]
    fn codes() {
        let refusal = || Refusal::from(RefusalKind::Other);
        for (code, class) in [(400, 4), (420, 4), (422, 4), (499, 4), (500, 5), (599, 5)] {
            let other = refusal().with_code(code, 999, 0).unwrap();
            assert_eq!((other.code(), other.enhanced_code()), (code, (class, 999, 0)));
        }
        for code in [0, 235, 334, 399, 421, 600, u16::MAX] {
            assert_eq!(refusal().with_code(code, 7, 1), Err(ConfigError::Refusal), "{code}");
        }
        assert!(refusal().with_code(550, 1000, 0).is_err());
        assert!(refusal().with_code(550, 0, 1000).is_err());
    }

    #[test]
    fn texts() {
        let new = |text: &str| Refusal::new(RefusalKind::Other, text).is_ok();
        assert!(new("a") && new("a\nb\nc\nd\ne") && new(" ~"));
        for bad in
            ["", "\n", "a\n", "\na", "a\n\nb", "a\nb\nc\nd\ne\nf", "a\r\nb", "é", "a\tb", "\0"]
        {
            assert!(!new(bad), "{bad:?}");
        }
        assert!(new(&"a".repeat(500)) && !new(&"a".repeat(501)));
        let five = |length: usize| ["a".repeat(length), "\na".repeat(4)].concat();
        assert!(new(&five(448)) && !new(&five(449)));
    }
}
