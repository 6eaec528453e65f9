//! The credentials of a client.

use alloc::{boxed::Box, sync::Arc};

use crate::{
    sasl::{
        ConfigError, MAX_MESSAGE, Mechanism, SaltedPassword, anonymous, check_name, gs2, oauth,
        prepare,
    },
    secret::Secret,
};

/// Bounds of the names and the token, which keep every response within [`MAX_MESSAGE`]. SCRAM's escapes can make a
/// name three times as long.
const MAX_NAME: usize = 1024;
const MAX_TOKEN_MESSAGE: usize = 9000;

fn check_user(name: &str) -> Result<(), ConfigError> {
    match check_name(name) {
        Ok(name) if name.len() <= MAX_NAME => Ok(()),
        _ => Err(ConfigError::UserName),
    }
}

/// Leaves room for the server's name and the fixed text of the message.
fn check_token(user: &str, token: &Secret) -> Result<(), ConfigError> {
    let fits = gs2::escape(user).len() + token.expose().len() + 300 <= MAX_TOKEN_MESSAGE;
    if fits && oauth::is_token(token.expose()) { Ok(()) } else { Err(ConfigError::Token) }
}

/// The credentials that a client authenticates with.
///
/// Cloning is cheap, because clones share the secrets until one of the clones is changed.
///
/// ```
/// use smtp_auth::Credentials;
///
/// let password = Credentials::password("tim", "tanstaaftanstaaf")?;
/// let token = Credentials::token("tim@example.org", "mF_9.B5f-4.1JqM")?.for_server("mail.example.org", 587)?;
/// # Ok::<(), smtp_auth::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) kind: Kind,
    pub(super) authzid: Option<Box<str>>,
}

/// Each mechanism accepts exactly one of these kinds.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Password(Arc<Password>),
    Token(Arc<Token>),
    External,
    Anonymous(Box<str>),
    Custom(Mechanism),
}

#[derive(Clone, Debug)]
pub(in crate::sasl) struct Password {
    pub(in crate::sasl) authcid: Box<str>,
    pub(in crate::sasl) password: Secret,
    pub(in crate::sasl) salted: Option<SaltedPassword>,
}

#[derive(Clone, Debug)]
pub(in crate::sasl) struct Token {
    pub(in crate::sasl) user: Box<str>,
    pub(in crate::sasl) token: Secret,
    /// The host and port of the server.
    pub(in crate::sasl) server: Option<(Box<str>, u16)>,
}

impl Credentials {
    /// Creates credentials from a user name and a password.
    ///
    /// An AUTH line can contain up to 9,216 octets before base64 encoding (RFC 4954 §4). With LOGIN, this limit applies
    /// to the password alone. With PLAIN, it applies to the password, the names and two separators together. Longer
    /// passwords can be used only with mechanisms that do not send them, such as SCRAM.
    ///
    /// # Errors
    /// - [`ConfigError::UserName`]: the name is empty, exceeds 1,024 octets, or contains control characters.
    /// - [`ConfigError::Password`]: the password is empty, contains NUL, or is too long for every compiled mechanism.
    pub fn password(authcid: &str, password: impl Into<Secret>) -> Result<Self, ConfigError> {
        let password = password.into();
        check_user(authcid)?;
        if password.expose().is_empty() || password.expose().contains('\0') {
            return Err(ConfigError::Password);
        }
        let authcid = authcid.into();
        let password = Password { authcid, password, salted: None };
        Self::new(Kind::Password(Arc::new(password))).carried()
    }

    /// Creates credentials from a user name and an OAuth 2.0 access token, for OAUTHBEARER and XOAUTH2.
    ///
    /// The application must obtain the token from its issuer, and must obtain a new token when the old one has expired.
    /// Both mechanisms send the user name as the account to act as. Therefore, the user name can also be that of a
    /// mailbox that is shared with the token's owner.
    ///
    /// # Errors
    /// - [`ConfigError::UserName`]: the name is empty, exceeds 1,024 octets, or contains control characters.
    /// - [`ConfigError::Token`]: the token does not have the syntax defined in RFC 6750 §2.1, or the token and the name
    ///   together exceed about 8,700 octets.
    pub fn token(user: &str, token: impl Into<Secret>) -> Result<Self, ConfigError> {
        let token = token.into();
        check_user(user)?;
        check_token(user, &token)?;
        let token = Token { user: user.into(), token, server: None };
        Ok(Self::new(Kind::Token(Arc::new(token))))
    }

    /// Creates credentials for EXTERNAL, which uses the certificate that the client presented in the TLS handshake.
    pub fn external() -> Self {
        Self::new(Kind::External)
    }

    /// Creates credentials for ANONYMOUS (RFC 4505). The client authenticates as a guest, and sends the trace. The
    /// trace can tell the server who the guest is.
    ///
    /// The trace may be empty. Without TLS, an eavesdropper can read the trace.
    ///
    /// # Errors
    /// Returns [`ConfigError::Trace`] unless the trace is a mail address, or text of up to 255 characters without `@`.
    /// The error is also returned if the trace contains characters that are not visible, and for every trace if the
    /// `anonymous` feature is disabled.
    pub fn anonymous(trace: &str) -> Result<Self, ConfigError> {
        if !anonymous::is_trace(trace) {
            return Err(ConfigError::Trace);
        }
        Ok(Self::new(Kind::Anonymous(trace.into())))
    }

    /// Creates credentials for a custom mechanism. The exchange asks for each response with
    /// [`Step::Custom`](super::Step::Custom). The mechanism must be listed in
    /// [`Builder::mechanisms`](super::Builder::mechanisms).
    pub fn custom(mechanism: Mechanism) -> Self {
        Self::new(Kind::Custom(mechanism))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, authzid: None }
    }

    /// Sets the account to act as, if it differs from the account that the client authenticates as.
    ///
    /// The client then uses only mechanisms that can send the name of this account. Do not call this method on
    /// credentials for a custom mechanism, because the mechanism would then never be used. A custom mechanism names the
    /// account in its own responses. On [`token`](Self::token) credentials, this account replaces the user name,
    /// because the user name is itself the account to act as.
    ///
    /// # Errors
    /// - [`ConfigError::UserName`]: the name is empty, exceeds 1,024 octets, or contains control characters.
    /// - [`ConfigError::Token`]: the name and the token together are too long.
    /// - [`ConfigError::Password`]: the name and the password together are too long for every compiled mechanism that
    ///   can send both.
    pub fn acting_as(mut self, authzid: &str) -> Result<Self, ConfigError> {
        check_user(authzid)?;
        if let Kind::Token(token) = &self.kind {
            check_token(authzid, &token.token)?;
        }
        self.authzid = Some(authzid.into());
        self.carried()
    }

    /// Checks that at least one compiled mechanism can send the password.
    fn carried(self) -> Result<Self, ConfigError> {
        let compiled = Mechanism::COMPILED.iter().copied();
        let mut ways = compiled.filter(|own| self.fit(*own) && self.name_all(*own)).peekable();
        let none = ways.peek().is_some() && !ways.any(|own| self.fit_a_line(own));
        if none { Err(ConfigError::Password) } else { Ok(self) }
    }

    /// Sets the name and port of the server to which the client intends to send the token. Only OAUTHBEARER sends the
    /// name and the port. This method has no effect on credentials without a token.
    ///
    /// If another server obtains the client's message and replays it unchanged, the server that receives the replay can
    /// detect that the message names a different server. A server that extracts the token from the message can still
    /// use the token elsewhere, unless the token's issuer has restricted the token to one server (its audience).
    ///
    /// # Errors
    /// Returns [`ConfigError::ServerName`] if the name is empty, exceeds 255 octets, or contains a space or a character
    /// that is not printable ASCII.
    pub fn for_server(mut self, host: &str, port: u16) -> Result<Self, ConfigError> {
        let good = (1..=255).contains(&host.len()) && host.bytes().all(|o| o.is_ascii_graphic());
        if !good {
            return Err(ConfigError::ServerName);
        }
        if let Kind::Token(token) = &mut self.kind {
            Arc::make_mut(token).server = Some((host.into(), port));
        }
        Ok(self)
    }

    /// Adds the salted password from an earlier authentication. SCRAM then does not have to run PBKDF2 again, as
    /// long as the server sends the same salt and iteration count. This method has no effect on credentials without a
    /// password.
    pub fn salted(mut self, salted: SaltedPassword) -> Self {
        if let Kind::Password(password) = &mut self.kind {
            Arc::make_mut(password).salted = Some(salted);
        }
        self
    }

    /// Returns the user name that belongs to the password or the token, or `None` for all other credentials.
    pub fn authcid(&self) -> Option<&str> {
        match &self.kind {
            Kind::Password(password) => Some(&password.authcid),
            Kind::Token(token) => Some(&token.user),
            Kind::External | Kind::Anonymous(_) | Kind::Custom(_) => None,
        }
    }

    /// Returns the account to act as, if one was set.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// Returns whether the mechanism accepts credentials of this kind.
    pub(super) fn fit(&self, mechanism: Mechanism) -> bool {
        match &self.kind {
            Kind::Password(_) => mechanism.takes_password(),
            Kind::Token(_) => mechanism.takes_token(),
            Kind::External => mechanism == Mechanism::External,
            Kind::Anonymous(_) => mechanism == Mechanism::Anonymous,
            Kind::Custom(own) => mechanism == *own,
        }
    }

    /// Returns whether the mechanism can send the name of the account to act as, if there is one.
    pub(super) fn name_all(&self, mechanism: Mechanism) -> bool {
        let silent = matches!(
            mechanism,
            Mechanism::Login | Mechanism::CramMd5 | Mechanism::Anonymous | Mechanism::Custom(_)
        );
        self.authzid.is_none() || !silent
    }

    /// Returns whether a line is long enough for what the mechanism sends. A digest and a proof have a fixed length.
    pub(super) fn fit_a_line(&self, mechanism: Mechanism) -> bool {
        let Kind::Password(own) = &self.kind else { return true };
        let password = own.password.expose().len();
        let names = own.authcid.len() + self.authzid.as_ref().map_or(0, |authzid| authzid.len());
        match mechanism {
            Mechanism::Plain => names + "\0\0".len() + password <= MAX_MESSAGE,
            Mechanism::Login => password <= MAX_MESSAGE,
            _ => true,
        }
    }

    /// Returns whether the name and the password can be prepared for SCRAM (RFC 4013). Preparation may lengthen the
    /// name.
    pub(super) fn can_be_prepared(&self) -> bool {
        match &self.kind {
            Kind::Password(own) => {
                let Password { authcid, password, .. } = &**own;
                // The prepared copy is zeroed as well.
                let prepared = prepare(password.expose()).map(Secret::new);
                prepared.is_some() && prepare(authcid).is_some_and(|name| name.len() <= MAX_NAME)
            }
            _ => true,
        }
    }
}
