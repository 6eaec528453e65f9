//! A handler that panics, stalls or returns early at each stage.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use smtp_auth_tokio::{
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::{
    faulty::{At, DIALOGUE, Faulty, How, Listener, served},
    runtimes::{Pace, on_both, on_both_in_real_time},
    support::{Users, open},
};

const STAGES: [At; 8] =
    [At::Connect, At::Command, At::Mail, At::Rcpt, At::Data, At::Half, At::Whole, At::Kept];

/// What the client hears in the whole dialogue, as far as that stage.
fn before(at: At) -> &'static str {
    match at {
        At::Connect => "",
        At::Command => "220 250 ",
        At::Mail => "220 250 252 ",
        At::Rcpt => "220 250 252 250 ",
        At::Data => "220 250 252 250 250 ",
        _ => "220 250 252 250 250 354 ",
    }
}

/// One place, which each connection gives back.
#[test]
fn a_panic_in_any_stage_ends_its_own_connection_alone() {
    on_both_in_real_time(async |_| {
        for at in STAGES {
            let faulty = Faulty::new(at, How::Panic);
            let book = faulty.book.clone();
            let server = Server::new(open(), Immediate(Users), faulty.clone()).observer(faulty);
            let server = server.limits(Limits::default().connections(1));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = tokio::spawn({
                let server = server.clone();
                async move { server.serve(listener).await }
            });
            for turn in 1..=3 {
                let mut heard;
                loop {
                    let mut client = Listener::new(TcpStream::connect(address).await.unwrap());
                    heard = client.say_all(&DIALOGUE).await;
                    // The place is given back after the client can see the end.
                    match heard == "421" {
                        true => sleep(Duration::from_millis(2)).await,
                        false => break,
                    }
                }
                assert_eq!(heard, format!("{}-", before(at)), "{at:?}");
                assert_eq!(book.closed.load(SeqCst), turn, "{at:?}");
            }
            // What was kept before the panic is kept.
            book.assert_kept(if at == At::Kept { 3 } else { 0 }, at);
            server.shutdown();
            serving.await.unwrap();
        }
    });
}

/// Over a stream it is the caller's task that panics, with the place given back.
#[test]
fn a_panic_over_a_stream_is_the_callers() {
    on_both(async |_| {
        for at in STAGES {
            let faulty = Faulty::new(at, How::Panic);
            let book = faulty.book.clone();
            let server = Server::new(open(), Immediate(Users), faulty);
            let server = server.limits(Limits::default().connections(1));
            for _ in 0..2 {
                let (own, serving) = served(&server, 64);
                let heard = Listener::new(own).say_all(&DIALOGUE).await;
                assert_eq!(heard, format!("{}-", before(at)), "{at:?}");
                assert!(serving.await.unwrap_err().is_panic());
            }
            book.assert_kept(if at == At::Kept { 2 } else { 0 }, at);
        }
    });
}

fn limits(pace: Pace) -> Limits {
    Limits::default()
        .command(pace.units(3))
        .message(pace.units(7))
        .finish(pace.units(5))
        .idle(pace.units(50))
}

#[test]
fn a_handler_that_stalls_or_returns_early_is_answered_for() {
    on_both(async |pace| {
        for (at, how, code, after) in [
            (At::Connect, How::Stall, "451", 3),
            (At::Command, How::Stall, "451", 3),
            (At::Mail, How::Stall, "451", 3),
            (At::Rcpt, How::Stall, "451", 3),
            (At::Data, How::Stall, "451", 3),
            (At::Half, How::Stall, "421", 7),
            (At::Whole, How::Stall, "451", 5),
            (At::Kept, How::Stall, "451", 5),
            (At::Data, How::Accept, "451", 0),
            (At::Half, How::Accept, "451", 0),
            (At::Connect, How::Refuse, "452", 0),
            (At::Command, How::Refuse, "452", 0),
            (At::Mail, How::Refuse, "452", 0),
            (At::Rcpt, How::Refuse, "452", 0),
            (At::Data, How::Refuse, "452", 0),
            (At::Half, How::Refuse, "452", 0),
            (At::Whole, How::Refuse, "452", 0),
            (At::Kept, How::Refuse, "452", 0),
        ] {
            let what = (at, how);
            let faulty = Faulty::new(at, how);
            let book = faulty.book.clone();
            let server = Server::new(open(), Immediate(Users), faulty).limits(limits(pace));
            let began = Instant::now();
            let (own, serving) = served(&server, 64);
            let mut client = Listener::new(own);
            let heard = client.say_all(&DIALOGUE).await;
            assert_eq!(heard, format!("{}{code}", before(at)), "{what:?}");
            pace.assert_took(began, pace.units(after), what);
            client.codes.clear();
            let is_over = at == At::Connect || code == "421";
            client.write("NOOP\r\nQUIT\r\n").await;
            let rest = client.hear_all().await;
            assert_eq!(rest, if is_over { "-" } else { "250 221 -" }, "{what:?}");
            drop(client);
            serving.await.unwrap();
            book.assert_kept(usize::from(at == At::Kept), what);
        }
    });
}
