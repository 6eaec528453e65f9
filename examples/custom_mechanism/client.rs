//! SECURID on the client: the mechanism, and the user who has the token.

use smtp_auth::{
    Secret,
    sasl::client::{ClientMechanism, CustomResponse},
};

use crate::message::{Request, SignIn};

/// Who reads the token and knows the PIN: a dialogue box, say.
pub(crate) trait User: Send + Sync + 'static {
    /// The PIN and the code behind it; another code each time.
    fn passcode(&mut self) -> Secret;

    /// A new PIN, or none if the user does not want one. The server may suggest one.
    fn new_pin(&mut self, suggested: Option<&str>) -> Option<Secret>;
}

/// The mechanism; one value for each exchange.
pub(crate) struct SecurId<U> {
    pub(crate) user: U,
    pub(crate) authcid: String,
    /// The account to act as, where it is another.
    pub(crate) authzid: Option<String>,
}

impl<U: User> ClientMechanism for SecurId<U> {
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
        let new_pin = match challenge.map(Request::read) {
            // The initial response.
            None => None,
            Some(Some(Request::Passcode)) => None,
            Some(Some(Request::NewPin(suggested))) => match self.user.new_pin(suggested) {
                Some(pin) => Some(pin),
                None => return CustomResponse::Fail,
            },
            Some(None) => return CustomResponse::Fail,
        };
        let passcode = self.user.passcode();
        let message = SignIn {
            authzid: self.authzid.as_deref().unwrap_or_default(),
            authcid: &self.authcid,
            passcode: passcode.expose(),
            pin: new_pin.as_ref().map(Secret::expose),
        };
        // The server may be content with any of them, and proves nothing itself.
        CustomResponse::Complete(message.write())
    }
}
