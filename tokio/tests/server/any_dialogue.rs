//! Whatever a client says, in whatever pieces, with whatever handler, and whenever the server stops: the connection ends in
//! time, with a last word for a client that is there to hear it.

use std::{sync::LazyLock, time::Duration};

use proptest::prelude::*;
use smtp_auth_tokio::{
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::{sleep, timeout},
};

use crate::support::{Careless, Certificate, Users, config, open};

const WORDS: &[&str] = &[
    "P",
    "PROXY ",
    "TCP4 ",
    "\r\n",
    "\r\n\r\n\0\r\nQUIT",
    "EHLO a\r\n",
    "HELO a\r\n",
    "MAIL FROM:<a@b.c>\r\n",
    "MAIL FROM:<nobody@b.c>\r\n",
    "RCPT TO:<d@e.f>\r\n",
    "RCPT TO:<nobody@e.f>\r\n",
    "RCPT TO:<slow@e.f>\r\n",
    "EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n",
    "EHLO a\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nBDAT 5\r\nhello",
    "DATA\r\n",
    "BDAT 5\r\n",
    "BDAT 5 LAST\r\n",
    "hello",
    "hello\r\n.\r\n",
    ".\r\n",
    "\n",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY a\r\n",
    "AUTH PLAIN\r\n",
    "AUTH PLAIN AHRpbQB3cm9uZw==\r\n",
    "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
    "AUTH SCRAM-SHA-256 biwsbj10aW0scj1hYmNkZWZnaGlqa2xtbm9w\r\n",
    "*\r\n",
    "STARTTLS\r\n",
    "QUIT\r\n",
    "\0",
    "x",
];

const HANDLERS: &[&str] = &[
    "",
    "refuse",
    "accept unread",
    "accept half",
    "refuse half",
    "stall unread",
    "stall half",
    "hang",
    "slow",
    "unwelcome",
];

static CERTIFICATE: LazyLock<Certificate> = LazyLock::new(Certificate::new);

#[derive(Clone, Debug)]
enum Act {
    Say(&'static str),
    Wait(u64),
    /// Does not end a line.
    Fill(usize),
    Stop,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        20 => prop::sample::select(WORDS).prop_map(Act::Say),
        3 => (0..400u64).prop_map(Act::Wait),
        1 => (0..20_000usize).prop_map(Act::Fill),
        1 => Just(Act::Stop),
    ]
}

proptest! {
    #[test]
    fn any_dialogue_ends_in_time(
        acts in prop::collection::vec(act(), 0..12),
        handler in prop::sample::select(HANDLERS),
        is_open in any::<bool>(),
        stays in any::<bool>(),
        room in prop::sample::select(&[1usize, 7, 1 << 16][..]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let to_tls = acts.iter().any(|act| matches!(act, Act::Say(word) if word.starts_with("STARTTLS")));
        runtime.block_on(async {
            let careless = Careless::default();
            *careless.0.what.lock().unwrap() = handler;
            let seen = careless.0.clone();
            let config = if is_open { open() } else { config().build().unwrap().into() };
            let server = Server::new(config, Immediate(Users), careless.clone())
                .limits(Limits::default().connection(Duration::from_secs(7200)))
                .observer(careless)
                .tls(CERTIFICATE.server());
            let (own, theirs) = duplex(room);
            let serving = tokio::spawn({
                let server = server.clone();
                async move { server.serve_stream(theirs, None).await }
            });
            let (mut reader, mut writer) = tokio::io::split(own);
            let reading = tokio::spawn(async move {
                let mut heard = Vec::new();
                let _ = reader.read_to_end(&mut heard).await;
                heard
            });
            let talking = tokio::spawn(async move {
                for act in acts {
                    match act {
                        Act::Say(word) => {
                            let _ = writer.write_all(word.as_bytes()).await;
                        }
                        Act::Wait(seconds) => sleep(Duration::from_secs(seconds)).await,
                        Act::Fill(octets) => {
                            let _ = writer.write_all(&vec![b'y'; octets]).await;
                        }
                        Act::Stop => server.shutdown(),
                    }
                }
                if !stays {
                    let _ = writer.shutdown().await;
                    return;
                }
                sleep(Duration::from_secs(20_000)).await;
            });
            timeout(Duration::from_secs(8000), serving).await.expect("it goes on").unwrap();
            let heard = String::from_utf8_lossy(&reading.await.unwrap()).into_owned();
            talking.abort();
            let (begun, dropped, _) = seen.counts().await;
            assert_eq!(begun, dropped);
            let log = seen.log.lock().unwrap().clone();
            let closed: Vec<_> = log.iter().filter(|line| line.starts_with("closed")).collect();
            assert_eq!(closed.len(), 1, "{log:?}");
            // Each reply is whole, and a good end has its last word, which is another after a BDAT that cannot be read.
            // A shutdown on the way to TLS waits for no client that does not take the permission.
            assert!(heard.is_empty() || to_tls || heard.ends_with("\r\n"), "{heard:?}");
            if closed[0] == "closed: Ok(())" {
                let last = heard.lines().last().unwrap();
                let good = ["221 ", "421 ", "554 ", "500 ", "501 "].iter().any(|code| last.starts_with(code));
                assert!(good, "{heard:?}");
            }
        });
    }
}
