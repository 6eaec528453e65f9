//! What a client may use, and how it chooses.

use alloc::{sync::Arc, vec::Vec};
use core::fmt;

use super::{Credentials, Failure};
use crate::sasl::{BindingPolicy, Channel, ConfigError, Mechanism, Nonce, NonceError, ScramHash};

/// What a client may use, and its policy.
#[derive(Clone, Debug)]
pub struct Config {
    mechanisms: Vec<Mechanism>,
    cleartext: bool,
    nonce: Option<NonceSource>,
    iterations: (u32, u32),
    binding: BindingPolicy,
}

/// In an `Arc`, so that a configuration can be cloned.
#[derive(Clone)]
struct NonceSource(Arc<dyn Fn() -> Result<Nonce, NonceError> + Send + Sync>);

impl fmt::Debug for NonceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSource")
    }
}

impl Default for Config {
    /// Every compiled mechanism, the strongest first, those that send a password or a token only
    /// inside TLS, bound to the TLS connection where that can be.
    fn default() -> Self {
        Self {
            mechanisms: Mechanism::COMPILED.to_vec(),
            cleartext: false,
            #[cfg(feature = "getrandom")]
            nonce: Some(NonceSource(Arc::new(Nonce::random))),
            #[cfg(not(feature = "getrandom"))]
            nonce: None,
            iterations: (4096, 600_000),
            binding: BindingPolicy::Preferred,
        }
    }
}

impl Config {
    /// The mechanisms to use, the preferred first. One alone means that one or none. One of the host's
    /// own is used only where it is listed here. Which of them fit depends on the credentials: a
    /// password is never sent as a token, nor a token as a password, and ANONYMOUS is for
    /// [`Credentials::anonymous`] alone.
    ///
    /// # Errors
    /// [`ConfigError::NotCompiled`] where one's feature is off.
    pub fn mechanisms(mut self, mechanisms: &[Mechanism]) -> Result<Self, ConfigError> {
        if let Some(&off) = mechanisms.iter().find(|mechanism| !mechanism.is_compiled()) {
            return Err(ConfigError::NotCompiled(off));
        }
        self.mechanisms = mechanisms.to_vec();
        Ok(self)
    }

    /// Whether mechanisms that send the password or a token are used without TLS, where anyone on the way
    /// can read it. Off by default.
    pub fn allow_cleartext(mut self, allow: bool) -> Self {
        self.cleartext = allow;
        self
    }

    /// Another source of nonces, which SCRAM needs. Each must be fresh and unpredictable; a fixed one
    /// is for tests.
    pub fn nonces(
        mut self,
        source: impl Fn() -> Result<Nonce, NonceError> + Send + Sync + 'static,
    ) -> Self {
        self.nonce = Some(NonceSource(Arc::new(source)));
        self
    }

    /// How many iterations a server may ask of SCRAM: fewer make the password cheap to guess, more
    /// keep the client busy. By default 4,096 (RFC 7677 §4) to 600,000. `to` is `from` at least.
    pub fn scram_iterations(mut self, from: u32, to: u32) -> Self {
        self.iterations = (from, to.max(from));
        self
    }

    /// Whether sign-ins are bound to the TLS connection (RFC 5802 §6), for which the [`Channel`] needs
    /// binding data.
    pub fn channel_binding(mut self, policy: BindingPolicy) -> Self {
        self.binding = policy;
        self
    }

    pub(in crate::sasl) fn iteration_bounds(&self) -> (u32, u32) {
        self.iterations
    }

    pub(in crate::sasl) fn nonce(&self) -> Result<Nonce, Failure> {
        self.nonce.as_ref().and_then(|source| (source.0)().ok()).ok_or(Failure::NoNonce)
    }

    /// The mechanism of that name, in any case: one that the crate has, or one of the host's own that is
    /// listed.
    pub fn named(&self, name: &str) -> Option<Mechanism> {
        let own = |own: &Mechanism| own.name().eq_ignore_ascii_case(name);
        Mechanism::from_name(name).or_else(|| self.mechanisms.iter().copied().find(own))
    }

    /// The preferred mechanism of those that fit the credentials and the connection and for which
    /// `offered` says yes.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(
        &self,
        credentials: &Credentials,
        channel: &Channel,
        offered: impl Fn(Mechanism) -> bool,
    ) -> Result<Choice, NoMechanism> {
        self.choose_but(&[], credentials, channel, offered)
    }

    /// The same, but for those that were tried already.
    pub(crate) fn choose_but(
        &self,
        tried: &[Mechanism],
        credentials: &Credentials,
        channel: &Channel,
        offered: impl Fn(Mechanism) -> bool,
    ) -> Result<Choice, NoMechanism> {
        let in_common = |own: &Mechanism| offered(*own) && !tried.contains(own);
        let mut left = self.mechanisms.iter().copied().filter(in_common);
        let mut obstacle = (0, NoMechanism::InCommon);
        let mechanism = left.find(|&own| match self.obstacle(own, credentials, channel) {
            None => true,
            Some(found) => {
                // What came the furthest tells the most.
                if found.0 >= obstacle.0 {
                    obstacle = found;
                }
                false
            }
        });
        let mechanism = mechanism.ok_or(obstacle.1)?;
        // One that came to nothing may be on the list only to be refused by who stands between.
        let seen =
            |known: &Mechanism| known.binds_channel() && offered(*known) && !tried.contains(known);
        Ok(Choice { mechanism, binding_not_seen: !Mechanism::KNOWN.iter().any(seen) })
    }

    /// Why the mechanism cannot be used with these credentials over that connection, and how far it
    /// came.
    fn obstacle(
        &self,
        own: Mechanism,
        credentials: &Credentials,
        channel: &Channel,
    ) -> Option<(usize, NoMechanism)> {
        let scram = ScramHash::of(own).is_some();
        let bound = own.binds_channel();
        type Test<'a> = &'a dyn Fn() -> bool;
        let tests: [(NoMechanism, Test<'_>); 8] = [
            (NoMechanism::InCommon, &|| self.mechanisms.contains(&own)),
            (NoMechanism::OtherCredentials, &|| credentials.fit(own)),
            (NoMechanism::ActingAs, &|| credentials.name_all(own)),
            (NoMechanism::WithoutBinding, &|| !bound || self.can_bind(channel)),
            (NoMechanism::WithoutBinding, &|| bound || self.binding != BindingPolicy::Required),
            (NoMechanism::InCommon, &|| !scram || self.nonce.is_some()),
            (NoMechanism::Unprepared, &|| !scram || credentials.can_be_prepared()),
            (NoMechanism::WithoutTls, &|| channel.is_tls() || self.cleartext || !own.needs_tls()),
        ];
        let failed = tests.iter().position(|(_, passes)| !passes())?;
        tests.get(failed).map(|(why, _)| (failed, *why))
    }

    /// Whether there is what binds a sign-in to the connection, and the policy lets it be used.
    pub(in crate::sasl) fn can_bind(&self, channel: &Channel) -> bool {
        !channel.bindings().is_empty() && self.binding != BindingPolicy::None
    }

    /// Whether the mechanism can be used with these credentials over that connection.
    pub(super) fn admit(
        &self,
        mechanism: Mechanism,
        credentials: &Credentials,
        channel: &Channel,
    ) -> Result<(), Failure> {
        match self.obstacle(mechanism, credentials, channel) {
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

/// A mechanism to sign in by, and what the client has seen of the server's others.
///
/// [`Config::choose`] makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    mechanism: Mechanism,
    binding_not_seen: bool,
}

impl Choice {
    /// A mechanism that the caller has from elsewhere than the server's list. What was struck out of
    /// the list on the way is not found out then (RFC 5802 §6).
    pub fn without_list(mechanism: Mechanism) -> Self {
        Self { mechanism, binding_not_seen: false }
    }

    /// The mechanism.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Whether it is known that the server offers no channel binding.
    pub(in crate::sasl) fn binding_not_seen(&self) -> bool {
        self.binding_not_seen
    }
}

/// Why no mechanism can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoMechanism {
    /// The server has no AUTH.
    #[error(
        "the server offers no way to sign in: send without a user name, or use another port or server"
    )]
    NotOffered,
    /// The server has STARTTLS, may offer more behind it, and the client has not begun TLS.
    #[error(
        "the server offers no usable way to sign in before TLS: use TLS, by STARTTLS or on a port that begins with it"
    )]
    OnlyAfterTls,
    /// Of the server's mechanisms the client has none, or may use none.
    #[error("the server offers no way to sign in that this client has, or is told to use")]
    InCommon,
    /// What there is in common takes other credentials: passwords where there is a token, say.
    #[error(
        "the server takes other credentials than these: a password, say, or an access token (OAuth)"
    )]
    OtherCredentials,
    /// What there is in common is not bound to the TLS connection, which the configuration requires;
    /// or is, and the client has no data to bind by.
    #[error(
        "a sign-in bound to the TLS connection is required, which only one of the two sides can do"
    )]
    WithoutBinding,
    /// The user name or the password has characters that SASLprep (RFC 4013) does not allow, or is empty
    /// without those that it drops; and no mechanism in common does without.
    #[error("the user name or password holds characters that no way to sign in here allows")]
    Unprepared,
    /// All that could be used would show the password or the token, as there is no TLS.
    #[error(
        "the server offers no way to sign in that is safe without TLS: use TLS, by STARTTLS or on a port that begins with it"
    )]
    WithoutTls,
    /// None of those in common can act as another account, which the credentials ask for.
    #[error(
        "the server offers no way to sign in as one account and act as another: leave that out"
    )]
    ActingAs,
}
