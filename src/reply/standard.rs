//! The replies that the standards foresee, in one list.

use alloc::borrow::Cow;

use super::{EnhancedCode, MAX_WRITTEN_LINE, Reply};

/// A reply of one line, which is ready to be written: `standard!(535 (5, 7, 8) "Wrong")`. What
/// cannot be written so does not compile.
macro_rules! standard {
    ($code:literal ($class:literal, $subject:literal, $detail:literal) $text:literal) => {
        const {
            $crate::reply::Reply::line(
                $code,
                $crate::reply::EnhancedCode::new($class, $subject, $detail),
                concat!($code, " ", $class, ".", $subject, ".", $detail, " ", $text),
                $text,
            )
        }
    };
    ($code:literal $text:literal) => {
        const { $crate::reply::Reply::line($code, None, concat!($code, " ", $text), $text) }
    };
}

pub(crate) use standard;

impl Reply {
    /// The text is the end of the line.
    pub(crate) const fn line(
        code: u16,
        enhanced: Option<EnhancedCode>,
        line: &'static str,
        text: &str,
    ) -> Self {
        assert!(match enhanced {
            Some(enhanced) => enhanced.belongs_to(code),
            // A `3xx` has none (RFC 2034 §4).
            None => code / 100 == 3,
        });
        assert!(!text.is_empty() && line.len() + "\r\n".len() <= MAX_WRITTEN_LINE);
        let mut rest = line.as_bytes();
        while let [octet, behind @ ..] = rest {
            assert!(matches!(octet, b' '..=b'~'));
            rest = behind;
        }
        let start = (line.len() - text.len()) as u8;
        Self { code, enhanced, memory: Cow::Borrowed(line), start, withheld: false }
    }
}

macro_rules! standard_replies {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal $enhanced:tt $text:literal;)*) => {
        /// The replies that the standards foresee. [`Reply::with_text`] gives one another text.
        impl Reply {
            $($(#[doc = $doc])*
            #[doc = concat!("\n\n`", stringify!($code), "`, enhanced `", stringify!($enhanced), "`")]
            pub const $name: Self = standard!($code $enhanced $text);)*

            /// To DATA.
            ///
            /// `354`; a `3xx` has no enhanced code (RFC 2034 §4).
            pub const START_MAIL_INPUT: Self = standard!(354 "Send the message, end with a dot");
        }

        #[cfg(test)]
        const STANDARD: &[Reply] = &[$(Reply::$name),*];
    };
}

standard_replies! {
    /// Done.
    OK = 250 (2, 0, 0) "OK";
    /// To MAIL.
    SENDER_OK = 250 (2, 1, 0) "Sender OK";
    /// To RCPT.
    RECIPIENT_OK = 250 (2, 1, 5) "Recipient OK";
    /// To STARTTLS (RFC 3207 §4).
    READY_FOR_TLS = 220 (2, 0, 0) "Ready to start TLS";
    /// To QUIT.
    CLOSING = 221 (2, 0, 0) "Goodbye";
    /// AUTH succeeded (RFC 4954 §6).
    AUTHENTICATED = 235 (2, 7, 0) "Authentication succeeded";
    /// To VRFY, by a server that does not tell (RFC 5321 §3.5.3).
    CANNOT_VERIFY = 252 (2, 5, 0) "Cannot verify, but will take a message and try";

    /// At any time; the connection is closed.
    SHUTTING_DOWN = 421 (4, 3, 2) "Service is shutting down, try again later";
    /// The client was silent too long; the connection is closed.
    IDLE = 421 (4, 4, 2) "Idle for too long, closing";
    /// Too many failed AUTH commands; the connection is closed (RFC 4954 §4).
    TOO_MANY_ATTEMPTS = 421 (4, 7, 0) "Too many failed authentication attempts, closing";
    /// Too many commands without a sign-in; the connection is closed.
    TOO_MANY_COMMANDS = 421 (4, 7, 0) "Too many commands before authentication, closing";
    /// To RCPT: the message has as many as it may (RFC 5321 §4.5.3.1.10).
    TOO_MANY_RECIPIENTS = 452 (4, 5, 3) "Too many recipients, send the rest in another message";
    /// The server's own failure.
    LOCAL_ERROR = 451 (4, 3, 0) "Local error in processing, try again later";
    /// No room at the moment.
    INSUFFICIENT_STORAGE = 452 (4, 3, 1) "Insufficient storage, try again later";
    /// To STARTTLS (RFC 3207 §4).
    TLS_UNAVAILABLE = 454 (4, 7, 0) "TLS is not available at the moment";

    /// An unknown verb.
    UNRECOGNIZED = 500 (5, 5, 2) "Command not recognized";
    /// A command line over the server's bound.
    LINE_TOO_LONG = 500 (5, 5, 2) "Line too long";
    /// A bare CR, a bare LF or a NUL in a command (RFC 5321 §2.3.8).
    BAD_LINE_END = 500 (5, 5, 2) "Lines end in CRLF; bare CR, bare LF and NUL are refused";
    /// Arguments that break the grammar, or unwanted ones.
    SYNTAX = 501 (5, 5, 4) "Syntax error in arguments";
    /// To MAIL: the sender's address breaks the grammar.
    SENDER_SYNTAX = 501 (5, 1, 7) "Syntax error in the sender's address";
    /// To RCPT: the recipient's address breaks the grammar.
    RECIPIENT_SYNTAX = 501 (5, 1, 3) "Syntax error in the recipient's address";
    /// A known command that is not offered.
    NOT_IMPLEMENTED = 502 (5, 5, 1) "Command not implemented";
    /// A command out of order.
    BAD_SEQUENCE = 503 (5, 5, 1) "Bad sequence of commands";
    /// To AUTH after HELO, or before any greeting: extensions are EHLO's (RFC 4954 §4).
    EHLO_FIRST = 503 (5, 5, 1) "Send EHLO first";
    /// Log in first (RFC 4954 §6).
    AUTHENTICATION_REQUIRED = 530 (5, 7, 0) "Authentication required";
    /// No such mailbox.
    MAILBOX_UNAVAILABLE = 550 (5, 1, 1) "No such mailbox here";
    /// Over the size limit (RFC 1870).
    MESSAGE_TOO_BIG = 552 (5, 3, 4) "Message is too big";
    /// A bare CR or a bare LF in a message. To take it invites SMTP smuggling.
    MESSAGE_BAD_LINE_END = 554 (5, 6, 0) "Bare CR or bare LF in the message";
    /// An unknown parameter of MAIL or RCPT (RFC 5321 §4.1.1.11).
    PARAMETER_NOT_RECOGNIZED = 555 (5, 5, 4) "Parameter not recognized or not implemented";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use alloc::{string::String, vec::Vec};

    use super::*;

    #[test]
    fn what_is_ready_to_be_written_is_what_new_would_write() {
        let written = |reply: &Reply| {
            let mut out = Vec::new();
            reply.write(&mut out);
            out
        };
        for reply in STANDARD.iter().chain([&Reply::START_MAIL_INPUT]) {
            let codes =
                |enhanced: EnhancedCode| (enhanced.class, enhanced.subject, enhanced.detail);
            let text = String::from(reply.text());
            let made = Reply::new(reply.code, reply.enhanced.map(codes), text).unwrap();
            assert_eq!(made, *reply);
            assert_eq!(written(&made), written(reply));
        }
    }
}
