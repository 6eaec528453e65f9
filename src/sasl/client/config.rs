//! The configuration of a client, and the choice of a mechanism.

use alloc::vec::Vec;
use core::borrow::Borrow;

use super::{Credentials, Failure};
use crate::sasl::{
    BindingPolicy, Channel, ConfigError, Mechanism, Nonce, NonceError, NonceSource, ScramHash,
};

/// The configuration of a client: which mechanisms it may use, and under which conditions. Use
/// [`builder`](Self::builder) to create a configuration.
///
/// ```
/// # #[cfg(feature = "scram-sha-256")] {
/// use smtp_auth::sasl::{BindingPolicy, Mechanism, client::Config};
///
/// // Only SCRAM-SHA-256-PLUS is used, so a man-in-the-middle attack fails and a downgrade to PLAIN is impossible.
/// let config = Config::builder()
///     .mechanisms([Mechanism::ScramSha256])
///     .channel_binding(BindingPolicy::Required)
///     .build()?;
/// # }
/// # Ok::<(), smtp_auth::sasl::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// In order of preference.
    mechanisms: Vec<Mechanism>,
    cleartext: bool,
    nonce: Option<NonceSource>,
    iterations: (u32, u32),
    binding: BindingPolicy,
}

impl Default for Config {
    /// Returns a configuration that lists every compiled mechanism, with the strongest first. Mechanisms that [need
    /// TLS](Mechanism::needs_tls), such as those that send a password or a token, are used only over TLS.
    /// Authentication is bound to the TLS connection if possible.
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
    /// Returns a builder that starts with the [default](Self::default) settings.
    pub fn builder() -> Builder {
        Builder { config: Self::default(), without: Vec::new() }
    }

    pub(in crate::sasl) fn iteration_bounds(&self) -> (u32, u32) {
        self.iterations
    }

    pub(in crate::sasl) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(NonceSource::fresh).ok_or(Failure::NoNonce)
    }

    /// Returns the mechanism with this name, ignoring case. The result can be any mechanism that the crate implements,
    /// or a custom mechanism that this configuration lists. Returns `None` for all other names.
    pub fn named(&self, name: &str) -> Option<Mechanism> {
        let own = |own: &Mechanism| own.name().eq_ignore_ascii_case(name);
        Mechanism::from_name(name).or_else(|| self.mechanisms.iter().copied().find(own))
    }

    /// Returns the most preferred mechanism that the server offers and that fits the credentials and the connection.
    ///
    /// `offered` is the AUTH line as received from the server, such as `AUTH SCRAM-SHA-256 PLAIN`. The line ending is
    /// optional. `offered` can also contain only the names of the mechanisms, separated by white space.
    ///
    /// Always pass the whole list. If `offered` lacks a -PLUS mechanism that the server listed, the server may assume a
    /// downgrade attack (RFC 5802 §6) and refuse even the right password.
    ///
    /// A client *supports channel binding* if the channel contains binding data, the policy is not
    /// [`None`](BindingPolicy::None), and the configuration lists a -PLUS mechanism that fits the credentials. If the
    /// client supports channel binding and the server offers a -PLUS mechanism, the client prefers this mechanism to
    /// all other mechanisms for passwords, regardless of the order in the configuration.
    ///
    /// # Errors
    /// Returns the reason as a [`NoMechanism`] if no mechanism can be used.
    pub fn choose(
        &self,
        credentials: &Credentials,
        channel: &Channel,
        offered: &str,
    ) -> Result<Mechanism, NoMechanism> {
        self.choose_among(&self.offered(offered), &[], Some(credentials), channel)
    }

    /// Returns all mechanisms that the server offers and that can be used over the connection, in order of
    /// preference.
    ///
    /// Use this method if the application does not have the credentials yet. The result shows whether the server
    /// accepts a password or a token ([`takes_password`](Mechanism::takes_password),
    /// [`takes_token`](Mechanism::takes_token)), so that the application can ask the user for the right one. Once the
    /// application has the credentials, call [`choose`](Self::choose) with the same `offered`. `choose` returns the
    /// first of these mechanisms that fits the credentials. The documentation of `choose` also describes the format of
    /// `offered`.
    ///
    /// ```
    /// use smtp_auth::sasl::{Channel, Mechanism, client::{Config, Credentials}};
    ///
    /// let (config, channel, offered) = (Config::default(), Channel::tls(), "AUTH XOAUTH2 PLAIN");
    /// let usable = config.usable(&channel, offered)?;
    /// let credentials = match usable.iter().any(|mechanism| mechanism.takes_password()) {
    ///     true => Credentials::password("tim", "tanstaaftanstaaf")?, // as the user types it
    ///     false => Credentials::token("tim", "4b1p")?,
    /// };
    /// assert_eq!(config.choose(&credentials, &channel, offered), Ok(Mechanism::Plain));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Returns the reason as a [`NoMechanism`] if no mechanism can be used, regardless of the credentials.
    pub fn usable(&self, channel: &Channel, offered: &str) -> Result<Vec<Mechanism>, NoMechanism> {
        let offered = self.offered(offered);
        self.choose_among(&offered, &[], None, channel)?;
        let usable =
            |own: &Mechanism| offered.contains(own) && self.obstacle(*own, None, channel).is_none();
        Ok(self.mechanisms.iter().copied().filter(usable).collect())
    }

    /// Returns the mechanisms on a server's AUTH line that the client recognizes.
    fn offered(&self, line: &str) -> Vec<Mechanism> {
        let names = line.split(|c: char| c.is_ascii_whitespace() || c == '=');
        names.filter_map(|name| self.named(name)).collect()
    }

    /// Returns the most preferred offered mechanism that has not been tried yet. Without credentials, any mechanism
    /// counts as fitting.
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
                // The reason of the mechanism that passed the most tests is the most useful one.
                Some(found) if found.0 >= obstacle.0 => obstacle = found,
                Some(_) => {}
            }
        }
        Err(obstacle.1)
    }

    /// Returns the reason why the mechanism cannot be used over this connection, and the number of tests that the
    /// mechanism passed. If the credentials are known, they are tested as well.
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

    /// Returns whether the channel contains binding data and the policy allows channel binding.
    fn can_bind(&self, channel: &Channel) -> bool {
        !channel.bindings().is_empty() && self.binding != BindingPolicy::None
    }

    /// Returns whether the client supports channel binding (RFC 5802 §6). If such a client authenticates without
    /// channel binding, it reports that the server's list contained no mechanism with channel binding. A server that
    /// did list one then detects that the list was changed.
    pub(super) fn supports_binding(&self, credentials: &Credentials, channel: &Channel) -> bool {
        let fits = |own: &Mechanism| own.binds_channel() && credentials.fit(*own);
        self.can_bind(channel) && self.mechanisms.iter().any(fits)
    }

    /// Checks whether the mechanism can be used with these credentials over this connection.
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

/// A builder for a [`Config`]. Use [`Config::builder`] to create one. Every setting has a default.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    config: Config,
    without: Vec<Mechanism>,
}

impl Builder {
    /// Sets the mechanisms to use, in order of preference.
    ///
    /// The -PLUS form of each listed SCRAM mechanism is added automatically, and is used whenever possible (see
    /// [`choose`](Config::choose)). To remove a -PLUS form, use [`without`](Self::without). A custom mechanism is used
    /// only if this list contains it.
    ///
    /// The credentials further limit the choice. A password is never sent as a token, a token is never sent as a
    /// password, and ANONYMOUS is used only with [`Credentials::anonymous`].
    pub fn mechanisms(
        mut self,
        mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>,
    ) -> Self {
        self.config.mechanisms = Mechanism::list(mechanisms);
        self
    }

    /// Removes these mechanisms from the list of mechanisms to use. A -PLUS form that was added automatically can also
    /// be removed. This method can be called several times, before or after [`mechanisms`](Self::mechanisms), and the
    /// calls accumulate.
    pub fn without(mut self, mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>) -> Self {
        self.without.extend(mechanisms.into_iter().map(|mechanism| *mechanism.borrow()));
        self
    }

    /// Sets whether mechanisms that [need TLS](Mechanism::needs_tls) may also be used without TLS. This is off by
    /// default, because an eavesdropper can read a password or a token that is sent without TLS.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.config.cleartext = allow;
        self
    }

    /// Sets the source of the nonces that SCRAM needs. Each nonce must be new and unpredictable. Use fixed nonces only
    /// in tests. If the `getrandom` feature is enabled, the default source is the operating system's random number
    /// generator.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.config.nonce = Some(NonceSource::new(source));
        self
    }

    /// Sets the range of iteration counts that a server may demand for SCRAM. The default range is 4,096 (RFC 7677 §4)
    /// to 600,000. If `to` is less than `from`, only the count `from` is allowed.
    ///
    /// A low count makes a brute-force search for the password cheap. A high count allows a server to keep the client
    /// busy (denial of service). If the server demands a count outside the range, the exchange fails with
    /// [`Failure::Iterations`].
    pub fn scram_iterations(mut self, from: u32, to: u32) -> Self {
        self.config.iterations = (from, to.max(from));
        self
    }

    /// Sets whether authentication must be bound to the TLS connection (channel binding, RFC 5802 §6). Channel binding
    /// requires a [`Channel`] with binding data.
    ///
    /// With [`Preferred`](BindingPolicy::Preferred), which is the default, channel binding is used if both sides
    /// support it. With [`None`](BindingPolicy::None), the -PLUS mechanisms are not used. With
    /// [`Required`](BindingPolicy::Required), only the -PLUS mechanisms are used.
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.config.binding = policy;
        self
    }

    /// Checks that the settings are consistent, and returns the configuration.
    ///
    /// # Errors
    /// - [`ConfigError::NotCompiled`]: the Cargo feature of a listed mechanism is disabled.
    /// - [`ConfigError::NothingBinds`]: channel binding is required, but no -PLUS mechanism is left.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Self { mut config, without } = self;
        config.mechanisms.retain(|own| !without.contains(own));
        // A -PLUS mechanism goes before all others that take a password. A token mechanism listed before them keeps
        // its place.
        let first = config.mechanisms.iter().position(|own| own.takes_password());
        let passwords = first.and_then(|first| config.mechanisms.get_mut(first..));
        passwords.unwrap_or_default().sort_by_key(|own| !own.binds_channel());
        Mechanism::check(&config.mechanisms, config.binding)?;
        Ok(config)
    }
}

/// The reason why no mechanism can be used. The `Display` text is a message for the person who wants to send mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
#[non_exhaustive]
pub enum NoMechanism {
    /// The server does not offer AUTH on this connection.
    NotOffered,
    /// The client has not started TLS. The server offers STARTTLS, and may offer more mechanisms over TLS.
    OnlyAfterTls,
    /// The server offers no mechanism that the client supports and is configured to use.
    InCommon,
    /// The client's credentials fit none of the mechanisms that both sides support. For example, the client has a
    /// token, but the mechanisms require a password.
    OtherCredentials,
    /// The configuration requires channel binding, but none of the mechanisms that both sides support provides it. This
    /// reason is also returned if every mechanism that both sides support needs channel binding, but channel binding is
    /// not possible. Channel binding is not possible if the configuration forbids it, or if the connection provides no
    /// channel binding data.
    WithoutBinding,
    /// The user name or the password could not be prepared with SASLprep (RFC 4013). The mechanisms that both sides
    /// support require this preparation. It fails if the name or the password contains characters that SASLprep
    /// prohibits, if one of them is empty after SASLprep has removed characters, or if the prepared name exceeds 1,024
    /// octets.
    Unprepared,
    /// Every mechanism that is otherwise usable would send the password in a message that is too long for a line. In
    /// PLAIN, this message also contains the names.
    TooLong,
    /// Every usable mechanism would send the password or the token in the clear, because the connection does not use
    /// TLS.
    WithoutTls,
    /// The credentials contain the name of an account to act as, but none of the mechanisms that both sides support can
    /// send this name.
    ActingAs,
}

impl NoMechanism {
    /// Returns the `Display` text as a static string.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NotOffered => {
                "the server offers no way to sign in: send without a user name, or use another port or server"
            }
            Self::OnlyAfterTls => {
                "the server offers no usable way to sign in before TLS: use STARTTLS, or a port with implicit TLS"
            }
            Self::InCommon => {
                "the server offers no way to sign in that this client supports and is configured to use"
            }
            Self::OtherCredentials => {
                "the server takes other credentials than these, such as a password or an access token (OAuth)"
            }
            Self::WithoutBinding => {
                "a sign-in bound to the TLS connection is required, but only one of the two sides supports channel binding"
            }
            Self::Unprepared => {
                "the user name or password contains characters that no way to sign in to this server allows"
            }
            Self::TooLong => {
                "the password is too long for every way to sign in that the server offers"
            }
            Self::WithoutTls => {
                "the server offers no way to sign in that is safe without TLS: use STARTTLS, or a port with implicit TLS"
            }
            Self::ActingAs => {
                "the server offers no way to sign in as one account and act as another: leave out the account to act as"
            }
        }
    }
}
