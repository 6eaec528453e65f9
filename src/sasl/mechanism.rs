//! The mechanisms' names and properties.

use core::fmt;

/// A SASL mechanism (RFC 4422 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
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
}

impl Mechanism {
    /// All mechanisms that are compiled in, the strongest first.
    pub const COMPILED: &'static [Self] = &[
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
    ];

    /// The registered name, in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The mechanism of that name, in any case, if it is compiled in.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::COMPILED.iter().copied().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is compiled in.
    pub fn is_compiled(self) -> bool {
        Self::COMPILED.contains(&self)
    }

    /// Whether it sends the password itself, so that it belongs inside TLS.
    pub const fn needs_tls(self) -> bool {
        match self {
            Self::ScramSha512 | Self::ScramSha256 | Self::ScramSha1 | Self::CramMd5 => false,
            Self::Plain | Self::Login => true,
        }
    }

    /// Whether a client's response depends on what the challenge says, and not on its place alone.
    pub const fn reads_challenge(self) -> bool {
        match self {
            Self::ScramSha512 | Self::ScramSha256 | Self::ScramSha1 | Self::CramMd5 => true,
            Self::Plain | Self::Login => false,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
