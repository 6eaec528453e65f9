//! SASL in protocols other than SMTP. `cargo run --example imap` runs an IMAP server (RFC 9051 §6.2.2, with initial
//! responses, RFC 4959) and a POP3 server (RFC 5034). The servers authenticate clients with `sasl::server::Exchange`,
//! and the clients use `sasl::client::Exchange`.
//!
//! Both protocols send the exchange in the same kind of lines, so each side is written only once here. The server sends
//! `+ ` and a challenge in base64, and the client sends a response in base64, or `*`. Neither protocol allows data in
//! the success reply. The last challenge (`Challenge::is_final`) is SCRAM's proof that the server knows the password.
//! It is therefore sent like any other challenge, and the client answers it with an empty line.
//!
//! The example leaves out STARTTLS and the mail, because they are not part of SASL.

use std::{
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use smtp_auth::sasl::{
    Answer, Authenticator, Authorize, AuthorizeAnswer, Channel, CheckPassword, Failure, Mechanism,
    RefusalKind, ScramHash, ScramKeys, ScramKeysFor,
    client::{self, Credentials},
    server::{Config, Exchange, Step},
};

/// How long a connection may be silent before the client authenticates.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The maximum length of a line including its CRLF. It must allow long responses, whatever the limit for other lines is
/// (RFC 5034 §4).
const MAX_LINE: u64 = 12_288;

/// The maximum number of failed attempts to authenticate in one connection.
const MAX_ATTEMPTS: u32 = 3;

/// Loopback is treated as TLS here. A server for other machines uses `Channel::cleartext()` until STARTTLS.
const CHANNEL: Channel = Channel::tls();

/// One end of a connection.
type Peer = BufReader<TcpStream>;

fn say(peer: &mut Peer, line: &str) -> io::Result<()> {
    peer.get_mut().write_all(format!("{line}\r\n").as_bytes())
}

/// Reads the next line without its CRLF. A line that is too long or not text ends the connection.
fn hear(peer: &mut Peer) -> io::Result<String> {
    let mut line = String::new();
    peer.take(MAX_LINE).read_line(&mut line)?;
    line.strip_suffix("\r\n").map(ToOwned::to_owned).ok_or(io::ErrorKind::InvalidData.into())
}

#[derive(Clone, Copy)]
enum Protocol {
    Imap,
    Pop3,
}
use Protocol::{Imap, Pop3};

/// All accounts have the same password. SCRAM's keys also check the password for PLAIN.
struct Users(ScramKeys);

const NAMES: [&str; 3] = ["tim", "fred", "ann"];

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256, Mechanism::Plain]
    }

    fn check_password(&self, ask: &CheckPassword) -> Answer {
        // Both are always evaluated, because the time would otherwise reveal which accounts exist.
        let right = self.0.check_password(ask.password().expose());
        (NAMES.contains(&ask.authcid()) & right).into()
    }

    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        NAMES.contains(&ask.authcid()).then(|| self.0.clone()).into()
    }

    /// Called after the password is proven, so that nobody else learns the state of the account.
    fn authorize(&self, ask: &Authorize) -> AuthorizeAnswer {
        match ask.authcid() {
            _ if ask.authzid().is_some() => AuthorizeAnswer::Reject,
            "fred" => RefusalKind::AccountDisabled.into(),
            "ann" => RefusalKind::OverQuota.into(),
            _ => AuthorizeAnswer::Accept,
        }
    }
}

type Server = (Arc<Config>, Users);

/// Runs the exchange that `AUTHENTICATE` or `AUTH` begins. Their arguments are `mechanism [initial-response]`.
fn authenticate(server: &Server, peer: &mut Peer, args: &str) -> io::Result<Result<(), Failure>> {
    let (config, users) = server;
    let mut words = args.splitn(2, ' ');
    let Some(mechanism) = config.named(words.next().unwrap_or_default()) else {
        return Ok(Err(Failure::Unsupported));
    };
    // A missing initial response differs from an empty one, which is written as `=` (RFC 4959 §3).
    let initial = words.next().map(|text| STANDARD.decode(if text == "=" { "" } else { text }));
    let Ok(initial) = initial.transpose() else {
        return Ok(Err(Failure::InitialResponseEncoding));
    };
    let mut exchange = Exchange::new(config, &CHANNEL, mechanism, initial);
    loop {
        match exchange.step() {
            Step::Challenge(challenge) => {
                // The space is also sent before an empty challenge.
                say(peer, &format!("+ {}", STANDARD.encode(challenge.data())))?;
                let line = hear(peer)?;
                match STANDARD.decode(&line) {
                    _ if line == "*" => challenge.cancel(),
                    Ok(response) => challenge.respond(response),
                    Err(_) => challenge.undecodable(),
                }
            }
            Step::Query(query) => query.answer_with(users),
            Step::Done(outcome) => return Ok(outcome.map(|_| ())),
        }
    }
}

/// Returns the reply to a failure: IMAP's with the codes of RFC 5530, POP3's with those of RFC 3206, and the text. IMAP
/// uses `BAD` for lines that are not an attempt to authenticate, and for a cancelled exchange. POP3's `[AUTH]` makes
/// the client ask its user for another password.
fn reply_to(failure: Failure) -> [&'static str; 3] {
    let (temp, perm) = ("-ERR [SYS/TEMP]", "-ERR [SYS/PERM]");
    match failure {
        Failure::Unsupported => ["NO", "-ERR", "This mechanism is not offered here"],
        Failure::NeedsTls => ["NO [PRIVACYREQUIRED]", "-ERR", "This mechanism needs TLS"],
        Failure::TempFail => ["NO [UNAVAILABLE]", temp, "Try again later"],
        // The server offers a mechanism that it does not implement, which is not the user's fault.
        Failure::NotImplemented(_) => ["NO [SERVERBUG]", temp, "Try again later"],
        Failure::Cancelled => ["BAD", "-ERR", "Cancelled"],
        Failure::UnexpectedInitialResponse => ["BAD", "-ERR", "Wrong arguments"],
        Failure::InitialResponseEncoding | Failure::Encoding => ["BAD", "-ERR", "Not valid base64"],
        Failure::Refused(kind) => match kind {
            RefusalKind::AccountDisabled => ["NO [CONTACTADMIN]", perm, "The account is disabled"],
            RefusalKind::PasswordExpired => ["NO [EXPIRED]", perm, "The password has expired"],
            RefusalKind::OverQuota => ["NO [OVERQUOTA]", perm, "The mailbox is full"],
            _ => ["NO [NOPERM]", perm, "The account may not be used here"],
        },
        // All other failures have the same text, which does not reveal what was right.
        _ => ["NO [AUTHENTICATIONFAILED]", "-ERR [AUTH]", "The name or the password is wrong"],
    }
}

/// One connection.
fn serve(server: &Server, protocol: Protocol, peer: &mut Peer) -> io::Result<()> {
    let names: Vec<_> = server.0.offered(&CHANNEL).map(Mechanism::name).collect();
    let auth = format!("IMAP4rev1 SASL-IR LOGINDISABLED AUTH={}", names.join(" AUTH="));
    let (greeting, farewell) = match protocol {
        Imap => (format!("* OK [CAPABILITY {auth}] ready"), "* BYE"),
        Pop3 => ("+OK ready".to_owned(), "-ERR"),
    };
    say(peer, &greeting)?;
    let (mut authenticated, mut attempts) = (false, 0);
    loop {
        let line = hear(peer)?;
        if attempts >= MAX_ATTEMPTS {
            return say(peer, &format!("{farewell} Too many failed attempts to authenticate"));
        }
        let (tag, command) = match protocol {
            Imap => line.split_once(' ').unwrap_or_default(),
            Pop3 => ("-", &*line), // POP3 has no tags
        };
        // The tag is repeated in the reply, so it must be valid (RFC 9051 §9).
        let fits = |octet: u8| octet.is_ascii_graphic() && !b"+(){%*\"\\".contains(&octet);
        if tag.is_empty() || !tag.bytes().all(fits) {
            say(peer, "* BAD A command begins with a tag")?;
            continue;
        }
        let (verb, args) = command.split_once(' ').unwrap_or((command, ""));
        let [imap, pop3, text] = match (protocol, &*verb.to_ascii_uppercase()) {
            (Imap, "AUTHENTICATE") | (Pop3, "AUTH") if !authenticated => {
                let outcome = authenticate(server, peer, args)?;
                authenticated = outcome.is_ok();
                attempts += u32::from(outcome.is_err_and(Failure::is_attempt));
                outcome.map_or_else(reply_to, |()| ["OK", "+OK", "Done"])
            }
            (Imap, "CAPABILITY") => {
                say(peer, &format!("* CAPABILITY {auth}"))?;
                ["OK", "", "Done"]
            }
            (Pop3, "CAPA") => {
                let names = names.join(" ");
                say(peer, &format!("+OK\r\nSASL {names}\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n."))?;
                continue;
            }
            (Imap, "LOGOUT") => return say(peer, &format!("* BYE Goodbye\r\n{tag} OK Done")),
            (Pop3, "QUIT") => return say(peer, "+OK Goodbye"),
            _ => ["BAD", "-ERR", "This command is not allowed here"],
        };
        match protocol {
            Imap => say(peer, &format!("{tag} {imap} {text}"))?,
            Pop3 => say(peer, &format!("{pop3} {text}"))?,
        }
    }
}

/// Runs a client that authenticates. `accepted` is the beginning of the reply to its command on success.
fn sign_in(
    mut peer: Peer,
    (command, accepted): (&str, &str),
    mechanism: Mechanism,
    password: &str,
) -> Result<Result<(), client::Failure>, Box<dyn Error>> {
    let config = client::Config::builder().mechanisms([mechanism]).build()?;
    let credentials = Credentials::password("tim", password)?;
    // A client that reads the server's list of mechanisms lets `config.choose` pick the strongest.
    let mut exchange = client::Exchange::new(&config, &CHANNEL, mechanism, credentials);
    // Both servers accept an initial response. For an IMAP server without SASL-IR, the client sends the command alone,
    // and the response after the first challenge, which is empty. It does the same if a POP3 command would exceed 255
    // octets (RFC 5034 §4).
    let mut command = Some(format!("{command} {mechanism}"));
    loop {
        match exchange.step() {
            client::Step::Response(response) => {
                let line = match (command.take(), response.data()) {
                    (Some(command), None) => command,
                    (Some(command), Some([])) => command + " =",
                    (Some(command), Some(initial)) => command + " " + &STANDARD.encode(initial),
                    (None, data) => STANDARD.encode(data.unwrap_or_default()),
                };
                say(&mut peer, &line)?;
                let heard = hear(&mut peer)?;
                match heard.strip_prefix("+ ").map(|challenge| STANDARD.decode(challenge)) {
                    Some(Ok(challenge)) => response.challenge(challenge),
                    Some(Err(_)) => response.undecodable(),
                    None if heard.starts_with(accepted) => response.success(),
                    // A complete IMAP client skips lines that begin with `* ` until its tag arrives.
                    None => response.refused(),
                }
            }
            client::Step::Derive(work) => work.run(),
            client::Step::Custom(ask) => ask.fail(),
            client::Step::Done(outcome) => return Ok(outcome),
        }
    }
}

/// Connects a client to a server on its own thread, and reads the greeting.
fn connect(server: &Arc<Server>, protocol: Protocol) -> io::Result<Peer> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (client, server) = (TcpStream::connect(listener.local_addr()?)?, Arc::clone(server));
    let (socket, _) = listener.accept()?;
    for socket in [&client, &socket] {
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
    }
    thread::spawn(move || serve(&server, protocol, &mut BufReader::new(socket)));
    let mut client = BufReader::new(client);
    hear(&mut client)?;
    Ok(client)
}

/// Runs a client that sends these lines. Each reply must begin with the given text.
fn dialogue(mut peer: Peer, lines: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    for (line, expected) in lines {
        say(&mut peer, line)?;
        let heard = hear(&mut peer)?;
        println!("  {line} -> {heard}");
        if !heard.starts_with(expected) {
            return Err(format!("{expected:?} was expected").into());
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = ScramKeys::generate(ScramHash::Sha256, "tanstaaftanstaaf", 4096);
    let users = Users(keys.ok_or("the password cannot be prepared")?);
    let config = Config::builder("mail.example.org").answered_by(&users).authorize_always(true);
    let server = Arc::new((Arc::new(config.build()?), users));

    for (protocol, words) in [(Imap, ("a1 AUTHENTICATE", "a1 OK")), (Pop3, ("AUTH", "+OK"))] {
        for &mechanism in server.1.mechanisms() {
            println!("{} {mechanism}: the right password and a wrong one", words.0);
            sign_in(connect(&server, protocol)?, words, mechanism, "tanstaaftanstaaf")??;
            match sign_in(connect(&server, protocol)?, words, mechanism, "wrong")? {
                Err(client::Failure::Refused { .. }) => {}
                other => return Err(format!("{other:?} is not a refusal").into()),
            }
        }
    }
    println!("The right password, for accounts that are refused");
    let lines = [
        ("a1 AUTHENTICATE PLAIN AGZyZWQAdGFuc3RhYWZ0YW5zdGFhZg==", "a1 NO [CONTACTADMIN] "),
        ("a2 AUTHENTICATE PLAIN AGFubgB0YW5zdGFhZnRhbnN0YWFm", "a2 NO [OVERQUOTA] "),
    ];
    dialogue(connect(&server, Imap)?, &lines)?;
    let line = ("AUTH PLAIN AGFubgB0YW5zdGFhZnRhbnN0YWFm", "-ERR [SYS/PERM] ");
    dialogue(connect(&server, Pop3)?, &[line])?;
    println!("Attempts that do not authenticate");
    let lines = [
        ("a1 AUTHENTICATE CRAM-MD5", "a1 NO "), // like the next line, not counted as an attempt
        ("a2 AUTHENTICATE PLAIN !", "a2 BAD "),
        ("a3 authenticate plain =", "a3 NO [AUTH"), // an empty response, which is not valid for PLAIN
        ("a4 AUTHENTICATE PLAIN", "+ "),
        ("*", "a4 BAD Cancelled"),
        ("a5 AUTHENTICATE PLAIN", "+ "),
        ("a6 LOGOUT", "a5 BAD Not valid base64"), // taken as a response
        ("a7 CAPABILITY", "* BYE "),
    ];
    dialogue(connect(&server, Imap)?, &lines)
}
