//! The answers to the questions of an exchange: the store, the threads for hashing, the decoys and the limits together.

use core::{net::IpAddr, time::Duration};
use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use smtp_auth::{
    ConfigError, Secret,
    sasl::{
        Answer, AsyncAuthenticator, Authorize, AuthorizeAnswer, Channel, CheckPassword, CramSecret,
        CramSecretFor, Mechanism, ScramKeys, ScramKeysFor, server::Config as Sasl,
    },
};

use tokio::sync::mpsc;

use crate::{
    clock::{now_ms, now_s},
    config::Config,
    credential::{Credential, Scheme},
    decoys::Decoys,
    hashing::Hashing,
    limiter::Limiter,
    metrics::Metrics,
    store::{Found, Store, StoreError},
};

/// The last use of a password is noted once in this time, in seconds, so that not every success is a write.
const USE_AGAIN: i64 = 60 * 60;

/// The maximum number of uses that wait to be noted.
const MAX_USES: usize = 1024;

/// The maximum length of a client's response, in octets. Names and passwords of 256 octets fit, and so do all messages of
/// SCRAM. The limit bounds the memory for the open exchanges of a connection.
const MAX_RESPONSE: usize = 1024;

/// The maximum time between the look-up of an account and the end of its exchange. In a longer exchange, the account could
/// have been disabled, or its password changed, after the look-up.
const MAX_AGE: Duration = Duration::from_secs(30);

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) store: Store,
    pub(crate) hashing: Hashing,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) metrics: Metrics,
    /// Whether the last query has failed, so that the log says so once.
    is_down: AtomicBool,
    /// The secret that all processes share, from which decoys are derived.
    secret: Secret,
    offer: RwLock<Arc<Offer>>,
    /// The uses of passwords to be noted: an account, the password's label, and the time.
    uses: mpsc::Sender<(String, String, i64)>,
}

/// The mechanisms on offer, which depend on the configuration and on the credentials of the accounts.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) sasl: Arc<Sasl>,
    decoys: Decoys,
    /// The mechanisms of SCRAM that are not offered, and how many passwords of enabled accounts lack keys for each.
    missing: Vec<(Scheme, u64)>,
    pub(crate) failure_delay: Duration,
    /// Whether the names of authenticated accounts are logged.
    pub(crate) logs_names: bool,
}

/// Why no mechanisms can be offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the mechanisms cannot be offered: {0}")]
    Config(#[from] ConfigError),
}

impl Offer {
    /// Looks at the accounts: SCRAM is offered only while every enabled account has its keys, or where the
    /// configuration asks for it.
    async fn make(config: &Config, store: &Store, secret: &Secret) -> Result<Self, OfferError> {
        let (mut mechanisms, mut missing) = (config.mechanisms(), Vec::new());
        for scheme in config.hashes().into_iter().filter_map(Scheme::scram) {
            let count = store.count_without(scheme).await?;
            let is_listed = mechanisms.iter().any(|own| own.name() == scheme.name());
            if count > 0 && is_listed && !config.accounts.scram_always {
                mechanisms.retain(|own| own.name() != scheme.name());
                missing.push((scheme, count));
            }
        }
        let decoys = Decoys::new(secret.expose(), store.costs().await?, config.accounts.iterations);
        let sasl = Sasl::builder(&config.hostname)
            .mechanisms(mechanisms)
            .fold_names(config.fold())
            .salt_key(secret.clone())
            .max_response(MAX_RESPONSE)
            .authorize_always(true)
            .build()?;
        Ok(Self {
            sasl: Arc::new(sasl),
            decoys,
            missing,
            failure_delay: Duration::from_millis(config.limits.failure_delay_ms),
            logs_names: config.log.names,
        })
    }

    /// Returns the names of the mechanisms on offer.
    fn names(&self) -> String {
        let names: Vec<_> = self.sasl.offered(&Channel::tls()).map(|own| own.name()).collect();
        names.join(" ")
    }

    fn log(&self) {
        tracing::info!(mechanisms = self.names(), "on offer");
        for (scheme, count) in &self.missing {
            tracing::warn!(
                mechanism = scheme.name(),
                passwords = count,
                "not offered, as passwords of enabled accounts have no keys for it: see `account list --without-scram`"
            );
        }
    }
}

impl Service {
    /// Reads the shared secrets, and looks at the accounts.
    pub(crate) async fn start(
        config: &Config,
        store: Store,
        hashing: Hashing,
    ) -> Result<Self, OfferError> {
        let secret = Secret::new(store.secret("decoys").await?);
        let limiter = Arc::new(Limiter::new(&config.limits, &store.secret("limits").await?));
        let offer = Arc::new(Offer::make(config, &store, &secret).await?);
        offer.log();
        let offer = RwLock::new(offer);
        let (metrics, is_down) = (Metrics::default(), AtomicBool::new(false));
        let (uses, noted) = mpsc::channel(MAX_USES);
        tokio::spawn(note_uses(store.clone(), noted));
        Ok(Self { store, hashing, limiter, metrics, is_down, secret, offer, uses })
    }

    /// Looks at the accounts again. New connections get the new offer.
    pub(crate) async fn refresh(&self, config: &Config) -> Result<(), OfferError> {
        let offer = Arc::new(Offer::make(config, &self.store, &self.secret).await?);
        let mut current = self.offer.write().unwrap_or_else(PoisonError::into_inner);
        if current.missing != offer.missing || current.names() != offer.names() {
            offer.log();
        }
        *current = offer;
        Ok(())
    }

    async fn find(&self, name: &str) -> Result<Option<Found>, StoreError> {
        let found = self.store.find(name).await;
        match &found {
            Err(error) => {
                self.metrics.database_errors.fetch_add(1, Ordering::Relaxed);
                if !self.is_down.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "accounts cannot be looked up: clients are asked to try again later");
                }
            }
            Ok(_) if self.is_down.swap(false, Ordering::Relaxed) => {
                tracing::info!("accounts are looked up again")
            }
            Ok(_) => {}
        }
        found
    }

    /// Notes a success. The reply does not wait for the database.
    pub(crate) fn authenticated(&self, account: &str, address: Option<IpAddr>, used: Option<Used>) {
        self.limiter.authenticated(address, account, now_ms());
        let now = now_s();
        let Some(used) =
            used.filter(|used| used.last.is_none_or(|last| now.saturating_sub(last) >= USE_AGAIN))
        else {
            return;
        };
        // If many are waiting, the password's next use is noted instead.
        let _ = self.uses.try_send((account.into(), used.label, now));
    }

    /// Answers once the client is authenticated. Many connections may wait between SCRAM's keys and the proof, so the
    /// limit is looked at again. No account may act as another. A look-up that is too old is a temporary failure.
    pub(crate) fn authorize(
        &self,
        ask: &Authorize,
        address: Option<IpAddr>,
        looked_up: Option<&LookUp>,
    ) -> AuthorizeAnswer {
        if self.limiter.is_limited(address, ask.authcid(), now_ms()) || ask.authzid().is_some() {
            return AuthorizeAnswer::Reject;
        }
        match looked_up {
            Some(look_up) if look_up.at.elapsed() > MAX_AGE => AuthorizeAnswer::TempFail,
            _ => AuthorizeAnswer::Accept,
        }
    }

    pub(crate) fn offer(&self) -> Arc<Offer> {
        Arc::clone(&self.offer.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notes uses one after the other. So a table that is locked occupies one connection to the database, and the look-ups
/// have the others.
async fn note_uses(store: Store, mut uses: mpsc::Receiver<(String, String, i64)>) {
    while let Some((account, label, at)) = uses.recv().await {
        if let Err(error) = store.note_use(&account, &label, at).await {
            tracing::debug!(%error, "the last use of a password was not noted");
        }
    }
}

/// The authenticator of one question.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) service: Arc<Service>,
    pub(crate) offer: Arc<Offer>,
    /// The client's address, if the socket is trusted and the mail server sent one.
    pub(crate) address: Option<IpAddr>,
    pub(crate) looked_up: OnceLock<LookUp>,
}

/// What the look-up of an account found.
#[derive(Debug)]
pub(crate) struct LookUp {
    at: Instant,
    /// `None` if the account does not exist.
    pub(crate) password: Option<Used>,
    /// Why the answer is that to a wrong password, for the log.
    pub(crate) locked: Option<&'static str>,
}

/// The password that the exchange is about.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) account: String,
    label: String,
    /// When it was last used, in seconds since 1970.
    last: Option<i64>,
}

impl Asked {
    /// Turns an answer into one to a wrong password, if the attempt is limited, or the account may not be used. Neither
    /// can be told from a wrong password by the reply or by its time.
    fn judge<T>(&self, answer: Answer<T>, found: Option<&Found>, name: &str) -> Answer<T> {
        let account = found.map_or(name, |found| &found.account);
        let is_limited = self.service.limiter.is_limited(self.address, account, now_ms());
        let unusable = found.and_then(Found::unusable);
        let locked = unusable.or_else(|| is_limited.then_some("limited"));
        let password = found.map(|found| Used {
            account: found.account.clone(),
            label: found.label.clone(),
            last: found.last_used,
        });
        let _ = self.looked_up.set(LookUp { at: Instant::now(), password, locked });
        let answer = if locked.is_some() { answer.lock() } else { answer };
        match found {
            Some(found) => answer.of(&*found.account),
            None => answer,
        }
    }
}

impl Found {
    /// Returns why the password may not be used, if that is so.
    fn unusable(&self) -> Option<&'static str> {
        match self.expires {
            _ if !self.is_enabled => Some("disabled"),
            Some(expires) if now_s() >= expires => Some("expired"),
            _ => None,
        }
    }

    fn credential(&self, scheme: Option<Scheme>) -> Option<&Credential> {
        let scheme = scheme?;
        self.credentials.iter().find(|own| own.scheme() == scheme)
    }
}

impl AsyncAuthenticator for Asked {
    fn mechanisms(&self) -> &[Mechanism] {
        &[]
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        let name = ask.authcid();
        // The connection may have begun days ago, and the accounts may have changed since. Every name costs a decoy, so that
        // its time does not tell one that does not exist.
        let decoy = self.service.offer().decoys.credential(&self.offer.sasl, name);
        let Ok(found) = self.service.find(name).await else { return Answer::temp_fail() };
        let own = found.as_ref().and_then(|found| found.credential(found.checks)).cloned();
        let is_real = own.is_some();
        let Some(credential) = own.or(decoy) else { return Answer::temp_fail() };
        let password = ask.password().clone();
        let checked = self.service.hashing.run(move || credential.check_password(&password)).await;
        let Ok(is_right) = checked else { return Answer::temp_fail() };
        self.judge((is_right && is_real).into(), found.as_ref(), name)
    }

    async fn cram_secret(&self, ask: &CramSecretFor) -> Answer<CramSecret> {
        let Ok(found) = self.service.find(ask.authcid()).await else { return Answer::temp_fail() };
        let secret = match found.as_ref().and_then(|found| found.credential(Some(Scheme::CramMd5)))
        {
            Some(Credential::CramMd5(secret)) => Some(secret.clone()),
            _ => None,
        };
        self.judge(secret.into(), found.as_ref(), ask.authcid())
    }

    async fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let name = ask.authcid();
        // No proof fits them.
        let decoy = self.service.offer().decoys.scram_keys(&self.offer.sasl, ask.hash(), name);
        let Ok(found) = self.service.find(name).await else { return Answer::temp_fail() };
        let own = found.as_ref().and_then(|found| found.credential(Scheme::scram(ask.hash())));
        let keys = match own {
            Some(Credential::Scram(keys)) => Some(keys.clone()),
            _ => decoy,
        };
        self.judge(keys.into(), found.as_ref(), name)
    }
}
