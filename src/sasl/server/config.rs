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

/// The mechanisms that a server offers, and its policy. [`builder`](Self::builder) makes one.
///
/// All exchanges of a server share one configuration, in an `Arc`.
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
    /// Returns a builder for a server of that name: 1 to 255 octets of printable ASCII, without spaces, `<` and `>`.
    ///
    /// Call [`answered_by`](Builder::answered_by), its variants, or [`mechanisms`](Builder::mechanisms). Everything
    /// else has a default.
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

    /// The configuration of a server at which nobody can authenticate.
    pub(crate) fn without_mechanisms(hostname: &str) -> Self {
        Self::builder(hostname).config
    }

    /// Returns the server's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Returns the mechanisms that are on offer over this connection, in their order.
    ///
    /// Mechanisms that [need TLS](Mechanism::needs_tls) are among them only inside TLS, unless [cleartext is
    /// allowed](Builder::allow_cleartext). The -PLUS mechanisms need a [`Channel`] with binding data, and EXTERNAL
    /// needs one with an identity.
    pub fn offered(&self, channel: &Channel) -> impl Iterator<Item = Mechanism> {
        let listed = self.mechanisms.iter().copied();
        listed.filter(|own| self.can(*own, channel) && self.may(*own, channel))
    }

    /// Returns whether a mechanism with channel binding is on offer.
    pub(in crate::sasl) fn offers_binding(&self, channel: &Channel) -> bool {
        let bound = |own: &Mechanism| own.binds_channel() && self.can(*own, channel);
        self.mechanisms.iter().any(bound)
    }

    /// Returns whether the connection has what the mechanism needs, and the policy for channel binding allows it.
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

    /// Returns the mechanism of that name, compared without case: any mechanism of this crate, whether it is on offer
    /// or not, or a custom mechanism that is listed.
    ///
    /// An exchange with a mechanism that is not on offer ends in [`Failure::Unsupported`] or [`Failure::NeedsTls`].
    pub fn named(&self, name: impl AsRef<[u8]>) -> Option<Mechanism> {
        let name = name.as_ref();
        let own = |own: &&Mechanism| own.name().as_bytes().eq_ignore_ascii_case(name);
        Mechanism::known(name).or_else(|| self.mechanisms.iter().find(own)).copied()
    }

    /// Returns whether the application is asked about every authenticated client: see [`Builder::authorize_always`].
    pub fn authorizes_always(&self) -> bool {
        self.rules.authorize_always
    }

    #[cfg(feature = "smtp")]
    pub(crate) fn set_authorize_always(&mut self, always: bool) {
        self.rules.authorize_always = always;
    }

    /// Returns the [folded](Builder::fold_names) form of an account's name: the one to look up, and the one to count
    /// by for rate limiting. `None` for a name that no account can have.
    pub fn fold(&self, name: &str) -> Option<Box<str>> {
        self.rules
            .fold(name)
            .ok()
            .map(|folded| folded.map_or_else(|| name.into(), |folded| *folded))
    }

    /// Returns the decoy keys of SCRAM for an account that does not exist. No password matches them, and their salt
    /// is derived from the [folded](Self::fold) name.
    ///
    /// A store that checks the passwords of PLAIN and LOGIN with [`ScramKeys::check_password`] should check a
    /// password against these keys if the account does not exist. Both cases then take the same time, which prevents
    /// user enumeration by a timing attack.
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

    /// Returns the number of iterations that decoy keys have.
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

/// Builds a [`Config`].
#[derive(Clone)]
#[must_use]
pub struct Builder {
    config: Config,
    without: Vec<Mechanism>,
    /// The mechanisms that the authenticator answered for, if it was asked.
    answered: Option<Vec<Mechanism>>,
    /// Whether it answers [`Authorize`](crate::sasl::Authorize) without an account to act as.
    authorizes: bool,
    salt_key: Option<Secret>,
}

impl Builder {
    /// Offers the mechanisms that this authenticator [lists](Authenticator::mechanisms), in its order.
    ///
    /// To check that the authenticator implements what it lists, this calls its methods for an account that cannot
    /// exist: `authorize`, and each method that a listed mechanism needs, once. The account's name, or for a token
    /// the account to act as, is `nobody@smtp-auth.invalid`; the password, token or digest is `x`; a guest has no
    /// trace. Only custom mechanisms are not checked. [`build`](Self::build) fails if a mechanism is on offer that
    /// the authenticator does not answer for.
    ///
    /// The calls are made right here, on this thread. So a method may block now, and may count a failed attempt. If
    /// your methods cannot be called yet, for example because they wait for threads that do not run yet, use
    /// `mechanisms(users.mechanisms())` instead, which calls and checks nothing. If they await an async runtime,
    /// implement [`AsyncAuthenticator`] and use [`answered_by_async`](Self::answered_by_async).
    pub fn answered_by(self, users: &(impl Authenticator + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with(users));
        self.answered(probes)
    }

    /// Like [`answered_by`](Self::answered_by), for an authenticator that changes as it answers.
    pub fn answered_by_mut(self, users: &mut (impl AuthenticatorMut + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with_mut(users));
        self.answered(probes)
    }

    /// Like [`answered_by`](Self::answered_by), for an async authenticator. Its methods are awaited one after
    /// another.
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
    /// List only **those that the application can answer for**: clients use the strongest mechanism on offer, and may
    /// give up if it fails. This method is for an application that has no [`Authenticator`], or offers only some of
    /// the mechanisms that its authenticator can answer for.
    ///
    /// | mechanism | what the accounts need |
    /// | --- | --- |
    /// | PLAIN, LOGIN | a password, or a hash of it |
    /// | SCRAM-SHA-1, -SHA-256, -SHA-512 | [`ScramKeys`] of this hash |
    /// | CRAM-MD5 | a [`CramSecret`](crate::sasl::CramSecret) |
    /// | OAUTHBEARER, XOAUTH2 | a way to check tokens |
    /// | EXTERNAL | the name in a client's certificate |
    /// | ANONYMOUS | nothing: it lets guests in |
    /// | a custom mechanism | [whatever it needs](crate::sasl::Custom) |
    ///
    /// Each SCRAM mechanism adds its -PLUS form in front of it, which needs the same keys. [`without`](Self::without)
    /// removes that again.
    pub fn mechanisms(
        mut self,
        mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>,
    ) -> Self {
        self.config.mechanisms = Mechanism::list(mechanisms);
        self
    }

    /// Removes these mechanisms, no matter how they were listed.
    pub fn without(mut self, mechanisms: impl IntoIterator<Item = impl Borrow<Mechanism>>) -> Self {
        self.without.extend(mechanisms.into_iter().map(|mechanism| *mechanism.borrow()));
        self
    }

    /// Sets the function that folds an account's name, so that every spelling of it becomes one name.
    ///
    /// The default is [`prepare`] (SASLprep). The alternatives are
    /// [`prepare_lower_case`](crate::sasl::prepare_lower_case), [`as_sent`](crate::sasl::as_sent), or a custom
    /// function. The folded name is the one to look up, to derive decoy salts from, and to count by for rate
    /// limiting, whether the account exists or not. The [`Identity`](crate::sasl::Identity) contains it, unless the
    /// store [names another account](crate::sasl::Answer::of).
    pub fn fold_names(mut self, fold: FoldName) -> Self {
        self.config.rules.fold = fold;
        self
    }

    /// Sets whether [`Authorize`](crate::sasl::Authorize) is asked about every authenticated client, with any
    /// mechanism. By default it is asked only if the client names another account to act as.
    ///
    /// Turn it on if the application may still refuse a client after the proof, for example because the account is
    /// disabled or its password has expired. The authenticator must then implement `authorize`; otherwise every
    /// client is refused with `454`. If [`answered_by`](Self::answered_by) was called, [`build`](Self::build) returns
    /// [`ConfigError::Authorize`] instead.
    pub fn authorize_always(mut self, always: bool) -> Self {
        self.config.rules.authorize_always = always;
        self
    }

    /// Sets another source of nonces. Each nonce must be fresh and unpredictable, or recorded exchanges can be
    /// replayed; use fixed ones only in tests. By default, with the feature `getrandom`, nonces come from the
    /// operating system.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.config.nonce = Some(NonceSource::new(source));
        self
    }

    /// Sets the key from which the salts of SCRAM's decoy keys are derived: 16 octets or more, secret and
    /// unpredictable.
    ///
    /// The key must stay the same across restarts, and on all servers of a cluster. Otherwise the salts change and
    /// reveal which accounts do not exist (user enumeration). By default, with the feature `getrandom`, each
    /// [`build`](Self::build) makes a random key: share one `Config` among all of a server's connections and ports.
    ///
    /// The salt is derived from the [folded](Self::fold_names) name. It changes visibly once an account is given
    /// keys, or new keys for another password.
    pub fn salt_key(mut self, key: impl Into<Secret>) -> Self {
        self.salt_key = Some(key.into());
        self
    }

    /// Sets the number of iterations of SCRAM's decoy keys, at least 1. The default is 4,096 (RFC 7677 §4).
    ///
    /// It must be the number that the keys of real accounts have, or it reveals which accounts exist. So raise the
    /// number for new keys only when you raise it for all of them.
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.config.iterations = iterations.max(1);
        self
    }

    /// Sets whether mechanisms that [need TLS](Mechanism::needs_tls) are accepted without TLS. An eavesdropper can
    /// then read the password or the token. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.config.cleartext = allow;
        self
    }

    /// Sets whether authentication must be bound to the TLS connection (channel binding).
    ///
    /// By default, [`Preferred`](BindingPolicy::Preferred), the -PLUS mechanisms are offered beside the others. If a
    /// client that supports channel binding reports that none was on offer, the server refuses it, because a
    /// man-in-the-middle has removed them from the list (a downgrade attack, RFC 5802 §6). With
    /// [`None`](BindingPolicy::None) the -PLUS mechanisms are not offered; with [`Required`](BindingPolicy::Required)
    /// no others are.
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.config.binding = policy;
        self
    }

    /// Sets the length of the longest response, in octets, after decoding. A longer one ends the exchange in
    /// [`Failure::TooLong`].
    ///
    /// This bounds names, passwords and tokens, if the longest line of the protocol (12,288 octets in SMTP) is too
    /// long for your store. By default there is no further bound.
    pub fn max_response(mut self, octets: usize) -> Self {
        self.config.rules.max_response = u32::try_from(octets).unwrap_or(u32::MAX);
        self
    }

    /// Sets the error for a client that sends an invalid token, or that sends none to ask where to get one. The
    /// default is `invalid_token` without further fields.
    pub fn token_error(mut self, error: TokenError) -> Self {
        self.config.token_error = error;
        self
    }

    /// Returns the configuration, if it is complete and consistent.
    ///
    /// # Errors
    /// - [`ConfigError::HostName`]: the server's name is not 1 to 255 octets of printable ASCII without spaces, `<`
    ///   and `>`.
    /// - [`ConfigError::NoMechanism`]: no mechanism is listed, or none is left.
    /// - [`ConfigError::NotCompiled`]: the feature of a listed mechanism is off.
    /// - [`ConfigError::NothingBinds`]: channel binding is required, and no -PLUS mechanism is left.
    /// - [`ConfigError::NotImplemented`]: the [authenticator](Self::answered_by) does not answer for a mechanism on
    ///   offer.
    /// - [`ConfigError::Authorize`]: the authenticator does not implement `authorize`, which
    ///   [`authorize_always`](Self::authorize_always) needs.
    /// - [`ConfigError::NoNonces`]: a mechanism needs random numbers, and there is no source of nonces.
    /// - [`ConfigError::SaltKey`]: the salt key has fewer than 16 octets, or SCRAM is on offer and there is no key.
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
