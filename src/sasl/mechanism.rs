//! The names and properties of the mechanisms.

use alloc::vec::Vec;
use core::{borrow::Borrow, fmt};

use super::{BindingPolicy, ConfigError};

/// A SASL mechanism (RFC 4422 §3.1).
///
/// ```
/// use smtp_auth::sasl::Mechanism;
///
/// let mechanism = Mechanism::from_name("scram-sha-256").ok_or("unknown")?;
/// assert_eq!(mechanism.name(), "SCRAM-SHA-256");
/// assert_eq!(mechanism.plus(), Some(Mechanism::ScramSha256Plus));
/// assert!(!mechanism.needs_tls() && Mechanism::Plain.needs_tls());
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// SCRAM-SHA-512-PLUS: like SCRAM-SHA-256-PLUS, but with a longer hash.
    ScramSha512Plus,
    /// SCRAM-SHA-256-PLUS (RFC 7677): like SCRAM-SHA-256, but bound to the TLS connection, so that a
    /// man-in-the-middle cannot relay the exchange to another connection.
    ScramSha256Plus,
    /// SCRAM-SHA-1-PLUS (RFC 5802): like SCRAM-SHA-256-PLUS, but with an older hash.
    ScramSha1Plus,
    /// SCRAM-SHA-512: like SCRAM-SHA-256, but with a longer hash.
    ScramSha512,
    /// SCRAM-SHA-256 (RFC 7677): the client does not send the password, and the server also proves its identity. Both
    /// sides use keys that are derived from the password.
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802): like SCRAM-SHA-256, but with an older hash.
    ScramSha1,
    /// CRAM-MD5 (RFC 2195): the client does not send the password, but an eavesdropper can guess the password in an
    /// offline brute-force attack.
    CramMd5,
    /// PLAIN (RFC 4616): the client sends the password itself. Use this mechanism only over TLS.
    Plain,
    /// LOGIN (draft-murchison-sasl-login): like PLAIN, but the client sends the name and the password in separate
    /// messages. Offer LOGIN to support old clients.
    Login,
    /// OAUTHBEARER (RFC 7628): the client sends an OAuth 2.0 token. Use this mechanism only over TLS.
    OauthBearer,
    /// XOAUTH2: like OAUTHBEARER, but in the older format that Google and Microsoft use.
    Xoauth2,
    /// EXTERNAL (RFC 4422 appendix A): the client's TLS certificate identifies the client.
    External,
    /// ANONYMOUS (RFC 4505): the client is a guest, and no identity is verified.
    Anonymous,
    /// A custom mechanism, which the application implements. Use [`custom`](Self::custom) to create one.
    Custom(CustomName),
}

/// The name of a custom mechanism, created with [`Mechanism::custom`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomName {
    name: &'static str,
    needs_tls: bool,
}

macro_rules! known {
    ($($mechanism:ident $name:literal)*) => {
        impl Mechanism {
            /// All mechanisms that the crate implements, whether or not they are compiled in. For each kind of
            /// credentials, the strongest mechanism comes first.
            pub(super) const KNOWN: &[Self] = &[$(Self::$mechanism),*];

            /// Returns the registered name, in upper case, such as `SCRAM-SHA-256`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$mechanism => $name,)*
                    Self::Custom(own) => own.name,
                }
            }

            /// Returns a reference to a constant, for speed. If a value were created here, only its tag would be
            /// written, and a copy of the whole value right after that would stall on the narrower store.
            fn of_upper(name: &[u8]) -> Option<&'static Self> {
                $(
                    if name == $name.as_bytes() {
                        return Some(&Self::$mechanism);
                    }
                )*
                None
            }
        }
    };
}

known! {
    ScramSha512Plus "SCRAM-SHA-512-PLUS"
    ScramSha256Plus "SCRAM-SHA-256-PLUS"
    ScramSha1Plus "SCRAM-SHA-1-PLUS"
    ScramSha512 "SCRAM-SHA-512"
    ScramSha256 "SCRAM-SHA-256"
    ScramSha1 "SCRAM-SHA-1"
    CramMd5 "CRAM-MD5"
    Plain "PLAIN"
    Login "LOGIN"
    OauthBearer "OAUTHBEARER"
    Xoauth2 "XOAUTH2"
    External "EXTERNAL"
    Anonymous "ANONYMOUS"
}

impl Mechanism {
    /// All mechanisms that are compiled in. The mechanisms that use a password come first, beginning with the
    /// strongest. They are followed by the mechanisms that use a token, then EXTERNAL, then ANONYMOUS.
    pub const COMPILED: &'static [Self] = &[
        #[cfg(feature = "scram-sha-512")]
        Self::ScramSha512Plus,
        #[cfg(feature = "scram-sha-256")]
        Self::ScramSha256Plus,
        #[cfg(feature = "scram-sha-1")]
        Self::ScramSha1Plus,
        #[cfg(feature = "scram-sha-512")]
        Self::ScramSha512,
        #[cfg(feature = "scram-sha-256")]
        Self::ScramSha256,
        #[cfg(feature = "scram-sha-1")]
        Self::ScramSha1,
        #[cfg(feature = "cram-md5")]
        Self::CramMd5,
        #[cfg(feature = "plain")]
        Self::Plain,
        #[cfg(feature = "login")]
        Self::Login,
        #[cfg(feature = "oauthbearer")]
        Self::OauthBearer,
        #[cfg(feature = "xoauth2")]
        Self::Xoauth2,
        #[cfg(feature = "external")]
        Self::External,
        #[cfg(feature = "anonymous")]
        Self::Anonymous,
    ];

    /// Creates a custom mechanism, which the application implements. The mechanism is used only over TLS, unless
    /// [`safe_without_tls`](Self::safe_without_tls) is called.
    ///
    /// On a server, the exchange returns [`Query::Custom`](super::Query::Custom) for each step of the mechanism. On a
    /// client, the exchange returns [`Step::Custom`](super::client::Step::Custom).
    ///
    /// # Errors
    /// [`ConfigError::MechanismName`] if the name is not 1 to 20 characters of `A-Z 0-9 - _` (RFC 4422 §3.1),
    /// or is the name of a mechanism that the crate implements.
    pub const fn custom(name: &'static str) -> Result<Self, ConfigError> {
        // Iterators cannot be used in a `const fn`.
        let octets = name.as_bytes();
        let (mut rest, mut good) = (octets, matches!(octets.len(), 1..=20));
        while let [octet, behind @ ..] = rest {
            good &= matches!(octet, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
            rest = behind;
        }
        let mut known = Self::KNOWN;
        while let [mechanism, behind @ ..] = known {
            good &= !same(mechanism.name().as_bytes(), octets);
            known = behind;
        }
        if good {
            Ok(Self::Custom(CustomName { name, needs_tls: true }))
        } else {
            Err(ConfigError::MechanismName)
        }
    }

    /// Declares that a custom mechanism is safe without TLS, even if an eavesdropper can read the exchange. GSSAPI is
    /// an example of such a mechanism.
    ///
    /// A mechanism that the crate implements is returned unchanged.
    #[must_use]
    pub const fn safe_without_tls(self) -> Self {
        match self {
            Self::Custom(CustomName { name, .. }) => {
                Self::Custom(CustomName { name, needs_tls: false })
            }
            known => known,
        }
    }

    /// Returns the mechanism with this name, ignoring case, if the crate implements it. The mechanism need not
    /// be compiled in.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::known(name.as_bytes()).copied()
    }

    pub(super) fn known(name: &[u8]) -> Option<&'static Self> {
        // Most clients and servers write the name in upper case, as it is registered.
        Self::of_upper(name).or_else(|| {
            let mut upper = [0; 20];
            let upper = upper.get_mut(..name.len())?;
            upper.copy_from_slice(name);
            upper.make_ascii_uppercase();
            Self::of_upper(upper)
        })
    }

    /// Returns whether the mechanism is compiled in, or is a custom mechanism. A mechanism for which this method
    /// returns `false` cannot be used.
    pub fn is_compiled(self) -> bool {
        matches!(self, Self::Custom(_)) || Self::COMPILED.contains(&self)
    }

    /// Returns whether the mechanism should be used only over TLS. This is the case if the mechanism sends the
    /// password or the token itself, if it relies on a certificate, or if it is a custom mechanism that was not
    /// declared [safe without TLS](Self::safe_without_tls).
    pub const fn needs_tls(self) -> bool {
        match self {
            Self::ScramSha512Plus
            | Self::ScramSha256Plus
            | Self::ScramSha1Plus
            | Self::ScramSha512
            | Self::ScramSha256
            | Self::ScramSha1
            | Self::CramMd5
            | Self::Anonymous => false,
            Self::Plain | Self::Login | Self::OauthBearer | Self::Xoauth2 | Self::External => true,
            Self::Custom(own) => own.needs_tls,
        }
    }

    /// Returns whether the mechanism authenticates a user with a password.
    pub const fn takes_password(self) -> bool {
        match self {
            Self::ScramSha512Plus
            | Self::ScramSha256Plus
            | Self::ScramSha1Plus
            | Self::ScramSha512
            | Self::ScramSha256
            | Self::ScramSha1
            | Self::CramMd5
            | Self::Plain
            | Self::Login => true,
            Self::OauthBearer
            | Self::Xoauth2
            | Self::External
            | Self::Anonymous
            | Self::Custom(_) => false,
        }
    }

    /// Returns whether the mechanism authenticates a user with an OAuth 2.0 token.
    pub const fn takes_token(self) -> bool {
        matches!(self, Self::OauthBearer | Self::Xoauth2)
    }

    /// Returns whether the mechanism binds the authentication to the TLS connection (RFC 5802 §6).
    pub const fn binds_channel(self) -> bool {
        matches!(self, Self::ScramSha512Plus | Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    /// Returns the -PLUS form of a SCRAM mechanism, which binds the authentication to the TLS connection.
    /// Returns `None` for all other mechanisms, including the -PLUS forms themselves.
    pub const fn plus(self) -> Option<Self> {
        match self {
            Self::ScramSha512 => Some(Self::ScramSha512Plus),
            Self::ScramSha256 => Some(Self::ScramSha256Plus),
            Self::ScramSha1 => Some(Self::ScramSha1Plus),
            _ => None,
        }
    }

    /// Returns whether the client's responses depend on the contents of the challenges. If this method returns `false`,
    /// each response depends only on the position of its challenge in the exchange.
    pub const fn reads_challenge(self) -> bool {
        match self {
            Self::ScramSha512Plus
            | Self::ScramSha256Plus
            | Self::ScramSha1Plus
            | Self::ScramSha512
            | Self::ScramSha256
            | Self::ScramSha1
            | Self::CramMd5
            | Self::Custom(_) => true,
            // In the mechanisms for tokens, a challenge is always an error, whatever it contains.
            Self::Plain
            | Self::Login
            | Self::OauthBearer
            | Self::Xoauth2
            | Self::External
            | Self::Anonymous => false,
        }
    }
}

/// The lists of mechanisms in the configurations of both sides.
impl Mechanism {
    /// Removes duplicates, and inserts the -PLUS form of each SCRAM mechanism in front of it, unless the list
    /// already contains that form.
    pub(super) fn list(given: impl IntoIterator<Item = impl Borrow<Self>>) -> Vec<Self> {
        let given: Vec<Self> = given.into_iter().map(|own| *own.borrow()).collect();
        let mut all = Vec::with_capacity(given.len() + 3);
        for &own in &given {
            let plus = own.plus().filter(|plus| !given.contains(plus));
            for own in plus.into_iter().chain([own]) {
                if !all.contains(&own) {
                    all.push(own);
                }
            }
        }
        all
    }

    /// Checks that the list is valid in a configuration of either side.
    pub(super) fn check(list: &[Self], binding: BindingPolicy) -> Result<(), ConfigError> {
        if let Some(off) = list.iter().find(|own| !own.is_compiled()) {
            return Err(ConfigError::NotCompiled(*off));
        }
        let binds = list.iter().any(|own| own.binds_channel());
        if binding == BindingPolicy::Required && !binds {
            return Err(ConfigError::NothingBinds);
        }
        Ok(())
    }
}

const fn same(mut one: &[u8], mut other: &[u8]) -> bool {
    while let ([a, behind_a @ ..], [b, behind_b @ ..]) = (one, other) {
        if *a != *b {
            return false;
        }
        (one, other) = (behind_a, behind_b);
    }
    one.is_empty() && other.is_empty()
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
