//! What the host knows of the connection under an exchange.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use super::{ConfigError, check_name};

/// What the host knows of the connection under an exchange: whether it is inside TLS, what binds a
/// sign-in to it, and whom the client's certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    tls: bool,
    verified: bool,
    /// Boxed, as most connections have none and a server keeps one for each.
    known: Option<Box<Known>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// In the order in which a client prefers them.
    bindings: Vec<ChannelBinding>,
    identity: Option<Box<str>>,
}

impl Channel {
    /// A connection that anyone on the way can read.
    pub const fn cleartext() -> Self {
        Self { tls: false, verified: false, known: None }
    }

    /// A connection inside TLS, or as safe as that (a Unix socket, say).
    pub const fn tls() -> Self {
        Self { tls: true, verified: false, known: None }
    }

    /// With the caller's word that the server's certificate was verified, against trusted roots and the name of the
    /// server that was meant: for a client, which sends a message that demands TLS all the way
    /// ([`Envelope::require_tls`](crate::client::Envelope::require_tls)) only then (RFC 8689 §4.2.1). In this
    /// crate nothing else depends on it. In cleartext there is no certificate, and this changes nothing.
    ///
    /// ```
    /// use smtp_auth::sasl::Channel;
    ///
    /// assert!(Channel::tls().verified().is_verified());
    /// assert!(!Channel::tls().is_verified());
    /// assert!(!Channel::cleartext().verified().is_verified());
    /// ```
    #[must_use]
    pub const fn verified(mut self) -> Self {
        self.verified = self.tls;
        self
    }

    /// With what binds a sign-in to this very TLS connection, for the -PLUS mechanisms (RFC 5802
    /// §6). May be called once for each kind; a second of one kind replaces the first. In cleartext
    /// there is nothing to bind to, and this changes nothing.
    #[must_use]
    pub fn with_binding(mut self, binding: ChannelBinding) -> Self {
        if self.tls {
            let bindings = &mut self.known.get_or_insert_default().bindings;
            bindings.retain(|own| own.kind != binding.kind);
            bindings.push(binding);
            bindings.sort_by_key(|own| own.kind);
        }
        self
    }

    /// With whom the client's certificate names, once it was verified: for a server, which then
    /// offers EXTERNAL (RFC 4422 appendix A). In cleartext nobody has shown one, and this changes
    /// nothing.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] where the name is empty or holds control characters.
    pub fn with_identity(mut self, identity: &str) -> Result<Self, ConfigError> {
        check_name(identity).map_err(|_| ConfigError::UserName)?;
        if self.tls {
            self.known.get_or_insert_default().identity = Some(identity.into());
        }
        Ok(self)
    }

    /// Whether the connection is inside TLS.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the connection is inside TLS, and the caller has said that the server's certificate was
    /// [verified](Self::verified).
    pub const fn is_verified(&self) -> bool {
        self.verified
    }

    /// Whom the client's certificate names.
    pub fn identity(&self) -> Option<&str> {
        self.known.as_ref()?.identity.as_deref()
    }

    /// What binds to the connection, the preferred first.
    pub fn bindings(&self) -> &[ChannelBinding] {
        self.known.as_ref().map_or(&[], |known| &known.bindings)
    }
}

/// What both ends of a TLS connection know of it and nobody else can make so (RFC 5056).
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelBinding {
    kind: Kind,
    data: Box<[u8]>,
}

/// The first is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exporter,
    ServerEndPoint,
    Unique,
}

impl ChannelBinding {
    /// `tls-exporter` (RFC 9266): 32 octets of the exporter with the label
    /// `EXPORTER-Channel-Binding` and an empty context. For TLS 1.3.
    ///
    /// With rustls, on either side:
    ///
    /// ```
    /// use smtp_auth::sasl::{Channel, ChannelBinding};
    /// # use tokio_rustls::rustls;
    /// use rustls::{ConnectionCommon, ProtocolVersion};
    ///
    /// fn channel<Side>(tls: &ConnectionCommon<Side>) -> Result<Channel, rustls::Error> {
    ///     let channel = Channel::tls();
    ///     if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
    ///         return Ok(channel);
    ///     }
    ///     let label = b"EXPORTER-Channel-Binding";
    ///     let exported = tls.export_keying_material([0; 32], label, Some(&[]))?;
    ///     Ok(channel.with_binding(ChannelBinding::tls_exporter(exported)))
    /// }
    /// ```
    pub fn tls_exporter(exported: [u8; 32]) -> Self {
        Self { kind: Kind::Exporter, data: exported.into() }
    }

    /// `tls-server-end-point` (RFC 5929 §4.1) of the server's certificate, which is given as DER: its hash by the hash
    /// of its own signature, SHA-256 in place of MD5 and SHA-1.
    ///
    /// It has to be **the certificate that the server presented on this very connection**, the first of the chain. A
    /// server with several certificates, for several names (SNI) or kinds of key, cannot take it from its
    /// configuration: it has to ask its TLS library which one the connection got, or to note it where the choice
    /// was made.
    ///
    /// `None` where the type is not defined for the certificate, so that it must not be offered: its signature has no
    /// hash of its own (Ed25519, Ed448, ML-DSA) or two different ones (RSASSA-PSS whose MGF1 has another). `None`
    /// also where the hash is not one of MD5, SHA-1 and SHA-2, and where the octets are not one certificate in strict
    /// DER whose two algorithm fields are the same (RFC 5280 §4.1.1.2).
    ///
    /// It needs the feature `scram-sha-256` or `scram-sha-512`, which bring the hashes.
    ///
    /// With rustls, on the client's side:
    ///
    /// ```
    /// use smtp_auth::sasl::{Channel, ChannelBinding};
    /// # use tokio_rustls::rustls;
    /// use rustls::ClientConnection;
    ///
    /// fn channel(tls: &ClientConnection) -> Channel {
    ///     let presented = tls.peer_certificates().and_then(|chain| chain.first());
    ///     let binding = presented.and_then(|der| ChannelBinding::tls_server_end_point_of(der));
    ///     binding.into_iter().fold(Channel::tls(), Channel::with_binding)
    /// }
    /// ```
    #[cfg(any(feature = "scram-sha-256", feature = "scram-sha-512"))]
    pub fn tls_server_end_point_of(certificate: &[u8]) -> Option<Self> {
        Some(Self { kind: Kind::ServerEndPoint, data: super::end_point::end_point(certificate)? })
    }

    /// The same where the hash was computed elsewhere, such as by the TLS library.
    ///
    /// # Errors
    /// [`ConfigError::ChannelBinding`] where it is empty, or longer than 64 octets, as no hash is.
    pub fn tls_server_end_point(hash: &[u8]) -> Result<Self, ConfigError> {
        if hash.len() > 64 {
            return Err(ConfigError::ChannelBinding);
        }
        Self::new(Kind::ServerEndPoint, hash)
    }

    /// `tls-unique` (RFC 5929 §3): the first Finished message of the handshake. Only up to TLS 1.2,
    /// and **only where the extended master secret (RFC 7627) was negotiated**, which the caller
    /// asserts by this name: without it, who stands between can make it the same on both sides.
    ///
    /// # Errors
    /// [`ConfigError::ChannelBinding`] where it is empty.
    pub fn tls_unique_with_extended_master_secret(finished: &[u8]) -> Result<Self, ConfigError> {
        Self::new(Kind::Unique, finished)
    }

    fn new(kind: Kind, data: &[u8]) -> Result<Self, ConfigError> {
        if data.is_empty() {
            return Err(ConfigError::ChannelBinding);
        }
        Ok(Self { kind, data: data.into() })
    }

    /// The registered name of its type.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Exporter => "tls-exporter",
            Kind::ServerEndPoint => "tls-server-end-point",
            Kind::Unique => "tls-unique",
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelBinding({})", self.name())
    }
}

/// Whether sign-ins are bound to the TLS connection, so that nobody who stands between can pass
/// them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum BindingPolicy {
    /// Never.
    None,
    /// Where both sides can.
    #[default]
    Preferred,
    /// Always: only the -PLUS mechanisms are left, and where the connection has no binding data
    /// there is no way to sign in.
    Required,
}
