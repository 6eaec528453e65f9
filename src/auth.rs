//! AUTH exchanges. An AUTH exchange consists of one AUTH command and the lines that follow it.
//!
//! RFC 4954 defines how these lines encode a SASL exchange: base64 for challenges and responses, `=` for an empty
//! initial response, `*` to cancel, and the reply codes `334`, `235` and `535`.
//!
//! This API level is for servers and clients that implement the rest of SMTP themselves and need only AUTH. At this
//! level, the crate enforces only some of the rules about AUTH. Your server must enforce [the rest](server::Exchange).
//! If you do not have an SMTP implementation yet, use a [`server::Session`](crate::server::Session) or a
//! [`client::Session`](crate::client::Session) instead. The mechanisms are implemented by the SASL exchanges in
//! [`sasl`](crate::sasl), which you can also use for protocols other than SMTP.

use alloc::vec::Vec;

use crate::sasl::{Channel, server::Config};

pub mod client;
pub mod server;

/// The maximum length of a line in an AUTH exchange, without CRLF: 12,288 octets (RFC 4954 §4). The limit also applies
/// to the AUTH command.
pub const MAX_LINE: usize = 12_288;

/// Appends the AUTH line for the reply to EHLO: the AUTH keyword and the names of the offered mechanisms, such as
/// `AUTH CRAM-MD5 PLAIN`.
///
/// The appended text includes neither the reply code nor the CRLF. If the configuration offers no mechanism over this
/// connection, nothing is appended, and the reply must not contain an AUTH line.
///
/// ```
/// # #[cfg(feature = "plain")] {
/// use smtp_auth::{Channel, Mechanism, auth, sasl::server::Config};
///
/// let config = Config::builder("mail.example.org").mechanisms([Mechanism::Plain]).build()?;
/// let mut line = Vec::new();
/// auth::advertise(&config, &Channel::cleartext(), &mut line);
/// assert!(line.is_empty()); // PLAIN needs TLS
/// auth::advertise(&config, &Channel::tls(), &mut line);
/// assert_eq!(line, b"AUTH PLAIN");
/// # }
/// # Ok::<(), smtp_auth::ConfigError>(())
/// ```
pub fn advertise(config: &Config, channel: &Channel, out: &mut Vec<u8>) {
    let mut offered = config.offered(channel).peekable();
    if offered.peek().is_none() {
        return;
    }
    out.extend_from_slice(b"AUTH");
    for mechanism in offered {
        out.push(b' ');
        out.extend_from_slice(mechanism.name().as_bytes());
    }
}
