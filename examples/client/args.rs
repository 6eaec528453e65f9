//! The command line.

use std::{env, error::Error, fs, path::PathBuf};

use clap::{
    ArgGroup, Parser, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use smtp_auth_tokio::{
    client::Credentials,
    rustls::pki_types::ServerName,
    smtp_auth::{
        Mechanism, Secret,
        sasl::{BindingPolicy, ConfigError, client::Config},
    },
};

const EXIT_CODES: &str = "Exit codes:
  0  the server accepted the message for every recipient
  2  the command line or a file that it names is invalid; nothing was sent
  3  connecting, the greeting or TLS failed, or the connection broke
  4  authentication failed; nothing was sent
  5  the server refused the message, or refused some recipients and accepted the message for the others
  6  the server broke the protocol";

const SECRETS: [&str; 6] =
    ["password", "password_file", "password_env", "token", "token_file", "token_env"];

/// Submits one message to a mail server, with authentication and over TLS.
#[derive(Debug, Parser)]
#[command(name = "client", after_help = EXIT_CODES)]
#[command(group(ArgGroup::new("secret").args(SECRETS)))]
#[command(group(ArgGroup::new("who").args(["user", "cert"]).multiple(true)))]
pub(crate) struct Args {
    /// The server's name and port. The server's certificate must be valid for HOST. Write an IPv6 address in brackets
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub(crate) server: (String, u16),

    /// The sender's address, or '' for the null sender of bounces
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: String,

    /// A recipient's address. This option may be repeated
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) to: Vec<String>,

    /// How the connection is protected
    #[arg(long, value_enum, default_value = "starttls")]
    pub(crate) tls: Protection,

    /// The file with the certificates to trust instead of the CAs of the operating system. The file can contain CA
    /// certificates or the server's own certificate
    #[arg(long, value_name = "PEM")]
    pub(crate) ca: Option<PathBuf>,

    /// The client's name in EHLO [default: the client's address]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// The user name for the password or the token. If neither --user nor --cert is given, the client does not
    /// authenticate
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The account to act as, if this is not the account of --user or --cert
    #[arg(long, value_name = "NAME", requires = "who")]
    authzid: Option<String>,

    /// The password. Prefer --password-file or --password-env, because every user of this machine can see the command
    /// line while the program runs
    #[arg(long, value_name = "PW", requires = "user")]
    #[arg(allow_hyphen_values = true)]
    password: Option<Secret>,

    /// A file that contains the password on one line
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// The environment variable that contains the password
    #[arg(long, value_name = "VAR", requires = "user")]
    password_env: Option<String>,

    /// An OAuth 2.0 access token, which is used instead of a password. Prefer --token-file or --token-env, because
    /// every user of this machine can see the command line while the program runs
    #[arg(long, value_name = "TOKEN", requires = "user")]
    #[arg(allow_hyphen_values = true)]
    token: Option<Secret>,

    /// A file that contains the token on one line
    #[arg(long, value_name = "FILE", requires = "user")]
    token_file: Option<PathBuf>,

    /// The environment variable that contains the token
    #[arg(long, value_name = "VAR", requires = "user")]
    token_env: Option<String>,

    /// The client certificate for TLS, followed by its intermediate certificates. Without a password or a token, the
    /// client authenticates with this certificate (EXTERNAL)
    #[arg(long, value_name = "PEM", requires = "key")]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of the certificate
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// The only mechanism to use [default: the strongest that the server offers]. ANONYMOUS is used only if this option
    /// names it. ANONYMOUS needs no secret. The client sends the name in --user to the server as trace information
    #[arg(long, value_name = "NAME", value_parser = mechanism)]
    mechanism: Option<Mechanism>,

    /// Whether to use channel binding, which binds authentication to the TLS connection and so prevents
    /// man-in-the-middle attacks. With `required`, the client uses only mechanisms with channel binding (SCRAM-…-PLUS)
    #[arg(long, value_name = "WHETHER", default_value = "preferred", value_parser = policy())]
    channel_binding: BindingPolicy,

    /// Send the password or the token even without TLS, although an eavesdropper can then read it
    #[arg(long)]
    allow_cleartext: bool,

    /// Print the dialogue on standard error, with all secrets masked
    #[arg(long)]
    pub(crate) trace: bool,

    /// The time limit for connecting, for TLS, and for each reply from the server
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// The file that contains the message, including its header [default: standard input]
    pub(crate) file: Option<PathBuf>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protection {
    /// No TLS
    None,
    /// TLS that begins with STARTTLS. The client stops if the server does not offer STARTTLS
    Starttls,
    /// TLS from the first octet
    Implicit,
}

impl Args {
    /// Returns the credentials, if any are given.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>, Box<dyn Error>> {
        let (host, port) = &self.server;
        let password =
            secret_of("password", &self.password, &self.password_file, &self.password_env)?;
        let token = secret_of("token", &self.token, &self.token_file, &self.token_env)?;
        let is_guest = self.mechanism == Some(Mechanism::Anonymous);
        let user = self.user.as_deref();
        let (credentials, fits): (_, fn(Mechanism) -> bool) = match (user, password, token) {
            (Some(user), Some(password), _) => {
                (Credentials::password(user, password)?, Mechanism::takes_password)
            }
            (Some(user), _, Some(token)) => {
                (Credentials::token(user, token)?.for_server(host, *port)?, Mechanism::takes_token)
            }
            // ANONYMOUS is used only if it is named explicitly.
            (trace, ..) if is_guest => {
                (Credentials::anonymous(trace.unwrap_or_default())?, |_| true)
            }
            (Some(_), ..) => return Err("--user also needs a password or a token".into()),
            (None, ..) if self.cert.is_some() => {
                (Credentials::external(), |own| own == Mechanism::External)
            }
            (None, ..) if self.mechanism.is_some() => {
                return Err("--mechanism needs --user, or --cert".into());
            }
            (None, ..) => return Ok(None),
        };
        if let Some(other) = self.mechanism.filter(|own| !fits(*own)) {
            let why = format!("--mechanism {other} cannot use the given credentials");
            return Err(why.into());
        }
        Ok(Some(match &self.authzid {
            Some(authzid) => credentials.acting_as(authzid)?,
            None => credentials,
        }))
    }

    /// Returns the SASL configuration.
    pub(crate) fn sasl(&self) -> Result<Config, ConfigError> {
        let mut sasl = Config::builder()
            .allow_cleartext(self.allow_cleartext)
            .channel_binding(self.channel_binding);
        if let Some(only) = self.mechanism {
            // Only the named mechanism: a SCRAM mechanism would otherwise include its -PLUS form.
            sasl = sasl.mechanisms([only]).without(only.plus());
        }
        sasl.build()
    }
}

/// Returns the password or the token from one of its three sources.
fn secret_of(
    what: &str,
    given: &Option<Secret>,
    file: &Option<PathBuf>,
    variable: &Option<String>,
) -> Result<Option<Secret>, String> {
    if let Some(file) = file {
        let mut text = fs::read_to_string(file)
            .map_err(|error| format!("--{what}-file {}: {error}", file.display()))?;
        // Truncated in place, so that no second copy stays in memory.
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        return Ok(Some(Secret::new(text)));
    }
    let Some(variable) = variable else { return Ok(given.clone()) };
    let found = env::var_os(variable).and_then(|value| value.into_string().ok());
    // The standard library's error would contain the value of the variable.
    let found = found.ok_or_else(|| {
        format!("--{what}-env {variable}: the variable is not set, or is not valid UTF-8")
    });
    found.map(|text| Some(Secret::new(text)))
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| "the port is not a number up to 65535")?;
    // The host must be a name that a certificate can contain.
    ServerName::try_from(host).map_err(|_| "the host is not a valid name or IP address")?;
    Ok((host.into(), port))
}

fn policy() -> impl TypedValueParser<Value = BindingPolicy> {
    PossibleValuesParser::new(["none", "preferred", "required"]).map(|word| match &*word {
        "none" => BindingPolicy::None,
        "required" => BindingPolicy::Required,
        _ => BindingPolicy::Preferred,
    })
}

fn mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(text).filter(|own| own.is_compiled()).ok_or_else(|| {
        let names: Vec<_> = Mechanism::COMPILED.iter().map(|own| own.name()).collect();
        format!("the available mechanisms are {}", names.join(", "))
    })
}
