//! The configuration of a server.

use alloc::{boxed::Box, vec::Vec};
use core::{borrow::Borrow, fmt};

use crate::{
    sasl::{
        Authenticator, AuthenticatorMut, BindingPolicy, Channel, ConfigError, Failure, FoldName,
        Mechanism, Nonce, NonceError, NonceSource, ScramHash, ScramKeys, TokenError,
        names::Rules,
        prepare,
        query::{AsyncAuthenticator, Probes, QueryJob},
        scram_keys::Decoys,
    },
    secret::Secret,
};

/// The configuration of a server: the mechanisms that it offers, and its policies. Use [`builder`](Self::builder) to
/// create a configuration.
///
/// All exchanges of a server share one configuration in an `Arc`.
#[derive(Clone)]
pub struct Config {
    hostname: Box<str>,
    mechanisms: Vec<Mechanism>,
    nonce: Option<NonceSource>,
    cleartext: bool,
    /// One for each compiled hash; empty if no SCRAM mechanism is listed.
    decoys: Vec<Decoys>,
    iterations: u32,
    binding: BindingPolicy,
    rules: Rules,
    token_error: TokenError,
}

impl Config {
    /// Returns a builder for a server with this host name. The host name must be 1 to 255 octets of printable ASCII
    /// without spaces, `<` and `>`.
    ///
    /// To set the mechanisms, call [`answered_by`](Builder::answered_by), one of its variants, or
    /// [`mechanisms`](Builder::mechanisms). All other settings have defaults.
    pub fn builder(hostname: &str) -> Builder {
        Builder {
            config: Self {
                hostname: hostname.into(),
                mechanisms: Vec::new(),
                #[cfg(feature = "getrandom")]
                nonce: Some(NonceSource::new(Nonce::random)),
                #[cfg(not(feature = "getrandom"))]
                nonce: None,
                cleartext: false,
                decoys: Vec::new(),
                iterations: 4096,
                binding: BindingPolicy::Preferred,
                rules: Rules { max_response: u32::MAX, fold: prepare, authorize_always: false },
                token_error: TokenError::INVALID_TOKEN,
            },
            without: Vec::new(),
            answered: None,
            authorizes: true,
            salt_key: None,
        }
    }

    /// Checks a server's name, as it appears in a challenge and in the greeting.
    pub(crate) fn check_host(host: &str) -> Result<(), ConfigError> {
        let good = |octet: u8| octet.is_ascii_graphic() && !b"<>".contains(&octet);
        let good = (1..=255).contains(&host.len()) && host.bytes().all(good);
        if good { Ok(()) } else { Err(ConfigError::HostName) }
    }

    /// Creates the configuration of a server that offers no mechanism.
    pub(crate) fn without_mechanisms(hostname: &str) -> Self {
        Self::builder(hostname).config
    }

    /// Returns the server's host name, as it was passed to [`builder`](Self::builder).
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the mechanisms that the server offers on this connection, in the configured order.
    ///
    /// Mechanisms that [need TLS](Mechanism::needs_tls) are offered only over TLS, unless [cleartext is
    /// allowed](Builder::allow_cleartext). The -PLUS mechanisms are offered only if the [`Channel`] contains binding
    /// data. EXTERNAL is offered only if the `Channel` contains an identity.
    pub fn offered(&self, channel: &Channel) -> impl Iterator<Item = Mechanism> {
        let listed = self.mechanisms.iter().copied();
        listed.filter(|own| self.can(*own, channel) && self.may(*own, channel))
    }

    /// Returns whether the server offers a mechanism with channel binding.
    pub(in crate::sasl) fn offers_binding(&self, channel: &Channel) -> bool {
        let bound = |own: &Mechanism| own.binds_channel() && self.can(*own, channel);
        self.mechanisms.iter().any(bound)
    }

    /// Returns whether the connection provides the data that the mechanism needs, and the policy for channel binding
    /// allows the mechanism.
    fn can(&self, mechanism: Mechanism, channel: &Channel) -> bool {
        let bound = mechanism.binds_channel();
        let supplied = match mechanism {
            Mechanism::External => channel.identity().is_some(),
            _ if bound => !channel.bindings().is_empty() && self.binding != BindingPolicy::None,
            _ => true,
        };
        supplied && (bound || self.binding != BindingPolicy::Required)
    }

    /// Returns whether the mechanism may be used on this connection, with TLS or without.
    fn may(&self, mechanism: Mechanism, channel: &Channel) -> bool {
        let tls = channel.is_tls() || self.cleartext;
        tls || !mechanism.needs_tls()
    }

    /// Checks whether the mechanism can be used on this connection.
    pub(crate) fn admit(&self, mechanism: Mechanism, channel: &Channel) -> Result<(), Failure> {
        // Most clients use PLAIN or LOGIN, which are listed last.
        let listed = self.mechanisms.iter().rev().any(|own| *own == mechanism);
        if !listed || !self.can(mechanism, channel) {
            Err(Failure::Unsupported)
        } else if !self.may(mechanism, channel) {
            Err(Failure::NeedsTls)
        } else {
            Ok(())
        }
    }

    /// Returns the mechanism with this name, ignoring case. The method finds all mechanisms that the crate implements,
    /// whether or not the server offers them, and the custom mechanisms in this configuration.
    ///
    /// An exchange with a mechanism that is not offered ends in [`Failure::Unsupported`] or [`Failure::NeedsTls`].
    pub fn named(&self, name: impl AsRef<[u8]>) -> Option<Mechanism> {
        let name = name.as_ref();
        let own = |own: &&Mechanism| own.name().as_bytes().eq_ignore_ascii_case(name);
        Mechanism::known(name).or_else(|| self.mechanisms.iter().find(own)).copied()
    }

    /// Returns whether the application is asked about every authenticated client (see [`Builder::authorize_always`]).
    pub fn authorizes_always(&self) -> bool {
        self.rules.authorize_always
    }

    #[cfg(feature = "smtp")]
    pub(crate) fn set_authorize_always(&mut self, always: bool) {
        self.rules.authorize_always = always;
    }

    /// Returns the [folded](Builder::fold_names) form of an account name. Use this form to look up the account, and
    /// as a key for rate limiting. Returns `None` if no account can have the name.
    pub fn fold(&self, name: &str) -> Option<Box<str>> {
        self.rules
            .fold(name)
            .ok()
            .map(|folded| folded.map_or_else(|| name.into(), |folded| *folded))
    }

    /// Returns SCRAM decoy keys for an account that does not exist. No password matches them, and their salt is
    /// derived from the [folded](Self::fold) name.
    ///
    /// A store that checks the passwords of PLAIN and LOGIN with [`ScramKeys::check_password`] should check the
    /// password against these keys if the account does not exist. The check then takes the same time whether or not
    /// the account exists, which prevents user enumeration by a timing attack.
    ///
    /// Returns `None` if no SCRAM mechanism is listed.
    pub fn decoy_keys(&self, hash: ScramHash, name: &str) -> Option<ScramKeys> {
        let folded = self.rules.fold(name).ok().flatten();
        let folded = folded.as_deref().map_or(name, |folded| &**folded);
        Some(self.decoys(hash)?.keys_of(folded, self.iterations))
    }

    pub(in crate::sasl) fn rules(&self) -> Rules {
        self.rules
    }

    pub(in crate::sasl) fn own_token_error(&self) -> &TokenError {
        &self.token_error
    }

    pub(in crate::sasl) fn decoys(&self, hash: ScramHash) -> Option<&Decoys> {
        self.decoys.iter().find(|decoys| decoys.keys().hash() == hash)
    }

    /// Returns the iteration count of the decoy keys.
    pub(in crate::sasl) fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(in crate::sasl) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(NonceSource::fresh).ok_or(Failure::TempFail)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("hostname", &self.hostname)
            .field("mechanisms", &self.mechanisms)
            .field("cleartext", &self.cleartext)
            .finish_non_exhaustive()
    }
}

/// A builder for a [`Config`], created with [`Config::builder`]. All settings except the mechanisms have defaults.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    config: Config,
    without: Vec<Mechanism>,
    /// The mechanisms that the authenticator implements, if it was asked.
    answered: Option<Vec<Mechanism>>,
    /// Whether it answers [`Authorize`](crate::sasl::Authorize) without an account to act as.
    authorizes: bool,
    salt_key: Option<Secret>,
}

impl Builder {
    /// Offers the mechanisms that this authenticator [lists](Authenticator::mechanisms), in the same order. The -PLUS
    /// form of each SCRAM mechanism is inserted before that mechanism.
    ///
    /// To check that the authenticator implements the mechanisms that it lists, this method asks it about an account
    /// that cannot exist. For each listed mechanism, `answered_by` calls the method that the mechanism needs. Finally,
    /// it calls `authorize` once. In these calls, the account's name is `nobody@smtp-auth.invalid`. In the question
    /// about a token, this is the name of the account to act as. The password, token or digest is `x`, and a guest
    /// sends no trace. Custom mechanisms are not checked. [`build`](Self::build) fails if the server offers a mechanism
    /// that the authenticator does not implement.
    ///
    /// The methods are called immediately, on the current thread. They may block the thread or count a failed attempt,
    /// as they do when they answer any other question. If your methods cannot be called yet, for example because they
    /// wait for threads that are not running yet, use `mechanisms(users.mechanisms())` instead. `mechanisms` does not
    /// call the methods, and does not check that they are implemented. If your methods have to be awaited, implement
    /// [`AsyncAuthenticator`] and use [`answered_by_async`](Self::answered_by_async).
    pub fn answered_by(self, users: &(impl Authenticator + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with(users));
        self.answered(probes)
    }

    /// Like [`answered_by`](Self::answered_by), but for an [`AuthenticatorMut`], whose methods take `&mut self`.
    pub fn answered_by_mut(self, users: &mut (impl AuthenticatorMut + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with_mut(users));
        self.answered(probes)
    }

    /// Like [`answered_by`](Self::answered_by), but for an async authenticator. The authenticator's methods are awaited
    /// one after another.
    pub async fn answered_by_async(self, users: &impl AsyncAuthenticator) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        for query in probes.queries() {
            query.answer_with_async(users).await;
        }
        self.answered(probes)
    }

    fn answered(mut self, Probes { mechanisms: probes, authorize }: Probes) -> Self {
        let listed: Vec<_> = probes.iter().map(|(own, _)| *own).collect();
        let implemented =
            |job: &Option<QueryJob>| job.as_ref().is_none_or(QueryJob::is_implemented);
        let answered = probes.iter().filter(|(_, job)| implemented(job)).map(|(own, _)| *own);
        self.answered = Some(Mechanism::list(answered));
        self.authorizes = authorize.is_implemented();
        self.mechanisms(listed)
    }

    /// Sets the mechanisms to offer, in this order.
    ///
    /// List only mechanisms that **the application supports for its accounts**. This is because clients use the
    /// strongest mechanism that is offered, and may give up if they cannot authenticate with it. Use this method if the
    /// application does not use an [`Authenticator`], or offers only some of the mechanisms that its authenticator
    /// lists.
    ///
    /// | mechanism | what the application needs |
    /// | --- | --- |
    /// | PLAIN, LOGIN | each account's password, or a hash of the password |
    /// | SCRAM-SHA-1, SCRAM-SHA-256, SCRAM-SHA-512 | each account's [`ScramKeys`] for this hash |
    /// | CRAM-MD5 | each account's [`CramSecret`](crate::sasl::CramSecret) |
    /// | OAUTHBEARER, XOAUTH2 | a way to check tokens |
    /// | EXTERNAL | a way to find the account for the name in a client's certificate |
    /// | ANONYMOUS | nothing, because clients are guests |
    /// | a custom mechanism | [whatever the mechanism needs](crate::sasl::Custom) |
    ///
    /// The -PLUS form of each SCRAM mechanism is inserted before that mechanism, and needs the same keys. To remove
    /// the -PLUS form, use [`without`](Self::without).
    pub fn mechanisms(
        mut self,
        mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>,
    ) -> Self {
        self.config.mechanisms = Mechanism::list(mechanisms);
        self
    }

    /// Removes these mechanisms from the list. The method can also remove -PLUS forms that were inserted automatically.
    /// If this method is called several times, the mechanisms of all calls are removed. The method can be called before
    /// or after the mechanisms are set.
    pub fn without(mut self, mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>) -> Self {
        self.without.extend(mechanisms.into_iter().map(|mechanism| *mechanism.borrow()));
        self
    }

    /// Sets the function that folds account names, that is, converts all spellings of an account's name into one
    /// spelling.
    ///
    /// The default is [`prepare`] (SASLprep). The alternatives are
    /// [`prepare_lower_case`](crate::sasl::prepare_lower_case), [`as_sent`](crate::sasl::as_sent), and a custom
    /// function. The folded name is used to look up the account, to derive decoy salts, and as the key for rate
    /// limiting, whether or not the account exists. The [`Identity`](crate::sasl::Identity) contains the folded name,
    /// unless the store [names another account](crate::sasl::Answer::of).
    pub fn fold_names(mut self, fold: FoldName) -> Self {
        self.config.rules.fold = fold;
        self
    }

    /// Sets whether the exchange asks the [`Authorize`](crate::sasl::Authorize) question about every authenticated
    /// client, regardless of the mechanism. By default, the question is asked only if the client wants to act as
    /// another account.
    ///
    /// Enable this setting if the application may refuse a client after the client has been authenticated, for example
    /// because the account is disabled or its password has expired. The authenticator must then implement `authorize`.
    /// If the method is missing and [`answered_by`](Self::answered_by) was called, [`build`](Self::build) returns
    /// [`ConfigError::Authorize`]. If the method is missing and `answered_by` was not called, every client is refused
    /// with a `454` reply.
    pub fn authorize_always(mut self, always: bool) -> Self {
        self.config.rules.authorize_always = always;
        self
    }

    /// Sets the source of nonces. Each nonce must be fresh and unpredictable. Otherwise, recorded exchanges can be
    /// replayed. Use fixed nonces only in tests. With the `getrandom` feature, nonces come from the operating system's
    /// random source by default.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.config.nonce = Some(NonceSource::new(source));
        self
    }

    /// Sets the key from which the salts of SCRAM's decoy keys are derived. The key must be at least 16 octets long,
    /// secret and unpredictable.
    ///
    /// The key must stay the same across restarts, and on all servers of a cluster. Otherwise, the salts change and
    /// reveal which accounts do not exist (user enumeration). With the `getrandom` feature, each [`build`](Self::build)
    /// generates a random key by default. If you use this default, share one `Config` among all of a server's
    /// connections and ports.
    ///
    /// Each decoy salt is derived from the [folded](Self::fold_names) name. When an account receives its first keys,
    /// or new keys for another password, a client can see that the salt has changed.
    pub fn salt_key(mut self, key: impl Into<Secret>) -> Self {
        self.salt_key = Some(key.into());
        self
    }

    /// Sets the iteration count of SCRAM's decoy keys. The minimum is 1, and the default is 4,096 (RFC 7677 §4).
    ///
    /// The count must equal the iteration count of the real accounts' keys. Otherwise, the count reveals which accounts
    /// exist. Therefore, raise the count for new keys only when you raise it for all keys.
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.config.iterations = iterations.max(1);
        self
    }

    /// Sets whether mechanisms that [need TLS](Mechanism::needs_tls) are accepted without TLS. By default, they are
    /// refused. Without TLS, an eavesdropper can read the password or the token.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.config.cleartext = allow;
        self
    }

    /// Sets whether authentication must be bound to the TLS connection (channel binding).
    ///
    /// - With [`Preferred`](BindingPolicy::Preferred), the default, the -PLUS mechanisms are offered in addition to
    ///   the other mechanisms. If a client that supports channel binding reports that the server offered no -PLUS
    ///   mechanism, the server refuses the client. This is because a man-in-the-middle must have removed these
    ///   mechanisms from the list (a downgrade attack, RFC 5802 §6).
    /// - With [`None`](BindingPolicy::None), the -PLUS mechanisms are not offered.
    /// - With [`Required`](BindingPolicy::Required), only the -PLUS mechanisms are offered.
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.config.binding = policy;
        self
    }

    /// Sets the maximum length of a response in octets, after decoding. A longer response ends the exchange in
    /// [`Failure::TooLong`].
    ///
    /// Use this setting to limit names, passwords and tokens if your store cannot handle everything that fits into
    /// the protocol's longest line (12,288 octets in SMTP). By default, there is no additional limit.
    pub fn max_response(mut self, octets: usize) -> Self {
        self.config.rules.max_response = u32::try_from(octets).unwrap_or(u32::MAX);
        self
    }

    /// Sets the error that a client receives if it sends an invalid token. A client that sends no token, in order
    /// to ask where it can get a token, receives this error as well. The default is `invalid_token` without further
    /// fields.
    pub fn token_error(mut self, error: TokenError) -> Self {
        self.config.token_error = error;
        self
    }

    /// Checks the settings, and returns the configuration.
    ///
    /// # Errors
    /// - [`ConfigError::HostName`]: the server's name is not 1 to 255 octets of printable ASCII without spaces, `<`
    ///   and `>`.
    /// - [`ConfigError::NoMechanism`]: no mechanism is listed, or all have been removed.
    /// - [`ConfigError::NotCompiled`]: the Cargo feature of a listed mechanism is disabled.
    /// - [`ConfigError::NothingBinds`]: channel binding is required, but no -PLUS mechanism is left.
    /// - [`ConfigError::NotImplemented`]: the [authenticator](Self::answered_by) does not implement a mechanism that
    ///   the server offers.
    /// - [`ConfigError::Authorize`]: the authenticator does not implement `authorize`, which
    ///   [`authorize_always`](Self::authorize_always) needs.
    /// - [`ConfigError::NoNonces`]: a mechanism needs random numbers, but there is no source of nonces.
    /// - [`ConfigError::SaltKey`]: the salt key is shorter than 16 octets, or the server offers SCRAM but there is no
    ///   key.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Self { mut config, without, answered, authorizes, salt_key } = self;
        Config::check_host(&config.hostname)?;
        config.mechanisms.retain(|own| !without.contains(own));
        if config.mechanisms.is_empty() {
            return Err(ConfigError::NoMechanism);
        }
        Mechanism::check(&config.mechanisms, config.binding)?;
        let unanswered =
            |own: &&Mechanism| answered.as_ref().is_some_and(|answered| !answered.contains(own));
        if let Some(own) = config.mechanisms.iter().find(unanswered) {
            return Err(ConfigError::NotImplemented(*own));
        }
        if config.rules.authorize_always && !authorizes {
            return Err(ConfigError::Authorize);
        }
        let scram = |own: &Mechanism| ScramHash::of(*own).is_some();
        let challenges = |own: &Mechanism| scram(own) || *own == Mechanism::CramMd5;
        if let (Some(own), None) =
            (config.mechanisms.iter().find(|own| challenges(own)), &config.nonce)
        {
            return Err(ConfigError::NoNonces(*own));
        }
        // A key that is too short is a mistake, even if no mechanism needs it.
        let salt_key = match salt_key {
            Some(key) if key.expose().len() < 16 => return Err(ConfigError::SaltKey),
            Some(key) => Some(key),
            None => random_key(),
        };
        if config.mechanisms.iter().any(scram) {
            config.decoys = Decoys::of_each(&salt_key.ok_or(ConfigError::SaltKey)?);
        }
        Ok(config)
    }
}

#[cfg(feature = "getrandom")]
fn random_key() -> Option<Secret> {
    Nonce::random().ok().map(|key| Secret::new(key.as_str()))
}

#[cfg(not(feature = "getrandom"))]
fn random_key() -> Option<Secret> {
    None
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("without", &self.without)
            .finish_non_exhaustive()
    }
}
