//! The configurations of the sessions.

use alloc::{boxed::Box, string::String, vec::Vec};

use ::serde::{Deserialize, Deserializer, de::Error};

use crate::{
    client,
    ehlo::Keyword,
    sasl::{self, ConfigError},
    server,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    hostname: Box<str>,
    sasl: Option<sasl::server::Config>,
    keywords: Option<Vec<OwnKeyword>>,
    max_message: Option<u64>,
    max_attempts: Option<u32>,
    max_commands: Option<u32>,
    max_recipients: Option<u32>,
    starttls: Option<server::StartTls>,
    allow_unauthenticated: Option<bool>,
    legacy_auth_line: Option<bool>,
}

impl Server {
    fn config(self) -> Result<server::Config, ConfigError> {
        let mut builder = server::Config::builder(&self.hostname);
        if let Some(keywords) = self.keywords {
            builder = builder.keywords(keywords.into_iter().map(|OwnKeyword(keyword)| keyword));
        }
        with!(builder, self: sasl max_message max_attempts max_commands max_recipients starttls
            allow_unauthenticated legacy_auth_line)
        .build()
    }
}

read_by! {
    /// Deserializes a configuration. The `hostname` field is required. The `sasl` field is also required unless
    /// `allow_unauthenticated` is set. `keywords` can list PIPELINING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES,
    /// CHUNKING and DSN. `starttls` is `offered`, `required`, `unavailable` or `off`. An unknown field is an error.
    Server, server::Config
}

/// A keyword without parameters that the crate implements.
struct OwnKeyword(Keyword<'static>);

impl<'de> Deserialize<'de> for OwnKeyword {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match Keyword::parse(name.as_bytes()) {
            Ok(Keyword::Pipelining) => Ok(Self(Keyword::Pipelining)),
            Ok(Keyword::EightBitMime) => Ok(Self(Keyword::EightBitMime)),
            Ok(Keyword::SmtpUtf8) => Ok(Self(Keyword::SmtpUtf8)),
            Ok(Keyword::EnhancedStatusCodes) => Ok(Self(Keyword::EnhancedStatusCodes)),
            Ok(Keyword::Chunking) => Ok(Self(Keyword::Chunking)),
            Ok(Keyword::Dsn) => Ok(Self(Keyword::Dsn)),
            _ => Err(D::Error::custom(
                "not one of PIPELINING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES, CHUNKING, DSN",
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    hostname: Box<str>,
    sasl: Option<sasl::client::Config>,
    tls: Option<client::Tls>,
    initial_response: Option<bool>,
    try_next: Option<client::TryNext>,
    max_tries: Option<u32>,
    x_exps: Option<bool>,
    lenient_challenges: Option<bool>,
}

impl Client {
    fn config(self) -> Result<client::Config, ConfigError> {
        let builder = client::Config::builder(&self.hostname);
        with!(builder, self: sasl tls initial_response try_next max_tries x_exps lenient_challenges)
            .build()
    }
}

read_by! {
    /// Deserializes a configuration. The `hostname` field is required. `sasl` is the SASL configuration. `tls` is
    /// `required`, `if_offered` or `never`. `try_next` is `never`, `if_unusable` or `always`. An unknown field is an
    /// error.
    Client, client::Config
}
