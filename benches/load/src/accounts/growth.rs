//! The account service with many accounts, and with several processes on one PostgreSQL database. The tool takes the
//! place of the mail server.

use core::{
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{path::Path, sync::Arc, time::Instant};

use tokio::{task::JoinSet, time::timeout};

use super::{Options, SignIns, TIME_LIMIT, service, socket::Connection};
use crate::{
    Result,
    home::Home,
    process::{Processes, Times},
};

#[path = "../../../../authd/tests/support/postgres.rs"]
#[allow(dead_code, reason = "the tests of the account service stop PostgreSQL")]
mod postgres;

/// The table.
pub(super) async fn rows(program: &Path, options: &Options) -> Result<String> {
    let mut postgres = postgres::Postgres::start().ok_or("PostgreSQL is not installed")?;
    let mut table = String::from(
        "\n### Accounts and processes\n\nAll processes share one PostgreSQL database on the same machine. The tool takes the place of the mail servers: it connects to the sockets of all processes of \
         the account service, and authenticates with SCRAM-SHA-256 as each account in turn. The processor time and the memory are totals over all processes of the account service. The processor time and the memory of PostgreSQL are not included.\n\n\
         | accounts | processes | sign-ins/s | p50 ms | p99 ms | user µs | system µs | MiB |\n| --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for &accounts in &options.accounts {
        let database = postgres.database();
        let store = Home::new(&options.folder)?;
        let config = service::configure(&store, &database)?;
        let began = Instant::now();
        service::import(program, &config, &store, (0..accounts).map(name)).await?;
        println!("{accounts} accounts imported in {:.1} s", began.elapsed().as_secs_f64());
        for &processes in &options.processes {
            let (mut homes, mut running) = (Vec::new(), Vec::new());
            for _ in 0..processes {
                let home = Home::new(&options.folder)?;
                let command = service::authd(program, &service::configure(&home, &database)?);
                running.push(service::start(&home, vec![command]).await?);
                homes.push(home);
            }
            let running = Processes::joined(running);
            let row = row(&homes, accounts, &running, options).await?;
            writeln!(table, "| {accounts} | {processes} | {} |", row.cells())?;
            println!("{accounts} accounts, {processes} processes: {}", row.cells());
        }
    }
    Ok(table)
}

fn name(number: usize) -> String {
    format!("user{number}@example.org")
}

async fn row(
    homes: &[Home],
    accounts: usize,
    service: &Processes,
    options: &Options,
) -> Result<SignIns> {
    let (begun, mut workers) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let mut connections = Vec::new();
    for home in homes.iter().cycle().take(options.at_once.get().max(homes.len())) {
        let mut connection = Connection::open(&home.path("auth")).await?;
        connection.sign_in(&name(0)).await?;
        connections.push(connection);
    }
    let (before, began, sign_ins) = (Times::now(service), Instant::now(), options.sign_ins);
    for mut connection in connections {
        let begun = Arc::clone(&begun);
        workers.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                if number >= sign_ins {
                    return Result::Ok(times);
                }
                let began = Instant::now();
                // A prime, so that the accounts are not those of the last rows.
                let account = name(number * 7919 % accounts);
                timeout(TIME_LIMIT, connection.sign_in(&account)).await??;
                times.push(began.elapsed());
            }
        });
    }
    let mut times = Vec::with_capacity(sign_ins);
    while let Some(ended) = workers.join_next().await {
        times.extend(ended??);
    }
    Ok(SignIns::new(times, service, before, began))
}
