//! The command line, and what it makes of the server.

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

/// How long running transactions may take to their end at a shutdown: longer than a step of the
/// relay, or a message could be handed on and its sender not told.
const GRACE: Duration = Duration::from_secs(300);

/// How long handing a message on may take: so long clients wait (RFC 5321 §4.5.3.2.6).
const FINISH: Duration = Duration::from_secs(600);

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
    #[arg(long, value_name = "WHETHER", default_value = "preferred", value_parser = policy())]
    channel_binding: BindingPolicy,
    /// How many failed attempts to sign in a connection may take, at least 3 (RFC 4954 §9).
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(3..))]
    max_attempts: u32,
    /// How many failed attempts to sign in an address (of IPv6, its /64) and an account may have.
    /// They are forgotten one by one, so many in ten minutes. When an address or an account has them,
    /// every password from there, or for it, is wrong, the right one too, so that nobody can tell. Where
    /// an account has signed in lately its failures count apart, so that nobody can lock its owner out
    /// from elsewhere. Tokens and certificates count for the address alone, and are never refused for
    /// that. Besides, each failure is answered late, by a second, then twice as long for each in the
    /// connection. `off` turns all this off.
    #[arg(long, value_name = "off|N", default_value = "10", value_parser = guess_limit)]
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

    /// The server, yet to listen.
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
            writeln!(io::stdout(), "the account is demo, its password {}", password.as_str())?;
            return Users::new(&[("demo", password.as_str())], &[]);
        }
        let passwords = pairs(&self.user).ok_or("--user needs NAME:PASSWORD, neither empty")?;
        let tokens = pairs(&self.token).ok_or("--token needs NAME:TOKEN, neither empty")?;
        Users::new(&passwords, &tokens)
    }

    /// Why nobody can sign in, whatever a client has, if that is so.
    fn locked_out(
        &self,
        sasl: &sasl::server::Config,
        users: &Users,
    ) -> Result<Option<&str>, sasl::ConfigError> {
        // What a client can have at best.
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
            Some("nobody has what the mechanisms ask for: see --user, --token and --client-ca")
        })
    }
}

/// The parts of each `NAME:SECRET`. An error must not repeat the argument, which has a secret in it.
fn pairs(given: &[String]) -> Option<Vec<(&str, &str)>> {
    let both = |(name, secret): &(&str, &str)| !name.is_empty() && !secret.is_empty();
    given.iter().map(|pair| pair.split_once(':').filter(both)).collect()
}

fn mechanism(name: &str) -> Result<Mechanism, String> {
    Mechanism::from_name(name).filter(|known| known.is_compiled()).ok_or_else(|| {
        let known: Vec<_> = Mechanism::COMPILED.iter().map(|known| known.name()).collect();
        format!("the mechanisms are {}", known.join(", "))
    })
}

fn policy() -> impl TypedValueParser<Value = BindingPolicy> {
    PossibleValuesParser::new(["none", "preferred", "required"]).map(|word| match &*word {
        "none" => BindingPolicy::None,
        "required" => BindingPolicy::Required,
        _ => BindingPolicy::Preferred,
    })
}

/// `None` where there is none. An `Option` by its own name would be one that need not be given.
type GuessLimit = Option<NonZeroU32>;

fn guess_limit(text: &str) -> Result<GuessLimit, &'static str> {
    match text {
        "off" => Ok(None),
        number => number.parse().map(Some).map_err(|_| "`off` or a number over 0"),
    }
}
