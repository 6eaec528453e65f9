//! Custom refusals, for users whose credentials are correct.

use alloc::boxed::Box;
use core::fmt;

use super::ConfigError;

/// A custom reply that refuses a user whose credentials are correct. Use it to answer
/// [`Authorize`](super::Authorize).
///
/// **A refusal reveals that the credentials are correct**, even to an attacker who has just guessed the password. Do
/// not use a refusal if the attempt exceeds a rate limit, if the account is locked, or if a rule forbids the client's
/// address or network. In these cases, answer with [`AuthorizeAnswer::Reject`](super::AuthorizeAnswer::Reject). The
/// server then counts the attempt, delays the reply and sends the same reply as for a wrong password.
///
/// Over SMTP, the client receives the code, the enhanced code and the text. Other protocols have their own codes. For a
/// protocol other than SMTP, the application chooses a code that matches the kind of refusal.
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
    /// Subject and detail. The class follows from the code.
    enhanced: (u16, u16),
    text: Box<str>,
}

/// The reason for refusing a user whose credentials are correct.
///
/// | kind | SMTP | IMAP (RFC 5530) | XMPP (RFC 6120 §6.5) |
/// | --- | --- | --- | --- |
/// | [`AccountDisabled`](Self::AccountDisabled) | `525 5.7.13` | `CONTACTADMIN` | `account-disabled` |
/// | [`PasswordExpired`](Self::PasswordExpired) | `525 5.7.13` | `EXPIRED` | `credentials-expired` |
/// | [`NeedsAppPassword`](Self::NeedsAppPassword) | `534 5.7.9` | `NOPERM` | `mechanism-too-weak` |
/// | [`OverQuota`](Self::OverQuota) | `552 5.2.2` | `OVERQUOTA` | `not-authorized` |
/// | [`Other`](Self::Other) | `550 5.7.1` | `NOPERM` | `not-authorized` |
///
/// The SMTP codes in this table are the defaults. Use [`Refusal::with_code`] to change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The account is disabled (RFC 5248, X.7.13).
    AccountDisabled,
    /// The password has expired.
    PasswordExpired,
    /// The account requires an application password, that is, a password created for a single program.
    NeedsAppPassword,
    /// The account has exceeded its quota.
    OverQuota,
    /// Another reason, which the refusal's text explains.
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
    /// The maximum length of the whole reply in octets, including codes and line endings. RFC 5321 §4.5.3.1.5 sets
    /// the same limit for each line.
    const MAX: usize = 512;
    const MAX_LINES: usize = 5;

    /// Creates a refusal with the default code of its kind.
    ///
    /// # Errors
    /// [`ConfigError::Refusal`] unless the text consists of 1 to 5 nonempty lines of printable ASCII, separated by
    /// `\n`, and the whole reply is at most 512 octets long, including codes and line endings.
    pub fn new(kind: RefusalKind, text: &str) -> Result<Self, ConfigError> {
        let (code, enhanced) = match kind {
            RefusalKind::AccountDisabled | RefusalKind::PasswordExpired => (525, (7, 13)),
            RefusalKind::NeedsAppPassword => (534, (7, 9)),
            RefusalKind::OverQuota => (552, (2, 2)),
            RefusalKind::Other => (550, (7, 1)),
        };
        Self { kind, code, enhanced, text: text.into() }.checked()
    }

    /// Changes the reply code, and the subject and detail of the enhanced code (RFC 3463). The class of the
    /// enhanced code follows from the reply code.
    ///
    /// # Errors
    /// [`ConfigError::Refusal`] if the code is not between 400 and 599, or is 421, which would close the connection.
    /// The same error is returned if the subject or the detail has more than three digits, or if the new codes make
    /// the reply longer than 512 octets.
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

    /// Returns the kind of the refusal.
    pub fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// Returns the reply code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Returns the enhanced code (RFC 3463): class, subject and detail.
    pub fn enhanced_code(&self) -> (u8, u16, u16) {
        (if self.code < 500 { 4 } else { 5 }, self.enhanced.0, self.enhanced.1)
    }

    /// Returns the text, with its lines separated by `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Creates a refusal with the default code and text of the kind.
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
