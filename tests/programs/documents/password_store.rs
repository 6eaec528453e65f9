//! Beside `examples/password_store`, whose store and thread these are.

use std::{sync::Arc, time::Duration};

use smtp_auth::sasl::{Channel, Mechanism, server::Exchange};

use crate::{store::Store, worker::Worker};

/// So many clients, so many of them at once.
pub(crate) fn crowd(number: usize, at_once: usize) {
    let store = Store::new().unwrap();
    store.set_password("tim", "tanstaaftanstaaf").unwrap();
    let (config, store) = (Arc::new(store.config("mail.example.org").unwrap()), Arc::new(store));
    let worker = Worker::start(store).unwrap();
    for _ in 0..number / at_once {
        let begin = |name: &str| {
            let response = format!("\0{name}\0tanstaaftanstaaf").into_bytes();
            Exchange::new(&config, &Channel::tls(), Mechanism::Plain, Some(response))
        };
        let mut exchanges: Vec<_> = (0..at_once).map(|n| begin(["tim", "ann"][n % 2])).collect();
        for (n, exchange) in exchanges.iter_mut().enumerate() {
            assert!(worker.take(n, exchange.query().unwrap().job().unwrap()));
        }
        for _ in 0..at_once {
            let (n, job) = worker.done.recv_timeout(Duration::from_secs(60)).unwrap();
            assert!(exchanges[n].query().unwrap().settle(job));
        }
    }
    crate::print_most();
}
