//! The mechanisms' names and properties.

use alloc::vec::Vec;
use core::{borrow::Borrow, fmt};

use super::{BindingPolicy, ConfigError};

/// A SASL mechanism (RFC 4422 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// SCRAM-SHA-512-PLUS: as SCRAM-SHA-256-PLUS.
    ScramSha512Plus,
    /// SCRAM-SHA-256-PLUS (RFC 7677): as SCRAM-SHA-256, bound to the TLS connection, so that nobody
    /// who stands between can pass the sign-in on.
    ScramSha256Plus,
    /// SCRAM-SHA-1-PLUS (RFC 5802): as SCRAM-SHA-256-PLUS, with an older hash.
    ScramSha1Plus,
    /// SCRAM-SHA-512: as SCRAM-SHA-256.
    ScramSha512,
    /// SCRAM-SHA-256 (RFC 7677): the password is not sent, and the server proves that it knows it.
    ScramSha256,
    /// SCRAM-SHA-1 (RFC 5802): as SCRAM-SHA-256, with an older hash.
    ScramSha1,
    /// CRAM-MD5 (RFC 2195): the password is not sent, but can be guessed offline by who listens.
    CramMd5,
    /// PLAIN (RFC 4616): the password is sent as it is; for TLS alone.
    Plain,
    /// LOGIN (draft-murchison-sasl-login): as PLAIN, in two messages, for old clients.
    Login,
    /// OAUTHBEARER (RFC 7628): a token of OAuth 2.0, sent as it is; for TLS alone.
    OauthBearer,
    /// XOAUTH2: as OAUTHBEARER, in the form that Google and Microsoft have.
    Xoauth2,
    /// EXTERNAL (RFC 4422 appendix A): the client is whom its TLS certificate names.
    External,
    /// ANONYMOUS (RFC 4505): nobody is proven.
    Anonymous,
    /// One that the crate does not have, of the host's own.
    Custom(CustomName),
}

/// The name of a mechanism of the host's own; [`Mechanism::custom`] makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CustomName {
    name: &'static str,
    needs_tls: bool,
}

macro_rules! known {
    ($($mechanism:ident $name:literal)*) => {
        impl Mechanism {
            /// Those that the crate has, compiled in or not: for each kind of credentials the strongest
            /// first.
            pub(super) const KNOWN: &[Self] = &[$(Self::$mechanism),*];

            /// The registered name, in upper case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$mechanism => $name,)*
                    Self::Custom(own) => own.name,
                }
            }

            /// By reference to a constant: of a value that is made here only the tag would be written, and
            /// a copy of all of it would wait for that.
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
    /// All that are compiled in: for passwords, the strongest first; for tokens; EXTERNAL;
    /// ANONYMOUS.
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

    /// A mechanism of the host's own, for TLS alone unless
    /// [`safe_without_tls`](Self::safe_without_tls) says otherwise: a server asks for each of its steps by
    /// [`Query::Custom`](super::Query::Custom), a client by
    /// [`Step::Custom`](super::client::Step::Custom).
    ///
    /// # Errors
    /// [`ConfigError::MechanismName`] where the name is not 1 to 20 of `A-Z 0-9 - _` (RFC 4422 §3.1),
    /// or is that of a mechanism that the crate has.
    pub const fn custom(name: &'static str) -> Result<Self, ConfigError> {
        // A `const fn` has no iterators.
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

    /// The same mechanism of the host's own as one that is safe where anyone on the way can read it
    /// (GSSAPI, say). Those that the crate has stay as they are.
    #[must_use]
    pub const fn safe_without_tls(self) -> Self {
        match self {
            Self::Custom(CustomName { name, .. }) => {
                Self::Custom(CustomName { name, needs_tls: false })
            }
            known => known,
        }
    }

    /// The mechanism of that name, in any case, if the crate has it, compiled in or not.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::known(name.as_bytes()).copied()
    }

    pub(super) fn known(name: &[u8]) -> Option<&'static Self> {
        // Most say it as it is registered.
        Self::of_upper(name).or_else(|| {
            let mut upper = [0; 20];
            let upper = upper.get_mut(..name.len())?;
            upper.copy_from_slice(name);
            upper.make_ascii_uppercase();
            Self::of_upper(upper)
        })
    }

    /// Whether it can be used: it is compiled in, or the host's own.
    pub fn is_compiled(self) -> bool {
        matches!(self, Self::Custom(_)) || Self::COMPILED.contains(&self)
    }

    /// Whether it belongs inside TLS: it sends a password or a token as it is, relies on a
    /// certificate, or is the host's own and not known to be safe without.
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

    /// Whether it proves a user by a password.
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

    /// Whether it proves a user by a token of OAuth 2.0.
    pub const fn takes_token(self) -> bool {
        matches!(self, Self::OauthBearer | Self::Xoauth2)
    }

    /// Whether it binds the sign-in to the TLS connection (RFC 5802 §6).
    pub const fn binds_channel(self) -> bool {
        matches!(self, Self::ScramSha512Plus | Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    /// The -PLUS form of a mechanism of SCRAM, which binds to the TLS connection. `None` for any other, -PLUS
    /// among them.
    pub const fn plus(self) -> Option<Self> {
        match self {
            Self::ScramSha512 => Some(Self::ScramSha512Plus),
            Self::ScramSha256 => Some(Self::ScramSha256Plus),
            Self::ScramSha1 => Some(Self::ScramSha1Plus),
            _ => None,
        }
    }

    /// Whether a client's response depends on what the challenge says, and not on its place alone.
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
            // A token's challenge is an error, whatever it says.
            Self::Plain
            | Self::Login
            | Self::OauthBearer
            | Self::Xoauth2
            | Self::External
            | Self::Anonymous => false,
        }
    }
}

/// Lists of mechanisms, as the configurations of both sides have them.
impl Mechanism {
    /// Each of them once; in front of SCRAM its -PLUS form, unless that has another place in the list.
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

    /// Whether a configuration of either side can have such a list.
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
