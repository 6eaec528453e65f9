//! The properties of the connection over which an exchange takes place.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use super::{ConfigError, check_name};

/// The properties of the connection over which an exchange takes place. The application states whether the connection
/// uses TLS, and supplies the name from the client's certificate and the data for channel binding.
///
/// ```
/// use smtp_auth::sasl::{Channel, ChannelBinding};
///
/// // The TLS library has exported these octets.
/// let channel = Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
/// assert_eq!(channel.bindings()[0].name(), "tls-exporter");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    tls: bool,
    verified: bool,
    /// Boxed, because it is `None` for most connections and a server keeps a `Channel` for each connection.
    known: Option<Box<Known>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// In a client's order of preference.
    bindings: Vec<ChannelBinding>,
    identity: Option<Box<str>>,
}

impl Channel {
    /// Creates a channel for a connection without encryption. An eavesdropper can read everything that is sent over the
    /// connection.
    pub const fn cleartext() -> Self {
        Self { tls: false, verified: false, known: None }
    }

    /// Creates a channel for a connection that uses TLS or is equally safe, such as a Unix socket.
    pub const fn tls() -> Self {
        Self { tls: true, verified: false, known: None }
    }

    /// Records that the caller has verified the server's certificate against trusted roots and against the name of the
    /// intended server.
    ///
    /// Only clients need this method. If a message requires TLS on its whole path
    /// ([`Envelope::require_tls`](crate::client::Envelope::require_tls)), a client sends the message only to a server
    /// whose certificate was verified (RFC 8689 §4.2.1). The verification also determines whether a refusal is reported
    /// as [unproven](crate::client::Refusal::is_unproven). This method does not change a cleartext channel, because a
    /// connection without TLS has no certificate.
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

    /// Adds data that binds an exchange to this TLS connection, for the -PLUS mechanisms (RFC 5802 §6).
    ///
    /// A channel contains at most one binding of each type, and a second binding of the same type replaces the first.
    /// This method does not change a cleartext channel, because there is no TLS connection to bind to.
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

    /// Adds the name from the client's certificate. The caller must have verified the certificate. A server can then
    /// offer EXTERNAL (RFC 4422 appendix A). This method does not change a cleartext channel, because a connection
    /// without TLS has no client certificate.
    ///
    /// # Errors
    /// Returns [`ConfigError::UserName`] if the name is empty or contains control characters.
    pub fn with_identity(mut self, identity: &str) -> Result<Self, ConfigError> {
        check_name(identity).map_err(|_| ConfigError::UserName)?;
        if self.tls {
            self.known.get_or_insert_default().identity = Some(identity.into());
        }
        Ok(self)
    }

    /// Returns whether the connection uses TLS or is equally safe.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns whether the connection uses TLS and the caller has recorded that the server's certificate was
    /// [verified](Self::verified).
    pub const fn is_verified(&self) -> bool {
        self.verified
    }

    /// Returns the name in the client's verified certificate, if the caller [added it](Self::with_identity).
    pub fn identity(&self) -> Option<&str> {
        self.known.as_ref()?.identity.as_deref()
    }

    /// Returns the channel binding data of each type, with the preferred type first.
    pub fn bindings(&self) -> &[ChannelBinding] {
        self.known.as_ref().map_or(&[], |known| &known.bindings)
    }
}

/// Data that identifies a TLS connection (RFC 5056). Both ends of the connection know this data. A man-in-the-middle
/// has a separate connection to each end, and cannot make the channel binding data of the two connections equal.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelBinding {
    kind: Kind,
    data: Box<[u8]>,
}

/// In the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exporter,
    ServerEndPoint,
    Unique,
}

impl ChannelBinding {
    /// Creates a `tls-exporter` binding (RFC 9266), for TLS 1.3.
    ///
    /// `exported` must be the 32 octets of keying material that the TLS library exports with the label
    /// `EXPORTER-Channel-Binding` and an empty context. This example uses rustls, and works on clients and on servers:
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

    /// Creates a `tls-server-end-point` binding (RFC 5929 §4.1) from the server's certificate, which must be encoded in
    /// DER.
    ///
    /// The data is a hash of the certificate. The hash function is the one that the certificate's own signature uses,
    /// except that SHA-256 is used instead of MD5 and SHA-1.
    ///
    /// Pass **the certificate that the server presented on this connection**, which is the first certificate in the
    /// server's chain. A server may have several certificates, for different names (SNI) or key types. In this case,
    /// the server's configuration does not show which certificate was presented. The server must query its TLS library,
    /// or record the choice when the certificate is selected.
    ///
    /// If this method returns `None`, do not use this type of channel binding. It returns `None` in the following
    /// cases:
    /// - This type is not defined for the certificate, because the certificate's signature algorithm has no separate
    ///   hash function (Ed25519, Ed448, ML-DSA) or uses two different hash functions (RSASSA-PSS with another hash in
    ///   MGF1).
    /// - The hash function is not MD5, SHA-1 or SHA-2.
    /// - The octets are not a single certificate in strict DER, or the certificate's two algorithm fields differ (RFC
    ///   5280 §4.1.1.2).
    ///
    /// This method is available if the `scram-sha-256` or `scram-sha-512` feature is enabled, because these features
    /// provide the hash functions.
    ///
    /// This example uses rustls on the client side:
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

    /// Creates a `tls-server-end-point` binding from a hash that was computed elsewhere, for example by the TLS
    /// library.
    ///
    /// # Errors
    /// Returns [`ConfigError::ChannelBinding`] if the hash is empty, or if it exceeds 64 octets, which is the length of
    /// the longest hash.
    pub fn tls_server_end_point(hash: &[u8]) -> Result<Self, ConfigError> {
        if hash.len() > 64 {
            return Err(ConfigError::ChannelBinding);
        }
        Self::new(Kind::ServerEndPoint, hash)
    }

    /// Creates a `tls-unique` binding (RFC 5929 §3), for TLS 1.2 and earlier. `finished` is the first Finished message
    /// of the handshake.
    ///
    /// Use this type **only if the extended master secret (RFC 7627) was negotiated**. By calling this method, the
    /// caller asserts that the extended master secret was negotiated. Without the extended master secret, a
    /// man-in-the-middle can create two connections with the same data.
    ///
    /// # Errors
    /// Returns [`ConfigError::ChannelBinding`] if the message is empty.
    pub fn tls_unique_with_extended_master_secret(finished: &[u8]) -> Result<Self, ConfigError> {
        Self::new(Kind::Unique, finished)
    }

    fn new(kind: Kind, data: &[u8]) -> Result<Self, ConfigError> {
        if data.is_empty() {
            return Err(ConfigError::ChannelBinding);
        }
        Ok(Self { kind, data: data.into() })
    }

    /// Returns the registered name of the channel binding type, such as `tls-exporter`.
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

/// Whether authentication is bound to the TLS connection (channel binding). A man-in-the-middle cannot relay a bound
/// authentication from one connection to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth policy")]
pub enum BindingPolicy {
    /// Channel binding is never used.
    None,
    /// Channel binding is used if both sides support it.
    #[default]
    Preferred,
    /// Channel binding is always used. Only the -PLUS mechanisms can be used. On a connection without channel binding
    /// data, authentication is not possible.
    Required,
}
