//! The replies that the standards define, in one list.

use alloc::borrow::Cow;

use super::{EnhancedCode, MAX_WRITTEN_LINE, Reply};

/// Creates a constant reply at the place where it is used.
macro_rules! standard {
    ($line:literal) => {
        const { $crate::reply::Reply::constant($line) }
    };
}

pub(crate) use standard;

impl Reply {
    /// Creates a constant reply from one line with the code, the enhanced code and the text. In a constant, an invalid
    /// line is a compile error.
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
    /// In a constant, each panic is a compile error. The function panics in these cases:
    /// - The code is not in the range 200 to 599.
    /// - The enhanced code is missing, or its class differs from the first digit of the code. A `3xx` reply has no
    ///   enhanced code (RFC 2034 §4).
    /// - The text is empty, contains anything but printable ASCII, or makes the line longer than 512 octets.
    #[must_use]
    pub const fn constant(line: &'static str) -> Self {
        let (code, rest) = number(line.as_bytes());
        assert!(
            line.len() - rest.len() == 3 && code >= 200 && code <= 599,
            "the code must be 200 to 599"
        );
        let rest = after(rest, b' ');
        let (enhanced, text) = if code / 100 == 3 {
            (None, rest)
        } else {
            let (class, rest) = number(rest);
            let (subject, rest) = number(after(rest, b'.'));
            let (detail, rest) = number(after(rest, b'.'));
            assert!(
                class == code / 100,
                "the enhanced code must begin with the first digit of the code"
            );
            (EnhancedCode::new(class as u8, subject, detail), after(rest, b' '))
        };
        assert!(enhanced.is_some() || code / 100 == 3, "the enhanced code is out of range");
        assert!(
            !text.is_empty() && line.len() + "\r\n".len() <= MAX_WRITTEN_LINE,
            "the text is empty or too long"
        );
        let mut rest = text;
        while let [octet, more @ ..] = rest {
            assert!(matches!(octet, b' '..=b'~'), "the text must be printable ASCII");
            rest = more;
        }
        let start = (line.len() - text.len()) as u8;
        Self { code, enhanced, memory: Cow::Borrowed(line), start, withheld: false }
    }
}

/// Reads a number of up to three digits, and returns it with what follows it.
const fn number(octets: &[u8]) -> (u16, &[u8]) {
    let (mut number, mut rest) = (0, octets);
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        number = number * 10 + (*digit - b'0') as u16;
        rest = more;
        assert!(octets.len() - rest.len() <= 3, "a number has at most three digits");
    }
    assert!(rest.len() < octets.len(), "a number is missing");
    let least = match octets.len() - rest.len() {
        1 => 0,
        2 => 10,
        _ => 100,
    };
    assert!(number >= least, "a number has no leading zeros");
    (number, rest)
}

/// Returns what follows the octet `mark`, with which `octets` begins.
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
        /// The replies that the standards define. Use [`Reply::with_text`] to change the text of a reply.
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
    /// Reports that a command has succeeded.
    OK = "250 2.0.0 OK";
    /// Accepts the sender of a MAIL command.
    SENDER_OK = "250 2.1.0 Sender OK";
    /// Accepts the recipient of a RCPT command.
    RECIPIENT_OK = "250 2.1.5 Recipient OK";
    /// Answers DATA and asks the client to send the message.
    START_MAIL_INPUT = "354 Send the message, end with a dot";
    /// Answers STARTTLS and asks the client to begin TLS (RFC 3207 §4).
    READY_FOR_TLS = "220 2.0.0 Ready to start TLS";
    /// Answers QUIT. The server then closes the connection.
    CLOSING = "221 2.0.0 Goodbye";
    /// Answers AUTH after a successful authentication (RFC 4954 §6).
    AUTHENTICATED = "235 2.7.0 Authentication succeeded";
    /// Answers VRFY without revealing whether the mailbox exists, to prevent user enumeration (RFC 5321 §3.5.3).
    CANNOT_VERIFY = "252 2.5.0 Cannot verify, but will take a message and try";

    /// Announces that the server is shutting down. It may be sent at any time. The server then closes the connection.
    SHUTTING_DOWN = "421 4.3.2 Service is shutting down, try again later";
    /// Announces that the client has been idle for too long. The server then closes the connection.
    IDLE = "421 4.4.2 Idle for too long, closing";
    /// Refuses a client after too many failed AUTH commands. The server then closes the connection (RFC 4954 §4).
    TOO_MANY_ATTEMPTS = "421 4.7.0 Too many failed authentication attempts, closing";
    /// Refuses a client after too many commands without authentication. The server then closes the connection.
    TOO_MANY_COMMANDS = "421 4.7.0 Too many commands before authentication, closing";
    /// Refuses a RCPT command because the message already has the maximum number of recipients (RFC 5321 §4.5.3.1.10).
    TOO_MANY_RECIPIENTS = "452 4.5.3 Too many recipients, send the rest in another message";
    /// Reports a temporary failure of the server itself.
    LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later";
    /// Refuses a command because the server is temporarily out of storage.
    INSUFFICIENT_STORAGE = "452 4.3.1 Insufficient storage, try again later";
    /// Refuses STARTTLS temporarily (RFC 3207 §4).
    TLS_UNAVAILABLE = "454 4.7.0 TLS is not available at the moment";

    /// Refuses a command because its verb is unknown.
    UNRECOGNIZED = "500 5.5.2 Command not recognized";
    /// Refuses a command line that exceeds the server's limit.
    LINE_TOO_LONG = "500 5.5.2 Line too long";
    /// Refuses a command line that contains a bare CR, a bare LF or a NUL, to prevent command smuggling (RFC 5321
    /// §2.3.8).
    BAD_LINE_END = "500 5.5.2 Lines end in CRLF; bare CR, bare LF and NUL are refused";
    /// Refuses arguments that are malformed, or that the command does not accept.
    SYNTAX = "501 5.5.4 Syntax error in arguments";
    /// Refuses a MAIL command because the sender's address is malformed.
    SENDER_SYNTAX = "501 5.1.7 Syntax error in the sender's address";
    /// Refuses a RCPT command because the recipient's address is malformed.
    RECIPIENT_SYNTAX = "501 5.1.3 Syntax error in the recipient's address";
    /// Refuses a known command that the server does not offer.
    NOT_IMPLEMENTED = "502 5.5.1 Command not implemented";
    /// Refuses a command that is out of order.
    BAD_SEQUENCE = "503 5.5.1 Bad sequence of commands";
    /// Refuses AUTH if the client has sent HELO or no greeting, because AUTH is an extension and requires EHLO (RFC
    /// 4954 §4).
    EHLO_FIRST = "503 5.5.1 Send EHLO first";
    /// Refuses a command until the client has authenticated (RFC 4954 §6).
    AUTHENTICATION_REQUIRED = "530 5.7.0 Authentication required";
    /// Refuses a command because the server requires TLS (RFC 3207 §4).
    TLS_REQUIRED = "530 5.7.0 Must issue a STARTTLS command first";
    /// Refuses a recipient because the mailbox does not exist.
    MAILBOX_UNAVAILABLE = "550 5.1.1 No such mailbox here";
    /// Refuses a message that exceeds the size limit (RFC 1870).
    MESSAGE_TOO_BIG = "552 5.3.4 Message is too big";
    /// Refuses a message that contains a bare CR or a bare LF, to prevent SMTP smuggling.
    MESSAGE_BAD_LINE_END = "554 5.6.0 Bare CR or bare LF in the message";
    /// Refuses an unknown parameter of MAIL or RCPT (RFC 5321 §4.1.1.11).
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
