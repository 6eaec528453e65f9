//! A server that is cut off inside TLS, sends or takes an octet a minute, or closes its side.

use std::sync::Arc;

use smtp_auth_tokio::{
    TlsAccept,
    client::{Client, Connector, Delivery, Error, ErrorKind, Stage},
    tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex, split},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::{
    runtimes::{Pace, on_both},
    support::{GREETING, HELLO, LOCALHOST, TRANSACTION, cleartext, play, to},
};

/// A client inside TLS, connected to a script, at whose end the stream is dropped. That is no end of TLS.
async fn inside_tls(script: &str) -> (Result<Client, Error>, JoinHandle<usize>) {
    let (own, other) = duplex(1024);
    let [cert, key] = &*LOCALHOST;
    let accepting: Arc<dyn TlsAccept> = Arc::new(tls::server(cert, key).unwrap());
    let script = script.to_owned();
    let playing = tokio::spawn(async move {
        let (stream, _) = accepting.accept(Box::new(other)).await.unwrap();
        play(stream, script).await
    });
    let trusting = Connector::tls("localhost").trust(tls::client(&LOCALHOST[0]).unwrap());
    (trusting.connect_over(own).await, playing)
}

#[test]
fn without_close_notify_a_whole_reply_is_one_and_half_of_one_is_none() {
    on_both(async |_| {
        for (script, stage) in [
            ("", Stage::Greeting),
            ("T: 220 scr", Stage::Greeting),
            ("S: 220 script\nC: EHLO\nS: 250-script\nT: 250 PIPE", Stage::Ehlo),
        ] {
            let (client, playing) = inside_tls(script).await;
            let error = client.unwrap_err();
            assert_eq!((error.stage(), error.is_transient()), (Some(stage), true), "{error:?}");
            playing.await.unwrap();
        }
        let whole = format!("{TRANSACTION}S: 250 ok");
        for (script, delivery) in [
            ("C: MAIL\nC: RCPT\nT: 250 o", Some(Delivery::NotSent)),
            ("C: MAIL\nC: RCPT\nS: 250 ok\nS: 250 ok\nC: DATA\nT: 354", Some(Delivery::NotSent)),
            (TRANSACTION, Some(Delivery::Unknown)),
            (&format!("{TRANSACTION}T: 250 ok"), Some(Delivery::Unknown)),
            (&format!("{TRANSACTION}T: 554 no"), Some(Delivery::Unknown)),
            (&format!("{TRANSACTION}S: 554 no"), Some(Delivery::Refused)),
            (&whole, None),
        ] {
            let (client, playing) = inside_tls(&format!("{GREETING}{script}")).await;
            let mut client = client.unwrap();
            let sent = client.send(&to(&["ann"]), HELLO).await;
            assert_eq!(sent.as_ref().err().map(Error::delivery), delivery, "{script}: {sent:?}");
            playing.await.unwrap();
            // After a whole reply the next is the first to see it.
            if matches!(delivery, None | Some(Delivery::Refused)) {
                let error = client.noop().await.unwrap_err();
                assert!(error.is_transient(), "{error:?}");
            }
            let unusable = client.noop().await.unwrap_err();
            assert!(matches!(unusable.kind(), ErrorKind::Unusable), "{unusable:?}");
            client.quit().await;
        }
        // After QUIT nothing is missed.
        let (client, playing) = inside_tls(&format!("{GREETING}C: QUIT")).await;
        client.unwrap().quit().await;
        playing.await.unwrap();
    });
}

/// A server that closes its side, and goes on listening: the connection has ended for the client all the same.
#[test]
fn a_server_that_closes_its_side_has_gone() {
    on_both(async |_| {
        for (script, delivery) in [
            ("", Delivery::NotSent),
            (TRANSACTION, Delivery::Unknown),
            (&format!("{TRANSACTION}S: 421 no"), Delivery::NotSent),
        ] {
            let (own, other) = duplex(1024);
            let script = format!("{GREETING}{script}");
            let playing = tokio::spawn(async move {
                let (mut reader, mut writer) = split(other);
                let both = tokio::io::join(&mut reader, &mut writer);
                play(both, script).await;
                writer.shutdown().await.unwrap();
                reader.read_to_end(&mut Vec::new()).await.unwrap();
            });
            let mut client = cleartext().connect_over(own).await.unwrap();
            let error = client.send(&to(&["ann"]), HELLO).await.unwrap_err();
            assert_eq!(error.delivery(), delivery, "{error:?}");
            // The client has closed, too.
            playing.await.unwrap();
        }
    });
}

/// A reply of which an octet comes in each unit of time has the time of one line, and so has a part of a message that is
/// taken so.
async fn one_by_one(pace: Pace, script: &str, delivery: Delivery) {
    let (own, other) = duplex(1);
    let script = format!("{GREETING}{script}");
    let playing = tokio::spawn(async move {
        let (mut reader, mut writer) = split(other);
        play(tokio::io::join(&mut reader, &mut writer), script).await;
        let take = async {
            while reader.read_u8().await.is_ok() {
                sleep(pace.units(1)).await;
            }
        };
        let say = async {
            while writer.write_all(b"2").await.is_ok() {
                sleep(pace.units(1)).await;
            }
        };
        tokio::join!(take, say);
    });
    let connector = cleartext().time_limit(pace.units(10));
    let mut client = connector.connect_over(own).await.unwrap();
    let began = Instant::now();
    let error = client.send(&to(&["ann"]), HELLO).await.unwrap_err();
    pace.assert_took(began, pace.units(10), &error);
    assert_eq!((error.delivery(), error.is_transient()), (delivery, delivery == Delivery::NotSent));
    drop(client);
    playing.await.unwrap();
}

#[test]
fn an_octet_in_each_unit_of_time_wins_no_time() {
    on_both(async |pace| {
        let mut cases = JoinSet::new();
        cases.spawn(one_by_one(pace, "", Delivery::NotSent));
        cases.spawn(one_by_one(pace, "C: MAIL\nC: RCPT\n", Delivery::NotSent));
        cases.spawn(one_by_one(pace, TRANSACTION, Delivery::Unknown));
        cases.join_all().await;
        // A message is taken so, and nothing is said.
        let (own, other) = duplex(1);
        let until_354 = TRANSACTION.replace("M:\n", "");
        let playing = tokio::spawn(async move {
            let (mut reader, mut writer) = split(other);
            let script = format!("{GREETING}{until_354}");
            play(tokio::io::join(&mut reader, &mut writer), script).await;
            while reader.read_u8().await.is_ok() {
                sleep(pace.units(1)).await;
            }
        });
        let mut client = cleartext().time_limit(pace.units(10)).connect_over(own).await.unwrap();
        let began = Instant::now();
        let error = client.send(&to(&["ann"]), HELLO).await.unwrap_err();
        pace.assert_took(began, pace.units(10), &error);
        assert_eq!((error.stage(), error.delivery()), (Some(Stage::Message), Delivery::Unknown));
        drop(client);
        playing.await.unwrap();
    });
}
