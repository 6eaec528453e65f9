//! The answers to failures.

use alloc::{borrow::Cow, format};

use super::{FailCode, ServerLine};
use crate::sasl::{Failure, Refusal, RefusalKind};

/// Returns whether the client may try the same credentials again later.
pub(super) fn is_temporary(failure: Failure) -> bool {
    matches!(failure, Failure::TempFail | Failure::NotImplemented(_))
}

/// Returns the answer to a failure. People read the reason, because Postfix adds it to its `535` reply.
pub(super) fn fail<'a>(id: u32, failure: Failure, refusal: Option<&'a Refusal>) -> ServerLine<'a> {
    let (code, reason): (_, Cow<'a, str>) = match failure {
        Failure::Syntax => (None, "The request is malformed".into()),
        Failure::Unsupported => (None, "This mechanism is not offered here".into()),
        Failure::NeedsTls => (None, "Encryption is required: use TLS first".into()),
        Failure::UnexpectedInitialResponse => {
            (None, "This mechanism takes no initial response".into())
        }
        Failure::InitialResponseEncoding => {
            (None, "The initial response is not valid base64".into())
        }
        Failure::Cancelled => (None, "Authentication cancelled".into()),
        Failure::Encoding => (None, "The response is not valid base64".into()),
        Failure::TooLong => (None, "The response is too long".into()),
        Failure::Malformed(what) => (None, format!("Malformed credentials: {what}").into()),
        // All of these have the same text and no code, which prevents user enumeration and does not reveal a correct
        // password.
        Failure::Rejected | Failure::Locked | Failure::NoSecret | Failure::NotAuthorized => {
            (None, "The user name, password or token is wrong".into())
        }
        Failure::Downgrade | Failure::ChannelBinding => {
            (None, "The channel binding does not match this connection".into())
        }
        Failure::TempFail | Failure::NotImplemented(_) => {
            (Some(FailCode::TempFail), "Cannot check credentials now, try again later".into())
        }
        Failure::Refused(kind) => {
            let code = match kind {
                RefusalKind::AccountDisabled => FailCode::UserDisabled,
                RefusalKind::PasswordExpired => FailCode::PassExpired,
                RefusalKind::NeedsAppPassword | RefusalKind::OverQuota | RefusalKind::Other => {
                    FailCode::AuthzFail
                }
            };
            let text = refusal.map(Refusal::text);
            (
                Some(code),
                text.map_or_else(|| format!("{kind}"), |text| text.replace('\n', " ")).into(),
            )
        }
        Failure::TransitionNeeded => {
            (None, "A transition is needed: sign in with another mechanism first".into())
        }
        Failure::TooWeak => {
            (None, "This mechanism is too weak for the account, use another".into())
        }
    };
    ServerLine::Fail { id, reason: Some(reason), code }
}
