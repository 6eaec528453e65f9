//! The messages of SECURID (RFC 2808). Their fields are UTF-8 without control characters, and each
//! has a NUL behind it, the last one too.

use std::str;

use smtp_auth::sasl::Mechanism;

/// The mechanism. A name that cannot be one does not compile.
pub(crate) const SECURID: Mechanism = match Mechanism::custom("SECURID") {
    Ok(securid) => securid,
    Err(_) => panic!("not the name of a mechanism"),
};

/// What the client says, at first and to each [`Request`].
#[derive(PartialEq, Eq)]
pub(crate) struct SignIn<'a> {
    /// The account to act as; empty where that is the client's own.
    pub(crate) authzid: &'a str,
    pub(crate) authcid: &'a str,
    pub(crate) passcode: &'a str,
    /// A new PIN, where the server has asked for one.
    pub(crate) pin: Option<&'a str>,
}

impl<'a> SignIn<'a> {
    /// Where that cannot be, says why.
    pub(crate) fn read(octets: &'a [u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(octets).map_err(|_| "the message is not UTF-8")?;
        let fields: Vec<&str> = text.split('\0').collect();
        let (authzid, authcid, passcode, pin) = match *fields {
            [authzid, authcid, passcode, ""] => (authzid, authcid, passcode, None),
            [authzid, authcid, passcode, pin, ""] => (authzid, authcid, passcode, Some(pin)),
            _ => return Err("the message has not three or four fields, with a NUL behind each"),
        };
        let fits = |field: &str, least, most| {
            (least..=most).contains(&field.chars().count()) && !field.contains(char::is_control)
        };
        let good = fits(authzid, 0, 255)
            && fits(authcid, 1, 255)
            && fits(passcode, 1, 32)
            && pin.is_none_or(|pin| fits(pin, 1, 32));
        if !good {
            return Err("a field is empty, too long, or holds a control character");
        }
        Ok(Self { authzid, authcid, passcode, pin })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let (pin, end) = self.pin.map_or(("", ""), |pin| (pin, "\0"));
        // At once, as a buffer that grows leaves copies of what is secret behind.
        let fields = [self.authzid, "\0", self.authcid, "\0", self.passcode, "\0", pin, end];
        fields.concat().into_bytes()
    }
}

/// What the server asks for where the client's first message does not do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// One more passcode.
    Passcode,
    /// A new PIN; the server may suggest one.
    NewPin(Option<&'a str>),
}

impl<'a> Request<'a> {
    /// `None` for what is none. A NUL may be missing at the end, as GNU SASL leaves it out.
    pub(crate) fn read(octets: &'a [u8]) -> Option<Self> {
        let fields: Vec<&str> = str::from_utf8(octets).ok()?.split('\0').collect();
        match *fields {
            ["passcode"] | ["passcode", ""] => Some(Self::Passcode),
            ["pin"] | ["pin", ""] => Some(Self::NewPin(None)),
            ["pin", suggested] | ["pin", suggested, ""] => Some(Self::NewPin(Some(suggested))),
            _ => None,
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        match self {
            Self::Passcode => b"passcode\0".to_vec(),
            Self::NewPin(None) => b"pin\0".to_vec(),
            Self::NewPin(Some(suggested)) => ["pin\0", suggested, "\0"].concat().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_ins() {
        for (octets, authzid, pin) in [
            (&b"\0tim\x001234567890\0"[..], "", None), // as gsasl sends it
            (b"ann\0tim\x001234567890\0", "ann", None),
            (b"ann\0tim\x001234567890\x004321\0", "ann", Some("4321")),
        ] {
            let read = SignIn::read(octets).unwrap_or_else(|why| panic!("{why}"));
            assert!(read == SignIn { authzid, authcid: "tim", passcode: "1234567890", pin });
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
            b"\0tim\x00123456\0\0",
            b"\0tim\x00123456\x001\x002\0",
            b"\0t\rim\x00123456\0",
            b"\0t\xffm\x00123456\0",
            long.as_bytes(),
        ] {
            assert!(SignIn::read(octets).is_err(), "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn requests() {
        for request in [Request::Passcode, Request::NewPin(None), Request::NewPin(Some("4321"))] {
            let octets = request.write();
            assert_eq!(Request::read(&octets), Some(request));
        }
        assert_eq!(Request::read(b"passcode"), Some(Request::Passcode));
        for octets in [&b""[..], b"Passcode\0", b"passcode\0\0", b"pin4321", b"pin\x001\x002\0"] {
            assert_eq!(Request::read(octets), None, "{}", octets.escape_ascii());
        }
    }
}
