//! Whatever a server says, and whenever it says nothing: the client comes to an end in time, knows what became of its message,
//! and gives no password away.

use std::time::Duration;

use proptest::prelude::*;
use smtp_auth_tokio::{
    client::{Connector, Credentials, Delivery},
    tls,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{sleep, timeout},
};

use crate::support::{PASSWORD, to};

const WORDS: &[&str] = &[
    "220 a\r\n",
    "220-a\r\n",
    "250 ok\r\n",
    "250 ok\r\n250 ok\r\n",
    "250-PIPELINING\r\n",
    "250-a\r\n250-PIPELINING\r\n250 SIZE\r\n",
    "250-a\r\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\r\n",
    "250-a\r\n250 STARTTLS\r\n",
    "250-STARTTLS\r\n250 AUTH PLAIN SCRAM-SHA-256\r\n",
    "454 4.7.0 no TLS now\r\n",
    "334 \r\n",
    "334 VXNlcm5hbWU6\r\n",
    "235 2.7.0 ok\r\n",
    "354 go on\r\n",
    "421 4.3.2 bye\r\n",
    "450 no\r\n",
    "535 5.7.8 no\r\n",
    "552 no\r\n",
    "552-no\r\n",
    "25",
    "\r\n",
    "\n",
    "\0",
];

/// What a server says as a rule.
const AS_A_RULE: [&str; 6] = [
    "220 a\r\n",
    "250-a\r\n250 SIZE\r\n",
    "250 ok\r\n",
    "250 ok\r\n",
    "354 go on\r\n",
    "250 ok\r\n",
];

#[derive(Clone, Debug)]
enum Act {
    /// Waits for a command, then says that.
    Answer(&'static str),
    Say(&'static str),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => prop::sample::select(WORDS).prop_map(Act::Answer),
        2 => prop::sample::select(WORDS).prop_map(Act::Say),
        1 => (0..12u64).prop_map(Act::Wait),
    ]
}

proptest! {
    #[test]
    fn any_server_is_left_in_time(
        begin in 0..=AS_A_RULE.len(),
        acts in prop::collection::vec(act(), 0..10),
        stays in any::<bool>(),
        room in prop::sample::select(&[1usize, 7, 1 << 16][..]),
        knows_password in any::<bool>(),
        protection in 0..3u8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (own, theirs) = duplex(room);
            let (mut reader, mut writer) = tokio::io::split(theirs);
            let (heard, hears) = tokio::sync::watch::channel(Vec::<u8>::new());
            let reading = tokio::spawn(async move {
                let mut octets = [0; 1024];
                while let Ok(read @ 1..) = reader.read(&mut octets).await {
                    heard.send_modify(|all| all.extend_from_slice(&octets[..read]));
                }
            });
            let first = AS_A_RULE[..begin].iter().enumerate().map(|(n, line)| match n {
                0 => Act::Say(line),
                _ => Act::Answer(line),
            });
            let acts: Vec<_> = first.chain(acts).collect();
            let mut listening = hears.clone();
            let talking = tokio::spawn(async move {
                for act in acts {
                    match act {
                        Act::Answer(line) => {
                            let before = listening.borrow_and_update().len();
                            let more = listening.wait_for(|all| {
                                all.len() > before && all.ends_with(b"\r\n")
                            });
                            if timeout(Duration::from_secs(5), more).await.is_err() {
                                continue;
                            }
                            let _ = writer.write_all(line.as_bytes()).await;
                        }
                        Act::Say(line) => {
                            let _ = writer.write_all(line.as_bytes()).await;
                        }
                        Act::Wait(seconds) => sleep(Duration::from_secs(seconds)).await,
                    }
                }
                if stays {
                    sleep(Duration::from_secs(20_000)).await;
                }
                let _ = writer.shutdown().await;
            });
            let connector = match protection {
                0 => Connector::insecure_cleartext("localhost"),
                1 => Connector::insecure_opportunistic("localhost"),
                _ => Connector::starttls("localhost"),
            };
            let mut connector =
                connector.trust(tls::Unverified).time_limit(Duration::from_secs(10));
            if knows_password {
                connector =
                    connector.credentials(Credentials::password("tim", PASSWORD).unwrap());
            }
            let work = async {
                let mut client = connector.connect_over(own).await?;
                let sent = client.send(&to(&["ann"]), b"Subject: a\r\n\r\nHi\r\n").await;
                let again = client.send(&to(&["bob"]), b"").await;
                client.quit().await;
                drop(again);
                sent
            };
            let ended = timeout(Duration::from_secs(300), work).await.expect("it goes on");
            // For what is in the pipe.
            sleep(Duration::from_secs(1)).await;
            let all = hears.borrow().clone();
            let all = String::from_utf8_lossy(&all);
            for secret in [PASSWORD, "dGFuc3RhYWZ0YW5zdGFhZg", "AHRpbQB0YW5zdGFhZnRhbnN0YWFm"] {
                assert!(!all.contains(secret), "{all}");
                assert!(!format!("{ended:?}").contains(secret), "{ended:?}");
            }
            // Nothing that matters is said before TLS, which this server does not have.
            assert!(protection < 2 || !all.contains("AUTH ") && !all.contains("MAIL "), "{all}");
            let was_sent = all.contains("Hi\r\n.\r\n");
            match ended {
                Ok(_) => assert!(was_sent, "{all}"),
                Err(error) if error.delivery() == Delivery::NotSent && was_sent => {
                    // A server that closes has not taken it (RFC 5321 §3.8).
                    assert_eq!(error.reply().map(|reply| reply.code()), Some(421), "{error:?}");
                }
                Err(_) => {}
            }
            reading.abort();
            talking.abort();
        });
    }
}
