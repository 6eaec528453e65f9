//! The command line, and the server created from it.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use clap::{
    Parser,
    builder::{PossibleValuesParser, TypedValueParser},
};
use smtp_auth_tokio::{
    MemoryRateLimiter,
    server::{Limits, Server},
    smtp_auth::{
        Channel, Mechanism,
        ehlo::Keyword,
        sasl::{self, BindingPolicy, ChannelBinding, Immediate, Nonce},
        server::Config,
    },
    tls::ClientCertificates,
};

use crate::{
    log,
    mail::{Delivery, Log},
    maildir::Maildir,
    relay::Relay,
    senders::Senders,
    tls,
    users::Users,
};

/// How long transactions in progress may take at a shutdown. This is longer than one step of the relay, because
/// otherwise a message might be relayed without a reply to its sender.
const GRACE: Duration = Duration::from_secs(300);

/// How long relaying a message may take. Clients wait this long for the reply (RFC 5321 §4.5.3.2.6).
const FINISH: Duration = Duration::from_secs(600);

/// A small submission server that accepts mail from clients that authenticate.
#[derive(Parser)]
#[command(name = "server")]
pub(crate) struct Options {
    /// The address to listen on with STARTTLS. If the port is 0, the server picks a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:2525")]
    listen: SocketAddr,
    /// The address to listen on with implicit TLS, which begins at the first octet.
    #[arg(long, value_name = "ADDR", conflicts_with = "no_tls")]
    listen_tls: Option<SocketAddr>,
    /// The server's name in its greeting, in `Received:` fields, and in the certificate that it creates at startup.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    hostname: String,
    /// An account and its password. This option may be repeated. Use it only for trials, because every user of this
    /// machine can read the command line. If neither --user nor --token is given, the server creates one account at
    /// startup and prints its password.
    #[arg(long, value_name = "NAME:PASSWORD", allow_hyphen_values = true)]
    user: Vec<String>,
    /// An account and its OAuth 2.0 access token. This option may be repeated. Use it only for trials, because the
    /// token never expires.
    #[arg(long, value_name = "NAME:TOKEN", allow_hyphen_values = true)]
    token: Vec<String>,
    /// The certificate of the CA that signs client certificates, in PEM format. With this option, the server asks
    /// clients for a certificate. A client with a certificate can authenticate without a password (EXTERNAL). The
    /// client's account is the first mail address in the certificate's alternative names. If the certificate contains
    /// no mail address, the account is the common name of its subject.
    #[arg(long, value_name = "PEM", conflicts_with = "no_tls")]
    client_ca: Option<PathBuf>,
    /// The sender addresses that an account may use, or `*` for all addresses. This option may be repeated. By default,
    /// an account whose name is an address may use that address, and any other account may use its name at any domain.
    /// All other sender addresses are refused (553).
    #[arg(long, value_name = "NAME:ADDRESS,…")]
    senders: Vec<String>,
    /// The mechanisms to offer. By default, the server offers every mechanism that is compiled in, except ANONYMOUS. It
    /// offers the mechanisms for tokens only if --token is given. With ANONYMOUS, a guest can authenticate but cannot
    /// send mail. A SCRAM mechanism in this list includes its -PLUS form.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', value_parser = mechanism)]
    mechanisms: Option<Vec<Mechanism>>,
    /// Whether to use channel binding, which binds authentication to the TLS connection and so prevents
    /// man-in-the-middle attacks. The SCRAM-…-PLUS mechanisms use channel binding. With `preferred`, the server offers
    /// these mechanisms in addition to others. With `required`, it offers only these mechanisms.
    #[arg(long, value_name = "WHETHER", default_value = "preferred", value_parser = policy())]
    channel_binding: BindingPolicy,
    /// The maximum number of failed attempts to authenticate in one connection. The smallest value is 3 (RFC 4954 §9).
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..))]
    max_attempts: u32,
    /// The rate limit that slows down brute force. N is the number of failed attempts that are allowed for each address
    /// (or IPv6 /64) and for each account. Failures expire one by one, at a rate of N in ten minutes. Once the limit is
    /// reached, every further password is refused, including the correct one. This prevents an attacker from
    /// recognizing the correct password. If an account has recently authenticated from an address, the account's
    /// failures from this address are counted separately, so that an attacker elsewhere cannot lock out the owner of
    /// the account. Authentication with a token or a certificate is never limited, but its failures count towards the
    /// limit of the address. In addition, the reply to the first failure in a connection is delayed by one second, and
    /// this delay doubles with each further failure. The value `off` turns off both the limit and the delay.
    #[arg(long, value_name = "off|N", default_value = "10", value_parser = guess_limit)]
    guess_limit: GuessLimit,
    /// The maximum number of open connections. Further connections are refused (421).
    #[arg(long, value_name = "N", default_value = "1000")]
    max_connections: usize,
    /// The maximum number of open connections from one address (or IPv6 /64). Further connections are refused (421).
    #[arg(long, value_name = "N", default_value = "50")]
    max_per_address: usize,
    /// How many seconds the server waits for a client that sends nothing, or that does not read what the server sends.
    /// RFC 5321 §4.5.3.2.7 specifies at least 300 seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    idle_time: u32,
    /// How many seconds the TLS handshake may take.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    handshake_time: u32,
    /// How many seconds a client may take to begin TLS and to authenticate. A guest (ANONYMOUS) counts as not
    /// authenticated.
    #[arg(long, value_name = "SECONDS", default_value = "180")]
    sign_in_time: u32,
    /// How many seconds a connection may last in total. If a complete message has been received by then, the server
    /// still replies to it.
    #[arg(long, value_name = "SECONDS", default_value = "7200")]
    max_time: u32,
    /// Print the dialogue of each connection on standard error, with all secrets masked.
    #[arg(long)]
    trace: bool,
    /// The server's certificate followed by its intermediate certificates, in PEM format.
    #[arg(long, value_name = "PEM", requires = "key", conflicts_with = "no_tls")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM format.
    #[arg(long, value_name = "PEM", requires = "cert")]
    key: Option<PathBuf>,
    /// The file to which the server writes the certificate that it creates at startup, so that clients can trust this
    /// certificate. This option cannot be combined with --cert, because the server then creates no certificate. If the
    /// server creates the file, only its owner can read it. This applies to every file that the server creates.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "no_tls"])]
    cert_out: Option<PathBuf>,
    /// Do not offer TLS.
    #[arg(long)]
    no_tls: bool,
    /// Accept passwords even without TLS, although an eavesdropper can then read them.
    #[arg(long)]
    allow_cleartext: bool,
    /// The Maildir that stores the mail for all recipients. The server creates it if it does not exist. Only the owner
    /// can read a new Maildir and its messages.
    #[arg(long, value_name = "DIR", default_value = "target/maildir")]
    maildir: PathBuf,
    /// Relay messages to this server instead of storing them. Until a message has been relayed, it is kept in the
    /// Maildir's `tmp` directory.
    #[arg(long, value_name = "HOST:PORT")]
    relay: Option<String>,
}

impl Options {
    /// Returns the addresses to listen on, and whether each uses implicit TLS.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let plain = [(self.listen, false)].into_iter();
        plain.chain(self.listen_tls.map(|address| (address, true)))
    }

    fn smtp(&self, users: &Users) -> Result<Config, sasl::ConfigError> {
        let builder = sasl::server::Config::builder(&self.hostname).answered_by(users);
        let builder = match &self.mechanisms {
            Some(chosen) => builder.mechanisms(chosen),
            None => builder.without(Mechanism::COMPILED.iter().copied().filter(|&own| {
                own == Mechanism::Anonymous || own.takes_token() && !users.can_use(own)
            })),
        };
        let sasl = builder
            .allow_cleartext(self.allow_cleartext)
            .channel_binding(self.channel_binding)
            .build()?;
        Config::builder(&self.hostname)
            .sasl(sasl)
            .keyword(Keyword::SmtpUtf8)
            .max_attempts(self.max_attempts)
            .build()
    }

    /// Creates the server, which does not listen yet.
    pub(crate) fn server(&self) -> Result<Server<Immediate<Users>, Delivery>, Box<dyn Error>> {
        let users = self.users()?;
        let config = self.smtp(&users)?;
        if let Some(why) = self.locked_out(config.sasl(), &users)? {
            log("warning", format_args!("nobody can sign in: {why}"));
        }
        let relay = self.relay.as_deref().map(|hop| Relay::new(hop, &self.hostname));
        let delivery = Delivery {
            hostname: self.hostname.clone(),
            senders: Senders::new(&self.senders).map_err(|why| format!("--senders: {why}"))?,
            maildir: Maildir::at(&self.maildir)
                .map_err(|error| format!("{}: {error}", self.maildir.display()))?,
            relay: relay.transpose()?,
        };
        let mut server = Server::new(config, Immediate(users), delivery).observer(Log);
        if let Some(tls) = self.tls()? {
            server = server.tls(tls);
        }
        if self.trace {
            server = server.trace(|address, side, line| {
                let who = address.map_or_else(String::new, |address| address.to_string());
                log(format_args!("{who} {side}"), line);
            });
        }
        let limits = self.limits();
        Ok(match self.guess_limit {
            Some(most) => {
                let limiter = MemoryRateLimiter::new().network_limit(most).account_limit(most);
                server.limits(limits).rate_limiter(limiter)
            }
            None => server.limits(limits.pause(Duration::ZERO)).without_rate_limiter(),
        })
    }

    fn limits(&self) -> Limits {
        let seconds = |given: u32| Duration::from_secs(given.into());
        Limits::default()
            .connections(self.max_connections)
            .connections_each(self.max_per_address)
            .idle(seconds(self.idle_time))
            .handshake(seconds(self.handshake_time))
            .authentication(seconds(self.sign_in_time))
            .connection(seconds(self.max_time))
            .message(seconds(self.max_time))
            .finish(FINISH)
            .grace(GRACE)
    }

    fn tls(&self) -> Result<Option<ClientCertificates>, Box<dyn Error>> {
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
        tls::config(identity, self.client_ca.as_deref()).map(Some)
    }

    fn users(&self) -> Result<Users, Box<dyn Error>> {
        if self.user.is_empty() && self.token.is_empty() {
            let password = Nonce::random()?;
            writeln!(io::stdout(), "account: demo, password: {}", password.as_str())?;
            return Users::new(&[("demo", password.as_str())], &[]);
        }
        let passwords = pairs(&self.user).ok_or("--user needs NAME:PASSWORD, both non-empty")?;
        let tokens = pairs(&self.token).ok_or("--token needs NAME:TOKEN, both non-empty")?;
        Users::new(&passwords, &tokens)
    }

    /// Returns the reason why no client can authenticate, if there is one.
    fn locked_out(
        &self,
        sasl: &sasl::server::Config,
        users: &Users,
    ) -> Result<Option<&str>, sasl::ConfigError> {
        // The best channel that a client can have.
        let mut channel = Channel::cleartext();
        if !self.no_tls {
            channel = Channel::tls().with_binding(ChannelBinding::tls_exporter([0; 32]));
        }
        if self.client_ca.is_some() {
            channel = channel.with_identity("anyone")?;
        }
        Ok(if sasl.offered(&channel).any(|mechanism| users.can_use(mechanism)) {
            None
        } else if self.channel_binding == BindingPolicy::Required {
            Some("--channel-binding required needs TLS, a password, and a SCRAM-…-PLUS mechanism")
        } else if self.no_tls && !self.allow_cleartext {
            Some("--no-tls needs --allow-cleartext, or a password and SCRAM or CRAM-MD5")
        } else {
            Some(
                "no account has credentials for these mechanisms: see --user, --token and --client-ca",
            )
        })
    }
}

/// Splits each `NAME:SECRET`. Returns `None` on an error, because an error text must not repeat the secret.
fn pairs(given: &[String]) -> Option<Vec<(&str, &str)>> {
    let both = |(name, secret): &(&str, &str)| !name.is_empty() && !secret.is_empty();
    given.iter().map(|pair| pair.split_once(':').filter(both)).collect()
}

fn mechanism(name: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(name).filter(|known| known.is_compiled()).ok_or_else(|| {
        let known: Vec<_> = Mechanism::COMPILED.iter().map(|known| known.name()).collect();
        format!("the available mechanisms are {}", known.join(", "))
    })
}

fn policy() -> impl TypedValueParser<Value = BindingPolicy> {
    PossibleValuesParser::new(["none", "preferred", "required"]).map(|word| match &*word {
        "none" => BindingPolicy::None,
        "required" => BindingPolicy::Required,
        _ => BindingPolicy::Preferred,
    })
}

/// `None` turns off the limit. Without the alias, clap would treat the `Option` as an optional argument.
type GuessLimit = Option<NonZeroU32>;

fn guess_limit(text: &str) -> Result<GuessLimit, &'static str> {
    match text {
        "off" => Ok(None),
        number => number.parse().map(Some).map_err(|_| "expected `off` or a number greater than 0"),
    }
}
