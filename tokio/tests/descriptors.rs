//! A server that has no file descriptor left goes on, and does not spin meanwhile. The limit is the process's, so this
//! test is alone in it.
#![cfg(unix)]
#![allow(clippy::restriction, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use smtp_auth_tokio::{
    server::{Body, Handler, Observer, Peer, Server},
    smtp_auth::{
        AsyncAuthenticator, Mechanism, Reply,
        command::{Mail, Rcpt},
        server::Config,
    },
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

struct Nobody;

impl AsyncAuthenticator for Nobody {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }
}

#[derive(Clone)]
struct Counting(Arc<AtomicUsize>);

impl Handler for Counting {
    type Transaction = ();

    async fn mail(&self, _: &Peer, _: Mail<'_>) -> Result<(), Reply> {
        Ok(())
    }

    async fn rcpt(&self, _: &Peer, (): &mut (), _: Rcpt<'_>) -> Result<(), Reply> {
        Ok(())
    }

    async fn data(&self, _: &Peer, (): (), mut body: Body<'_>) -> Result<Reply, Reply> {
        body.read_all().await;
        Ok(Reply::OK)
    }
}

impl Observer for Counting {
    fn accept_failed(&self, _: &io::Error) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What the process has had of the processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[tokio::test]
async fn without_a_descriptor_the_server_waits() {
    let failed = Arc::<AtomicUsize>::default();
    let config = Config::builder("localhost").allow_unauthenticated(true).build().unwrap();
    let counting = Counting(Arc::clone(&failed));
    let server = Server::new(config, Nobody, counting.clone()).observer(counting);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(64);
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut open: Vec<_> = (0..64).map_while(|_| File::open("/dev/null").ok()).collect();
    assert!(!open.is_empty() && open.len() < 64);
    open.pop();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (before, began) = (processor_time(), Instant::now());
    // It tries again and again, each tenth of a second at most.
    while failed.load(SeqCst) < 4 {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not try again");
        sleep(Duration::from_millis(10)).await;
    }
    // All else that this process does is to sleep.
    let (worked, took) = (processor_time() - before, began.elapsed());
    assert!(took >= Duration::from_millis(290), "{took:?}");
    assert!(worked < took / 10, "{worked:?} of {took:?}");
    drop(open);
    let mut greeting = [0; 4];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ");
    server.shutdown();
    drop(client);
    serving.await.unwrap();
}
