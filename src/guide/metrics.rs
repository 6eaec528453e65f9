use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use smtp_auth_tokio::{
    server::{AuthFailed, Identity, Observer, Peer, Reply},
    smtp_auth::sasl::Failure,
};

/// What has happened since the server was started.
#[derive(Default)]
pub struct Metrics {
    opened: AtomicU64,
    closed: AtomicU64,
    turned_away: AtomicU64,
    accept_errors: AtomicU64,
    authenticated: AtomicU64,
    wrong: AtomicU64,
    limited: AtomicU64,
    unavailable: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    broken_off: AtomicU64,
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Observer for Metrics {
    fn connected(&self, _: &Peer) {
        add_one(&self.opened);
    }

    fn closed(&self, _: &Peer, _: Result<(), &io::Error>) {
        add_one(&self.closed);
    }

    fn turned_away(&self, _: Option<SocketAddr>, _: &Reply) {
        add_one(&self.turned_away);
    }

    fn accept_failed(&self, _: &io::Error) {
        add_one(&self.accept_errors);
    }

    fn authenticated(&self, _: &Peer, _: &Identity) {
        add_one(&self.authenticated);
    }

    fn auth_failed(&self, _: &Peer, failed: &AuthFailed<'_>, is_limited: bool) {
        match failed.why {
            _ if is_limited => add_one(&self.limited),
            Failure::TempFail | Failure::NotImplemented(_) => add_one(&self.unavailable),
            why if why.is_attempt() => add_one(&self.wrong),
            _ => {} // an unknown mechanism, for example
        }
    }

    fn message(&self, _: &Peer, _: u64, reply: Option<&Reply>) {
        add_one(match reply {
            Some(reply) if reply.is_positive() => &self.accepted,
            Some(_) => &self.refused,
            None => &self.broken_off,
        });
    }
}

impl Metrics {
    /// The counters in the text format of Prometheus.
    pub fn text(&self) -> String {
        let counters = [
            ("connections_opened_total", &self.opened),
            ("connections_closed_total", &self.closed),
            ("connections_turned_away_total", &self.turned_away),
            ("accept_errors_total", &self.accept_errors),
            ("authentications_total{outcome=\"success\"}", &self.authenticated),
            ("authentications_total{outcome=\"wrong\"}", &self.wrong),
            ("authentications_total{outcome=\"limited\"}", &self.limited),
            ("authentications_total{outcome=\"unavailable\"}", &self.unavailable),
            ("messages_total{outcome=\"accepted\"}", &self.accepted),
            ("messages_total{outcome=\"refused\"}", &self.refused),
            ("messages_total{outcome=\"broken_off\"}", &self.broken_off),
        ];
        let mut text = String::new();
        for (name, counter) in counters {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "smtp_{name} {}", counter.load(Relaxed));
        }
        text
    }
}
