//! A connection whose future is dropped after any number of polls.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use smtp_auth_tokio::{
    BoxStream, TlsConnect, rustls,
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::io::{DuplexStream, duplex};

use crate::{
    faulty::{At, Book, Faulty, How, Listener, MESSAGE},
    runtimes::{Pace, on_both},
    support::{Certificate, Users, open},
};

/// Polls a future so many times, and drops it. Whether it has come to its end by then.
async fn polled(work: impl Future<Output = ()>, times: usize) -> bool {
    let (mut work, mut left) = (pin!(work), times);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        let polled = work.as_mut().poll(cx).map(|()| true);
        // Where nothing wakes it any more, this ends all the same.
        if polled.is_pending() && left == 0 {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

type Tested = Server<Immediate<Users>, Faulty>;

/// A server with one place, and a handler that has to be polled twice.
fn server() -> (Tested, Arc<Book>) {
    let faulty = Faulty::new(At::Each, How::Yield);
    let book = faulty.book.clone();
    let server = Server::new(open(), Immediate(Users), faulty.clone()).observer(faulty);
    let limits = Limits::default().connections(1).pause(Duration::ZERO);
    (server.limits(limits).without_rate_limiter(), book)
}

/// All that a session has: an authentication that fails and one that does not, a transaction that is reset, a message by
/// DATA and one by BDAT.
const ALL: [&str; 15] = [
    "EHLO c\r\n",
    "AUTH PLAIN AHRpbQB4\r\n",
    "AUTH PLAIN\r\n",
    "AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
    "VRFY x\r\n",
    "MAIL FROM:<a@b.c>\r\n",
    "RSET\r\n",
    "MAIL FROM:<a@b.c>\r\n",
    "RCPT TO:<d@e.f>\r\n",
    "DATA\r\n",
    MESSAGE,
    "MAIL FROM:<a@b.c>\r\n",
    "RCPT TO:<d@e.f>\r\n",
    "BDAT 27 LAST\r\nSubject: a\r\n\r\n.b\r\nthe end\r\n",
    "QUIT\r\n",
];
const HEARD: &str = "220 250 535 334 235 252 250 250 250 250 354 250 250 250 250 221";

/// A client, once it is there, and how many of the lines it has said.
type Ready = Option<(Listener, usize)>;

/// Says each line after the reply to the one before, whatever that is, as far as the end. How many messages have been
/// acknowledged, and what was heard.
async fn talk(client: impl Future<Output = Ready>) -> (usize, String) {
    let Some((mut client, mut said)) = client.await else { return Default::default() };
    let mut acknowledged = 0;
    while client.hear().await != "-" {
        let is_message = [11, 14].contains(&said);
        acknowledged += usize::from(is_message && client.codes.last().unwrap() == "250");
        let Some(line) = ALL.get(said) else { break };
        client.write(line).await;
        said += 1;
    }
    (acknowledged, client.codes.join(" "))
}

/// After any number of polls: nothing that was acknowledged is missing, nothing half is kept, the client sees the end, and
/// the place is free. How many there were.
async fn at_each_poll<S: Future<Output = ()>, C: Future<Output = Ready> + Send + 'static>(
    pipe: usize,
    book: &Book,
    serve: impl Fn(DuplexStream) -> S,
    client: impl Fn(DuplexStream) -> C,
) -> usize {
    let (mut polls, mut before) = (0, 0);
    loop {
        let (own, theirs) = duplex(pipe);
        let talking = tokio::spawn(talk(client(own)));
        let is_done = polled(serve(theirs), polls).await;
        let (acknowledged, heard) = talking.await.unwrap();
        let (what, kept) = (format!("{polls} polls: {heard}"), book.kept().len());
        assert!((before + acknowledged..=before + 2).contains(&kept), "{what}");
        book.assert_kept(kept, &what);
        assert!(!heard.contains("421"), "{what}");
        before = kept;
        if is_done {
            assert_eq!((acknowledged, &*heard), (2, HEARD));
            return polls;
        }
        polls += 1;
    }
}

#[test]
fn dropped_at_any_poll_it_leaves_nothing() {
    on_both(async |pace: Pace| {
        for (pipe, least) in [(1, 300), (7, 40), (64, 20)] {
            // With many threads each octet is a way from one to another.
            if pipe == 1 && !pace.is_paused() {
                continue;
            }
            let (server, book) = server();
            let serve = |theirs| {
                let server = server.clone();
                async move { server.serve_stream(theirs, None).await }
            };
            let client = |own| std::future::ready(Some((Listener::new(own), 0)));
            let polls = at_each_poll(pipe, &book, serve, client).await;
            // With many threads it depends on who is faster.
            assert!(polls >= least || !pace.is_paused(), "{polls} by {pipe}");
        }
    });
}

/// Begins TLS, as far as it comes to that.
async fn begin_tls(own: DuplexStream, tls: Arc<dyn TlsConnect>, is_implicit: bool) -> Ready {
    let (mut stream, mut codes): (BoxStream, _) = (Box::new(own), Vec::new());
    if !is_implicit {
        let mut client = Listener::new(stream);
        if client.say_all(&["EHLO c\r\n", "STARTTLS\r\n"]).await != "220 250 220" {
            return None;
        }
        stream = client.stream.into_inner();
        codes = vec!["220".to_owned()];
    }
    let (stream, _) = tls.connect("localhost", stream).await.ok()?;
    let mut client = Listener::new(stream);
    if !is_implicit {
        client.write(ALL[0]).await;
    }
    client.codes = codes;
    Some((client, usize::from(!is_implicit)))
}

#[test]
fn dropped_at_any_poll_of_tls_it_leaves_nothing() {
    let own = Certificate::new();
    on_both(async |pace: Pace| {
        for is_implicit in [true, false] {
            let (server, book) = server();
            let server = server.tls(own.server());
            let serve = |theirs| {
                let server = server.clone();
                async move {
                    match is_implicit {
                        true => server.serve_tls_stream(theirs, None).await.unwrap(),
                        false => server.serve_stream(theirs, None).await,
                    }
                }
            };
            let tls: Arc<dyn TlsConnect> = Arc::new(own.client(rustls::ALL_VERSIONS));
            let client = |stream| begin_tls(stream, Arc::clone(&tls), is_implicit);
            // A server writes its tickets before it reads on, so what the client says first has to fit.
            let polls = at_each_poll(64, &book, serve, client).await;
            assert!(polls > 40 || !pace.is_paused(), "{polls}");
        }
    });
}
