//! The counters of the guide's chapter on operation.

use std::{sync::Arc, time::Duration};

use smtp_auth_tokio::{
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{io::duplex, time::sleep};

use crate::support::{Careless, Hand, Users, config};

#[allow(unreachable_pub, reason = "an application has it in a module")]
#[path = "../../../src/guide/metrics.rs"]
mod counters;

use counters::Metrics;

/// The counters that are not zero.
fn counted(metrics: &Metrics) -> String {
    let text = metrics.text();
    assert_eq!(text.lines().count(), 11);
    let lines = text.lines().filter(|line| !line.ends_with(" 0"));
    lines.map(|line| line.strip_prefix("smtp_").unwrap()).collect::<Vec<_>>().join("\n")
}

#[tokio::test(start_paused = true)]
async fn each_event_is_counted_once() {
    let metrics = Arc::<Metrics>::default();
    assert_eq!(counted(&metrics), "");
    let limiter = smtp_auth_tokio::MemoryRateLimiter::new();
    let server = Server::new(config().build().unwrap(), Immediate(Users), Careless::default())
        .limits(Limits::default().connections(1))
        .rate_limiter(limiter.network_limit(std::num::NonZeroU32::MIN))
        .observer(Arc::clone(&metrics));
    let (mut hand, _serving) = Hand::to(&server).await;
    hand.expect("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", &["235"]).await;
    hand.until_data().await;
    hand.expect("one\r\n.\r\n", &["250"]).await;
    let (own, theirs) = duplex(1 << 16);
    let other = server.clone();
    tokio::spawn(async move { other.serve_stream(theirs, None).await });
    Hand::new(own).expect("", &["421"]).await;
    hand.expect("QUIT\r\n", &["221"]).await;
    drop(hand);
    sleep(Duration::from_secs(60)).await;
    let (mut hand, _serving) = Hand::to(&server).await;
    // Another account's name, as Tim is known at this network now.
    for _ in 0..3 {
        hand.expect("AUTH PLAIN AGZyZWQAc3dvcmRmaXNo\r\n", &["535"]).await;
    }
    hand.expect("AUTH NONE\r\n", &["504"]).await;
    let expected = [
        "connections_opened_total 2",
        "connections_closed_total 1",
        "connections_turned_away_total 1",
        "authentications_total{outcome=\"success\"} 1",
        "authentications_total{outcome=\"wrong\"} 1",
        "authentications_total{outcome=\"limited\"} 2",
        "messages_total{outcome=\"accepted\"} 1",
    ];
    assert_eq!(counted(&metrics), expected.join("\n"));
}
