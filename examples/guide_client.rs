//! Sends messages over one connection, and does what the outcome of each asks for. The guide's chapter `client` explains
//! it. `cargo run --example guide_client -- localhost 2587 cert.pem tim@example.org ann@example.net one.eml two.eml` sends
//! two messages to Ann, and reads Tim's password from standard input.

use std::{env, error::Error, fs, io, time::Duration};

use smtp_auth_tokio::{
    client::{
        self, AuthError, Connector, Credentials, Delivery, Envelope, ErrorKind, Pool, SessionError,
        Stage,
    },
    tls,
};

/// What is left to do for a message.
enum Next {
    Nothing,
    /// Tell the sender: somebody does not get the message, or may not have got it.
    Report,
    /// Send it again later, to these recipients.
    Retry(Vec<String>),
    /// Ask a person: no other message can be sent either.
    Stop(client::Error),
}

async fn send(pool: &Pool, envelope: &Envelope, to: &[String], message: &[u8]) -> Next {
    let why = match pool.send(envelope, message).await {
        Ok(sent) => {
            println!("accepted: {}", sent.reply);
            let mut again = Vec::new();
            for recipient in &sent.refused {
                println!("not for all: {recipient}");
                if recipient.refusal().is_some_and(|refusal| refusal.reply().is_transient()) {
                    again.push(recipient.address().to_owned());
                }
            }
            return match sent.refused.is_empty() {
                true => Next::Nothing,
                false if again.is_empty() => Next::Report,
                false => Next::Retry(again),
            };
        }
        Err(why) => why,
    };
    println!("not accepted: {why}");
    match why.stage() {
        // Sent again, it may arrive twice.
        _ if why.delivery() == Delivery::Unknown => Next::Report,
        _ if why.is_transient() => Next::Retry(to.to_vec()),
        // This message is refused, and the next one may be accepted.
        Some(Stage::Mail | Stage::Rcpt | Stage::Data | Stage::Message) => Next::Report,
        _ => Next::Stop(why),
    }
}

/// What a person can do.
fn advice(why: &client::Error) -> &'static str {
    match why.kind() {
        ErrorKind::Session(SessionError::NotAuthenticated(AuthError::Refused(refusal))) => {
            match refusal.reply().code() {
                535 => "check the user name and the password; some providers want an app password",
                _ => "do what the server's reply says, or ask the provider about the account",
            }
        }
        ErrorKind::Session(SessionError::NotAuthenticated(_)) => {
            "ask the provider how to authenticate: its server takes no password from this client"
        }
        ErrorKind::Session(SessionError::ServerNotAuthentic) => {
            "check the server's name: this server does not know the password, and may be an impostor"
        }
        _ => "check the server's name, the port and the certificate",
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [host, port, trusted, account, recipients, files @ ..] = &arguments[..] else {
        return Err("usage: guide_client HOST PORT CA_FILE ACCOUNT RECIPIENT,... FILE...".into());
    };
    let password = io::read_to_string(io::stdin())?;
    let password = password.trim_end_matches(['\r', '\n']);
    let server = Connector::starttls(host)
        .port(port.parse()?)
        .trust(tls::client(trusted)?)
        .credentials(Credentials::password(account, password)?)
        .time_limit(Duration::from_secs(60));
    let pool = Pool::new(server).connections(1);

    let to: Vec<String> = recipients.split(',').map(str::to_owned).collect();
    let envelope = Envelope::new(Some(account), to.iter().map(String::as_str))?;
    let (mut complete, mut waiting) = (true, Vec::new());
    for file in files {
        print!("{file}: ");
        match send(&pool, &envelope, &to, &fs::read(file)?).await {
            Next::Nothing => {}
            Next::Report => complete = false,
            Next::Retry(recipients) => waiting.push((file, recipients)),
            Next::Stop(why) => return Err(advice(&why).into()),
        }
    }
    pool.close().await;
    for (file, recipients) in &waiting {
        println!("try again later: {file} to {}", recipients.join(", "));
    }
    if complete && waiting.is_empty() {
        return Ok(());
    }
    Err("not every message has reached everybody".into())
}
