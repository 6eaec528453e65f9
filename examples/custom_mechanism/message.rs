//! The messages of SECURID (RFC 2808), except the one for a new PIN, which this server never requests. The fields are
//! UTF-8 without control characters, and each is followed by a NUL, including the last.

use std::str;

use smtp_auth::sasl::Mechanism;

/// The mechanism. An invalid name does not compile.
pub(crate) const SECURID: Mechanism = match Mechanism::custom("SECURID") {
    Ok(securid) => securid,
    Err(_) => panic!("not the name of a mechanism"),
};

/// The challenge that asks for a second passcode, if the first message is not sufficient.
pub(crate) const ONE_MORE: &[u8] = b"passcode\0";

/// The client's message: the first one, and the answer to [`ONE_MORE`].
#[derive(PartialEq, Eq)]
pub(crate) struct SignIn<'a> {
    /// The account to act as; empty if it is the client's own.
    pub(crate) authzid: &'a str,
    pub(crate) authcid: &'a str,
    pub(crate) passcode: &'a str,
}

impl<'a> SignIn<'a> {
    /// Parses a message. The error is the reason why it is invalid.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(octets).map_err(|_| "the message is not UTF-8")?;
        let fields: Vec<&str> = text.split('\0').collect();
        let [authzid, authcid, passcode, ""] = *fields else {
            return Err("the message does not consist of three fields, each followed by a NUL");
        };
        let fits = |field: &str, least, most| {
            (least..=most).contains(&field.chars().count()) && !field.contains(char::is_control)
        };
        if !fits(authzid, 0, 255) || !fits(authcid, 1, 255) || !fits(passcode, 1, 32) {
            return Err("a field is empty, too long, or holds a control character");
        }
        Ok(Self { authzid, authcid, passcode })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        // Allocated at once, because a growing buffer leaves copies of secrets in memory.
        [self.authzid, "\0", self.authcid, "\0", self.passcode, "\0"].concat().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_ins() {
        for (octets, authzid) in [
            (&b"\0tim\x001234567890\0"[..], ""), // as gsasl sends it
            (b"ann\0tim\x001234567890\0", "ann"),
        ] {
            let read = SignIn::read(octets).unwrap_or_else(|why| panic!("{why}"));
            assert!(read == SignIn { authzid, authcid: "tim", passcode: "1234567890" });
            assert_eq!(read.write(), octets);
        }
    }

    #[test]
    fn no_sign_ins() {
        let long = ["\0tim\0", &"1".repeat(33), "\0"].concat();
        for octets in [
            &b""[..],
            b"\0tim\x00123456",
            b"\0tim\0",
            b"\0\x00123456\0",
            b"\0tim\0\0",
            b"\0tim\x00123456\x004321\0", // a new PIN
            b"\0t\rim\x00123456\0",
            b"\0t\xffm\x00123456\0",
            long.as_bytes(),
        ] {
            assert!(SignIn::read(octets).is_err(), "{}", octets.escape_ascii());
        }
    }
}
