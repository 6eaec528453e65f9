//! Whatever becomes of a server's connections, no task and no descriptor is left of them. In a process of its own, where no
//! other test has any.
#![cfg(all(target_os = "linux", any(feature = "ring", feature = "aws-lc-rs")))]
#![allow(clippy::restriction, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/faulty.rs"]
#[expect(dead_code, reason = "some of it is for the other tests")]
mod faulty;
#[path = "support/runtimes.rs"]
#[expect(dead_code, reason = "some of it is for the other tests")]
mod runtimes;
#[path = "server/support.rs"]
#[expect(dead_code, reason = "most of it is for the other tests")]
mod support;

use std::{
    fs,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use smtp_auth_tokio::{
    rustls,
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use faulty::{At, DIALOGUE, Faulty, How, Listener};
use runtimes::{CLOSE, Pace, no_task_is_left, on_both_in_real_time};
use support::{Certificate, Users, open};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How the server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Shutdown,
    /// Its future is dropped.
    Dropped,
}

const STAGES: [At; 9] = [
    At::Never,
    At::Connect,
    At::Command,
    At::Mail,
    At::Rcpt,
    At::Data,
    At::Half,
    At::Whole,
    At::Kept,
];

/// A client that says these, one after the other, and stays until it hears the end.
async fn stay(socket: TcpStream, lines: &[&str]) {
    let mut client = Listener::new(socket);
    client.say_all(lines).await;
    while client.hear().await != "-" {}
}

/// Clients in each stage with a handler that does that in one, a client in a handshake, and some too many.
async fn crowd(pace: Pace, tls: Arc<rustls::ServerConfig>, at: At, how: How, end: End) {
    let what = (at, how, end);
    let faulty = Faulty::new(at, how);
    let book = faulty.book.clone();
    let grace = pace.units(5);
    let limits = Limits::default().grace(grace).connections(DIALOGUE.len() + 1);
    let server = Server::new(open(), Immediate(Users), faulty.clone()).observer(faulty);
    let server = server.tls(tls).limits(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let mut clients = JoinSet::new();
    let in_stages = (0..DIALOGUE.len()).map(|lines| &DIALOGUE[..lines]);
    let many = in_stages.len() + 1;
    let too_many = [&DIALOGUE[..]; 3];
    for lines in in_stages.chain([&["EHLO c\r\n", "STARTTLS\r\n"][..]]).chain(too_many) {
        clients.spawn(stay(TcpStream::connect(address).await.unwrap(), lines));
    }
    while book.opened.load(SeqCst) < many {
        sleep(pace.units(1)).await;
    }
    sleep(pace.units(3)).await;
    let began = Instant::now();
    match end {
        End::Shutdown => server.shutdown(),
        End::Dropped => serving.abort(),
    }
    let _ = serving.await;
    assert!(began.elapsed() < grace + CLOSE, "{what:?}: {:?}", began.elapsed());
    // The tasks of the connections are aborted with the server, and end a little later.
    clients.join_all().await;
    book.assert_kept(book.kept().len(), what);
    // The client may see the end before the observer is told.
    while book.closed.load(SeqCst) < book.opened.load(SeqCst) {
        sleep(pace.units(1)).await;
    }
}

#[test]
fn neither_a_task_nor_a_descriptor_is_left() {
    let tls = Certificate::new().server();
    on_both_in_real_time(async |pace| {
        let crowd = |at, how, end| crowd(pace, Arc::clone(&tls), at, how, end);
        // What the runtime has once.
        crowd(At::Never, How::Yield, End::Shutdown).await;
        no_task_is_left().await;
        let before = descriptors();
        for how in [How::Panic, How::Stall, How::Refuse] {
            let mut crowds = JoinSet::new();
            for at in STAGES {
                crowds.spawn(crowd(at, how, End::Shutdown));
                crowds.spawn(crowd(at, how, End::Dropped));
            }
            crowds.join_all().await;
            no_task_is_left().await;
            assert_eq!(descriptors(), before, "{how:?}");
        }
    });
}
