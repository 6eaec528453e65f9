//! The properties of mechanisms in the server's handshake.

use alloc::vec::Vec;

use crate::sasl::Mechanism;

/// The properties of a mechanism. Postfix uses them to select mechanisms (`smtpd_sasl_security_options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// `anonymous`: the mechanism authenticates guests.
    pub anonymous: bool,
    /// `plaintext`: the client sends the password or the token itself, not a hash of it.
    pub plaintext: bool,
    /// `dictionary`: an eavesdropper can guess the password offline (dictionary attack).
    pub dictionary: bool,
    /// `active`: a man-in-the-middle can take over the exchange.
    pub active: bool,
    /// `forward-secrecy`: earlier sessions stay secret even if the password becomes known later.
    pub forward_secrecy: bool,
    /// `mutual-auth`: the server proves to the user that it has the account's keys.
    pub mutual_auth: bool,
    /// `private`: mail servers should not offer the mechanism to users.
    pub private: bool,
}

impl Properties {
    /// Returns the properties of a mechanism. Returns `None` for EXTERNAL, the -PLUS mechanisms and custom mechanisms, which
    /// a [`Session`](super::Session) does not offer.
    pub fn of(mechanism: Mechanism) -> Option<Self> {
        let none = Self::default();
        Some(match mechanism {
            Mechanism::ScramSha512 | Mechanism::ScramSha256 | Mechanism::ScramSha1 => {
                Self { mutual_auth: true, ..none }
            }
            Mechanism::CramMd5 => Self { dictionary: true, active: true, ..none },
            Mechanism::Plain | Mechanism::Login | Mechanism::OauthBearer | Mechanism::Xoauth2 => {
                Self { plaintext: true, ..none }
            }
            Mechanism::Anonymous => Self { anonymous: true, ..none },
            // Any local process could claim any name in a certificate, and any channel binding data.
            Mechanism::External
            | Mechanism::ScramSha512Plus
            | Mechanism::ScramSha256Plus
            | Mechanism::ScramSha1Plus => return None,
            // Its properties are unknown.
            Mechanism::Custom(_) => return None,
        })
    }

    /// Each property and its name.
    fn each(&mut self) -> [(&'static str, &mut bool); 7] {
        [
            ("anonymous", &mut self.anonymous),
            ("plaintext", &mut self.plaintext),
            ("dictionary", &mut self.dictionary),
            ("active", &mut self.active),
            ("forward-secrecy", &mut self.forward_secrecy),
            ("mutual-auth", &mut self.mutual_auth),
            ("private", &mut self.private),
        ]
    }

    /// Reads the fields after the mechanism's name. Unknown properties are ignored.
    pub(super) fn read<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut all = Self::default();
        for field in fields {
            for (name, has) in all.each() {
                *has |= field == name.as_bytes();
            }
        }
        all
    }

    pub(super) fn write(mut self, out: &mut Vec<u8>) {
        for (name, _) in self.each().into_iter().filter(|(_, has)| **has) {
            out.push(b'\t');
            out.extend_from_slice(name.as_bytes());
        }
    }
}
