//! What binds a sign-in to its TLS connection (RFC 5802 §6); the client and the server have to come
//! to the same.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use rustls_pki_types::CertificateDer;
use smtp_auth::sasl::{BindingPolicy, Channel, ChannelBinding};
use tokio_rustls::rustls::{ConnectionCommon, ProtocolVersion};

/// The channel of a connection whose handshake is over; the certificate is the one that the server
/// presented, on either side.
pub(crate) fn channel<Side>(
    tls: &ConnectionCommon<Side>,
    certificate: Option<&CertificateDer<'_>>,
) -> Channel {
    let end_point = certificate.and_then(|der| ChannelBinding::tls_server_end_point_of(der));
    let bindings = [exporter(tls), end_point];
    bindings.into_iter().flatten().fold(Channel::tls(), Channel::with_binding)
}

/// `tls-exporter` (RFC 9266). Up to TLS 1.2 the exporter binds only under conditions that rustls does
/// not report.
fn exporter<Side>(tls: &ConnectionCommon<Side>) -> Option<ChannelBinding> {
    if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    let label = b"EXPORTER-Channel-Binding";
    tls.export_keying_material([0; 32], label, Some(b"")).map(ChannelBinding::tls_exporter).ok()
}

/// Reads `--channel-binding`.
pub(crate) fn policy() -> impl TypedValueParser<Value = BindingPolicy> {
    PossibleValuesParser::new(["none", "preferred", "required"]).map(|word| match &*word {
        "none" => BindingPolicy::None,
        "required" => BindingPolicy::Required,
        _ => BindingPolicy::Preferred,
    })
}
