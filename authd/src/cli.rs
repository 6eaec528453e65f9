//! The command line. No password is an argument, as every user of a machine can read the arguments of a process.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An authentication service for Postfix and Exim, by Dovecot's authentication protocol. The accounts are in SQLite or
/// PostgreSQL.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
pub(crate) struct Cli {
    /// The configuration, a TOML file that only its owner can read. Without this option it is the file that the
    /// variable SMTP_AUTHD_CONFIG names, if there is one. The variable DATABASE_URL takes precedence over the file's
    /// `database`.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Serves a new SQLite database, or that of DATABASE_URL, with one account, and shows how Postfix and Exim use it.
    #[arg(long)]
    pub(crate) demo: bool,
    /// The directory of the demo's files.
    #[arg(long, value_name = "DIRECTORY", default_value = "smtp-authd-demo", requires = "demo")]
    pub(crate) directory: PathBuf,
    /// The demo's socket, in place of one in its directory.
    #[arg(long, value_name = "PATH", requires = "demo")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves mail servers (the default).
    Serve,
    /// Manages accounts.
    #[command(subcommand)]
    Account(Account),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Makes an account. Its password is read from the terminal, or from the first line of the standard input.
    Add {
        name: String,
        /// Another name of the account.
        #[arg(long = "alias", value_name = "NAME")]
        aliases: Vec<String>,
        /// Makes the account without enabling it.
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        password: Password,
    },
    /// Changes a password, or makes an application password, which is always generated.
    Passwd {
        name: String,
        /// The application password of this label. Its owner authenticates as NAME/LABEL.
        #[arg(long, value_name = "LABEL")]
        app: Option<String>,
        /// Removes the application password.
        #[arg(long, requires = "app")]
        remove: bool,
        #[command(flatten)]
        password: Password,
    },
    /// Adds or removes another name of an account.
    Alias {
        name: String,
        alias: String,
        #[arg(long)]
        remove: bool,
    },
    /// Disables an account, with all its names and passwords.
    Disable { name: String },
    /// Enables an account.
    Enable { name: String },
    /// Lists accounts and their passwords, without what is kept of them.
    List {
        /// Lists only enabled accounts with a password that has no SCRAM keys.
        #[arg(long)]
        without_scram: bool,
    },
    /// Imports accounts, and lists what cannot be imported. Accounts that exist stay as they are.
    Import {
        format: Format,
        /// The file, or `-` for the standard input.
        file: PathBuf,
        /// Checks the file, and imports nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes all accounts to the standard output, with what is kept of their passwords, and lists what the format has no
    /// room for. Whoever reads the output can search for the passwords: keep it as safe as the database.
    Export { format: Format },
}

#[derive(Debug, Args)]
pub(crate) struct Password {
    /// Generates the password, and prints it once.
    #[arg(long)]
    pub(crate) generate: bool,
    /// The number of days after which the password expires.
    #[arg(long, value_name = "DAYS")]
    pub(crate) expires: Option<u32>,
    /// Keeps CRAM-MD5 states of the password, which are as good as the password itself.
    #[arg(long)]
    pub(crate) cram_md5: bool,
}

/// The format of a file of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// All that the database has of an account, with one account in each line. This is the format for a backup, and for a
    /// move to another database.
    Json,
    /// Dovecot's passwd-file: `name:{SCHEME}value:…`, with one scheme for each name. `user=NAME` marks an alias, and the
    /// name of an application password.
    Dovecot,
    /// `name:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, one line for each scheme.
    Rfc5803,
    /// What `SELECT rolname, rolpassword FROM pg_authid` prints by `psql -At`: `name|SCRAM-SHA-256$…`
    Postgresql,
}
