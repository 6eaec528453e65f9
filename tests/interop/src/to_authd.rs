//! Clients sign in to Postfix and Exim, which ask smtp-authd.

use std::{fs::File, process::Stdio};

use crate::{
    Options, Result,
    authd::{Authd, OWNERS},
    clients::{self, Client},
    exim,
    home::Home,
    matrix::{Fault, Half, Matrix, Outcome, Subject},
    message::{Message, take_all},
    postfix,
    process::{done, last_line, run, said},
    replies,
    servers::{Kind, Place, Running, Start},
    sign_in::{FROM, SignIn, TIM, Transport},
    to_servers::arrives,
};

pub(crate) const TITLE: &str = "## Mail clients with Postfix and Exim, which use smtp-authd

Postfix and Exim ask smtp-authd by Dovecot's authentication protocol. All checks of this table are made over STARTTLS, and
smtp-authd keeps the account in a SQLite database.";

/// What `--only` may name.
const NAME: &str = "smtp-authd";

/// So many failures that no client of the table comes to the limit.
const NO_LIMIT: u32 = 1000;

/// The mechanisms, and their rows.
const ROWS: [(&str, [&str; 2]); 5] = [
    ("PLAIN", ["Postfix, PLAIN", "Exim, PLAIN"]),
    ("LOGIN", ["Postfix, LOGIN", "Exim, LOGIN"]),
    ("CRAM-MD5", ["Postfix, CRAM-MD5", "Exim, CRAM-MD5"]),
    ("SCRAM-SHA-1", ["Postfix, SCRAM-SHA-1", "Exim, SCRAM-SHA-1"]),
    ("SCRAM-SHA-256", ["Postfix, SCRAM-SHA-256", "Exim, SCRAM-SHA-256"]),
];

const NO_EHLO: Fault = Fault {
    how: "it sends STARTTLS before any EHLO command, and Exim does not accept that",
    seen: "GnuTLS handshake failed: An unexpected TLS packet was received",
};

/// All is made over this.
pub(crate) const TRANSPORT: Transport = Transport::StartTls;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mta {
    Postfix,
    Exim,
}

impl Mta {
    pub(crate) const ALL: [Self; 2] = [Self::Postfix, Self::Exim];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix",
            Self::Exim => "Exim",
        }
    }

    fn row(self, [postfix, exim]: [&'static str; 2]) -> &'static str {
        match self {
            Self::Postfix => postfix,
            Self::Exim => exim,
        }
    }

    pub(crate) async fn version(self, options: &Options) -> Result<String> {
        let kind = match self {
            Self::Postfix => Kind::PostfixDovecot,
            Self::Exim => Kind::Exim,
        };
        let said = done(&mut kind.version_command(options)).await?;
        Ok(said.split_whitespace().next().unwrap_or("?").into())
    }

    /// What the client does wrong with it.
    fn fault(self, client: &Client) -> Option<Fault> {
        (self == Self::Exim && client.name == "gsasl").then_some(NO_EHLO)
    }
}

/// A mail server that runs.
pub(crate) struct MailServer {
    pub(crate) mta: Mta,
    pub(crate) running: Running,
}

impl MailServer {
    /// Offers these mechanisms.
    async fn start(
        mta: Mta,
        options: &Options,
        home: &Home,
        authd: &Authd,
        mechanisms: &[&str],
    ) -> Result<Self> {
        let name = format!("authd-{}-{}", mta.name(), mechanisms.len());
        let place = Place::new(&name, options, home)?;
        let [for_postfix, for_exim] = OWNERS.map(|owner| authd.socket(owner));
        let command = match mta {
            Mta::Postfix => {
                let filter = mechanisms.join(", ");
                let more =
                    format!("smtpd_tls_auth_only = yes\nsmtpd_sasl_mechanism_filter = {filter}\n");
                postfix::with_socket(&place, &for_postfix, &more).await?
            }
            Mta::Exim => exim::with_socket(&place, &for_exim, mechanisms).await?,
        };
        let start = Start { commands: vec![command], also: Vec::new() };
        Ok(Self { mta, running: Running::start(&place, start).await? })
    }
}

pub(crate) async fn check(
    options: &Options,
    home: &Home,
    clients: &mut Matrix,
    replies: &mut Matrix,
) {
    let all = clients::all(options);
    let is_whole = options.wants(NAME);
    let wanted: Vec<_> =
        all.iter().filter(|client| is_whole || options.wants(client.name)).collect();
    if wanted.is_empty() {
        return;
    }
    let mut setup = match Setup::start(options, home).await {
        Ok(setup) => setup,
        Err(why) => return clients.add(subject(NAME, "start"), Outcome::Failed(why)),
    };
    for client in wanted {
        setup.client(client, clients).await;
    }
    if is_whole && let Err(why) = replies::check(&mut setup, &all, replies).await {
        replies.add(subject(NAME, "replies"), Outcome::Failed(why));
    }
}

/// smtp-authd, and the mail servers that ask it.
pub(crate) struct Setup<'a> {
    pub(crate) options: &'a Options,
    pub(crate) home: &'a Home,
    pub(crate) authd: Authd,
    pub(crate) servers: Vec<MailServer>,
}

impl<'a> Setup<'a> {
    async fn start(options: &'a Options, home: &'a Home) -> Result<Self> {
        let mut authd = Authd::new(options, home)?;
        authd.configure(&authd.sqlite(), NO_LIMIT)?;
        add_tim(home, &authd).await?;
        authd.start().await?;
        let mut servers = Vec::new();
        for mta in Mta::ALL {
            let mechanisms = ROWS.map(|(mechanism, _)| mechanism);
            servers.push(MailServer::start(mta, options, home, &authd, &mechanisms).await?);
        }
        Ok(Self { options, home, authd, servers })
    }

    async fn client(&self, client: &Client, matrix: &mut Matrix) {
        let version = done(&mut client.version_command()).await;
        let version = version.map_or_else(|_| "is missing".into(), |said| client.version(&said));
        matrix.peer(client.name, version);
        let beside = client.start_beside(self.home).await;
        for server in &self.servers {
            for (mechanism, rows) in ROWS {
                let row = server.mta.row(rows);
                let done = match &beside {
                    Ok(_) => self.cell(client, server, mechanism, row, matrix).await,
                    Err(why) => Err(why.clone()),
                };
                if let Err(why) = done {
                    matrix.add(subject(client.name, row), Outcome::Failed(why));
                }
            }
        }
    }

    async fn cell(
        &self,
        client: &Client,
        server: &MailServer,
        mechanism: &'static str,
        row: &'static str,
        matrix: &mut Matrix,
    ) -> Result<()> {
        let other = match client.alone.contains(&mechanism) {
            true => {
                let (options, home, authd) = (self.options, self.home, &self.authd);
                Some(MailServer::start(server.mta, options, home, authd, &[mechanism]).await?)
            }
            false => None,
        };
        let running = &other.as_ref().unwrap_or(server).running;
        for right in [true, false] {
            let outcome = match (client.lacks)(mechanism, TRANSPORT) {
                Some(why) => Outcome::NotOffered(why),
                None => {
                    let tried = self.attempt(client, running, mechanism, right).await;
                    let is_said = |why: &str, words: &str| why.contains(words);
                    let remark = (client.remark)(mechanism, right);
                    Outcome::of(tried, server.mta.fault(client), is_said, remark)
                }
            };
            matrix.add(Subject { half: Half::of(right), ..subject(client.name, row) }, outcome);
        }
        Ok(())
    }

    /// With the right password the message arrives, with a wrong one none does. smtp-authd says which it was.
    async fn attempt(
        &self,
        client: &Client,
        server: &Running,
        mechanism: &'static str,
        right: bool,
    ) -> Result<()> {
        // What another check has left is no fault of this one.
        take_all(&server.maildir);
        let message = Message::small(self.home, client.form)?;
        let (home, port, files) = (self.home, server.port(TRANSPORT), vec![message.file.clone()]);
        let sign_in =
            SignIn { home, port, transport: TRANSPORT, mechanism, account: TIM, right, files };
        let mark = self.authd.log.mark();
        let output = run(&mut (client.command)(&sign_in)?).await?;
        let is_success = output.status.success();
        if is_success && !right {
            return Err("was signed in".into());
        }
        if is_success != right || (!right && !said(&output).contains(client.refused)) {
            return Err(format!("{}: {}", output.status, last_line(&output)));
        }
        let ends = [" not authenticated ", " INFO authenticated "];
        let [expected, other] = if right { [ends[1], ends[0]] } else { ends };
        let expected = format!("{expected}mechanism=\"{mechanism}\" ");
        let log = &self.authd.log;
        if !log.says(mark, &[&expected]).await || log.count(mark, other) > 0 {
            return Err(format!("smtp-authd does not log this end: {}", last_line(&output)));
        }
        if right && client.sends_mail {
            return arrives(server, &message).await;
        }
        match take_all(&server.maildir).len() {
            0 => Ok(()),
            number => Err(format!("{number} messages arrived")),
        }
    }
}

/// The whole of a row.
pub(crate) fn subject(peer: &'static str, row: &'static str) -> Subject {
    Subject { peer, row, half: Half::Whole, transport: TRANSPORT }
}

/// Makes the account of the clients.
pub(crate) async fn add_tim(home: &Home, authd: &Authd) -> Result<()> {
    let password = File::open(home.path("password")).map_err(|error| error.to_string())?;
    authd.account(&["add", TIM.name, "--alias", FROM, "--cram-md5"], Stdio::from(password)).await?;
    Ok(())
}
