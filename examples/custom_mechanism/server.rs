//! The server side of SECURID: the mechanism, and the accounts that it checks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use smtp_auth::{
    Secret,
    sasl::{
        Authenticator, Authorize, AuthorizeAnswer, Custom, CustomAnswer, Failure, Mechanism,
        ServerMechanism,
    },
};
use totp_rs::{Algorithm, TOTP};

use crate::message::{ONE_MORE, SECURID, SignIn};

/// The number of digits of a code, and for how many seconds it is shown.
const DIGITS: usize = 6;
const SECONDS: u64 = 30;
/// How many codes the token may be ahead or behind: without a further code, and with the next code as confirmation.
const NEAR: u64 = 1;
const FAR: u64 = 20;

/// Returns the token with this secret.
pub(crate) fn token(secret: &[u8]) -> TOTP {
    TOTP::new_unchecked(Algorithm::SHA1, DIGITS, 0, SECONDS, secret.to_vec())
}

pub(crate) struct Account {
    pin: Secret,
    token: TOTP,
    /// The time step of the last accepted code. Neither this code nor an older one is accepted again, which prevents a
    /// replay.
    used: u64,
}

impl Account {
    pub(crate) fn new(pin: &str, secret: &[u8]) -> Self {
        Self { pin: pin.into(), token: token(secret), used: 0 }
    }

    /// Checks a passcode, which is the PIN followed by the code of one of these time steps.
    fn check(&self, passcode: &str, places: impl Iterator<Item = u64>) -> Option<u64> {
        let pin_length = passcode.len().checked_sub(DIGITS)?;
        let (pin, code) = passcode.split_at_checked(pin_length)?;
        // All time steps are tried, so that the check takes the same time for each code.
        let place = places.filter(|place| self.token.check(code, place * SECONDS)).max()?;
        (self.pin == *pin && place > self.used).then_some(place)
    }
}

/// The result of checking a passcode.
enum Verdict {
    Good,
    Wrong,
    /// The passcode is correct, but the token's clock is far off. The code of this time step must follow.
    Unsure(u64),
}

/// The account store: the accounts, which of them may act as another, and a clock in seconds since 1970.
pub(crate) struct Accounts {
    accounts: Mutex<HashMap<&'static str, Account>>,
    may_act_as: Vec<(&'static str, &'static str)>,
    clock: fn() -> u64,
}

impl Accounts {
    pub(crate) fn new(
        accounts: impl IntoIterator<Item = (&'static str, Account)>,
        may_act_as: &[(&'static str, &'static str)],
        clock: fn() -> u64,
    ) -> Self {
        let accounts = Mutex::new(accounts.into_iter().collect());
        Self { accounts, may_act_as: may_act_as.to_vec(), clock }
    }

    fn check(&self, authcid: &str, passcode: &str, awaited: Option<u64>) -> Verdict {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // An account that does not exist is checked as well, because the time would otherwise reveal it.
        let mut nobody = Account { used: u64::MAX, ..Account::new("", &[0; 20]) };
        let account = accounts.get_mut(authcid).unwrap_or(&mut nobody);
        let now = (self.clock)() / SECONDS;
        let (first, last) = awaited.map_or((now.saturating_sub(FAR), now + FAR), |at| (at, at));
        match account.check(passcode, first..=last) {
            None => Verdict::Wrong,
            Some(place) if awaited.is_some() || place.abs_diff(now) <= NEAR => {
                account.used = place;
                Verdict::Good
            }
            Some(place) => Verdict::Unsure(place + 1),
        }
    }
}

/// The state of the mechanism in one exchange.
pub(crate) struct SecurId {
    accounts: Arc<Accounts>,
    /// The user whose next code is expected, and its time step.
    awaited: Option<(String, u64)>,
}

impl ServerMechanism for SecurId {
    fn step(&mut self, response: Option<&[u8]>) -> CustomAnswer {
        // The client begins. If it sent no initial response, an empty challenge asks for its message.
        let Some(response) = response else { return CustomAnswer::Challenge(Vec::new()) };
        let message = match SignIn::read(response) {
            Ok(message) => message,
            Err(why) => return CustomAnswer::Fail(Failure::Malformed(why)),
        };
        let awaited = match self.awaited.take() {
            Some((authcid, _)) if authcid != message.authcid => {
                return CustomAnswer::Fail(Failure::Malformed("the user name has changed"));
            }
            awaited => awaited.map(|(_, place)| place),
        };
        match self.accounts.check(message.authcid, message.passcode, awaited) {
            Verdict::Good => CustomAnswer::Accept {
                authcid: message.authcid.to_owned(),
                authzid: Some(message.authzid.to_owned()).filter(|name| !name.is_empty()),
            },
            Verdict::Wrong => CustomAnswer::Fail(Failure::Rejected),
            Verdict::Unsure(next) => {
                self.awaited = Some((message.authcid.to_owned(), next));
                CustomAnswer::Challenge(ONE_MORE.to_vec())
            }
        }
    }
}

/// The authenticator that the server asks.
pub(crate) struct Users(pub(crate) Arc<Accounts>);

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[SECURID]
    }

    fn custom(&self, ask: &mut Custom) -> CustomAnswer {
        ask.step_with(|| SecurId { accounts: Arc::clone(&self.0), awaited: None })
    }

    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        let may = |other| self.0.may_act_as.contains(&(ask.authcid(), other));
        ask.authzid().is_none_or(may).into()
    }
}
