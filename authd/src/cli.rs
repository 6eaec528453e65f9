//! The command line. No password is an argument, as every user of a machine can read the arguments of a process.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An authentication service for Postfix and Exim, by Dovecot's authentication protocol. The accounts are in SQLite or
/// PostgreSQL.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// The configuration, a TOML file that only its owner can read. The default is the file that the variable
    /// SMTP_AUTHD_CONFIG names. The variable DATABASE_URL takes precedence over the file's `database`.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Creates a SQLite database with one account, serves it, and shows the lines for the configuration of Postfix and
    /// Exim. If the variable DATABASE_URL is set, uses that database instead.
    #[arg(long)]
    pub(crate) demo: bool,
    /// The directory of the demo's files.
    #[arg(long, value_name = "DIRECTORY", default_value = "smtp-authd-demo", requires = "demo")]
    pub(crate) directory: PathBuf,
    /// The demo's socket, in place of one in its directory. The sockets of the configuration are not used.
    #[arg(long, value_name = "PATH", requires = "demo")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the service. This is the default.
    Serve,
    /// Manages accounts.
    #[command(subcommand)]
    Account(Account),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Creates an account. Its password is read from the terminal, or from the first line of the standard input, and
    /// must have at least 8 characters and at most 256 octets.
    Add {
        /// The name of the account, such as `tim` or `tim@example.org`.
        name: String,
        /// Another name of the account. The option can be given several times.
        #[arg(long = "alias", value_name = "NAME")]
        aliases: Vec<String>,
        /// Creates the account without enabling it.
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        password: Password,
    },
    /// Changes the password of an account, or creates an application password, which is always generated. A password
    /// that is not generated must have at least 8 characters and at most 256 octets.
    Passwd {
        /// The name of the account. An alias does not count.
        name: String,
        /// Creates or replaces the application password with this label. Its user authenticates as NAME/LABEL.
        #[arg(long, value_name = "LABEL")]
        app: Option<String>,
        /// Removes the application password that `--app` names, so that nobody can authenticate with it any more.
        #[arg(long, requires = "app")]
        remove: bool,
        #[command(flatten)]
        password: Password,
    },
    /// Adds or removes another name of an account.
    Alias {
        /// The name of the account.
        name: String,
        /// The other name.
        alias: String,
        /// Removes the other name.
        #[arg(long)]
        remove: bool,
    },
    /// Disables an account, with all its names and passwords. No command deletes an account.
    Disable {
        /// The name of the account. An alias does not count.
        name: String,
    },
    /// Enables an account.
    Enable {
        /// The name of the account. An alias does not count.
        name: String,
    },
    /// Lists accounts with their aliases and passwords. For each password, shows its schemes, and the days (in UTC) on
    /// which it was created, was last used and expires.
    List {
        /// Lists only the passwords of enabled accounts that lack the keys of at least one mechanism of the setting
        /// `scram`. Application passwords count as well.
        #[arg(long)]
        without_scram: bool,
    },
    /// Imports accounts. Lists the lines that cannot be imported, with the reasons. Accounts that exist are not
    /// changed.
    Import {
        format: Format,
        /// The file, or `-` for the standard input.
        file: PathBuf,
        /// Checks the file, and imports nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes all accounts with their credentials to the standard output. Lists what the format has no room for. Keep
    /// the output as safe as the database: an attacker can search it for passwords by brute force.
    Export { format: Format },
}

#[derive(Debug, Args)]
pub(crate) struct Password {
    /// Generates the password, and prints it once.
    #[arg(long)]
    pub(crate) generate: bool,
    /// The number of days after which the password expires. Without this option, the new password never expires, even
    /// if the previous one did.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires: Option<u32>,
    /// Also stores a CRAM-MD5 state, so that the user can authenticate with CRAM-MD5. The service offers CRAM-MD5 only
    /// while the setting `cram_md5` is true. An attacker who has stolen the state does not need the password.
    #[arg(long)]
    pub(crate) cram_md5: bool,
}

/// The format of a file of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One account in each line, with all that the database has of it. Use this format for backups, and to move to
    /// another database.
    Json,
    /// Dovecot's passwd-file: `name:{SCHEME}value:…`, with one scheme for each name. `user=NAME` marks an alias, and
    /// the name of an application password.
    Dovecot,
    /// `name:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, one line for each scheme.
    Rfc5803,
    /// The output of `psql -At` for `SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL`:
    /// `name|SCRAM-SHA-256$…`
    Postgresql,
}
