//! The configuration: a TOML file, and the variable DATABASE_URL.

use core::{num::NonZeroUsize, time::Duration};
use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use smtp_auth::{
    Secret,
    sasl::{FoldName, Mechanism, ScramHash, as_sent, prepare, prepare_lower_case},
};
use tracing_subscriber::EnvFilter;

use crate::{credential::Scheme, store::Options};

/// The longest time for which the reply to a failed attempt is held back: mail servers wait for 10 seconds for a
/// reply, and the answer may have taken half of that.
pub(crate) const MAX_FAILURE_DELAY_MS: u64 = 3000;

/// Why there is no configuration. No text contains a value of the file, as it may be a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{path} cannot be read: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("{path} can be read by others than its owner, and may contain a password: run `chmod 0600 {path}`", path = path.display())]
    Mode { path: PathBuf },
    #[error("{path}, line {line}: {message}")]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error(
        "no database is configured: set DATABASE_URL, or `database` in the file, or try `--demo`"
    )]
    NoDatabase,
    #[error(
        "no socket is configured: add a [[socket]] with a `path`, or start the service by socket activation"
    )]
    NoSocket,
    #[error("{0}")]
    Value(&'static str),
}

/// The configuration of the service and of its commands.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// `sqlite:PATH` or `postgres://…`; the variable DATABASE_URL comes first.
    pub(crate) database: Option<Secret>,
    /// The largest number of connections to the database.
    pub(crate) connections: u32,
    /// The time limit of a query, in milliseconds.
    pub(crate) query_time_limit_ms: u64,
    /// The largest number of connections of mail servers, in equal parts for each socket. Further ones wait.
    pub(crate) max_connections: usize,
    /// The name in the challenges of CRAM-MD5.
    pub(crate) hostname: String,
    pub(crate) accounts: Accounts,
    pub(crate) hashing: HashingOptions,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    #[serde(rename = "socket")]
    pub(crate) sockets: Vec<Socket>,
}

/// The credentials of new passwords, and the mechanisms that are offered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Accounts {
    /// The kind of credential that is made of a new password.
    pub(crate) keep: Keep,
    /// The hashes of SCRAM for which keys are made; the first is the one that PLAIN and LOGIN are checked with.
    pub(crate) scram: Vec<String>,
    /// The number of iterations of new SCRAM keys.
    pub(crate) iterations: u32,
    /// Whether CRAM-MD5 is offered. Only passwords that were created with `--cram-md5` have its states.
    pub(crate) cram_md5: bool,
    /// Whether SCRAM is offered although some enabled accounts have no keys. A client of such an account that prefers
    /// SCRAM then fails.
    pub(crate) scram_always: bool,
    pub(crate) names: Names,
}

/// The kind of credential that is made of a new password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Keep {
    Scram,
    Argon2id,
}

/// How names are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Names {
    LowerCase,
    Prepared,
    AsSent,
}

/// The threads that compute hashes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HashingOptions {
    /// 0 is the number of processors.
    pub(crate) threads: usize,
    pub(crate) queue: usize,
}

/// The rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Failures of a network.
    pub(crate) network: u32,
    /// Failures at an account.
    pub(crate) account: u32,
    /// The seconds in which that many failures leak away.
    pub(crate) window_s: u64,
    /// For how many days a network is known after a success.
    pub(crate) known_days: u64,
    /// Networks, accounts, and pairs of both with failures, of each kind.
    pub(crate) max_entries: usize,
    /// Pairs of an account and a network that is known for it.
    pub(crate) max_known: usize,
    /// How long the answer to a failed attempt is held back, in milliseconds.
    pub(crate) failure_delay_ms: u64,
    /// How often the limits are exchanged with the other processes, in milliseconds; at most a second.
    pub(crate) exchange_ms: u64,
}

/// The log's format and contents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// A filter of `tracing`, such as `info`. The default leaves out the notices of PostgreSQL.
    pub(crate) filter: String,
    /// Whether the names of authenticated accounts are logged. A name that failed never is: some people type their
    /// password in its place.
    pub(crate) names: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Where metrics are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metrics {
    /// `unix:PATH`, or an address of loopback. Without it there are none.
    pub(crate) listen: Option<String>,
}

/// A socket that mail servers connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    /// In octal, such as `"0660"`.
    #[serde(default = "socket_mode")]
    pub(crate) mode: String,
    pub(crate) owner: Option<String>,
    pub(crate) group: Option<String>,
    /// Whether the client addresses that come by this socket are believed. Rate limiting by network needs them.
    #[serde(default)]
    pub(crate) trusted: bool,
}

fn socket_mode() -> String {
    "0600".into()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: None,
            connections: 8,
            query_time_limit_ms: 2000,
            max_connections: 16_000,
            hostname: "localhost".into(),
            accounts: Accounts::default(),
            hashing: HashingOptions::default(),
            limits: Limits::default(),
            log: Log::default(),
            metrics: Metrics::default(),
            sockets: Vec::new(),
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        Self {
            keep: Keep::Scram,
            scram: vec![Scheme::ScramSha256.name().into()],
            iterations: 15_000,
            cram_md5: false,
            scram_always: false,
            names: Names::LowerCase,
        }
    }
}

impl Default for HashingOptions {
    fn default() -> Self {
        Self { threads: 0, queue: 1024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            network: 20,
            account: 10,
            window_s: 600,
            known_days: 30,
            max_entries: 1 << 16,
            max_known: 1 << 20,
            failure_delay_ms: 2000,
            exchange_ms: 500,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,sqlx=warn".into(), names: true }
    }
}

impl Config {
    /// Reads the file, if there is one, and the variable DATABASE_URL.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = match path {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        if let Ok(url) = env::var("DATABASE_URL") {
            config.database = Some(url.into());
        }
        config.check()?;
        Ok(config)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |error| ConfigError::Read { path: path.into(), error };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(ConfigError::Mode { path: path.into() });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            ConfigError::Syntax { path: path.into(), line, message: without_value(error.message()) }
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let accounts = &self.accounts;
        if !(4096..=1_000_000).contains(&accounts.iterations) {
            return Err(ConfigError::Value(
                "`iterations` is not between 4,096 (RFC 7677) and 1,000,000",
            ));
        }
        if accounts.keep == Keep::Scram && self.hashes().is_empty() {
            return Err(ConfigError::Value("`scram` names no mechanism, and `keep` is \"scram\""));
        }
        if self.hashes().len() != accounts.scram.len() {
            return Err(ConfigError::Value(
                "`scram` names another mechanism than SCRAM-SHA-1, -SHA-256 and -SHA-512",
            ));
        }
        if self.limits.network == 0 || self.limits.account == 0 || self.limits.max_entries == 0 {
            return Err(ConfigError::Value("a rate limit of 0 would refuse everybody"));
        }
        if self.limits.exchange_ms == 0 || self.limits.exchange_ms > 1000 {
            return Err(ConfigError::Value("`exchange_ms` is not between 1 and 1,000"));
        }
        if self.limits.failure_delay_ms > MAX_FAILURE_DELAY_MS {
            return Err(ConfigError::Value(
                "`failure_delay_ms` is more than 3,000: Postfix waits for a reply for 10 seconds in all",
            ));
        }
        if !(10..=5000).contains(&self.query_time_limit_ms) {
            return Err(ConfigError::Value(
                "`query_time_limit_ms` is not between 10 and 5,000: Postfix waits for a reply for 10 seconds in all",
            ));
        }
        if EnvFilter::try_new(&self.log.filter).is_err() {
            return Err(ConfigError::Value(
                "the `filter` of the log is neither a level, such as \"info\", nor a list such as \"warn,smtp_authd=debug\"",
            ));
        }
        for socket in &self.sockets {
            socket.mode()?;
        }
        Ok(())
    }

    /// Returns the settings whose values in `new` take effect at the next start, and not when the file is reloaded.
    pub(crate) fn changed_until_restart(&self, new: &Self) -> Vec<&'static str> {
        let limits = Limits { failure_delay_ms: self.limits.failure_delay_ms, ..new.limits };
        let settings = [
            ("database", self.database != new.database),
            ("connections", self.connections != new.connections),
            ("query_time_limit_ms", self.query_time_limit_ms != new.query_time_limit_ms),
            ("max_connections", self.max_connections != new.max_connections),
            ("[hashing]", self.hashing != new.hashing),
            ("[limits]", self.limits != limits),
            ("format in [log]", self.log.format != new.log.format),
            ("[metrics]", self.metrics != new.metrics),
            ("[[socket]]", self.sockets != new.sockets),
        ];
        settings.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }

    /// Returns how to reach the database.
    pub(crate) fn database(&self) -> Result<Options, ConfigError> {
        let url = self.database.clone().ok_or(ConfigError::NoDatabase)?;
        let time_limit = Duration::from_millis(self.query_time_limit_ms);
        Ok(Options { url, connections: self.connections, time_limit })
    }

    /// Returns the hashes for which SCRAM keys are made.
    pub(crate) fn hashes(&self) -> Vec<ScramHash> {
        let hash = |name: &String| Scheme::named(name).and_then(Scheme::hash);
        self.accounts.scram.iter().filter_map(hash).collect()
    }

    /// Returns the mechanisms that the accounts' credentials are meant for, the strongest first.
    pub(crate) fn mechanisms(&self) -> Vec<Mechanism> {
        let scram = self.hashes().into_iter().map(ScramHash::mechanism);
        let cram = self.accounts.cram_md5.then_some(Mechanism::CramMd5);
        let scram =
            scram.filter(|_| self.accounts.keep == Keep::Scram || self.accounts.scram_always);
        scram.chain(cram).chain([Mechanism::Plain, Mechanism::Login]).collect()
    }

    /// Returns the function that folds names.
    pub(crate) fn fold(&self) -> FoldName {
        match self.accounts.names {
            Names::LowerCase => prepare_lower_case,
            Names::Prepared => prepare,
            Names::AsSent => as_sent,
        }
    }

    /// Returns the number of threads for hashing.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let own = NonZeroUsize::new(self.hashing.threads);
        own.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Socket {
    /// Returns the mode as a number.
    pub(crate) fn mode(&self) -> Result<u32, ConfigError> {
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or(ConfigError::Value(
            "the `mode` of a socket is not an octal number such as \"0660\"",
        ))
    }
}

/// Removes the value from an error's message, as a password may be in the wrong place. The error's `Display` would
/// show the whole line.
fn without_value(message: &str) -> String {
    let shows_value =
        ["invalid type", "invalid value", "invalid length", "unknown variant", "duplicate"];
    match message.rsplit_once(", expected ") {
        Some((before, expected)) if shows_value.iter().any(|own| before.starts_with(own)) => {
            let expected = match expected {
                "u32" | "u64" | "usize" => "a number that is not negative",
                "a boolean" => "true or false",
                "a sequence" => "a list in square brackets",
                other => other,
            };
            format!("the value is not allowed here: expected {expected}")
        }
        _ if message.contains("://") || message.starts_with("invalid") => {
            "the value is not allowed here".into()
        }
        _ => message.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn read(text: &str, mode: u32) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authd.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let config = Config::read(&path)?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn a_file_sets_what_it_names_and_the_rest_has_defaults() {
        let text = "database = \"postgres://db\"\n[accounts]\niterations = 20000\n\
                    [[socket]]\npath = \"/run/auth\"\nmode = \"0660\"\ntrusted = true\n";
        let config = read(text, 0o600).unwrap();
        assert_eq!((config.accounts.iterations, config.limits.account), (20_000, 10));
        assert_eq!((config.sockets[0].mode().unwrap(), config.sockets[0].trusted), (0o660, true));
        assert_eq!(config.database().unwrap().url.expose(), "postgres://db");
        let names = config.mechanisms();
        assert_eq!(names, [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login]);
    }

    /// The README shows each setting with its default.
    #[test]
    fn the_settings_of_the_readme_are_the_defaults() {
        let readme = include_str!("../README.md");
        let shown = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let shown = Config {
            database: None,
            metrics: Metrics::default(),
            sockets: Vec::new(),
            ..read(shown, 0o600).unwrap()
        };
        assert_eq!(format!("{shown:?}"), format!("{:?}", Config::default()));
    }

    /// The page shows a complete configuration, which has a database and sockets.
    #[test]
    fn the_configurations_of_the_page_are_read() {
        let page = include_str!("../../docs/postfix-and-exim.md");
        let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let all: Vec<_> = blocks.map(|block| read(block, 0o600).unwrap()).collect();
        assert!(all.iter().all(|config| !config.sockets.is_empty()));
        assert!(all.iter().any(|config| config.database.is_some() && config.sockets.len() == 2));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        assert!(matches!(read("", 0o640), Err(ConfigError::Mode { .. })));
        assert!(read("", 0o400).is_ok());
    }

    #[test]
    fn errors_name_the_line_and_never_show_the_value() {
        let error =
            read("connections = 1\ndatabase = \"postgres://u:hunter2@db\" x\n", 0o600).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        for wrong in [
            "[accounts]\niterations = \"hunter2\"",
            "[accounts]\nkeep = \"hunter2, expected x\"",
            "[log]\nformat = \"hunter2\"",
            "[[socket]]\npath = [\"hunter2\"]",
            "connections = \"hunter2://x\"",
            "database = hunter2",
            "hostname = \"hunter2",
        ] {
            let error = read(wrong, 0o600).unwrap_err().to_string();
            assert!(error.contains(&format!("line {}", wrong.lines().count())), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for wrong in [
            "[accounts]\niterations = 100",
            "[accounts]\nscram = [\"PLAIN\"]",
            "[limits]\naccount = 0",
            "[[socket]]\npath = \"x\"\nmode = \"abc\"",
            "unknown = 1",
            "[limits]\nexchange_ms = 2000",
            "[limits]\nfailure_delay_ms = 3001",
            "query_time_limit_ms = 5001",
            "[log]\nfilter = \"smtp_authd=loud\"",
        ] {
            assert!(read(wrong, 0o600).is_err(), "{wrong}");
        }
    }
}
