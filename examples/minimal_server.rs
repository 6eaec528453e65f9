//! Takes mail from Tim, whose password is `tanstaaf`, inside TLS by STARTTLS: `cargo run --example minimal_server`.

use std::{error::Error, fs};

use smtp_auth_tokio::{
    server::{Config, Message, Reply, Server, StartTls},
    smtp_auth::{
        Answer, Authenticator, Mechanism,
        sasl::{Immediate, ScramKeys, ScramKeysFor, server::Config as Sasl},
    },
    tls,
};

struct Users;

impl Authenticator for Users {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::ScramSha256Plus, Mechanism::ScramSha256]
    }
    fn scram_keys(&self, ask: &ScramKeysFor) -> Answer<ScramKeys> {
        let keys = ScramKeys::from_password(ask.hash(), "tanstaaf", b"a salt of his own", 4096);
        keys.filter(|_| ask.authcid() == "tim").into()
    }
}

async fn deliver(message: Message) -> Result<Reply, Reply> {
    println!("{:?} to {}: {} octets", message.from, message.to.join(", "), message.octets.len());
    Ok(Reply::OK)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write("target/cert.pem", own.cert.pem())?;
    fs::write("target/key.pem", own.signing_key.serialize_pem())?;
    let sasl = Sasl::builder("localhost").answered_by(&Users).build()?;
    let config = Config::builder("localhost").sasl(sasl).starttls(StartTls::Required).build()?;
    let tls = tls::server("target/cert.pem", "target/key.pem")?;
    let server = Server::new(config, Immediate(Users), deliver).tls(tls);
    Ok(server.listen("127.0.0.1:2587").await?)
}
