//! What a client signs in with.

use alloc::{boxed::Box, sync::Arc};

use crate::{
    sasl::{
        ConfigError, MAX_MESSAGE, Mechanism, SaltedPassword, anonymous, check_name, gs2, oauth,
        prepare,
    },
    secret::Secret,
};

/// Bounds of the names and the token, with which no response outgrows [`MAX_MESSAGE`]: a name, prepared or
/// not, is three times as long where SCRAM escapes it.
const MAX_NAME: usize = 1024;
const MAX_TOKEN_MESSAGE: usize = 9000;

fn check_user(name: &str) -> Result<(), ConfigError> {
    match check_name(name) {
        Ok(name) if name.len() <= MAX_NAME => Ok(()),
        _ => Err(ConfigError::UserName),
    }
}

/// With room for the server's name and the words around.
fn check_token(user: &str, token: &Secret) -> Result<(), ConfigError> {
    let fits = gs2::escape(user).len() + token.expose().len() + 300 <= MAX_TOKEN_MESSAGE;
    if fits && oauth::is_token(token.expose()) { Ok(()) } else { Err(ConfigError::Token) }
}

/// What a client signs in with. A clone is cheap, and no second copy of what is secret until one of
/// them is changed.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) kind: Kind,
    pub(super) authzid: Option<Box<str>>,
}

/// Each mechanism takes just one of them.
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
    /// Host and port.
    pub(in crate::sasl) server: Option<(Box<str>, u16)>,
}

impl Credentials {
    /// A user name and a password.
    ///
    /// A line of AUTH carries 9,216 octets (RFC 4954 §4): a longer password by LOGIN, or together with the
    /// names by PLAIN, has no way, and is used by mechanisms alone that do not send it.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] for a name that is empty, over 1,024 octets, or holds control
    /// characters; [`ConfigError::Password`] for a password that is empty, holds NUL, or is too long for
    /// every mechanism that is compiled in.
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

    /// A user name, and an access token of OAuth 2.0 for OAUTHBEARER and XOAUTH2. How to get one, and a
    /// new one where it has expired, is between the caller and its issuer. Both mechanisms send the name
    /// as that of the account to act as, so that it may be a mailbox which the token's owner shares.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] as above; [`ConfigError::Token`] for what has not the form of a
    /// bearer's token (RFC 6750 §2.1), or is longer than some 8,700 octets.
    pub fn token(user: &str, token: impl Into<Secret>) -> Result<Self, ConfigError> {
        let token = token.into();
        check_user(user)?;
        check_token(user, &token)?;
        let token = Token { user: user.into(), token, server: None };
        Ok(Self::new(Kind::Token(Arc::new(token))))
    }

    /// The certificate that the client has shown in the TLS handshake, for EXTERNAL.
    pub fn external() -> Self {
        Self::new(Kind::External)
    }

    /// Nobody, for ANONYMOUS (RFC 4505): a guest who leaves this trace, which may be empty, and is
    /// seen by who listens.
    ///
    /// # Errors
    /// [`ConfigError::Trace`] for a trace that is neither a mail address nor up to 255 characters
    /// without `@`, all of which show; always without the feature `anonymous`.
    pub fn anonymous(trace: &str) -> Result<Self, ConfigError> {
        if !anonymous::is_trace(trace) {
            return Err(ConfigError::Trace);
        }
        Ok(Self::new(Kind::Anonymous(trace.into())))
    }

    /// What a mechanism of the host's own has: the exchange asks for each response by
    /// [`Step::Custom`](super::Step::Custom). The mechanism has to be listed in
    /// [`Builder::mechanisms`](super::Builder::mechanisms).
    pub fn custom(mechanism: Mechanism) -> Self {
        Self::new(Kind::Custom(mechanism))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, authzid: None }
    }

    /// The account to act as, where it is another. Only mechanisms that carry it are used then; one of
    /// the host's own says it by itself. A token's user is such an account already, and replaced.
    ///
    /// # Errors
    /// [`ConfigError::UserName`] for a name that is empty, over 1,024 octets, or holds control
    /// characters; [`ConfigError::Token`] and [`ConfigError::Password`] where it is too long together with
    /// the token, or with the password for every mechanism that is compiled in and carries it.
    pub fn acting_as(mut self, authzid: &str) -> Result<Self, ConfigError> {
        check_user(authzid)?;
        if let Kind::Token(token) = &self.kind {
            check_token(authzid, &token.token)?;
        }
        self.authzid = Some(authzid.into());
        self.carried()
    }

    /// The same, where any mechanism that is compiled in can carry the password.
    fn carried(self) -> Result<Self, ConfigError> {
        let compiled = Mechanism::COMPILED.iter().copied();
        let mut ways = compiled.filter(|own| self.fit(*own) && self.name_all(*own)).peekable();
        let none = ways.peek().is_some() && !ways.any(|own| self.fit_a_line(own));
        if none { Err(ConfigError::Password) } else { Ok(self) }
    }

    /// The server that a token is meant for, as the client knows it: OAUTHBEARER says so, and another
    /// server that the token fell to cannot use it at the right one unseen. Of no effect for others.
    ///
    /// # Errors
    /// [`ConfigError::ServerName`] for a name that is empty, over 255 octets, or has characters that
    /// are not printable ASCII, or spaces.
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

    /// With the salted password of an earlier sign-in, which spares SCRAM its work where the server
    /// still has the same salt and iterations. Of no effect for others.
    pub fn salted(mut self, salted: SaltedPassword) -> Self {
        if let Kind::Password(password) = &mut self.kind {
            Arc::make_mut(password).salted = Some(salted);
        }
        self
    }

    /// The user name, where there is one: of a password or a token.
    pub fn authcid(&self) -> Option<&str> {
        match &self.kind {
            Kind::Password(password) => Some(&password.authcid),
            Kind::Token(token) => Some(&token.user),
            Kind::External | Kind::Anonymous(_) | Kind::Custom(_) => None,
        }
    }

    /// The account to act as, where one was named.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// Whether the mechanism is for such credentials.
    pub(super) fn fit(&self, mechanism: Mechanism) -> bool {
        match &self.kind {
            Kind::Password(_) => mechanism.takes_password(),
            Kind::Token(_) => mechanism.takes_token(),
            Kind::External => mechanism == Mechanism::External,
            Kind::Anonymous(_) => mechanism == Mechanism::Anonymous,
            Kind::Custom(own) => mechanism == *own,
        }
    }

    /// Whether the mechanism carries the name of the account to act as, if there is one.
    pub(super) fn name_all(&self, mechanism: Mechanism) -> bool {
        let silent = matches!(
            mechanism,
            Mechanism::Login | Mechanism::CramMd5 | Mechanism::Anonymous | Mechanism::Custom(_)
        );
        self.authzid.is_none() || !silent
    }

    /// Whether a line can carry what the mechanism sends. A digest or a proof has one length, whatever it
    /// is of.
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

    /// Whether name and password are such as SCRAM can have (RFC 4013). A name may grow by that.
    pub(super) fn can_be_prepared(&self) -> bool {
        match &self.kind {
            Kind::Password(own) => {
                let Password { authcid, password, .. } = &**own;
                // The copy is zeroed too.
                let prepared = prepare(password.expose()).map(Secret::new);
                prepared.is_some() && prepare(authcid).is_some_and(|name| name.len() <= MAX_NAME)
            }
            _ => true,
        }
    }
}
