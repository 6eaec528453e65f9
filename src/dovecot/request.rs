//! The request that begins an exchange, which is a client's AUTH line without the initial response.

use alloc::{boxed::Box, vec::Vec};
use core::{fmt, net::IpAddr};

use super::{
    LineError, MAX_PARAMETERS, MAX_TEXT,
    fields::{number, text, write_number, write_text},
};
use crate::{decimal::decimal, sasl::Mechanism, shown::is_hidden};

/// A mail server's request to authenticate a user. Its parameters describe the user's connection to the mail server.
///
/// The parameters are **not verified: any process that can open the socket can send any values**. Use
/// [`rip`](Self::rip) for rate limiting only if the mail server is the only process that can open the socket.
///
/// Unknown parameters are ignored. `cert_username` and `valid-client-cert` are also ignored, because any local process
/// could claim to have verified a certificate for any name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    id: u32,
    mechanism: Word,
    service: Box<str>,
    lip: Option<IpAddr>,
    rip: Option<IpAddr>,
    lport: Option<u16>,
    rport: Option<u16>,
    local_name: Option<Box<str>>,
    session: Option<Box<str>>,
    secured: Secured,
}

/// The name of a mechanism. `Debug` shows only names that this crate knows, because any other word may be a password.
#[derive(Clone, PartialEq, Eq)]
struct Word(Box<str>);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Mechanism::from_name(&self.0).map_or("***", Mechanism::name))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secured {
    No,
    Yes,
    Tls,
}

impl Request {
    /// Creates a request without further parameters, for use in a client.
    ///
    /// `id` must be unique among the open exchanges of the connection. `mechanism` is the name of a SASL mechanism, and
    /// `service` is the name of the protocol, such as `smtp`.
    ///
    /// # Errors
    /// [`LineError`] if the mechanism is not 1 to 20 characters of `A-Z a-z 0-9 - _` (RFC 4422 §3.1), or if the service
    /// is empty, is longer than [`MAX_TEXT`] octets, or contains a control character.
    pub fn new(id: u32, mechanism: &str, service: &str) -> Result<Self, LineError> {
        let of_name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if !matches!(mechanism.len(), 1..=20) || !mechanism.bytes().all(of_name) {
            return Err(LineError::MECHANISM);
        }
        if service.is_empty() {
            return Err(LineError::SERVICE);
        }
        Ok(Self {
            id,
            mechanism: Word(mechanism.into()),
            service: checked(service)?,
            lip: None,
            rip: None,
            lport: None,
            rport: None,
            local_name: None,
            session: None,
            secured: Secured::No,
        })
    }

    /// Sets the mail server's address and port of the user's connection.
    #[must_use]
    pub fn with_local(self, lip: IpAddr, lport: Option<u16>) -> Self {
        Self { lip: Some(lip.to_canonical()), lport, ..self }
    }

    /// Sets the user's address and port.
    #[must_use]
    pub fn with_remote(self, rip: IpAddr, rport: Option<u16>) -> Self {
        Self { rip: Some(rip.to_canonical()), rport, ..self }
    }

    /// Sets the mail server's name as the user requested it, for example with TLS server name indication (SNI).
    ///
    /// # Errors
    /// [`LineError`] if the text is longer than [`MAX_TEXT`] octets, or contains a control character.
    pub fn with_local_name(self, name: &str) -> Result<Self, LineError> {
        Ok(Self { local_name: Some(checked(name)?), ..self })
    }

    /// Sets the mail server's name for its session with the user, for use in logs.
    ///
    /// # Errors
    /// [`LineError`] if the text is longer than [`MAX_TEXT`] octets, or contains a control character.
    pub fn with_session(self, session: &str) -> Result<Self, LineError> {
        Ok(Self { session: Some(checked(session)?), ..self })
    }

    /// States that the user's connection is safe from eavesdroppers for another reason than TLS, for example because it
    /// comes from the same machine.
    #[must_use]
    pub fn with_secured(self) -> Self {
        Self { secured: Secured::Yes, ..self }
    }

    /// States that the user's connection uses TLS.
    #[must_use]
    pub fn with_tls(self) -> Self {
        Self { secured: Secured::Tls, ..self }
    }

    /// Returns the number of the exchange, which is unique among the open exchanges of the connection.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the name of the mechanism as the client sent it, which can be any word. For logs and metrics, use
    /// [`AuthFailed::mechanism`](super::AuthFailed::mechanism) and [`Identity::mechanism`](crate::sasl::Identity::mechanism).
    pub fn mechanism(&self) -> &str {
        &self.mechanism.0
    }

    /// Returns the protocol that the user uses, such as `smtp`.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Returns the user's address. An IPv4-mapped IPv6 address is returned as an IPv4 address. Returns `None` if the client
    /// sent no address, or one that is malformed.
    pub fn rip(&self) -> Option<IpAddr> {
        self.rip
    }

    /// Returns the user's port.
    pub fn rport(&self) -> Option<u16> {
        self.rport
    }

    /// Returns the mail server's address of the user's connection, in the same form as [`rip`](Self::rip).
    pub fn lip(&self) -> Option<IpAddr> {
        self.lip
    }

    /// Returns the mail server's port of the user's connection.
    pub fn lport(&self) -> Option<u16> {
        self.lport
    }

    /// Returns the mail server's name as the user requested it, for example with TLS server name indication (SNI).
    pub fn local_name(&self) -> Option<&str> {
        self.local_name.as_deref()
    }

    /// Returns the mail server's name for its session with the user, for use in logs.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Returns whether the user's connection is safe from eavesdroppers, either because it uses TLS, or because the mail
    /// server trusts it. PLAIN, LOGIN and the token mechanisms require this, unless the configuration [allows
    /// cleartext](crate::sasl::server::Builder::allow_cleartext).
    pub fn is_secured(&self) -> bool {
        self.secured != Secured::No
    }

    /// Returns whether the client has stated that the user's connection uses TLS. Postfix and Exim state only that a
    /// connection is [secured](Self::is_secured), without the reason.
    pub fn is_tls(&self) -> bool {
        self.secured == Secured::Tls
    }

    /// Reads the fields after the number of the exchange. Returns the request, and the initial response in base64.
    pub(super) fn read<'a>(
        id: u32,
        mut fields: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(Self, Option<&'a [u8]>), LineError> {
        let mechanism = fields.next().and_then(text).ok_or(LineError::MECHANISM)?;
        let mut parameters = Parameters::default();
        for (n, field) in fields.enumerate() {
            if n == MAX_PARAMETERS {
                return Err(LineError::PARAMETERS);
            }
            let (name, value) = match field.iter().position(|&octet| octet == b'=') {
                Some(at) => (field.get(..at), field.get(at + 1..)),
                None => (Some(field), None),
            };
            let (name, value) = (name.unwrap_or_default(), value);
            if name == b"resp" {
                // Fields after the initial response are ignored.
                let request = parameters.request(id, &mechanism)?;
                return Ok((request, Some(value.unwrap_or_default())));
            }
            if let Some(own) = parameters.named(name) {
                if own.replace(value.unwrap_or_default()).is_some() {
                    return Err(LineError::TWICE);
                }
            }
        }
        Ok((parameters.request(id, &mechanism)?, None))
    }

    /// Writes the line up to the initial response, without the name of the command.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let parameter = |name: &str, out: &mut Vec<u8>| {
            out.push(b'\t');
            out.extend_from_slice(name.as_bytes());
        };
        let text = |name: &str, value: &str, out: &mut Vec<u8>| {
            parameter(name, out);
            write_text(value, out);
        };
        write_number(self.id, out);
        text("", &self.mechanism.0, out);
        text("service=", &self.service, out);
        // This tells Dovecot that no lookup follows, which only its own services would do.
        parameter("nologin", out);
        for (name, address) in [("lip=", self.lip), ("rip=", self.rip)] {
            if let Some(address) = address {
                text(name, &alloc::format!("{address}"), out);
            }
        }
        for (name, port) in [("lport=", self.lport), ("rport=", self.rport)] {
            if let Some(port) = port {
                parameter(name, out);
                decimal(port.into(), out);
            }
        }
        for (name, value) in [("local_name=", &self.local_name), ("session=", &self.session)] {
            if let Some(value) = value {
                text(name, value, out);
            }
        }
        match self.secured {
            Secured::No => {}
            Secured::Yes => parameter("secured", out),
            Secured::Tls => parameter("secured=tls", out),
        }
    }
}

/// The values of the known parameters, as they are written in the line.
#[derive(Default)]
struct Parameters<'a> {
    service: Option<&'a [u8]>,
    lip: Option<&'a [u8]>,
    rip: Option<&'a [u8]>,
    lport: Option<&'a [u8]>,
    rport: Option<&'a [u8]>,
    local_name: Option<&'a [u8]>,
    session: Option<&'a [u8]>,
    secured: Option<&'a [u8]>,
}

impl<'a> Parameters<'a> {
    fn named(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match name {
            b"service" => &mut self.service,
            b"lip" => &mut self.lip,
            b"rip" => &mut self.rip,
            b"lport" => &mut self.lport,
            b"rport" => &mut self.rport,
            b"local_name" => &mut self.local_name,
            b"session" => &mut self.session,
            b"secured" => &mut self.secured,
            _ => return None,
        })
    }

    fn request(self, id: u32, mechanism: &str) -> Result<Request, LineError> {
        let own = |value: Option<&[u8]>| -> Result<Option<Box<str>>, LineError> {
            value.map(|value| checked(&text(value).ok_or(LineError::TEXT)?)).transpose()
        };
        let address = |value: Option<&[u8]>| {
            let address: IpAddr = core::str::from_utf8(value?).ok()?.parse().ok()?;
            Some(address.to_canonical())
        };
        let port = |value: Option<&[u8]>| number(value?).and_then(|port| u16::try_from(port).ok());
        let service = own(self.service)?.ok_or(LineError::SERVICE)?;
        Ok(Request {
            lip: address(self.lip),
            rip: address(self.rip),
            lport: port(self.lport),
            rport: port(self.rport),
            local_name: own(self.local_name)?,
            session: own(self.session)?,
            secured: match self.secured {
                None => Secured::No,
                Some(b"tls") => Secured::Tls,
                Some(_) => Secured::Yes,
            },
            ..Request::new(id, mechanism, &service)?
        })
    }
}

/// Returns text that is safe to log and short enough to store.
fn checked(text: &str) -> Result<Box<str>, LineError> {
    if text.len() > MAX_TEXT || text.chars().any(is_hidden) {
        return Err(LineError::TEXT);
    }
    Ok(text.into())
}
