//! The command line, and what it makes of the server.

use core::{error::Error, net::SocketAddr, num::NonZeroU32, str::FromStr, time::Duration};
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Instant, SystemTime},
};

use clap::Parser;
use maildir::Maildir;
use smtp_auth::{
    ehlo::Keyword,
    reply::Reply,
    sasl::{self, BindingPolicy, Channel, ChannelBinding, Mechanism},
    server,
};

use crate::{
    binding,
    limits::{Connections, Guesses, Limited, Network, Place},
    log,
    relay::Relay,
    senders::Senders,
    tls::{self, Tls},
    users::Users,
};

/// How long a file in `tmp` is left alone: the Maildir convention's 36 hours
/// (<https://cr.yp.to/proto/maildir.html>).
const ABANDONED: Duration = Duration::from_secs(36 * 60 * 60);

/// A small submission server: takes mail from those who sign in.
#[derive(Parser)]
#[command(name = "server")]
pub(crate) struct Options {
    /// Where to listen; STARTTLS is offered there. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// Where to listen inside TLS from the first octet.
    #[arg(long, value_name = "ADDR", conflicts_with = "no_tls")]
    listen_tls: Option<SocketAddr>,
    /// The server's name, in its greeting, in `Received:` lines and in the certificate made at start.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    hostname: String,
    /// An account; may be repeated. Everyone on the machine can read the command line: this is for
    /// trials. Without any, and without --token, there is one account, made up at start and printed.
    #[arg(long, value_name = "NAME:PASSWORD", allow_hyphen_values = true)]
    user: Vec<String>,
    /// A token of OAuth 2.0, and whose it is; may be repeated. It never expires: this is for trials.
    #[arg(long, value_name = "NAME:TOKEN", allow_hyphen_values = true)]
    token: Vec<String>,
    /// The CA of the clients' certificates, as PEM: clients are asked for one, and who has one signs
    /// in without a password, by EXTERNAL, to the account that it names. That is the first mail
    /// address of its alternative names, or else its subject's common name.
    #[arg(long, value_name = "PEM", conflicts_with = "no_tls")]
    client_ca: Option<PathBuf>,
    /// Which sender's addresses an account may use, `*` for all; may be repeated. By default an account
    /// whose name is an address may use that one, and any other the address of its name in each domain.
    /// What it may not use is refused (553).
    #[arg(long, value_name = "NAME:ADDRESS,…")]
    senders: Vec<String>,
    /// The mechanisms to offer. By default all that are compiled in, but those for tokens only where
    /// there is a token, and no ANONYMOUS. By that one a guest may come in, and send nothing. SCRAM brings its
    /// -PLUS form along.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = mechanism)]
    mechanisms: Option<Vec<Mechanism>>,
    /// Whether sign-ins are bound to the TLS connection, so that nobody who stands between can pass
    /// them on: if `preferred`, the SCRAM-…-PLUS mechanisms, which do so, are offered beside the
    /// others; if `required`, no other is.
    #[arg(long, value_name = "WHETHER", default_value = "preferred", value_parser = binding::policy())]
    channel_binding: BindingPolicy,
    /// How many failed attempts to sign in a connection may take, at least 3 (RFC 4954 §9).
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..))]
    max_attempts: u32,
    /// How many failed attempts to sign in an address (of IPv6, its /64) and an account may have.
    /// They are forgotten one by one, so many in ten minutes. When an address has them, its clients
    /// are sent away (421) when they connect or try to sign in. When an account has them, every
    /// password for it is wrong, the right one too, so that nobody can tell; its owner waits as long
    /// as the guesser. A sign-in clears the account's count. Tokens and certificates count for the
    /// address alone. Besides, each failure is answered late, by a second, then twice as long for
    /// each in the connection. `off` turns all this off.
    #[arg(long, value_name = "off|N", default_value = "10")]
    guess_limit: GuessLimit,
    /// How many connections may be open at a time; the next is sent away (421).
    #[arg(long, value_name = "N", default_value = "1000")]
    max_connections: usize,
    /// How many of them an address (of IPv6, its /64) may have.
    #[arg(long, value_name = "N", default_value = "50")]
    max_per_address: usize,
    /// How many seconds a client may be silent, or not take what it is sent (RFC 5321 §4.5.3.2.7:
    /// at least 300).
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    idle_time: u32,
    /// How many seconds a client may take to begin TLS.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    handshake_time: u32,
    /// How many seconds a client may take to sign in, TLS included. A guest never does.
    #[arg(long, value_name = "SECONDS", default_value = "180")]
    sign_in_time: u32,
    /// How many seconds a connection may last in all. A message that has come whole gets its reply
    /// first.
    #[arg(long, value_name = "SECONDS", default_value = "7200")]
    max_time: u32,
    /// Print each connection's dialogue on stderr, everything secret masked.
    #[arg(long)]
    trace: bool,
    /// The certificate and those that lead to its CA, as PEM.
    #[arg(long, value_name = "PEM", requires = "key", conflicts_with = "no_tls")]
    cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// Where to write the certificate that is made at start if none is given, for clients to trust. A new
    /// file is the owner's alone, as all that the server writes.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "no_tls"])]
    cert_out: Option<PathBuf>,
    /// Do not offer TLS.
    #[arg(long)]
    no_tls: bool,
    /// Take passwords without TLS too, where anyone on the way can read them.
    #[arg(long)]
    allow_cleartext: bool,
    /// The Maildir that takes the mail of every recipient. Where it is new it is the owner's alone to
    /// read, and so is each message.
    #[arg(long, value_name = "DIR", default_value = "target/maildir")]
    maildir: PathBuf,
    /// Hand messages on to that server instead. The Maildir's `tmp` holds them on their way.
    #[arg(long, value_name = "HOST:PORT")]
    relay: Option<String>,
}

impl Options {
    /// Where to listen, and whether inside TLS.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let plain = [(self.listen, false)].into_iter();
        plain.chain(self.listen_tls.map(|address| (address, true)))
    }

    fn smtp(&self, users: &Users) -> Result<server::Config, sasl::ConfigError> {
        let builder = sasl::server::Config::builder(&self.hostname).answered_by(users);
        let builder = match &self.mechanisms {
            Some(chosen) => builder.mechanisms(chosen),
            None => builder.without(users.unused()),
        };
        let sasl = builder
            .allow_cleartext(self.allow_cleartext)
            .channel_binding(self.channel_binding)
            .build()?;
        let starttls = if self.no_tls { server::StartTls::Off } else { server::StartTls::Offered };
        // The session adds SIZE, STARTTLS and AUTH.
        server::Config::builder(&self.hostname)
            .sasl(sasl)
            .keywords([
                Keyword::Pipelining,
                Keyword::EightBitMime,
                Keyword::SmtpUtf8,
                Keyword::EnhancedStatusCodes,
            ])
            .max_attempts(self.max_attempts)
            .starttls(starttls)
            .build()
    }

    fn tls(&self) -> Result<Option<Tls>, Box<dyn Error>> {
        if self.no_tls {
            return Ok(None);
        }
        let identity = if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls::from_pem(cert, key)?
        } else {
            let (identity, pem) = tls::self_signed(&self.hostname)?;
            if let Some(path) = &self.cert_out {
                fs::write(path, pem).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            identity
        };
        Tls::new(identity, self.client_ca.as_deref()).map(Some)
    }

    fn users(&self) -> Result<Users, Box<dyn Error>> {
        if self.makes_account() {
            let password = tls::random_password()?;
            writeln!(io::stdout(), "the account is demo, its password {password}")?;
            return Users::new(&[("demo", password.as_str())], &[]);
        }
        let passwords = pairs(&self.user).ok_or("--user needs NAME:PASSWORD, neither empty")?;
        let tokens = pairs(&self.token).ok_or("--token needs NAME:TOKEN, neither empty")?;
        Users::new(&passwords, &tokens)
    }

    /// Whether an account is made up at start.
    fn makes_account(&self) -> bool {
        self.user.is_empty() && self.token.is_empty()
    }

    /// Why nobody can sign in, whatever a client has, if that is so.
    fn locked_out(&self, sasl: &sasl::server::Config) -> Result<Option<&str>, sasl::ConfigError> {
        // What a client can have at best.
        let mut channel = Channel::cleartext();
        if !self.no_tls {
            channel = Channel::tls().with_binding(ChannelBinding::tls_exporter([0; 32]));
        }
        if self.client_ca.is_some() {
            channel = channel.with_identity("anyone")?;
        }
        let (passwords, tokens) =
            (self.makes_account() || !self.user.is_empty(), !self.token.is_empty());
        let has_users = |mechanism: Mechanism| {
            (passwords || !mechanism.takes_password()) && (tokens || !mechanism.takes_token())
        };
        Ok(if sasl.offered(&channel).any(has_users) {
            None
        } else if self.channel_binding == BindingPolicy::Required {
            Some("--channel-binding required needs TLS, a password, and a SCRAM-…-PLUS mechanism")
        } else if self.no_tls && !self.allow_cleartext {
            Some("--no-tls needs --allow-cleartext, or a password and SCRAM or CRAM-MD5")
        } else {
            Some("nobody has what the mechanisms ask for: see --user, --token and --client-ca")
        })
    }
}

/// The parts of each `NAME:SECRET`. An error must not repeat the argument, which has a secret in it.
fn pairs(given: &[String]) -> Option<Vec<(&str, &str)>> {
    let both = |(name, secret): &(&str, &str)| !name.is_empty() && !secret.is_empty();
    given.iter().map(|pair| pair.split_once(':').filter(both)).collect()
}

/// What the connections share.
pub(crate) struct Host {
    pub(crate) smtp: Arc<server::Config>,
    pub(crate) tls: Option<Tls>,
    pub(crate) users: Users,
    pub(crate) senders: Senders,
    pub(crate) maildir: Maildir,
    pub(crate) relay: Option<Relay>,
    pub(crate) connections: Arc<Connections>,
    /// `None` where guessing is not limited.
    pub(crate) guesses: Option<Guesses>,
    pub(crate) idle_time: Duration,
    pub(crate) handshake_time: Duration,
    pub(crate) sign_in_time: Duration,
    pub(crate) max_time: Duration,
    pub(crate) trace: bool,
}

impl Host {
    pub(crate) fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let users = options.users()?;
        let smtp = Arc::new(options.smtp(&users)?);
        if let Some(why) = options.locked_out(smtp.sasl())? {
            log("warning", format_args!("nobody can sign in: {why}"));
        }
        let relay = options.relay.as_deref().map(|hop| Relay::new(hop, &options.hostname));
        Ok(Self {
            smtp,
            tls: options.tls()?,
            users,
            senders: Senders::new(&options.senders).map_err(|why| format!("--senders: {why}"))?,
            maildir: open_maildir(&options.maildir)
                .map_err(|error| format!("{}: {error}", options.maildir.display()))?,
            relay: relay.transpose()?,
            connections: Arc::new(Connections::new(
                options.max_connections,
                options.max_per_address,
            )),
            guesses: options.guess_limit.0.map(Guesses::new),
            idle_time: Duration::from_secs(options.idle_time.into()),
            handshake_time: Duration::from_secs(options.handshake_time.into()),
            sign_in_time: Duration::from_secs(options.sign_in_time.into()),
            max_time: Duration::from_secs(options.max_time.into()),
            trace: options.trace,
        })
    }

    /// Whether a client may come in.
    pub(crate) fn admit(&self, network: Network) -> Result<Place, Reply> {
        if self.bars(network) {
            return Err(Reply::TOO_MANY_ATTEMPTS);
        }
        self.connections.enter(network)
    }

    /// The accounts, of which some are locked now.
    pub(crate) fn users_now(&self) -> Limited<'_, Users> {
        Limited { users: &self.users, guesses: self.guesses.as_ref(), now: Instant::now() }
    }

    /// Whether a client of that network may not try to sign in any more.
    pub(crate) fn bars(&self, network: Network) -> bool {
        self.guesses.as_ref().is_some_and(|guesses| guesses.bar_network(network, Instant::now()))
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        self.smtp.sasl().hostname()
    }
}

fn open_maildir(path: &Path) -> io::Result<Maildir> {
    let maildir = Maildir::from(path.to_owned());
    maildir.create_dirs()?;
    clear_tmp(&maildir)?;
    Ok(maildir)
}

/// Removes the files in `tmp` that have been neither written nor read for [`ABANDONED`]: what a
/// server left there that was killed. All else stays: younger files, which another program may be
/// about to deliver, directories and links, and whatever lies elsewhere.
fn clear_tmp(maildir: &Maildir) -> io::Result<()> {
    for entry in fs::read_dir(maildir.path().join("tmp"))? {
        let entry = entry?;
        let removed = match is_abandoned(&entry) {
            Ok(true) => fs::remove_file(entry.path()),
            other => other.map(drop),
        };
        match removed {
            // Another program was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // No reason not to start.
            Err(error) => log("maildir", error),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn is_abandoned(entry: &fs::DirEntry) -> io::Result<bool> {
    let file = entry.metadata()?;
    // A time that is yet to come is no age.
    let age = |touched: SystemTime| touched.elapsed().unwrap_or_default();
    let ages = [file.modified(), file.accessed()].into_iter().flatten().map(age);
    Ok(file.is_file() && ages.min().is_some_and(|youngest| youngest >= ABANDONED))
}

fn mechanism(name: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(name).filter(|known| known.is_compiled()).ok_or_else(|| {
        let known: Vec<_> = Mechanism::COMPILED.iter().map(|known| known.name()).collect();
        format!("the mechanisms are {}", known.join(", "))
    })
}

#[derive(Clone)]
struct GuessLimit(Option<NonZeroU32>);

impl FromStr for GuessLimit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            number => number.parse().map(|n| Self(Some(n))).map_err(|_| "`off` or a number over 0"),
        }
    }
}
