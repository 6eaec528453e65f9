//! Counters, in the text format of Prometheus. No label has a value that a client chooses.

use core::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use smtp_auth::sasl::Failure;

use crate::authenticator::Service;

/// The mechanisms that may be on offer, and one for all others.
const MECHANISMS: [&str; 7] =
    ["SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN", "other"];

/// The outcomes of an exchange.
const OUTCOMES: [&str; 4] = ["authenticated", "failed", "temporary", "aborted"];

/// The counters of one process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    exchanges: [[AtomicU64; OUTCOMES.len()]; MECHANISMS.len()],
    pub(crate) connections: AtomicI64,
    /// How many connections there have been, modulo 2^32.
    connected: AtomicU32,
    pub(crate) database_errors: AtomicU64,
}

impl Metrics {
    /// Counts a new connection, and returns its number.
    pub(crate) fn connected(&self) -> u32 {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connected.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn succeeded(&self, mechanism: &str) {
        self.count(mechanism, 0);
    }

    pub(crate) fn failed(&self, mechanism: &str, why: Failure) {
        let outcome = match why {
            Failure::TempFail | Failure::NotImplemented(_) => 2,
            why if why.is_attempt() => 1,
            _ => 3,
        };
        self.count(mechanism, outcome);
    }

    fn count(&self, mechanism: &str, outcome: usize) {
        let own = MECHANISMS.iter().position(|own| own.eq_ignore_ascii_case(mechanism));
        let row = self.exchanges.get(own.unwrap_or(MECHANISMS.len() - 1));
        if let Some(counter) = row.and_then(|row| row.get(outcome)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns all metrics as text.
pub(crate) fn text(service: &Service) -> String {
    let metrics = &service.metrics;
    let mut text = String::from("# TYPE smtp_authd_exchanges_total counter\n");
    for (mechanism, row) in MECHANISMS.iter().zip(&metrics.exchanges) {
        for (outcome, counter) in OUTCOMES.iter().zip(row) {
            let count = counter.load(Ordering::Relaxed);
            let _ = writeln!(
                text,
                "smtp_authd_exchanges_total{{mechanism=\"{mechanism}\",outcome=\"{outcome}\"}} {count}"
            );
        }
    }
    let [networks, accounts, known] = service.limiter.entries();
    let errors = metrics.database_errors.load(Ordering::Relaxed);
    let gauges = [
        ("smtp_authd_connections", metrics.connections.load(Ordering::Relaxed)),
        ("smtp_authd_hashing_waiting", number(service.hashing.waiting())),
        ("smtp_authd_limiter_networks", number(networks)),
        ("smtp_authd_limiter_accounts", number(accounts)),
        ("smtp_authd_limiter_known_networks", number(known)),
    ];
    let _ = writeln!(
        text,
        "# TYPE smtp_authd_database_errors_total counter\nsmtp_authd_database_errors_total {errors}"
    );
    for (name, value) in gauges {
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
    }
    text
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
