//! The texts of errors that are the same each time, as `&'static str`.

use smtp_auth::{
    client::EnvelopeError,
    reply::InvalidReply,
    sasl::{
        ConfigError, CramSecret, Failure, Mechanism, NonceError, RefusalKind, ScramKeys,
        client::{self, NoMechanism},
    },
};

/// `Display` says the same, or what varies besides.
#[track_caller]
fn all<E: ToString>(
    errors: impl IntoIterator<Item = E>,
    text: impl Fn(&E) -> &'static str,
    fixed: bool,
) {
    for error in errors {
        let (own, shown) = (text(&error), error.to_string());
        assert_eq!(own == shown, fixed, "{own}, {shown}");
        assert!(fixed || shown.split(' ').take(2).any(|word| own.contains(word)), "{own}, {shown}");
    }
}

#[test]
fn fixed_texts() {
    use Failure::{
        Cancelled, ChannelBinding, Downgrade, Encoding, InitialResponseEncoding, Locked, Malformed,
        NeedsTls, NoSecret, NotAuthorized, NotImplemented, Rejected, Syntax, TempFail, TooLong,
        TooWeak, TransitionNeeded, UnexpectedInitialResponse, Unsupported,
    };
    let failures = [
        Syntax,
        Unsupported,
        NeedsTls,
        UnexpectedInitialResponse,
        InitialResponseEncoding,
        Cancelled,
        Encoding,
        TooLong,
        Rejected,
        Downgrade,
        ChannelBinding,
        NotAuthorized,
        TempFail,
        TransitionNeeded,
        TooWeak,
        Locked,
        NoSecret,
    ];
    all(failures, Failure::as_str, true);
    let refused = Failure::Refused(RefusalKind::AccountDisabled);
    let envelopes = [
        EnvelopeError::Sender,
        EnvelopeError::Address,
        EnvelopeError::NoRecipient,
        EnvelopeError::EnvelopeId,
        EnvelopeError::OriginalRecipient,
        EnvelopeError::Parameter,
        EnvelopeError::TypedParameter,
        EnvelopeError::RepeatedParameter,
    ];
    all(envelopes, EnvelopeError::as_str, true);
    all([EnvelopeError::Recipient(1)], EnvelopeError::as_str, false);
    all([Malformed("the name is empty"), NotImplemented("PLAIN"), refused], Failure::as_str, false);
    assert_eq!(Malformed("why").to_string(), format!("{}: why", Malformed("").as_str()));
    {
        use client::Failure::{
            EarlySuccess, GaveUp, Iterations, MalformedServerMessage, NeedsTls, NoNonce, Refused,
            ServerError, ServerNotAuthentic, UnexpectedChallenge, Unprepared, Unsupported,
        };
        let failures = [
            Refused { after_proof: true },
            Unsupported,
            NeedsTls,
            UnexpectedChallenge,
            MalformedServerMessage,
            EarlySuccess,
            ServerNotAuthentic,
            Unprepared,
            GaveUp,
            NoNonce,
        ];
        all(failures, client::Failure::as_str, true);
        all([ServerError("why"), Iterations(7)], client::Failure::as_str, false);
    }
    {
        use ConfigError::{
            ChannelBinding, HostName, Keyword, MechanismName, NoMechanism, NoNonces, NoSasl,
            NotCompiled, NotImplemented, NothingBinds, Password, SaltKey, ServerName, Token, Trace,
            UserName,
        };
        let errors = [
            HostName,
            NoMechanism,
            NothingBinds,
            SaltKey,
            NoSasl,
            Keyword,
            UserName,
            Password,
            Token,
            ServerName,
            Trace,
            MechanismName,
            ChannelBinding,
        ];
        all(errors, ConfigError::as_str, true);
        let own = Mechanism::Plain;
        all([NoNonces(own), NotImplemented(own), NotCompiled(own)], ConfigError::as_str, false);
    }
    {
        use NoMechanism::{
            ActingAs, InCommon, NotOffered, OnlyAfterTls, OtherCredentials, TooLong, Unprepared,
            WithoutBinding, WithoutTls,
        };
        let errors = [
            NotOffered,
            OnlyAfterTls,
            InCommon,
            OtherCredentials,
            WithoutBinding,
            Unprepared,
            TooLong,
            WithoutTls,
            ActingAs,
        ];
        all(errors, NoMechanism::as_str, true);
    }
    all([InvalidReply::Code, InvalidReply::EnhancedCode], InvalidReply::as_str, true);
    all([NonceError], NonceError::as_str, true);
    let keys = "x".parse::<ScramKeys>().unwrap_err();
    let states = "x".parse::<CramSecret>().unwrap_err();
    assert_eq!((keys.as_str(), states.as_str()), (&*keys.to_string(), &*states.to_string()));
}
