//! What is tried: by which mechanism, in what, with what secret.

use std::{fmt, path::PathBuf};

use crate::home::{Home, Pair};

pub(crate) const USER: &str = "tim";
pub(crate) const FROM: &str = "tim@example.org";
pub(crate) const TO: &str = "ann@example.org";
/// With what shells, colons and spaces may go wrong on. Not every peer takes more than ASCII.
pub(crate) const PASSWORD: &str = "pa\"ss: w=rd";
pub(crate) const TOKEN: &str = "dGlt.-_~+/==";

/// Each a row of the matrix.
pub(crate) const MECHANISMS: [&str; 14] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "SCRAM-SHA-1",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-512",
    "SCRAM-SHA-512-PLUS",
    "OAUTHBEARER",
    "XOAUTH2",
    "EXTERNAL",
    UNNAMED,
    "ANONYMOUS",
];

/// EXTERNAL, to the account of the certificate, whichever that is: an empty response.
pub(crate) const UNNAMED: &str = "EXTERNAL, no name";

/// As EHLO has it.
pub(crate) fn wire_name(mechanism: &str) -> &str {
    mechanism.split(',').next().unwrap_or(mechanism)
}

/// What the dialogue runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    StartTls,
    Implicit,
    Cleartext,
}

impl Transport {
    pub(crate) const ALL: [Self; 3] = [Self::StartTls, Self::Implicit, Self::Cleartext];

    pub(crate) fn is_tls(self) -> bool {
        self != Self::Cleartext
    }

    /// As the scripts in `peers` take it.
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::Cleartext => "none",
        }
    }

    /// Whether there can be such a sign-in: where there is no TLS, there is nothing to bind to, and no
    /// certificate.
    pub(crate) fn suits(self, mechanism: &str) -> bool {
        self.is_tls() || !(mechanism.ends_with("-PLUS") || wire_name(mechanism) == "EXTERNAL")
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartTls => "STARTTLS",
            Self::Implicit => "implicit TLS",
            Self::Cleartext => "cleartext",
        })
    }
}

/// Whose password is shown, and for whom.
#[derive(Clone, Copy)]
pub(crate) struct Account<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    /// The account to act as, if it is another. Only curl is told one.
    pub(crate) authzid: Option<&'a str>,
}

pub(crate) const TIM: Account<'_> = Account { name: USER, password: PASSWORD, authzid: None };

/// One attempt to sign in, and to hand messages over.
pub(crate) struct SignIn<'a> {
    pub(crate) home: &'a Home,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
    pub(crate) mechanism: &'static str,
    pub(crate) account: Account<'a>,
    /// Whether the secret is the account's.
    pub(crate) right: bool,
    pub(crate) files: Vec<PathBuf>,
}

impl SignIn<'_> {
    pub(crate) fn takes_token(&self) -> bool {
        matches!(self.mechanism, "OAUTHBEARER" | "XOAUTH2")
    }

    /// The password, or the token.
    pub(crate) fn secret(&self) -> &str {
        match (self.right, self.takes_token()) {
            (false, _) => "x",
            (true, true) => TOKEN,
            (true, false) => self.account.password,
        }
    }

    /// The file whose one line that is, where the account is [`TIM`].
    pub(crate) fn secret_file(&self) -> PathBuf {
        let kind = if self.takes_token() { "token" } else { "password" };
        self.home.path(if self.right { kind.to_owned() } else { format!("wrong-{kind}") })
    }

    /// What to show, where it is signed in by a certificate.
    pub(crate) fn certificate(&self) -> Option<&Pair> {
        let own = if self.right { &self.home.user } else { &self.home.nobody };
        (wire_name(self.mechanism) == "EXTERNAL").then_some(own)
    }

    /// What a guest leaves for the log; the wrong one is no address and no word.
    pub(crate) fn trace(&self) -> &'static str {
        if self.right { FROM } else { "not@an@address" }
    }
}
