//! Reads and writes the lines of both client and server.

use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use core::fmt;

use super::{
    Cookie, Data, Properties, Request,
    fields::{fields, number, text, write_number, write_text},
};
use crate::secret::reserve;

/// A line that a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientLine {
    /// `VERSION`: the version of the protocol that the client uses. This is the client's first line.
    Version {
        /// The major version, which has always been 1.
        major: u32,
        /// The minor version.
        minor: u32,
    },
    /// `CPID`: the client's process ID. This is the client's second line.
    Cpid(u32),
    /// `AUTH`: begins an exchange, with or without an initial response. An empty initial response is written `resp==`,
    /// whereas an empty `resp=` means that there is no initial response.
    Auth(Box<Request>, Option<Data>),
    /// `CONT`: the response to a challenge.
    Cont(u32, Data),
    /// `CANCEL`: ends an exchange. The server does not answer this line.
    Cancel(u32),
}

impl ClientLine {
    /// Parses a line. The argument does not include the LF.
    ///
    /// # Errors
    /// [`LineError`] if the line is malformed. [`LineError::id`] returns the number of the line's exchange, if it can be
    /// read.
    pub fn parse(line: &[u8]) -> Result<Self, LineError> {
        let mut fields = fields(line);
        match fields.next().unwrap_or_default() {
            b"VERSION" => version(fields).map(|(major, minor)| Self::Version { major, minor }),
            b"CPID" => only_number(fields).map(Self::Cpid),
            b"CANCEL" => only_number(fields).map(Self::Cancel),
            b"CONT" => {
                let (id, data) = cont(fields)?;
                Ok(Self::Cont(id, data))
            }
            b"AUTH" => {
                let id = fields.next().and_then(number).ok_or(LineError::NUMBER)?;
                let begins = |error: LineError| LineError { id: Some(id), begins: true, ..error };
                let (request, resp) = Request::read(id, fields).map_err(begins)?;
                let resp = match resp {
                    // Exim writes an empty `resp=` if there is no initial response.
                    None | Some(b"") => None,
                    Some(b"=") => Some(Data::default()),
                    Some(base64) => Some(Data::read(base64).ok_or(begins(LineError::BASE64))?),
                };
                Ok(Self::Auth(Box::new(request), resp))
            }
            _ => Err(LineError::UNKNOWN),
        }
    }

    /// Appends the line with its LF. If `out` has to move to larger memory, the old memory is zeroed, because it may contain
    /// a password.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = Vec::new();
        let data = match self {
            Self::Version { major, minor } => {
                write_numbers("VERSION", &[*major, *minor], &mut line);
                None
            }
            Self::Cpid(pid) => {
                write_numbers("CPID", &[*pid], &mut line);
                None
            }
            Self::Cancel(id) => {
                write_numbers("CANCEL", &[*id], &mut line);
                None
            }
            Self::Cont(id, response) => {
                write_numbers("CONT", &[*id], &mut line);
                line.push(b'\t');
                Some(response)
            }
            Self::Auth(request, initial_response) => {
                line.extend_from_slice(b"AUTH");
                request.write(&mut line);
                if let Some(response) = initial_response {
                    let empty = response.expose().is_empty();
                    line.extend_from_slice(if empty { b"\tresp==" } else { b"\tresp=" });
                }
                initial_response.as_ref()
            }
        };
        reserve(out, line.len() + data.map_or(0, Data::written) + 1);
        out.extend_from_slice(&line);
        if let Some(data) = data {
            data.write(out);
        }
        out.push(b'\n');
    }
}

/// A line that a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerLine<'a> {
    /// `VERSION`: the version of the protocol that the server uses. This is the server's first line.
    Version {
        /// The major version, which has always been 1.
        major: u32,
        /// The minor version.
        minor: u32,
    },
    /// `MECH`: a mechanism that the server offers.
    Mech(Cow<'a, str>, Properties),
    /// `SPID`: the server's process ID.
    Spid(u32),
    /// `CUID`: the number of the connection, which is unique within the server's process.
    Cuid(u32),
    /// `COOKIE`: the random secret for this connection.
    Cookie(Cookie),
    /// `DONE`: the server's handshake is complete.
    Done,
    /// `OK`: the exchange has succeeded. If the line does not name a user, the client must treat it as a failure.
    Ok {
        /// The number of the exchange.
        id: u32,
        /// The account that the user is authenticated as.
        user: Option<Cow<'a, str>>,
    },
    /// `FAIL`: the exchange has failed.
    Fail {
        /// The number of the exchange.
        id: u32,
        /// A reason that may be shown to the user.
        reason: Option<Cow<'a, str>>,
        /// The kind of failure, or `None` if the line has no code. For example, the line has no code if the credentials
        /// are wrong.
        code: Option<FailCode>,
    },
    /// `CONT`: a challenge.
    Cont(u32, Data),
}

/// The code of a `FAIL` line, which gives the kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailCode {
    /// `temp_fail`: the credentials cannot be checked at the moment.
    TempFail,
    /// `authz_fail`: the credentials are correct, but the user is not authorized.
    AuthzFail,
    /// `user_disabled`: the account is disabled.
    UserDisabled,
    /// `pass_expired`: the password has expired.
    PassExpired,
}

impl FailCode {
    const ALL: [Self; 4] = [Self::TempFail, Self::AuthzFail, Self::UserDisabled, Self::PassExpired];

    /// Returns the code as it is written in the line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TempFail => "temp_fail",
            Self::AuthzFail => "authz_fail",
            Self::UserDisabled => "user_disabled",
            Self::PassExpired => "pass_expired",
        }
    }
}

impl<'a> ServerLine<'a> {
    /// Parses a line. The argument does not include the LF. Returns `None` if this crate does not know the command. A client
    /// ignores such a line.
    ///
    /// # Errors
    /// [`LineError`] if the line is malformed.
    pub fn parse(line: &'a [u8]) -> Result<Option<Self>, LineError> {
        let mut fields = fields(line);
        let read = match fields.next().unwrap_or_default() {
            b"VERSION" => version(fields).map(|(major, minor)| Self::Version { major, minor }),
            b"MECH" => {
                let name = fields.next().and_then(text).filter(|name| !name.is_empty());
                Ok(Self::Mech(name.ok_or(LineError::MECHANISM)?, Properties::read(fields)))
            }
            b"SPID" => only_number(fields).map(Self::Spid),
            b"CUID" => only_number(fields).map(Self::Cuid),
            b"COOKIE" => Cookie::read(fields.next().unwrap_or_default()).map(Self::Cookie),
            b"DONE" => Ok(Self::Done),
            b"CONT" => cont(fields).map(|(id, data)| Self::Cont(id, data)),
            b"OK" => {
                let id = fields.next().and_then(number).ok_or(LineError::NUMBER)?;
                Ok(Self::Ok { id, user: value_of("user", fields)? })
            }
            b"FAIL" => {
                let id = fields.next().and_then(number).ok_or(LineError::NUMBER)?;
                let code = value_of("code", fields.clone())?;
                let code =
                    FailCode::ALL.into_iter().find(|own| code.as_deref() == Some(own.as_str()));
                Ok(Self::Fail { id, reason: value_of("reason", fields)?, code })
            }
            _ => return Ok(None),
        };
        read.map(Some)
    }

    /// Appends the line with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let parameter = |name: &str, value: Option<&str>, out: &mut Vec<u8>| {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                write_text(value, out);
            }
        };
        match self {
            Self::Version { major, minor } => write_numbers("VERSION", &[*major, *minor], out),
            Self::Mech(name, properties) => {
                parameter("MECH\t", Some(name), out);
                properties.write(out);
            }
            Self::Spid(pid) => write_numbers("SPID", &[*pid], out),
            Self::Cuid(number) => write_numbers("CUID", &[*number], out),
            Self::Cookie(cookie) => {
                out.extend_from_slice(b"COOKIE\t");
                cookie.write(out);
            }
            Self::Done => out.extend_from_slice(b"DONE"),
            Self::Ok { id, user } => {
                write_numbers("OK", &[*id], out);
                parameter("\tuser=", user.as_deref(), out);
            }
            Self::Fail { id, reason, code } => {
                write_numbers("FAIL", &[*id], out);
                parameter("\treason=", reason.as_deref(), out);
                parameter("\tcode=", code.map(FailCode::as_str), out);
            }
            Self::Cont(id, challenge) => {
                write_numbers("CONT", &[*id], out);
                // Postfix 3.7 expects the TAB even if there is no data after it.
                out.push(b'\t');
                challenge.write(out);
            }
        }
        out.push(b'\n');
    }
}

/// The reason why a line is malformed. The error does not contain any part of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError {
    id: Option<u32>,
    /// Whether the line would begin an exchange.
    begins: bool,
    what: &'static str,
}

impl LineError {
    pub(super) const UNKNOWN: Self = Self::new("the command is unknown");
    pub(super) const NUMBER: Self = Self::new("a number is missing or is not a number of 32 bits");
    pub(super) const BASE64: Self = Self::new("the data is not valid base64");
    pub(super) const MECHANISM: Self =
        Self::new("the name of the mechanism is missing or malformed");
    pub(super) const SERVICE: Self = Self::new("the parameter `service` is missing or empty");
    pub(super) const TEXT: Self =
        Self::new("a parameter is too long, is not UTF-8, or holds a control character");
    pub(super) const TWICE: Self = Self::new("a parameter occurs twice");
    pub(super) const PARAMETERS: Self = Self::new("there are too many parameters");
    pub(super) const COOKIE: Self = Self::new("the cookie is not 32 hexadecimal digits");

    const fn new(what: &'static str) -> Self {
        Self { id: None, begins: false, what }
    }

    /// Returns the number of the line's exchange, if the number can be read.
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    pub(super) fn begins(&self) -> bool {
        self.begins
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl core::error::Error for LineError {}

/// Reads `major TAB minor`. Further fields are ignored.
fn version<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<(u32, u32), LineError> {
    let mut next = || fields.next().and_then(number).ok_or(LineError::NUMBER);
    Ok((next()?, next()?))
}

/// Reads a number that must be the last field.
fn only_number<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<u32, LineError> {
    let number = fields.next().and_then(number);
    number.filter(|_| fields.next().is_none()).ok_or(LineError::NUMBER)
}

/// Reads the number of an exchange, and data. The TAB between them can be missing if there is no data.
fn cont<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<(u32, Data), LineError> {
    let id = fields.next().and_then(number).ok_or(LineError::NUMBER)?;
    let data = Data::read(fields.next().unwrap_or_default());
    let error = LineError { id: Some(id), ..LineError::BASE64 };
    Ok((id, data.filter(|_| fields.next().is_none()).ok_or(error)?))
}

/// Returns the value of a parameter. If the parameter occurs several times, the first value is used.
fn value_of<'a>(
    name: &str,
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Cow<'a, str>>, LineError> {
    let value = fields.find_map(|field| field.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    value.map(|value| text(value).ok_or(LineError::TEXT)).transpose()
}

fn write_numbers(command: &str, numbers: &[u32], out: &mut Vec<u8>) {
    out.extend_from_slice(command.as_bytes());
    numbers.iter().for_each(|&number| write_number(number, out));
}
