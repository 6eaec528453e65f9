//! The example client signs in to a server, by all that it offers.

use tokio::process::Command;

use crate::{
    Options, Result,
    home::Home,
    matrix::{Half, Matrix, Outcome, Subject},
    message::{Form, Message, take_all, without_cr},
    process::{done, last_line, run, said, wait_for},
    servers::{Running, Server},
    sign_in::{FROM, MECHANISMS, SignIn, TIM, TO, Transport, UNNAMED, USER, wire_name},
};

/// What the example client ends with where it is not signed in.
const NOT_SIGNED_IN: i32 = 4;

pub(crate) async fn check(server: &Server, options: &Options, home: &Home, matrix: &mut Matrix) {
    let started = match done(&mut server.kind.version_command(options)).await {
        Ok(said) => {
            let version = said.split_whitespace().next().unwrap_or("?");
            matrix.peer(server.name, version.into());
            server.start(options, home).await
        }
        Err(why) => {
            matrix.peer(server.name, "is missing".into());
            Err(why)
        }
    };
    match started {
        Ok(running) => mechanisms(server, &running, options, home, matrix).await,
        Err(why) => {
            let (row, half) = ("PLAIN", Half::RightSecret);
            let subject = Subject { peer: server.name, row, half, transport: Transport::StartTls };
            matrix.add(subject, Outcome::Failed(why));
        }
    }
}

async fn mechanisms(
    server: &Server,
    running: &Running,
    options: &Options,
    home: &Home,
    matrix: &mut Matrix,
) {
    for row in MECHANISMS {
        for transport in Transport::ALL.into_iter().filter(|own| own.suits(row)) {
            // A guest has no secret that could be wrong.
            for right in [true, false].into_iter().filter(|&right| right || row != "ANONYMOUS") {
                let subject = Subject { peer: server.name, row, half: Half::of(right), transport };
                let outcome = match (server.lacks)(row, transport) {
                    Some(why) => Outcome::NotOffered(why),
                    None => {
                        let tried = attempt(running, options, home, row, transport, right).await;
                        let is_said = |why: &str, words: &str| why.contains(words);
                        Outcome::of(tried, server.fault, is_said, remark(row))
                    }
                };
                matrix.add(subject, outcome);
            }
        }
    }
}

fn remark(mechanism: &str) -> Option<&'static str> {
    (mechanism == "ANONYMOUS").then_some(
        "anonymous clients may authenticate; the test does not check whether they may send",
    )
}

async fn attempt(
    running: &Running,
    options: &Options,
    home: &Home,
    mechanism: &'static str,
    transport: Transport,
    right: bool,
) -> Result<()> {
    let message = Message::small(home, Form::Crlf)?;
    let (port, files) = (running.port(transport), vec![message.file.clone()]);
    let sign_in = SignIn { home, port, transport, mechanism, account: TIM, right, files };
    let output = run(&mut client(options, &sign_in)).await?;
    let dialogue = said(&output);
    if !dialogue.contains(&format!("C: AUTH {}", wire_name(mechanism))) {
        return Err(format!("did not take this mechanism: {}", last_line(&output)));
    }
    if mechanism == "ANONYMOUS" {
        let signed_in = dialogue.contains("S: 235 ");
        return signed_in.then_some(()).ok_or_else(|| last_line(&output));
    }
    if right {
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, last_line(&output)));
        }
        return arrives(running, &message).await;
    }
    if output.status.code() != Some(NOT_SIGNED_IN) || !dialogue.contains("S: 535 ") {
        return Err(format!("was not refused: {}: {}", output.status, last_line(&output)));
    }
    match take_all(&running.maildir).len() {
        0 => Ok(()),
        number => Err(format!("{number} messages arrived")),
    }
}

fn client(options: &Options, sign_in: &SignIn<'_>) -> Command {
    let mut client = Command::new(&options.client);
    client
        .stdin(std::process::Stdio::null())
        .args(["--server", &format!("localhost:{}", sign_in.port), "--trace", "--timeout", "30"])
        .args(["--hostname", "client.example.org", "--from", FROM, "--to", TO, "--ca"])
        .arg(&sign_in.home.ca)
        .args(["--tls", sign_in.transport.argument()])
        .args(["--mechanism", wire_name(sign_in.mechanism)]);
    if !sign_in.transport.is_tls() {
        client.arg("--allow-cleartext");
    }
    if let Some(own) = sign_in.certificate() {
        client.arg("--cert").arg(&own.cert).arg("--key").arg(&own.key);
        if sign_in.mechanism != UNNAMED {
            client.args(["--authzid", USER]);
        }
    } else if sign_in.mechanism == "ANONYMOUS" {
        client.args(["--user", sign_in.trace()]);
    } else {
        let secret = if sign_in.takes_token() { "--token-file" } else { "--password-file" };
        client.args(["--user", USER, secret]).arg(sign_in.secret_file());
    }
    client.args(&sign_in.files);
    client
}

/// The message, and only that, comes to lie in the mailbox, with header lines in front. Line ends are
/// the server's own.
pub(crate) async fn arrives(running: &Running, message: &Message) -> Result<()> {
    let mut stored = Vec::new();
    wait_for(|| {
        stored.extend(take_all(&running.maildir));
        !stored.is_empty()
    })
    .await;
    let [stored] = stored.as_slice() else {
        return Err(format!("{} messages arrived", stored.len()));
    };
    let (stored, sent) = (without_cr(stored), without_cr(&message.octets));
    let added = stored.strip_suffix(sent.as_slice()).ok_or("another message arrived")?;
    let is_header = added.is_empty() || added.ends_with(b"\n");
    match is_header && !added.windows(2).any(|octets| octets == b"\n\n") {
        true => Ok(()),
        false => Err("more than header lines was added".into()),
    }
}
