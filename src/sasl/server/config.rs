//! What a server offers, and its policy.

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

/// What a server offers, and its policy; [`builder`](Self::builder) makes one. Shared by all of its exchanges, in an
/// `Arc`.
#[derive(Clone)]
pub struct Config {
    hostname: Box<str>,
    mechanisms: Vec<Mechanism>,
    nonce: Option<NonceSource>,
    cleartext: bool,
    /// One for each hash; empty where SCRAM is not listed.
    decoys: Vec<Decoys>,
    iterations: u32,
    binding: BindingPolicy,
    rules: Rules,
    token_error: TokenError,
}

impl Config {
    /// A configuration to be built, for a server of that name. [`answered_by`](Builder::answered_by) or
    /// [`mechanisms`](Builder::mechanisms) has to be called, all else has a default.
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

    /// A server's name, as it may stand in a challenge and in a greeting.
    pub(crate) fn check_host(host: &str) -> Result<(), ConfigError> {
        let good = |octet: u8| octet.is_ascii_graphic() && !b"<>".contains(&octet);
        let good = (1..=255).contains(&host.len()) && host.bytes().all(good);
        if good { Ok(()) } else { Err(ConfigError::HostName) }
    }

    /// For a server at which nobody can authenticate.
    pub(crate) fn without_mechanisms(hostname: &str) -> Self {
        Self::builder(hostname).config
    }

    /// The server's name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The mechanisms on offer over that connection, in order: those that send a password or a token only inside
    /// TLS, unless [cleartext is allowed](Builder::allow_cleartext); the -PLUS ones only where the [`Channel`]
    /// has binding data; EXTERNAL only where it has an identity.
    pub fn offered(&self, channel: &Channel) -> impl Iterator<Item = Mechanism> {
        let listed = self.mechanisms.iter().copied();
        listed.filter(|own| self.can(*own, channel) && self.may(*own, channel))
    }

    /// Whether any of them binds to the connection.
    pub(in crate::sasl) fn offers_binding(&self, channel: &Channel) -> bool {
        let bound = |own: &Mechanism| own.binds_channel() && self.can(*own, channel);
        self.mechanisms.iter().any(bound)
    }

    /// Whether there is what the mechanism needs, and the policy for channel binding allows it.
    fn can(&self, mechanism: Mechanism, channel: &Channel) -> bool {
        let bound = mechanism.binds_channel();
        let supplied = match mechanism {
            Mechanism::External => channel.identity().is_some(),
            _ if bound => !channel.bindings().is_empty() && self.binding != BindingPolicy::None,
            _ => true,
        };
        supplied && (bound || self.binding != BindingPolicy::Required)
    }

    /// Whether the mechanism may be used with the TLS that there is, or is not.
    fn may(&self, mechanism: Mechanism, channel: &Channel) -> bool {
        let tls = channel.is_tls() || self.cleartext;
        tls || !mechanism.needs_tls()
    }

    /// Whether the mechanism can be used over that connection.
    pub(crate) fn admit(&self, mechanism: Mechanism, channel: &Channel) -> Result<(), Failure> {
        // Most take PLAIN or LOGIN, which stand behind the stronger ones.
        let listed = self.mechanisms.iter().rev().any(|own| *own == mechanism);
        if !listed || !self.can(mechanism, channel) {
            Err(Failure::Unsupported)
        } else if !self.may(mechanism, channel) {
            Err(Failure::NeedsTls)
        } else {
            Ok(())
        }
    }

    /// The mechanism of that name, in any case: one that the crate has, on offer or not, or one of the
    /// application's own that is listed. An exchange with one that is not on offer ends in
    /// [`Failure::Unsupported`] or [`Failure::NeedsTls`].
    pub fn named(&self, name: impl AsRef<[u8]>) -> Option<Mechanism> {
        let name = name.as_ref();
        let own = |own: &&Mechanism| own.name().as_bytes().eq_ignore_ascii_case(name);
        Mechanism::known(name).or_else(|| self.mechanisms.iter().find(own)).copied()
    }

    /// Whether everybody who is proven is asked about: see [`Builder::authorize_always`].
    pub fn authorizes_always(&self) -> bool {
        self.rules.authorize_always
    }

    #[cfg(feature = "smtp")]
    pub(crate) fn set_authorize_always(&mut self, always: bool) {
        self.rules.authorize_always = always;
    }

    /// An account's name, [folded](Builder::fold_names): what the store is asked for, and what a rate limit
    /// counts by. `None` for a name that no account can have.
    pub fn fold(&self, name: &str) -> Option<Box<str>> {
        self.rules
            .fold(name)
            .ok()
            .map(|folded| folded.map_or_else(|| name.into(), |folded| *folded))
    }

    /// What SCRAM shows for an account that does not exist: keys that no password has, with the salt of its
    /// [folded](Self::fold) name. A store that checks the passwords of PLAIN and LOGIN by
    /// [`ScramKeys::check_password`] checks them against these where there is no account, so that it takes
    /// as long.
    ///
    /// `None` where no mechanism of SCRAM is listed.
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

    /// How many iterations SCRAM shows for accounts that do not exist.
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

/// A [`Config`] to be built.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    config: Config,
    without: Vec<Mechanism>,
    /// Those that the authenticator answers for, if it was asked.
    answered: Option<Vec<Mechanism>>,
    /// Whether it answers who may come in.
    authorizes: bool,
    salt_key: Option<Secret>,
}

impl Builder {
    /// Offers what that authenticator [can answer for](Authenticator::mechanisms), in its order;
    /// [`build`](Self::build) fails where anything else is on offer.
    ///
    /// To see that it does answer, `authorize`, and each of its methods that a listed mechanism needs, is called once,
    /// here and now and on this thread, for an account that cannot exist: the name, or for a token the account to act as, is
    /// `nobody@smtp-auth.invalid`, the password, token or digest `x`; a guest has no trace. Only a mechanism of the
    /// application's own is taken on trust. So the methods may block here, and count one failure each; those that
    /// may not be called here, as they wait for threads that do not run yet, want `mechanisms(users.mechanisms())`
    /// instead, with which nothing is called and nothing checked. Those that wait for a runtime belong in an
    /// [`AsyncAuthenticator`], and to [`answered_by_async`](Self::answered_by_async).
    pub fn answered_by(self, users: &(impl Authenticator + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with(users));
        self.answered(probes)
    }

    /// [`answered_by`](Self::answered_by) for an authenticator that changes as it answers.
    pub fn answered_by_mut(self, users: &mut (impl AuthenticatorMut + ?Sized)) -> Self {
        let mut probes = Probes::new(users.mechanisms());
        probes.queries().for_each(|query| query.answer_with_mut(users));
        self.answered(probes)
    }

    /// [`answered_by`](Self::answered_by) for an authenticator that has to be waited for. Its methods are awaited one after
    /// the other.
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

    /// The mechanisms to offer, in this order: **those that the application can answer for**, and no
    /// others, as clients take the strongest on offer and may give up where it fails. For an application that
    /// has no [`Authenticator`], or does not offer all that its authenticator can answer for.
    ///
    /// | mechanism | what the accounts need |
    /// | --- | --- |
    /// | PLAIN, LOGIN | a password, or a hash of it |
    /// | SCRAM-SHA-1, -SHA-256, -SHA-512 | [`ScramKeys`] of this hash |
    /// | CRAM-MD5 | a [`CramSecret`](crate::sasl::CramSecret) |
    /// | OAUTHBEARER, XOAUTH2 | a way to check tokens |
    /// | EXTERNAL | the name in a client's certificate |
    /// | ANONYMOUS | nothing: it lets guests in |
    /// | one of the application's own | [what it does](crate::sasl::Custom) |
    ///
    /// SCRAM brings its -PLUS form, which needs the same keys, in front of it;
    /// [`without`](Self::without) takes it out.
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

    /// How an account's name is folded, so that an account has one name: by default
    /// [`prepare`] (SASLprep), else [`prepare_lower_case`](crate::sasl::prepare_lower_case),
    /// [`as_sent`](crate::sasl::as_sent), or a function of the application's own. The store is asked for the result,
    /// decoy salts are made of it, and rate limits count by it, whether there is such an account or not. The
    /// [`Identity`](crate::sasl::Identity) has it, unless the store [names another](crate::sasl::Answer::of).
    pub fn fold_names(mut self, fold: FoldName) -> Self {
        self.config.rules.fold = fold;
        self
    }

    /// Whether [`Authorize`](crate::sasl::Authorize) is asked of everybody who is proven, by any mechanism, and not only
    /// where the client named another account to act as. For an application that has something to say after the proof:
    /// that the account is disabled, or its password has expired. Off by default. The authenticator has to have its
    /// method `authorize` written, or nobody comes in: `454`, and [`ConfigError::Authorize`] where
    /// [`answered_by`](Self::answered_by) was called.
    pub fn authorize_always(mut self, always: bool) -> Self {
        self.config.rules.authorize_always = always;
        self
    }

    /// Another source of nonces. Each must be fresh and unpredictable; a fixed one is for tests. By default they
    /// are the operating system's, with the feature `getrandom`.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.config.nonce = Some(NonceSource::new(source));
        self
    }

    /// The key of the salts that SCRAM shows for accounts that do not exist: 16 octets or more, secret and
    /// unpredictable. It has to stay the same over restarts, and over the servers of a cluster, or their salts
    /// tell such accounts from real ones. By default it is random, made anew by each
    /// [`build`](Self::build), with the feature `getrandom`: share one `Config` in all of a server's
    /// connections and ports.
    ///
    /// The salt is that of the [folded](Self::fold_names) name. An account that gets its keys, or others for
    /// another password, shows another salt from then on.
    pub fn salt_key(mut self, key: impl Into<Secret>) -> Self {
        self.salt_key = Some(key.into());
        self
    }

    /// How many iterations SCRAM shows for accounts that do not exist: as many as the store's keys
    /// have, or the number tells which exist; so the number for new keys goes up only with that of the
    /// others. By default 4,096 (RFC 7677 §4).
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.config.iterations = iterations.max(1);
        self
    }

    /// Whether mechanisms that send the password are taken without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.config.cleartext = allow;
        self
    }

    /// Whether authentication is bound to the TLS connection: with [`None`](BindingPolicy::None) the -PLUS
    /// mechanisms are not offered, with [`Required`](BindingPolicy::Required) no other is. By
    /// default they are offered beside the others, and a client that supports them and says that it saw none is
    /// refused: somebody has changed the list on the way (RFC 5802 §6).
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.config.binding = policy;
        self
    }

    /// The longest response to take, in octets, decoded: what is longer ends the exchange by
    /// [`Failure::TooLong`]. So names, passwords and tokens are bounded, where the protocol's line
    /// (12,288 octets in SMTP) is too long for the store.
    pub fn max_response(mut self, octets: usize) -> Self {
        self.config.rules.max_response = u32::try_from(octets).unwrap_or(u32::MAX);
        self
    }

    /// What a client is told whose token is no good, or that asks without one where to get it: by
    /// default `invalid_token`, without more.
    pub fn token_error(mut self, error: TokenError) -> Self {
        self.config.token_error = error;
        self
    }

    /// The configuration, if it is complete and nothing in it contradicts the rest.
    ///
    /// # Errors
    /// [`ConfigError::NotImplemented`] where a mechanism is left that the
    /// [authenticator](Self::answered_by) does not answer for, [`ConfigError::Authorize`] where it does not say who may
    /// come in and [is to](Self::authorize_always);
    /// [`ConfigError::HostName`] where the name is not 1 to 255 octets of printable ASCII without spaces, `<`,
    /// `>`; [`ConfigError::NoMechanism`] where none is listed, or left; [`ConfigError::NotCompiled`] for one
    /// whose feature is off; [`ConfigError::NothingBinds`] where channel binding is required and no -PLUS
    /// mechanism is left; [`ConfigError::NoNonces`] and [`ConfigError::SaltKey`] where a mechanism needs random
    /// numbers, or a key, that there are not; `SaltKey` also for a key of fewer than 16 octets.
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
        // A key that is given and no good is a mistake, whether it is needed or not.
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
