//! How a host drives this crate.

use std::{hint::black_box, sync::Arc};

use smtp_auth::{
    auth,
    command::{self, Command},
    sasl::{Channel, CramSecret, Mechanism, Nonce, Query, ScramHash, ScramKeys, server::Config},
};

use crate::inputs::{ITERATIONS, PASSWORD, SALT, SERVER_NONCE, SUCCESS, USER, without_crlf};

/// What a server has at hand for all its connections, and the one account.
pub struct Server {
    pub config: Arc<Config>,
    pub channel: Channel,
    secret: CramSecret,
    keys: ScramKeys,
    out: Vec<u8>,
}

impl Server {
    pub fn new() -> Self {
        let config = Config::builder("mail.example.org")
            .mechanisms(Mechanism::COMPILED)
            .salt_key("sixteen octets, at least")
            .nonces(|| Nonce::new(SERVER_NONCE));
        Self {
            config: Arc::new(config.build().unwrap()),
            channel: Channel::tls(),
            secret: CramSecret::from_password(PASSWORD),
            keys: ScramKeys::from_password(ScramHash::Sha256, PASSWORD, SALT, ITERATIONS).unwrap(),
            out: Vec::with_capacity(1024),
        }
    }

    pub fn answer(&self, query: Query<'_>) {
        match query {
            Query::CheckPassword(ask) => {
                let good = ask.authcid() == USER && ask.password().expose() == PASSWORD;
                ask.answer(good);
            }
            Query::CramSecret(ask) => ask.answer(Some(self.secret.clone())),
            Query::ScramKeys(ask) => ask.answer(Some(self.keys.clone())),
            other => other.not_implemented(),
        }
    }

    /// One AUTH command, from its line's octets to those of the last reply.
    pub fn auth(&mut self, lines: &[&[u8]]) {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let mut lines = lines.iter().map(|line| without_crlf(black_box(line)));
        let line = lines.next().unwrap();
        let Ok(Command::Auth(auth)) = command::parse(line) else { panic!("not AUTH") };
        let mut exchange = auth::server::Exchange::begin(&self.config, &self.channel, auth);
        loop {
            match exchange.step(&mut out) {
                auth::server::Step::NeedLine(slot) => slot.line(lines.next().unwrap()),
                auth::server::Step::Query(query) => self.answer(query),
                auth::server::Step::Done(outcome) => {
                    assert_eq!(outcome.unwrap().authcid(), USER);
                    break;
                }
            }
        }
        assert!(black_box(&out).ends_with(SUCCESS));
        self.out = out;
    }
}
