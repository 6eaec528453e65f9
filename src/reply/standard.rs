//! The replies that the standards foresee, in one list.

use alloc::borrow::Cow;

use super::{EnhancedCode, MAX_WRITTEN_LINE, Reply};

/// A constant where it is used.
macro_rules! standard {
    ($line:literal) => {
        const { $crate::reply::Reply::constant($line) }
    };
}

pub(crate) use standard;

impl Reply {
    /// A reply of one line, as a constant: code, enhanced code, text. A mistake in it does not compile.
    ///
    /// ```
    /// use smtp_auth::reply::Reply;
    ///
    /// const NO_RELAY: Reply = Reply::constant("550 5.7.1 No mail for that domain here");
    /// assert_eq!(NO_RELAY.code(), 550);
    /// ```
    ///
    /// ```compile_fail
    /// # use smtp_auth::reply::Reply;
    /// const OF_ANOTHER_CLASS: Reply = Reply::constant("550 4.7.1 No mail for that domain here");
    /// ```
    ///
    /// # Panics
    /// Outside a constant, and within one the compiler says so: where the code is not one of 200 to 599; where the
    /// enhanced code is missing, or of another class, but for a `3xx`, which has none (RFC 2034 §4); where the text is
    /// empty, has anything but printable ASCII, or makes the line longer than 512 octets.
    #[must_use]
    pub const fn constant(line: &'static str) -> Self {
        let (code, rest) = number(line.as_bytes());
        assert!(line.len() - rest.len() == 3 && code >= 200 && code <= 599, "the code");
        let rest = after(rest, b' ');
        let (enhanced, text) = if code / 100 == 3 {
            (None, rest)
        } else {
            let (class, rest) = number(rest);
            let (subject, rest) = number(after(rest, b'.'));
            let (detail, rest) = number(after(rest, b'.'));
            assert!(class == code / 100, "the enhanced code's class");
            (EnhancedCode::new(class as u8, subject, detail), after(rest, b' '))
        };
        assert!(enhanced.is_some() || code / 100 == 3, "the enhanced code");
        assert!(!text.is_empty() && line.len() + "\r\n".len() <= MAX_WRITTEN_LINE, "the length");
        let mut rest = text;
        while let [octet, more @ ..] = rest {
            assert!(matches!(octet, b' '..=b'~'), "the text is printable ASCII");
            rest = more;
        }
        let start = (line.len() - text.len()) as u8;
        Self { code, enhanced, memory: Cow::Borrowed(line), start, withheld: false }
    }
}

/// The number that stands there, of up to three digits, and what stands after it.
const fn number(octets: &[u8]) -> (u16, &[u8]) {
    let (mut number, mut rest) = (0, octets);
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        number = number * 10 + (*digit - b'0') as u16;
        rest = more;
        assert!(octets.len() - rest.len() <= 3, "a number has up to three digits");
    }
    assert!(rest.len() < octets.len(), "a number");
    let least = match octets.len() - rest.len() {
        1 => 0,
        2 => 10,
        _ => 100,
    };
    assert!(number >= least, "a number without leading zeros");
    (number, rest)
}

/// What stands after that octet, with which it begins.
const fn after(octets: &[u8], mark: u8) -> &[u8] {
    match octets {
        [first, rest @ ..] => {
            assert!(*first == mark, "code, enhanced code and text are separated by spaces");
            rest
        }
        [] => octets,
    }
}

macro_rules! standard_replies {
    ($($(#[doc = $doc:literal])* $name:ident = $line:literal;)*) => {
        /// The replies that the standards foresee. [`Reply::with_text`] gives one another text.
        impl Reply {
            $($(#[doc = $doc])*
            #[doc = concat!("\n\n`", $line, "`")]
            pub const $name: Self = Self::constant($line);)*
        }

        #[cfg(test)]
        const STANDARD: &[Reply] = &[$(Reply::$name),*];
    };
}

standard_replies! {
    /// Done.
    OK = "250 2.0.0 OK";
    /// To MAIL.
    SENDER_OK = "250 2.1.0 Sender OK";
    /// To RCPT.
    RECIPIENT_OK = "250 2.1.5 Recipient OK";
    /// To DATA.
    START_MAIL_INPUT = "354 Send the message, end with a dot";
    /// To STARTTLS (RFC 3207 §4).
    READY_FOR_TLS = "220 2.0.0 Ready to start TLS";
    /// To QUIT.
    CLOSING = "221 2.0.0 Goodbye";
    /// AUTH succeeded (RFC 4954 §6).
    AUTHENTICATED = "235 2.7.0 Authentication succeeded";
    /// To VRFY, by a server that does not tell (RFC 5321 §3.5.3).
    CANNOT_VERIFY = "252 2.5.0 Cannot verify, but will take a message and try";

    /// At any time; the connection is closed.
    SHUTTING_DOWN = "421 4.3.2 Service is shutting down, try again later";
    /// The client was silent too long; the connection is closed.
    IDLE = "421 4.4.2 Idle for too long, closing";
    /// Too many failed AUTH commands; the connection is closed (RFC 4954 §4).
    TOO_MANY_ATTEMPTS = "421 4.7.0 Too many failed authentication attempts, closing";
    /// Too many commands without a sign-in; the connection is closed.
    TOO_MANY_COMMANDS = "421 4.7.0 Too many commands before authentication, closing";
    /// To RCPT: the message has as many as it may (RFC 5321 §4.5.3.1.10).
    TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients, send the rest in another message";
    /// The server's own failure.
    LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later";
    /// No room at the moment.
    INSUFFICIENT_STORAGE = "452 4.3.1 Insufficient storage, try again later";
    /// To STARTTLS (RFC 3207 §4).
    TLS_UNAVAILABLE = "454 4.7.0 TLS is not available at the moment";

    /// An unknown verb.
    UNRECOGNIZED = "500 5.5.2 Command not recognized";
    /// A command line over the server's bound.
    LINE_TOO_LONG = "500 5.5.2 Line too long";
    /// A bare CR, a bare LF or a NUL in a command (RFC 5321 §2.3.8).
    BAD_LINE_END = "500 5.5.2 Lines end in CRLF; bare CR, bare LF and NUL are refused";
    /// Arguments that break the grammar, or unwanted ones.
    SYNTAX = "501 5.5.4 Syntax error in arguments";
    /// To MAIL: the sender's address breaks the grammar.
    SENDER_SYNTAX = "501 5.1.7 Syntax error in the sender's address";
    /// To RCPT: the recipient's address breaks the grammar.
    RECIPIENT_SYNTAX = "501 5.1.3 Syntax error in the recipient's address";
    /// A known command that is not offered.
    NOT_IMPLEMENTED = "502 5.5.1 Command not implemented";
    /// A command out of order.
    BAD_SEQUENCE = "503 5.5.1 Bad sequence of commands";
    /// To AUTH after HELO, or before any greeting: extensions are EHLO's (RFC 4954 §4).
    EHLO_FIRST = "503 5.5.1 Send EHLO first";
    /// Log in first (RFC 4954 §6).
    AUTHENTICATION_REQUIRED = "530 5.7.0 Authentication required";
    /// To whatever needs TLS, where the server requires it (RFC 3207 §4).
    TLS_REQUIRED = "530 5.7.0 Must issue a STARTTLS command first";
    /// No such mailbox.
    MAILBOX_UNAVAILABLE = "550 5.1.1 No such mailbox here";
    /// Over the size limit (RFC 1870).
    MESSAGE_TOO_BIG = "552 5.3.4 Message is too big";
    /// A bare CR or a bare LF in a message. To take it invites SMTP smuggling.
    MESSAGE_BAD_LINE_END = "554 5.6.0 Bare CR or bare LF in the message";
    /// An unknown parameter of MAIL or RCPT (RFC 5321 §4.1.1.11).
    PARAMETER_NOT_RECOGNIZED = "555 5.5.4 Parameter not recognized or not implemented";
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
        for reply in STANDARD {
            let codes =
                |enhanced: EnhancedCode| (enhanced.class, enhanced.subject, enhanced.detail);
            let text = String::from(reply.text());
            let made = Reply::new(reply.code, reply.enhanced.map(codes), text).unwrap();
            assert_eq!(made, *reply);
            assert_eq!(written(&made), written(reply));
        }
    }
}
