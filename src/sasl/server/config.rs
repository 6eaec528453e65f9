//! What a server offers, and its policy.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use crate::{
    sasl::{
        BindingPolicy, Channel, ConfigError, Failure, Mechanism, Nonce, NonceError, ScramHash,
        ScramKeys, TokenError, scram_keys::Nobody,
    },
    secret::Secret,
};

type NonceSource = Box<dyn Fn() -> Result<Nonce, NonceError> + Send + Sync>;

/// What a server offers, and its policy. Shared by all of its exchanges, in an `Arc`.
pub struct Config {
    host: Box<str>,
    mechanisms: Vec<Mechanism>,
    nonce: Option<NonceSource>,
    cleartext: bool,
    /// Empty where there is no key for its salts.
    nobody: Vec<Nobody>,
    iterations: u32,
    binding: BindingPolicy,
    max_response: usize,
    token_error: TokenError,
}

impl Config {
    /// A server of that name which offers every compiled mechanism that takes a password, SCRAM
    /// first, and EXTERNAL where the [`Channel`] has an identity. A store that cannot answer for one
    /// of them is to leave it out by [`mechanisms`](Self::mechanisms): clients take the strongest
    /// on offer, and may give up where it fails. OAUTHBEARER, XOAUTH2, ANONYMOUS and those of the
    /// host's own are offered only where they are listed there.
    ///
    /// Those that send the password are offered only inside TLS, the -PLUS ones only where the
    /// [`Channel`] has binding data. Nonces are the operating system's. (Without the feature
    /// `getrandom` there are none of these: mechanisms that need one are offered once
    /// [`nonces`](Self::nonces) says where to take them.)
    ///
    /// # Errors
    /// [`ConfigError::HostName`] where the name is not printable ASCII without spaces, `<`, `>`.
    pub fn new(host: &str) -> Result<Self, ConfigError> {
        let good = |octet: u8| octet.is_ascii_graphic() && !b"<>".contains(&octet);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(good) {
            return Err(ConfigError::HostName);
        }
        Ok(Self {
            host: host.into(),
            mechanisms: Mechanism::COMPILED
                .iter()
                .copied()
                .filter(|own| own.takes_password() || *own == Mechanism::External)
                .collect(),
            #[cfg(feature = "getrandom")]
            nonce: Some(Box::new(Nonce::random)),
            #[cfg(not(feature = "getrandom"))]
            nonce: None,
            cleartext: false,
            #[cfg(feature = "getrandom")]
            nobody: Nonce::random()
                .map(|key| Nobody::of_each(&Secret::new(key.as_str())))
                .unwrap_or_default(),
            #[cfg(not(feature = "getrandom"))]
            nobody: Vec::new(),
            iterations: 4096,
            binding: BindingPolicy::Preferred,
            max_response: usize::MAX,
            token_error: TokenError::INVALID_TOKEN,
        })
    }

    /// The mechanisms to offer, in this order.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] where one's feature is off.
    pub fn mechanisms(mut self, mechanisms: &[Mechanism]) -> Result<Self, ConfigError> {
        self.mechanisms.clear();
        for &mechanism in mechanisms {
            if !mechanism.is_compiled() {
                return Err(ConfigError::NotCompiled(mechanism));
            }
            if !self.mechanisms.contains(&mechanism) {
                self.mechanisms.push(mechanism);
            }
        }
        Ok(self)
    }

    /// These mechanisms too, behind those listed already: tokens, say, beside what
    /// [`new`](Self::new) lists.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] where one's feature is off.
    pub fn also(self, mechanisms: &[Mechanism]) -> Result<Self, ConfigError> {
        let all = [&*self.mechanisms, mechanisms].concat();
        self.mechanisms(&all)
    }

    /// Another source of nonces. Each must be fresh and unpredictable; a fixed one is for tests.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.nonce = Some(Box::new(source));
        self
    }

    /// The key of the salts that SCRAM shows for accounts that do not exist. It has to stay the same
    /// over restarts, and over the servers of a cluster, or their salts tell them from real ones.
    /// By default it is random, made anew with each `Config`: give those of one server the same, as for
    /// two ports. With an empty one SCRAM is not offered.
    ///
    /// The salt is the name's as it was sent. A store that takes `Tim` for `tim` shows one salt for
    /// both if there is such an account, and two if not: it should know exact names only. An account
    /// that gets its keys, or others for another password, shows another salt from then on.
    pub fn salt_key(mut self, key: impl Into<Secret>) -> Self {
        let key = key.into();
        self.nobody = match key.expose() {
            "" => Vec::new(),
            _ => Nobody::of_each(&key),
        };
        self
    }

    /// How many iterations SCRAM shows for accounts that do not exist: as many as the store's keys
    /// have, or the number tells which exist; so the number for new keys goes up only with that of the
    /// others. By default 4,096 (RFC 7677 §4).
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations.max(1);
        self
    }

    /// Whether mechanisms that send the password are taken without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.cleartext = allow;
        self
    }

    /// Whether sign-ins are bound to the TLS connection: with [`None`](BindingPolicy::None) the -PLUS
    /// mechanisms are not offered, with [`Required`](BindingPolicy::Required) no other is. By
    /// default they are offered beside the others, and who could have seen them and says so is
    /// refused (RFC 5802 §6).
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.binding = policy;
        self
    }

    /// The longest response to take, in octets, decoded: what is longer ends the exchange by
    /// [`Failure::TooLong`]. So names, passwords and tokens are bounded, where the protocol's line
    /// (12,288 octets in SMTP) is too long for the store.
    pub fn max_response(mut self, octets: usize) -> Self {
        self.max_response = octets;
        self
    }

    /// What a client is told whose token is no good, or that asks without one where to get it: by
    /// default `invalid_token`, without more.
    pub fn token_error(mut self, error: TokenError) -> Self {
        self.token_error = error;
        self
    }

    /// The server's name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The mechanisms on offer over that connection, in order.
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
            Mechanism::CramMd5 => self.nonce.is_some(),
            Mechanism::External => channel.identity().is_some(),
            _ if ScramHash::of(mechanism).is_some() => {
                let bindable = !channel.bindings().is_empty();
                self.nonce.is_some()
                    && !self.nobody.is_empty()
                    && (!bound || bindable && self.binding != BindingPolicy::None)
            }
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
    /// host's own that is listed. An exchange with one that is not on offer ends in
    /// [`Failure::Unsupported`] or [`Failure::NeedsTls`].
    pub fn named(&self, name: impl AsRef<[u8]>) -> Option<Mechanism> {
        let name = name.as_ref();
        let own = |own: &&Mechanism| own.name().as_bytes().eq_ignore_ascii_case(name);
        Mechanism::known(name).or_else(|| self.mechanisms.iter().find(own)).copied()
    }

    pub(in crate::sasl) fn longest_response(&self) -> usize {
        self.max_response
    }

    pub(in crate::sasl) fn own_token_error(&self) -> &TokenError {
        &self.token_error
    }

    /// What SCRAM shows for an account that does not exist: keys that no password has. A store that
    /// checks the passwords of PLAIN and LOGIN by [`ScramKeys::check_password`] checks them against
    /// these where there is no account, so that it takes as long.
    pub fn keys_of_nobody(&self, hash: ScramHash, name: &str) -> ScramKeys {
        match self.nobody(hash) {
            Some(nobody) => nobody.keys_of(name, self.iterations),
            None => Nobody::new(hash, &Secret::new("")).keys_of(name, self.iterations),
        }
    }

    /// What SCRAM shows for accounts that do not exist; `None` where it is not on offer.
    pub(in crate::sasl) fn nobody(&self, hash: ScramHash) -> Option<&Nobody> {
        self.nobody.iter().find(|nobody| nobody.keys().hash() == hash)
    }

    /// How many iterations it shows for them.
    pub(in crate::sasl) fn iterations(&self) -> u32 {
        self.iterations
    }

    pub(in crate::sasl) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(|source| source().ok()).ok_or(Failure::TempFail)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("host", &self.host)
            .field("mechanisms", &self.mechanisms)
            .field("cleartext", &self.cleartext)
            .finish_non_exhaustive()
    }
}
