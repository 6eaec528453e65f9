//! Deserializes configurations, and serializes and deserializes stored credentials as text (`serde` feature).
//!
//! Each field of a configuration is named after the builder method that sets it, and an omitted field has its default
//! value. Custom commands, custom mechanisms and a source of nonces are code, so they can be set only with methods.

use alloc::{boxed::Box, string::String, vec::Vec};

use ::serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    sasl::{self, BindingPolicy, ConfigError, CramSecret, Mechanism, ScramKeys, TokenError},
    secret::Secret,
};

/// Serializes a mechanism as its name. A custom mechanism can be serialized but not deserialized.
impl Serialize for Mechanism {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Mechanism {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| {
            D::Error::custom(
                "not a mechanism that the crate knows: use a registered name, such as SCRAM-SHA-256",
            )
        })
    }
}

/// Deserializes a secret from text. `Serialize` is not implemented, so that a secret cannot be written by accident with
/// the rest of a configuration.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The format's own error would show the text that it found.
        let text = String::deserialize(deserializer);
        text.map(Self::new).map_err(|_| D::Error::custom("a secret must be text"))
    }
}

/// Serializes the keys as text. The text is secret.
impl Serialize for ScramKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().expose())
    }
}

impl<'de> Deserialize<'de> for ScramKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer)?.expose().parse().map_err(D::Error::custom)
    }
}

/// Serializes the stored credentials as text. The text is secret.
impl Serialize for CramSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().expose())
    }
}

impl<'de> Deserialize<'de> for CramSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer)?.expose().parse().map_err(D::Error::custom)
    }
}

/// Reads a configuration through a form that contains all allowed fields.
macro_rules! read_by {
    ($(#[$doc:meta])* $form:ty, $config:ty) => {
        $(#[$doc])*
        impl<'de> Deserialize<'de> for $config {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$form>::deserialize(deserializer)?.config().map_err(D::Error::custom)
            }
        }
    };
}

/// Sets the fields that are present in the form on the builder.
macro_rules! with {
    ($builder:expr, $form:ident: $($field:ident)*) => {{
        let mut builder = $builder;
        $(
            if let Some(value) = $form.$field {
                builder = builder.$field(value);
            }
        )*
        builder
    }};
}

// It uses the macros above.
#[cfg(feature = "smtp")]
mod smtp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaslServer {
    hostname: Box<str>,
    mechanisms: Vec<Mechanism>,
    without: Option<Vec<Mechanism>>,
    fold_names: Option<Fold>,
    salt_key: Option<Secret>,
    scram_iterations: Option<u32>,
    allow_cleartext: Option<bool>,
    authorize_always: Option<bool>,
    channel_binding: Option<BindingPolicy>,
    max_response: Option<usize>,
    token_error: Option<TokenError>,
}

impl SaslServer {
    fn config(self) -> Result<sasl::server::Config, ConfigError> {
        let builder = sasl::server::Config::builder(&self.hostname).mechanisms(&self.mechanisms);
        let builder = match self.fold_names {
            None => builder,
            Some(Fold::Prepare) => builder.fold_names(sasl::prepare),
            Some(Fold::PrepareLowerCase) => builder.fold_names(sasl::prepare_lower_case),
            Some(Fold::AsSent) => builder.fold_names(sasl::as_sent),
        };
        with!(builder, self: without salt_key scram_iterations allow_cleartext authorize_always channel_binding max_response
            token_error)
        .build()
    }
}

/// The functions of the crate that fold a name.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fold {
    Prepare,
    PrepareLowerCase,
    AsSent,
}

read_by! {
    /// Deserializes a configuration. The `hostname` and `mechanisms` fields are required. `mechanisms` lists registered
    /// names. `fold_names` is `prepare`, `prepare_lower_case` or `as_sent`. An unknown field is an error.
    SaslServer, sasl::server::Config
}

/// The error for an invalid token (`invalid_token`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InvalidToken {
    scope: Option<Box<str>>,
    openid_configuration: Option<Box<str>>,
}

impl InvalidToken {
    fn config(self) -> Result<TokenError, ConfigError> {
        let mut error = TokenError::INVALID_TOKEN;
        if let Some(scope) = &self.scope {
            error = error.scope(scope);
        }
        if let Some(url) = &self.openid_configuration {
            error = error.openid_configuration(url);
        }
        Ok(error)
    }
}

read_by! {
    /// Deserializes an [`INVALID_TOKEN`](TokenError::INVALID_TOKEN) error. The `scope` and `openid_configuration`
    /// fields are optional. An unknown field is an error.
    InvalidToken, TokenError
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaslClient {
    mechanisms: Option<Vec<Mechanism>>,
    without: Option<Vec<Mechanism>>,
    allow_cleartext: Option<bool>,
    scram_iterations: Option<(u32, u32)>,
    channel_binding: Option<BindingPolicy>,
}

impl SaslClient {
    fn config(self) -> Result<sasl::client::Config, ConfigError> {
        let mut builder = sasl::client::Config::builder();
        if let Some((from, to)) = self.scram_iterations {
            builder = builder.scram_iterations(from, to);
        }
        with!(builder, self: mechanisms without allow_cleartext channel_binding).build()
    }
}

read_by! {
    /// Deserializes a configuration. All fields are optional. `scram_iterations` is a list of two numbers: the minimum
    /// and the maximum iteration count. An unknown field is an error.
    SaslClient, sasl::client::Config
}
