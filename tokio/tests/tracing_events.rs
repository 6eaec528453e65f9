//! What the feature `tracing` tells, and that no secret is in it. In a process of its own: a call that is traced where nobody
//! listens, in another test at the same time, can be remembered as one that nobody wants.
#![cfg(all(feature = "tracing", any(feature = "ring", feature = "aws-lc-rs")))]
#![allow(clippy::restriction, clippy::unwrap_used, dead_code, reason = "a test fails by panicking")]

#[path = "server/support.rs"]
mod support;

use std::{
    fmt::{Debug, Write},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use smtp_auth_tokio::{
    MemoryRateLimiter,
    server::Server,
    smtp_auth::{Reply, sasl::Immediate},
};
use tokio::{io::duplex, time::sleep};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use support::{Hand, Users, config, server};

/// Notes spans and events up to that level, each as a line, events with the spans that they are in.
#[derive(Clone)]
struct Noting {
    most: Level,
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    inside: Arc<Mutex<Vec<u64>>>,
    next: Arc<AtomicU64>,
}

impl Noting {
    fn new(most: Level) -> Self {
        let (lines, spans, inside) = Default::default();
        Self { most, lines, spans, inside, next: Arc::default() }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Noting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("smtp_auth_tokio") && *metadata.level() <= self.most
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(span.metadata().name().into());
        span.record(&mut line);
        self.spans.lock().unwrap().push(line.0);
        Id::from_u64(self.next.fetch_add(1, SeqCst) + 1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let inside = self.inside.lock().unwrap().len();
        self.lines.lock().unwrap().push(format!("{inside} {}", line.0));
    }

    fn enter(&self, span: &Id) {
        self.inside.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.inside.lock().unwrap().pop(), Some(span.into_u64()));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

const SECRETS: [&str; 4] = ["tanstaaf", "dGFuc3RhYWZ0YW5zdGFhZg", "swordfish", "c3dvcmRmaXNo"];

#[tokio::test(start_paused = true)]
async fn a_connection_has_a_span_and_events_without_secrets() {
    for most in [Level::INFO, Level::DEBUG, Level::TRACE] {
        let noting = Noting::new(most);
        let _guard = tracing::subscriber::set_default(noting.clone());
        let deliver = async |message: smtp_auth_tokio::server::Message| match &*message.octets {
            b"good\r\n" => Ok(Reply::OK),
            _ => Err(Reply::MAILBOX_UNAVAILABLE),
        };
        let server = Server::new(config().build().unwrap(), Immediate(Users), deliver);
        let (own, theirs) = duplex(1 << 16);
        let address = Some(([192, 0, 2, 1], 1025).into());
        let serving = tokio::spawn(async move { server.serve_stream(theirs, address).await });
        let mut hand = Hand::new(own);
        hand.expect("EHLO hand\r\n", &["220", "250"]).await;
        hand.expect("AUTH PLAIN AHRpbQBzd29yZGZpc2g=\r\n", &["535"]).await;
        // A client out of step says its password in place of a command.
        hand.expect("swordfish\r\n", &["500"]).await;
        hand.expect("AUTH PLAIN\r\nAHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["334", "235"]).await;
        for (message, code) in [("good", "250"), ("bad", "550")] {
            hand.until_data().await;
            hand.expect(&format!("{message}\r\n.\r\n"), &[code]).await;
        }
        hand.expect("QUIT\r\n", &["221"]).await;
        drop(hand);
        serving.await.unwrap();
        let (spans, lines) = (noting.spans.lock().unwrap().clone(), noting.take());
        assert_eq!(spans.len(), 1);
        assert!(spans[0].starts_with("connection id="), "{spans:?}");
        assert!(spans[0].ends_with(" peer=192.0.2.1:1025"), "{spans:?}");
        let expected = [
            "1 INFO message=not authenticated why=the user name, password, token or certificate is wrong attempts=1 limited=false",
            "1 INFO message=authenticated mechanism=PLAIN account=\"tim\" tls=false",
            "1 INFO message=message accepted octets=6",
            "1 INFO message=message refused octets=5 code=550",
        ];
        let infos: Vec<_> = lines.iter().filter(|line| line.contains(" INFO ")).collect();
        assert_eq!(infos, expected);
        let others = lines.iter().filter(|line| !line.contains(" INFO "));
        match most {
            Level::INFO => assert_eq!(others.count(), 0),
            Level::DEBUG => {
                let others: Vec<_> = others.collect();
                assert_eq!(others, ["1 DEBUG message=connected", "1 DEBUG message=closed"]);
            }
            _ => {
                let dialogue: Vec<_> = others.collect();
                let said = |line: &str| dialogue.iter().any(|said| said.contains(line));
                assert!(said("1 TRACE message=S: 220 localhost"), "{dialogue:?}");
                assert!(said("C: EHLO hand") && said("C: AUTH PLAIN") && said("S: 235 "));
            }
        }
        let all = lines.join("\n");
        for secret in SECRETS {
            assert!(!all.contains(secret), "{secret}: {all}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_else_happens_is_told_too() {
    let noting = Noting::new(Level::DEBUG);
    let _guard = tracing::subscriber::set_default(noting.clone());
    let (server, _) = server("", smtp_auth_tokio::server::Limits::default().connections(1));
    let (mut hand, serving) = Hand::to(&server).await;
    let (own, theirs) = duplex(1 << 16);
    let other = server.clone();
    tokio::spawn(async move { other.serve_stream(theirs, None).await });
    Hand::new(own).expect("", &["421"]).await;
    hand.until_data().await;
    hand.write("half\r\n").await;
    sleep(Duration::from_millis(10)).await;
    drop(hand);
    serving.await.unwrap();
    let expected = [
        "1 DEBUG message=connected",
        "0 INFO message=turned away reply=421 4.3.2 Too many connections, try again later",
        "1 INFO message=message broken off octets=6",
        "1 DEBUG message=closed why=unexpected end of file",
    ];
    assert_eq!(noting.take(), expected);
}

/// Nobody has locked an account that is rate limited, and nobody is to search for a lock.
#[tokio::test(start_paused = true)]
async fn a_limited_attempt_is_said_to_be_one() {
    let noting = Noting::new(Level::INFO);
    let _guard = tracing::subscriber::set_default(noting.clone());
    let limiter = MemoryRateLimiter::new().network_limit(NonZeroU32::MIN);
    let server = server("", smtp_auth_tokio::server::Limits::default()).0.rate_limiter(limiter);
    let (mut hand, _serving) = Hand::to(&server).await;
    hand.expect("EHLO hand\r\n", &["250"]).await;
    hand.expect("AUTH PLAIN AHRpbQBzd29yZGZpc2g=\r\n", &["535"]).await;
    hand.expect("AUTH PLAIN AHRpbQBzd29yZGZpc2g=\r\n", &["535"]).await;
    let expected = [
        "1 INFO message=not authenticated why=the user name, password, token or certificate is wrong attempts=1 limited=false",
        "1 INFO message=not authenticated why=the attempt was rate limited attempts=2 limited=true",
    ];
    assert_eq!(noting.take(), expected);
}
