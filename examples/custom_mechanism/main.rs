//! A custom mechanism: SECURID (RFC 2808), which authenticates with a PIN and the code that a token or an app shows
//! (RFC 6238). A password alone is not enough.
//!
//! `cargo run --example custom_mechanism` connects a client and a server in memory, as if over TLS, and prints the
//! dialogue with all secrets masked. `server.rs` and `client.rs` implement the two sides of the mechanism, and can be
//! used as templates.

mod client;
mod message;
mod server;

use std::{error::Error, mem, sync::Arc};

use smtp_auth::{
    Channel, Credentials, Identity, Reply, Secret,
    client::{Config, Event, Session},
    sasl,
    server::{Config as ServerConfig, Event as Asked, Session as ServerSession},
};
use totp_rs::TOTP;

use crate::{
    client::SecurId,
    message::SECURID,
    server::{Account, Accounts, Users},
};

/// The server's clock, which does not advance, so that every run is the same.
const NOW: u64 = 1_800_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let (tims, anns) = (b"the key in Tim's token", b"the key in Ann's token");
    let accounts = [("tim", Account::new("1234", tims)), ("ann", Account::new("9876", anns))];
    let users = Users(Arc::new(Accounts::new(accounts, &[("ann", "sales")], || NOW)));
    let tim = Token { name: "tim", pin: "1234", codes: server::token(tims), clock: NOW };
    let ann = Token { name: "ann", pin: "9876", codes: server::token(anns), clock: NOW };
    let anns_next = Token { clock: NOW + 30, ..ann.clone() };
    let tims_fast = Token { clock: NOW + 300, ..tim.clone() };

    for (what, token, authzid, acts_as) in [
        ("The PIN and the code that the token shows", &tim, None, Some("tim")),
        ("The same code once more", &tim, None, None),
        ("A wrong PIN", &Token { pin: "4321", ..ann.clone() }, None, None),
        ("A wrong code", &Token { codes: tim.codes.clone(), ..ann.clone() }, None, None),
        ("Ann acts as sales, which is allowed", &ann, Some("sales"), Some("sales")),
        ("Ann acts as Tim, which is not allowed", &anns_next, Some("tim"), None),
        (
            "A token five minutes fast: the server also asks for the next code",
            &tims_fast,
            None,
            Some("tim"),
        ),
    ] {
        println!("\n{what}");
        let (identity, said) = sign_in(&users, token, authzid)?;
        if identity.as_ref().map(Identity::acts_as) != acts_as {
            return Err(format!("unexpected outcome: {said}").into());
        }
        println!("as expected: {said}");
    }
    Ok(())
}

/// Lets a client with this token authenticate to a server with these users. Returns the server's view of the client's
/// identity, and the outcome as text.
fn sign_in(
    users: &Users,
    token: &Token,
    authzid: Option<&str>,
) -> Result<(Option<Identity>, String), Box<dyn Error>> {
    let offered = sasl::server::Config::builder("mail.example.org").answered_by(users).build()?;
    // Only AUTH matters here, so EHLO lists no other keyword.
    let mut server = ServerSession::new(Arc::new(
        ServerConfig::builder("mail.example.org").sasl(offered).keywords([]).build()?,
    ));
    server.tls_started(Channel::tls());
    server.trace(|side, line| println!("  {side}: {line}"));

    let used = sasl::client::Config::builder().mechanisms([SECURID]).build()?;
    let config = Config::builder("laptop.example.org").sasl(used).build()?;
    let mut client = Session::new(Arc::new(config), Credentials::custom(SECURID));
    client.tls_started(Channel::tls());
    let make = || {
        let mut token = token.clone();
        SecurId {
            authcid: token.name.to_owned(),
            authzid: authzid.map(ToOwned::to_owned),
            passcode: move || token.passcode(),
        }
    };

    let (mut to_server, mut to_client, mut said) = (Vec::new(), Vec::new(), String::new());
    loop {
        match client.next(&mut to_server)? {
            Event::NeedInput => {
                server.receive(&mem::take(&mut to_server));
                serve(&mut server, users, &mut to_client);
                client.receive(&mem::take(&mut to_client));
            }
            Event::Custom(ask) => {
                let response = ask.step_with(make);
                ask.answer(response);
            }
            Event::NotAuthenticated(failed) => {
                said = failed.reason().to_string();
                failed.quit();
            }
            Event::Ready(ready) => ready.quit(),
            Event::Close => break,
            other => return Err(format!("unexpected event: {other:?}").into()),
        }
    }
    if let Some(who) = server.identity() {
        let (name, by) = (who.authcid(), who.mechanism());
        said = format!("{name} signed in with {by} and acts as {}", who.acts_as());
    }
    Ok((server.identity().cloned(), said))
}

/// Handles the server's events until it needs input from the client.
fn serve(session: &mut ServerSession, users: &Users, out: &mut Vec<u8>) {
    loop {
        match session.next(out) {
            Asked::NeedInput | Asked::StartTls | Asked::Close => return,
            Asked::Query(query) => query.answer_with(users),
            Asked::Command(_, ask) | Asked::EndOfData(ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Asked::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
            _ => {} // notifications
        }
    }
}

/// A user with a token. The token's clock advances to the next code once a code has been read.
#[derive(Clone)]
struct Token {
    name: &'static str,
    pin: &'static str,
    codes: TOTP,
    clock: u64,
}

impl Token {
    fn passcode(&mut self) -> Secret {
        let code = self.codes.generate(self.clock);
        self.clock += 30;
        [self.pin, &code].concat().into()
    }
}
