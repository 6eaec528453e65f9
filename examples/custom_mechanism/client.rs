//! SECURID on the client.

use smtp_auth::{
    Secret,
    sasl::client::{ClientMechanism, CustomResponse},
};

use crate::message::{ONE_MORE, SignIn};

/// The mechanism; one value for each exchange.
pub(crate) struct SecurId<F> {
    /// Asks the user, who reads the token and knows the PIN, for the PIN and the code after it; another code each time.
    pub(crate) passcode: F,
    pub(crate) authcid: String,
    /// The account to act as, where it is another.
    pub(crate) authzid: Option<String>,
}

impl<F: FnMut() -> Secret + Send + Sync + 'static> ClientMechanism for SecurId<F> {
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
        // GNU SASL leaves the NUL out.
        if !matches!(challenge, None | Some(ONE_MORE | b"passcode")) {
            return CustomResponse::Fail;
        }
        let passcode = (self.passcode)();
        let message = SignIn {
            authzid: self.authzid.as_deref().unwrap_or_default(),
            authcid: &self.authcid,
            passcode: passcode.expose(),
        };
        // The server may be content with any of them, and proves nothing itself.
        CustomResponse::Complete(message.write())
    }
}
