//! The client side of SECURID.

use smtp_auth::{
    Secret,
    sasl::client::{ClientMechanism, CustomResponse},
};

use crate::message::{ONE_MORE, SignIn};

/// The state of the mechanism in one exchange.
pub(crate) struct SecurId<F> {
    /// Asks the user for the PIN followed by the code that the token shows. Each call returns another code.
    pub(crate) passcode: F,
    pub(crate) authcid: String,
    /// The account to act as, if it is a different one.
    pub(crate) authzid: Option<String>,
}

impl<F: FnMut() -> Secret + Send + Sync + 'static> ClientMechanism for SecurId<F> {
    fn step(&mut self, challenge: Option<&[u8]>) -> CustomResponse {
        // GNU SASL omits the NUL.
        if !matches!(challenge, None | Some(ONE_MORE | b"passcode")) {
            return CustomResponse::Fail;
        }
        let passcode = (self.passcode)();
        let message = SignIn {
            authzid: self.authzid.as_deref().unwrap_or_default(),
            authcid: &self.authcid,
            passcode: passcode.expose(),
        };
        // The server may accept any of the client's messages, and does not prove anything itself.
        CustomResponse::Complete(message.write())
    }
}
