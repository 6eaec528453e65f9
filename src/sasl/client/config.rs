//! What a client may use, and how it chooses.

use alloc::vec::Vec;
use core::borrow::Borrow;

use super::{Credentials, Failure};
use crate::sasl::{
    BindingPolicy, Channel, ConfigError, Mechanism, Nonce, NonceError, NonceSource, ScramHash,
};

/// What a client may use, and its policy; [`builder`](Self::builder) makes one.
#[derive(Clone, Debug)]
pub struct Config {
    /// The preferred first.
    mechanisms: Vec<Mechanism>,
    cleartext: bool,
    nonce: Option<NonceSource>,
    iterations: (u32, u32),
    binding: BindingPolicy,
}

impl Default for Config {
    /// Every compiled mechanism, the strongest first, those that send a password or a token only
    /// inside TLS, bound to the TLS connection where that can be.
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::COMPILED.to_vec(),
            cleartext: false,
            #[cfg(feature = "getrandom")]
            nonce: Some(NonceSource::new(Nonce::random)),
            #[cfg(not(feature = "getrandom"))]
            nonce: None,
            iterations: (4096, 600_000),
            binding: BindingPolicy::Preferred,
        }
    }
}

impl Config {
    /// A configuration to be built; what it is not told is as [`default`](Self::default) has it.
    pub fn builder() -> Builder {
        Builder { config: Self::default(), without: Vec::new() }
    }

    pub(in crate::sasl) fn iteration_bounds(&self) -> (u32, u32) {
        self.iterations
    }

    pub(in crate::sasl) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(NonceSource::fresh).ok_or(Failure::NoNonce)
    }

    /// The mechanism of that name, in any case: one that the crate has, or one of the application's own that
    /// is listed.
    pub fn named(&self, name: &str) -> Option<Mechanism> {
        let own = |own: &Mechanism| own.name().eq_ignore_ascii_case(name);
        Mechanism::from_name(name).or_else(|| self.mechanisms.iter().copied().find(own))
    }

    /// The preferred mechanism of those that fit the credentials and the connection and that the server
    /// offers: `offered` is the text of its AUTH line as it came, such as `AUTH SCRAM-SHA-256 PLAIN`, with or
    /// without its line end, or the names alone, separated by white space. Hand in all of it: where the name
    /// of a -PLUS mechanism is left out, the server takes that for an attack (RFC 5802 §6), and refuses the
    /// right password.
    ///
    /// A client *supports channel binding* where the channel has binding data, the policy is not
    /// [`None`](BindingPolicy::None), and a -PLUS mechanism that fits the credentials is among its own. Then a
    /// -PLUS that the server offers goes before all others, in whatever order they were listed.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(
        &self,
        credentials: &Credentials,
        channel: &Channel,
        offered: &str,
    ) -> Result<Mechanism, NoMechanism> {
        self.choose_among(&self.offered(offered), &[], Some(credentials), channel)
    }

    /// All mechanisms that can be used over the connection and that the server offers, the preferred first, for a
    /// client that does not have its credentials yet: it asks its user for a password or a token when it knows
    /// which of them the server takes ([`takes_password`](Mechanism::takes_password),
    /// [`takes_token`](Mechanism::takes_token)). `offered` is as for [`choose`](Self::choose), which is to be
    /// called once the credentials are there, with the same `offered`: it gives the first of these mechanisms
    /// that fits them.
    ///
    /// ```
    /// use smtp_auth::sasl::{Channel, Mechanism, client::{Config, Credentials}};
    ///
    /// let (config, channel, offered) = (Config::default(), Channel::tls(), "AUTH XOAUTH2 PLAIN");
    /// let usable = config.usable(&channel, offered)?;
    /// let credentials = match usable.iter().any(|own| own.takes_password()) {
    ///     true => Credentials::password("tim", "tanstaaftanstaaf")?, // as the user types it
    ///     false => Credentials::token("tim", "4b1p")?,
    /// };
    /// assert_eq!(config.choose(&credentials, &channel, offered), Ok(Mechanism::Plain));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Why there is none, with any credentials.
    pub fn usable(&self, channel: &Channel, offered: &str) -> Result<Vec<Mechanism>, NoMechanism> {
        let offered = self.offered(offered);
        self.choose_among(&offered, &[], None, channel)?;
        let usable =
            |own: &Mechanism| offered.contains(own) && self.obstacle(*own, None, channel).is_none();
        Ok(self.mechanisms.iter().copied().filter(usable).collect())
    }

    /// The mechanisms that a server's AUTH line names.
    fn offered(&self, line: &str) -> Vec<Mechanism> {
        let names = line.split(|c: char| c.is_ascii_whitespace() || c == '=');
        names.filter_map(|name| self.named(name)).collect()
    }

    /// The preferred one of what is offered, but for those that were tried already; without credentials, for
    /// any.
    pub(crate) fn choose_among(
        &self,
        offered: &[Mechanism],
        tried: &[Mechanism],
        credentials: Option<&Credentials>,
        channel: &Channel,
    ) -> Result<Mechanism, NoMechanism> {
        let left = |own: &&Mechanism| offered.contains(own) && !tried.contains(own);
        let mut obstacle = (0, NoMechanism::InCommon);
        for own in self.mechanisms.iter().filter(left) {
            match self.obstacle(*own, credentials, channel) {
                None => return Ok(*own),
                // What came the furthest tells the most.
                Some(found) if found.0 >= obstacle.0 => obstacle = found,
                Some(_) => {}
            }
        }
        Err(obstacle.1)
    }

    /// Why the mechanism cannot be used with these credentials, if they are known, over that connection, and
    /// how far it came.
    fn obstacle(
        &self,
        own: Mechanism,
        credentials: Option<&Credentials>,
        channel: &Channel,
    ) -> Option<(usize, NoMechanism)> {
        let scram = ScramHash::of(own).is_some();
        let bound = own.binds_channel();
        let with = |test: fn(&Credentials, Mechanism) -> bool| {
            credentials.is_none_or(|credentials| test(credentials, own))
        };
        type Test<'a> = &'a dyn Fn() -> bool;
        let tests: [(NoMechanism, Test<'_>); 9] = [
            (NoMechanism::InCommon, &|| self.mechanisms.contains(&own)),
            (NoMechanism::OtherCredentials, &|| with(Credentials::fit)),
            (NoMechanism::ActingAs, &|| with(Credentials::name_all)),
            (NoMechanism::WithoutBinding, &|| !bound || self.can_bind(channel)),
            (NoMechanism::WithoutBinding, &|| bound || self.binding != BindingPolicy::Required),
            (NoMechanism::InCommon, &|| !scram || self.nonce.is_some()),
            (NoMechanism::Unprepared, &|| !scram || with(|own, _| own.can_be_prepared())),
            (NoMechanism::TooLong, &|| with(Credentials::fit_a_line)),
            (NoMechanism::WithoutTls, &|| channel.is_tls() || self.cleartext || !own.needs_tls()),
        ];
        let failed = tests.iter().position(|(_, passes)| !passes())?;
        tests.get(failed).map(|(why, _)| (failed, *why))
    }

    /// Whether there is what binds to the connection, and the policy lets it be used.
    fn can_bind(&self, channel: &Channel) -> bool {
        !channel.bindings().is_empty() && self.binding != BindingPolicy::None
    }

    /// Whether the client supports channel binding (RFC 5802 §6): where it then uses a mechanism without,
    /// it says that it has seen no other, and a server that offered one knows that its list was changed.
    pub(super) fn supports_binding(&self, credentials: &Credentials, channel: &Channel) -> bool {
        let fits = |own: &Mechanism| own.binds_channel() && credentials.fit(*own);
        self.can_bind(channel) && self.mechanisms.iter().any(fits)
    }

    /// Whether the mechanism can be used with these credentials over that connection.
    pub(super) fn admit(
        &self,
        mechanism: Mechanism,
        credentials: &Credentials,
        channel: &Channel,
    ) -> Result<(), Failure> {
        match self.obstacle(mechanism, Some(credentials), channel) {
            None => Ok(()),
            Some((_, NoMechanism::WithoutTls)) => Err(Failure::NeedsTls),
            Some((_, NoMechanism::Unprepared)) => Err(Failure::Unprepared),
            Some((_, NoMechanism::InCommon)) if self.mechanisms.contains(&mechanism) => {
                Err(Failure::NoNonce)
            }
            Some(_) => Err(Failure::Unsupported),
        }
    }
}

/// A [`Config`] to be built.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    without: Vec<Mechanism>,
}

impl Builder {
    /// The mechanisms to use, the preferred first. SCRAM brings its -PLUS form, which is used where it can be
    /// ([`choose`](Config::choose)); [`without`](Self::without) takes it out. One of the application's own is used
    /// only where it is listed here. Which of them fit depends on the credentials: a password is never sent
    /// as a token, nor a token as a password, and ANONYMOUS is for [`Credentials::anonymous`] alone.
    pub fn mechanisms(
        mut self,
        mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>,
    ) -> Self {
        self.config.mechanisms = Mechanism::list(mechanisms);
        self
    }

    /// Leaves these out, however the others were listed.
    pub fn without(mut self, mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>) -> Self {
        self.without.extend(mechanisms.into_iter().map(|mechanism| *mechanism.borrow()));
        self
    }

    /// Whether mechanisms that send the password or a token are used without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.config.cleartext = allow;
        self
    }

    /// Another source of nonces, which SCRAM needs. Each must be fresh and unpredictable; a fixed one
    /// is for tests.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.config.nonce = Some(NonceSource::new(source));
        self
    }

    /// How many iterations a server may ask of SCRAM: fewer make the password cheap to guess, more
    /// keep the client busy. By default 4,096 (RFC 7677 §4) to 600,000. `to` is `from` at least.
    pub fn scram_iterations(mut self, from: u32, to: u32) -> Self {
        self.config.iterations = (from, to.max(from));
        self
    }

    /// Whether authentication is bound to the TLS connection (RFC 5802 §6), for which the [`Channel`] needs
    /// binding data. With [`None`](BindingPolicy::None) the -PLUS mechanisms are not used, with
    /// [`Required`](BindingPolicy::Required) no other is.
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.config.binding = policy;
        self
    }

    /// The configuration, if nothing in it contradicts the rest.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] for a mechanism whose feature is off; [`ConfigError::NothingBinds`] where
    /// channel binding is required and no -PLUS mechanism is left.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Self { mut config, without } = self;
        config.mechanisms.retain(|own| !without.contains(own));
        // A -PLUS goes before all others that take a password, and a token before it keeps its place.
        let first = config.mechanisms.iter().position(|own| own.takes_password());
        let passwords = first.and_then(|first| config.mechanisms.get_mut(first..));
        passwords.unwrap_or_default().sort_by_key(|own| !own.binds_channel());
        Mechanism::check(&config.mechanisms, config.binding)?;
        Ok(config)
    }
}

/// Why no mechanism can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum NoMechanism {
    /// The server has no AUTH.
    NotOffered,
    /// The server has STARTTLS, may offer more behind it, and the client has not begun TLS.
    OnlyAfterTls,
    /// Of the server's mechanisms the client has none, or may use none.
    InCommon,
    /// What there is in common takes other credentials: passwords where there is a token, say.
    OtherCredentials,
    /// What there is in common is not bound to the TLS connection, which the configuration requires;
    /// or is, and the client has no data to bind by.
    WithoutBinding,
    /// The user name or the password has characters that SASLprep (RFC 4013) does not allow, or is empty
    /// without those that it drops, or the name is over 1,024 octets with those that it adds; and no
    /// mechanism in common does without.
    Unprepared,
    /// What there is in common sends the password, which no line can carry, or not with the names.
    TooLong,
    /// All that could be used would show the password or the token, as there is no TLS.
    WithoutTls,
    /// None of those in common can act as another account, which the credentials ask for.
    ActingAs,
}

impl NoMechanism {
    /// What `Display` says, as a fixed text.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotOffered => {
                "the server offers no way to sign in: send without a user name, or use another port or server"
            }
            Self::OnlyAfterTls => {
                "the server offers no usable way to sign in before TLS: use TLS, by STARTTLS or on a port that begins with it"
            }
            Self::InCommon => {
                "the server offers no way to sign in that this client has, or is told to use"
            }
            Self::OtherCredentials => {
                "the server takes other credentials than these: a password, say, or an access token (OAuth)"
            }
            Self::WithoutBinding => {
                "a sign-in bound to the TLS connection is required, which only one of the two sides can do"
            }
            Self::Unprepared => {
                "the user name or password holds characters that no way to sign in here allows"
            }
            Self::TooLong => {
                "the password is too long for every way to sign in that the server offers"
            }
            Self::WithoutTls => {
                "the server offers no way to sign in that is safe without TLS: use TLS, by STARTTLS or on a port that begins with it"
            }
            Self::ActingAs => {
                "the server offers no way to sign in as one account and act as another: leave that out"
            }
        }
    }
}
