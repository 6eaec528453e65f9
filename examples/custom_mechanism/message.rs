//! The messages of SECURID (RFC 2808), but for a new PIN, which this server never asks for. Their fields are UTF-8 without
//! control characters, and each has a NUL after it, the last one too.

use std::str;

use smtp_auth::sasl::Mechanism;

/// The mechanism. A name that cannot be one does not compile.
pub(crate) const SECURID: Mechanism = match Mechanism::custom("SECURID") {
    Ok(securid) => securid,
    Err(_) => panic!("not the name of a mechanism"),
};

/// What the server says where the client's first message does not do: it asks for one more passcode.
pub(crate) const ONE_MORE: &[u8] = b"passcode\0";

/// What the client says, at first and to [`ONE_MORE`].
#[derive(PartialEq, Eq)]
pub(crate) struct SignIn<'a> {
    /// The account to act as; empty where that is the client's own.
    pub(crate) authzid: &'a str,
    pub(crate) authcid: &'a str,
    pub(crate) passcode: &'a str,
}

impl<'a> SignIn<'a> {
    /// Where that cannot be, says why.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(octets).map_err(|_| "the message is not UTF-8")?;
        let fields: Vec<&str> = text.split('\0').collect();
        let [authzid, authcid, passcode, ""] = *fields else {
            return Err("the message has not three fields, with a NUL after each");
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
        // At once, as a buffer that grows leaves copies of what is secret behind.
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
