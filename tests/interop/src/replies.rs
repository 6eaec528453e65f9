//! The replies of Postfix and Exim, which ask smtp-authd, to attempts to sign in. Here smtp-authd uses PostgreSQL, which
//! is then stopped.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    Result,
    authd::Authd,
    clients::Client,
    home::Home,
    matrix::{Matrix, Outcome},
    message::Message,
    postgres::Postgres,
    process::{run, said},
    sign_in::{Account, FROM, SignIn, TIM},
    to_authd::{MailServer, Mta, Setup, TRANSPORT, add_tim, subject},
};

pub(crate) const TITLE: &str = "## Replies of Postfix and Exim, which use smtp-authd

The table shows the replies word for word, as curl receives them with PLAIN, LOGIN and CRAM-MD5, and msmtp with
SCRAM-SHA-1 and SCRAM-SHA-256. Only the rows *wrong password* and *unknown account* use a wrong password. Only curl with
PLAIN makes the attempts with another authorization identity and from a known network. smtp-authd keeps the accounts in
a PostgreSQL database, which is stopped for the row *database down*.";

/// How long the service may take to use its database again.
const RECOVERY: Duration = Duration::from_secs(10);

/// How many failures an account may have.
const LIMIT: u32 = 15;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Authenticated,
    Refused,
    TryLater,
}

use Meaning::{Authenticated, Refused, TryLater};

/// The reply, word for word.
fn reply(mta: Mta, meaning: Meaning) -> &'static str {
    match (mta, meaning) {
        (Mta::Postfix, Authenticated) => "235 2.7.0 Authentication successful",
        (Mta::Postfix, Refused) => {
            "535 5.7.8 Error: authentication failed: The user name, password or token is wrong"
        }
        (Mta::Postfix, TryLater) => {
            "454 4.7.0 Temporary authentication failure: Connection lost to authentication server"
        }
        (Mta::Exim, Authenticated) => "235 Authentication succeeded",
        (Mta::Exim, Refused) => "535 Incorrect authentication data",
        (Mta::Exim, TryLater) => "435 Unable to authenticate at present",
    }
}

pub(crate) async fn check(
    setup: &mut Setup<'_>,
    clients: &[Client],
    matrix: &mut Matrix,
) -> Result<()> {
    for mta in Mta::ALL {
        matrix.peer(mta.name(), mta.version(setup.options).await?);
    }
    let mut postgres = Postgres::start().ok_or("PostgreSQL is not installed")?;
    setup.authd.configure(&postgres.database(), LIMIT)?;
    let passwords = Passwords::make(setup.home, &setup.authd).await?;
    setup.authd.start().await?;
    let client = |name| clients.iter().find(|own| own.name == name).ok_or("no such client");
    let (curl, msmtp) = (client("curl")?, client("msmtp")?);
    let curl = Attempt { setup, client: curl, mechanism: "PLAIN", more: &["--verbose"] };
    let known = Attempt { more: &["--verbose", "--interface", "127.0.0.2"], ..curl };
    let msmtp = Attempt { client: msmtp, mechanism: "SCRAM-SHA-256", more: &["--debug"], ..curl };
    let all = [
        curl,
        Attempt { mechanism: "LOGIN", ..curl },
        Attempt { mechanism: "CRAM-MD5", ..curl },
        Attempt { mechanism: "SCRAM-SHA-1", ..msmtp },
        msmtp,
    ];

    let account = |name, password| Account { name, password, authzid: None };
    let Passwords { phone, ann, disabled, expired, limited } = &passwords;
    let limited = account("limited", limited);
    let ann = Account { authzid: Some(TIM.name), ..account("ann", ann) };
    for (row, account, meaning, attempts) in [
        ("right password", TIM, Authenticated, &all[..]),
        ("wrong password", account(TIM.name, "x"), Refused, &all),
        ("unknown account", account("nobody", "x"), Refused, &all),
        ("alias", account(FROM, TIM.password), Authenticated, &all),
        ("application password", account("tim/phone", phone), Authenticated, &all),
        ("disabled account", account("disabled", disabled), Refused, &all),
        ("expired password", account("expired", expired), Refused, &all),
        ("authorization identity of another account", ann, Refused, &[curl]),
    ] {
        add(matrix, row, account, meaning, attempts).await;
    }
    for server in &setup.servers {
        known.hears(server, limited, Authenticated).await?;
        for _ in 0..LIMIT {
            curl.hears(server, account("limited", "x"), Refused).await?;
        }
    }
    add(matrix, "limited account", limited, Refused, &all).await;
    add(matrix, "limited account, known network", limited, Authenticated, &[known]).await;
    postgres.stop();
    add(matrix, "database down", TIM, TryLater, &all).await;
    postgres.run();
    // The service connects again within seconds.
    let begin = Instant::now();
    for server in &setup.servers {
        while curl.hears(server, TIM, Authenticated).await.is_err() && begin.elapsed() < RECOVERY {
            sleep(Duration::from_millis(100)).await;
        }
    }
    add(matrix, "database up again", TIM, Authenticated, &all).await;
    Ok(())
}

/// The passwords of accounts, and an application password of the account of [`TIM`].
struct Passwords {
    phone: String,
    ann: String,
    disabled: String,
    expired: String,
    limited: String,
}

impl Passwords {
    /// Makes the accounts.
    async fn make(home: &Home, authd: &Authd) -> Result<Self> {
        add_tim(home, authd).await?;
        let generate = async |arguments: &[&str]| {
            let arguments = [arguments, &["--generate", "--cram-md5"]].concat();
            authd.account(&arguments, Stdio::null()).await
        };
        Ok(Self {
            phone: generate(&["passwd", TIM.name, "--app", "phone"]).await?,
            ann: generate(&["add", "ann"]).await?,
            disabled: generate(&["add", "disabled", "--disabled"]).await?,
            expired: generate(&["add", "expired", "--expires", "0"]).await?,
            limited: generate(&["add", "limited"]).await?,
        })
    }
}

/// The cells of a row. All attempts hear the same reply.
async fn add(
    matrix: &mut Matrix,
    row: &'static str,
    account: Account<'_>,
    meaning: Meaning,
    attempts: &[Attempt<'_>],
) {
    for attempt in attempts {
        for server in &attempt.setup.servers {
            let heard = attempt.hears(server, account, meaning).await;
            let outcome = heard.map_or_else(Outcome::Failed, Outcome::Replied);
            matrix.add(subject(server.mta.name(), row), outcome);
        }
    }
}

/// How an attempt is made.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    setup: &'a Setup<'a>,
    client: &'a Client,
    mechanism: &'static str,
    /// Arguments that make the client print the dialogue, at least.
    more: &'static [&'static str],
}

impl Attempt<'_> {
    /// The reply, which has to be the one that means this.
    async fn hears(
        self,
        server: &MailServer,
        account: Account<'_>,
        meaning: Meaning,
    ) -> Result<&'static str> {
        let Self { client, mechanism, .. } = self;
        let (home, port, transport) = (self.setup.home, server.running.port(TRANSPORT), TRANSPORT);
        let message = Message::small(home, client.form)?;
        let files = vec![message.file.clone()];
        let sign_in = SignIn { home, port, transport, mechanism, account, right: true, files };
        let output = run((client.command)(&sign_in)?.args(self.more)).await?;
        let (said, expected) = (said(&output), reply(server.mta, meaning));
        let heard = said.lines().find_map(end).unwrap_or("nothing");
        let is_success = meaning == Authenticated;
        match heard == expected && output.status.success() == is_success {
            true => Ok(expected),
            false => Err(format!("{}, {mechanism}: {}: {heard}", client.name, output.status)),
        }
    }
}

/// The reply that ends an attempt, where this line of a client's output is it.
fn end(line: &str) -> Option<&str> {
    let reply = line.strip_prefix("< ").or(line.strip_prefix("<-- "))?.trim_end_matches('\r');
    (reply.starts_with("235 ") || reply.starts_with(['4', '5'])).then_some(reply)
}
