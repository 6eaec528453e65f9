//! Both services behind the same Postfix.

use core::{
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{path::Path, sync::Arc, time::Instant};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Options, SignIns, TIME_LIMIT, service};
use crate::{
    Result,
    certificate::Certificate,
    dialogue::{ACCOUNT, Dialogue, Mechanism, SCRAM_ACCOUNT},
    home::Home,
    options::Transport,
    postfix,
    process::{Processes, Times},
    servers::free_address,
};

/// The table.
pub(super) async fn rows(program: &Path, options: &Options) -> Result<String> {
    let master = postfix::master().await?;
    let store = Home::new(&options.folder)?;
    let database = store.path("accounts.db");
    let config = service::configure(&store, &format!("sqlite:{}", database.display()))?;
    let names = [ACCOUNT, SCRAM_ACCOUNT].map(String::from);
    service::import(program, &config, &store, names.into_iter()).await?;
    let mut table = String::from(
        "\n### Behind Postfix\n\nThe users authenticate to Postfix over STARTTLS. Both services read the same SQLite database, in which every account has SCRAM-SHA-256 keys with \
         15,000 iterations. Both services check passwords from PLAIN against these keys. Neither of them logs successful sign-ins.\n\n\
         | service | mechanism | sign-ins/s | p50 ms | p99 ms | user µs | system µs | MiB |\n| --- | --- | --: | --: | --: | --: | --: | --: |\n",
    );
    for label in ["smtp-authd", "Dovecot"] {
        let home = Home::new(&options.folder)?;
        let command = match label {
            "Dovecot" => service::dovecot(&home, &database)?,
            _ => {
                let url = format!("sqlite:{}", database.display());
                service::authd(program, &service::configure(&home, &url)?)
            }
        };
        let running = service::start(&home, vec![command]).await?;
        let (address, certificate) = (free_address()?, Certificate::new(&home)?);
        let _postfix =
            Processes::start([postfix::alone(&master, address, &home, &certificate).await?])?;
        for mechanism in [Mechanism::ScramSha256, Mechanism::Plain] {
            let connector = certificate.connector.clone();
            let dialogue = Arc::new(Dialogue::new(address, Transport::Tls, mechanism, connector)?);
            let row = row(&dialogue, &running, options).await?;
            writeln!(table, "| {label} | {} | {} |", mechanism.name(), row.cells())?;
            println!("{label}, {}: {}", mechanism.name(), row.cells());
        }
    }
    Ok(table)
}

async fn row(dialogue: &Arc<Dialogue>, service: &Processes, options: &Options) -> Result<SignIns> {
    first(dialogue).await?;
    let (left, mut workers) = (Arc::new(AtomicUsize::new(options.sign_ins)), JoinSet::new());
    let (before, began) = (Times::now(service), Instant::now());
    for _ in 0..options.at_once.get() {
        let (dialogue, left) = (Arc::clone(dialogue), Arc::clone(&left));
        workers.spawn(async move {
            let mut times = Vec::new();
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                times.push(timeout(TIME_LIMIT, sign_in(&dialogue)).await??);
            }
            Result::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(options.sign_ins);
    while let Some(ended) = workers.join_next().await {
        times.extend(ended??);
    }
    Ok(SignIns::new(times, service, before, began))
}

/// Waits for Postfix, and derives the keys of SCRAM, which the following sign-ins use.
async fn first(dialogue: &Dialogue) -> Result<()> {
    let began = Instant::now();
    loop {
        match timeout(TIME_LIMIT, sign_in(dialogue)).await? {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > TIME_LIMIT => return Err(error.into()),
            Err(_) => sleep(core::time::Duration::from_millis(50)).await,
        }
    }
}

async fn sign_in(dialogue: &Dialogue) -> std::io::Result<core::time::Duration> {
    let mut talk = dialogue.hold().await?;
    let began = Instant::now();
    dialogue.sign_in(&mut talk).await?;
    let took = began.elapsed();
    talk.quit().await?;
    Ok(took)
}
