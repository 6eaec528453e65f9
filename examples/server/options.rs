//! The command line, and what it makes of the server.

use core::{error::Error, net::SocketAddr, num::NonZeroU32, str::FromStr};
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use clap::Parser;
use maildir::Maildir;
use smtp_auth::{
    ehlo::Keyword,
    sasl::{self, Mechanism},
    server,
};
use tokio_rustls::TlsAcceptor;

use crate::{log, relay::Relay, tls, users::Users};

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
    /// trials. Without any there is one account, made up at start and printed.
    #[arg(long, value_name = "NAME:PASSWORD", allow_hyphen_values = true)]
    user: Vec<String>,
    /// The mechanisms to offer, by default all that are compiled in.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = mechanism)]
    mechanisms: Option<Vec<Mechanism>>,
    /// How many failed attempts to sign in a connection may take, at least 3 (RFC 4954 §9).
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..))]
    max_attempts: u32,
    /// What guessing passwords costs. With a number each wrong password is answered a second late;
    /// `off` turns this off. (A limit of that many failures for an address and an account is to
    /// come: for now all numbers do the same, and nobody is locked out.)
    #[arg(long, value_name = "off|N", default_value = "10")]
    guess_limit: GuessLimit,
    /// Print each connection's dialogue on stderr, everything secret masked.
    #[arg(long)]
    trace: bool,
    /// The certificate and those that lead to its CA, as PEM.
    #[arg(long, value_name = "PEM", requires = "key", conflicts_with = "no_tls")]
    cert: Option<PathBuf>,
    /// The certificate's private key, as PEM.
    #[arg(long, value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// Where to write the certificate that is made at start if none is given, for clients to trust.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "no_tls"])]
    cert_out: Option<PathBuf>,
    /// Do not offer TLS.
    #[arg(long)]
    no_tls: bool,
    /// Take passwords without TLS too, where anyone on the way can read them.
    #[arg(long)]
    allow_cleartext: bool,
    /// The Maildir that takes the mail of every recipient.
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

    fn smtp(&self) -> Result<server::Config, sasl::ConfigError> {
        let mut sasl = sasl::server::Config::new(&self.hostname)?;
        if let Some(mechanisms) = &self.mechanisms {
            sasl = sasl.mechanisms(mechanisms)?;
        }
        let starttls = if self.no_tls { server::StartTls::Off } else { server::StartTls::Offered };
        // The session adds SIZE, STARTTLS and AUTH.
        Ok(server::Config::new(sasl.allow_cleartext(self.allow_cleartext))
            .keywords([
                Keyword::Pipelining,
                Keyword::EightBitMime,
                Keyword::SmtpUtf8,
                Keyword::EnhancedStatusCodes,
            ])
            .max_attempts(self.max_attempts)
            .starttls(starttls))
    }

    fn tls(&self) -> Result<Option<TlsAcceptor>, Box<dyn Error>> {
        if self.no_tls {
            return Ok(None);
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            return tls::from_pem(cert, key).map(Some);
        }
        let (acceptor, pem) = tls::self_signed(&self.hostname)?;
        if let Some(path) = &self.cert_out {
            fs::write(path, pem).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Some(acceptor))
    }

    fn users(&self) -> Result<Users, Box<dyn Error>> {
        if self.user.is_empty() {
            let password = tls::random_password()?;
            writeln!(io::stdout(), "the account is demo, its password {password}")?;
            return Users::new([("demo", password.as_str())]);
        }
        let pair = |user: &'_ String| -> Option<(String, String)> {
            let (name, password) = user.split_once(':')?;
            let good = !name.is_empty() && !password.is_empty();
            good.then(|| (name.into(), password.into()))
        };
        // The error does not repeat the argument, which has a password in it.
        let pairs: Option<Vec<_>> = self.user.iter().map(pair).collect();
        let pairs = pairs.ok_or("--user needs NAME:PASSWORD, neither of them empty")?;
        Users::new(pairs.iter().map(|(name, password)| (&**name, &**password)))
    }
}

/// What the connections share.
pub(crate) struct Host {
    pub(crate) smtp: Arc<server::Config>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) users: Users,
    pub(crate) maildir: Maildir,
    pub(crate) relay: Option<Relay>,
    pub(crate) pause: bool,
    pub(crate) trace: bool,
}

impl Host {
    pub(crate) fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let smtp = Arc::new(options.smtp()?);
        let cleartext = sasl::Channel::cleartext();
        if options.no_tls && smtp.sasl().offered(&cleartext).next().is_none() {
            log("warning", "nobody can sign in: --no-tls needs --allow-cleartext, or CRAM-MD5");
        }
        let relay = options.relay.as_deref().map(|hop| Relay::new(hop, &options.hostname));
        Ok(Self {
            smtp,
            tls: options.tls()?,
            users: options.users()?,
            maildir: open_maildir(&options.maildir)
                .map_err(|error| format!("{}: {error}", options.maildir.display()))?,
            relay: relay.transpose()?,
            pause: options.guess_limit.0.is_some(),
            trace: options.trace,
        })
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        self.smtp.sasl().host()
    }
}

/// Mail is nobody else's to read, so a new directory is the owner's alone.
fn open_maildir(path: &PathBuf) -> io::Result<Maildir> {
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut directory, 0o700);
    directory.create(path)?;
    let maildir = Maildir::from(path.clone());
    maildir.create_dirs()?;
    Ok(maildir)
}

fn mechanism(name: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(name).ok_or_else(|| {
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
