//! A shutdown in each stage: the connection ends in its time, and each message has been acknowledged or dropped.

use std::{sync::Arc, time::Duration};

use smtp_auth_tokio::{
    server::{Limits, Server},
    smtp_auth::{Answer, AsyncAuthenticator, CheckPassword, Mechanism, sasl::Immediate},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    faulty::{At, Book, Faulty, How, Listener, MESSAGE, served},
    runtimes::{CLOSE, Pace, on_both, on_both_in_real_time},
    shutdown::Never,
    support::{Users, open},
};

const GRACE: u32 = 10;
const EHLO: &str = "EHLO c\r\n";
const MAIL: &str = "MAIL FROM:<a@b.c>\r\n";
const RCPT: &str = "RCPT TO:<d@e.f>\r\n";
const DATA: &str = "DATA\r\n";

/// A store that does not always answer.
struct Store;

impl AsyncAuthenticator for Store {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }

    async fn check_password(&self, ask: &CheckPassword) -> Answer {
        if ask.authcid() == "slow" {
            std::future::pending::<()>().await;
        }
        false.into()
    }
}

fn server<A: AsyncAuthenticator + 'static>(
    pace: Pace,
    users: A,
    faulty: Faulty,
) -> (Server<A, Faulty>, Arc<Book>) {
    let book = Arc::clone(&faulty.book);
    // Nothing else limits the time.
    let limits = Limits::default().grace(pace.units(GRACE)).handshake(pace.units(1000));
    let limits = limits.query(pace.units(1000)).command(pace.units(1000));
    (Server::new(open(), users, faulty).tls(Never).limits(limits), book)
}

/// The fault, lines with a reply each, what is said then, the replies after that, when it ends, and whether a message is
/// kept.
type Case = (At, How, &'static [&'static str], &'static str, &'static str, u32, usize);

const CASES: [Case; 20] = [
    (At::Connect, How::Stall, &[], "", "421 -", 0, 0),
    (At::Never, How::Stall, &[], "", "421 -", 0, 0),
    (At::Never, How::Stall, &[EHLO], "MAIL FR", "421 -", 0, 0),
    (At::Command, How::Stall, &[EHLO], "VRFY x\r\n", "421 -", 0, 0),
    // In an exchange, in the store (\0slow\0x), and in the pause after a failed attempt (\0tim\0x).
    (At::Never, How::Stall, &[EHLO, "AUTH PLAIN\r\n"], "", "421 -", 0, 0),
    (At::Never, How::Stall, &[EHLO], "AUTH PLAIN AHNsb3cAeA==\r\n", "421 -", 0, 0),
    (At::Never, How::Stall, &[EHLO], "AUTH PLAIN AHRpbQB4\r\n", "535 421 -", 0, 0),
    (At::Mail, How::Stall, &[EHLO], MAIL, "421 -", GRACE, 0),
    (At::Never, How::Stall, &[EHLO, MAIL], "", "421 -", GRACE, 0),
    (At::Rcpt, How::Stall, &[EHLO, MAIL], RCPT, "421 -", GRACE, 0),
    (At::Never, How::Stall, &[EHLO, MAIL, RCPT], "", "421 -", GRACE, 0),
    (At::Data, How::Stall, &[EHLO, MAIL, RCPT], DATA, "421 -", GRACE, 0),
    (At::Never, How::Stall, &[EHLO, MAIL, RCPT, DATA], "", "421 -", GRACE, 0),
    (At::Never, How::Stall, &[EHLO, MAIL, RCPT, DATA], "half\r\n", "421 -", GRACE, 0),
    (At::Never, How::Stall, &[EHLO, MAIL, RCPT, "BDAT 5\r\nhello"], "", "421 -", GRACE, 0),
    (At::Half, How::Stall, &[EHLO, MAIL, RCPT, DATA], MESSAGE, "421 -", GRACE, 0),
    // What is left of it is still to come.
    (At::Half, How::Refuse, &[EHLO, MAIL, RCPT, DATA], "half\r\n", "421 -", GRACE, 0),
    (At::Whole, How::Stall, &[EHLO, MAIL, RCPT, DATA], MESSAGE, "421 -", GRACE, 0),
    // It is kept, and will come again.
    (At::Kept, How::Stall, &[EHLO, MAIL, RCPT, DATA], MESSAGE, "421 -", GRACE, 1),
    (At::Never, How::Stall, &[EHLO, MAIL, RCPT, DATA, MESSAGE], "", "421 -", 0, 1),
];

async fn is_told(pace: Pace, (at, how, said, then, told, after, kept): Case) {
    let (server, book) = server(pace, Store, Faulty::new(at, how));
    let (own, serving) = served(&server, 64);
    let mut client = Listener::new(own);
    if at != At::Connect {
        client.say_all(said).await;
        client.codes.clear();
    }
    client.write(then).await;
    sleep(pace.units(3)).await;
    let (what, began) = ((at, how, said, then), Instant::now());
    server.shutdown();
    assert_eq!(client.hear_all().await, told, "{what:?}");
    drop(client);
    serving.await.unwrap();
    pace.assert_took(began, pace.units(after), what);
    book.assert_kept(kept, what);
}

#[test]
fn in_each_stage_the_client_is_told_in_time() {
    on_both(async |pace| {
        let cases: JoinSet<_> = CASES.into_iter().map(|case| is_told(pace, case)).collect();
        cases.join_all().await;
    });
}

/// A client that does not take the reply, which fits into nothing: the driver's last words have five seconds.
async fn is_left(pace: Pace, said: &'static [&'static str], then: String, after: u32, kept: usize) {
    let (server, book) = server(pace, Immediate(Users), Faulty::new(At::Never, How::Stall));
    let (own, serving) = served(&server, 16);
    let mut client = Listener::new(own);
    if !said.is_empty() {
        client.say_all(said).await;
    }
    // The server does not read on before its replies are taken, so this is not said to the end.
    let what = (said, then.len());
    let writing = tokio::spawn(async move {
        client.write(&then).await;
        // Whatever comes of it.
        std::future::pending::<()>().await;
    });
    sleep(pace.units(1)).await;
    let began = Instant::now();
    server.shutdown();
    serving.await.unwrap();
    pace.assert_took(began, pace.units(after) + CLOSE, what);
    writing.abort();
    book.assert_kept(kept, what);
}

#[test]
fn replies_that_are_not_taken_hold_nothing_up() {
    on_both(async |pace| {
        let mut cases = JoinSet::new();
        cases.spawn(is_left(pace, &[], String::new(), 0, 0));
        cases.spawn(is_left(pace, &[EHLO], "NOOP\r\n".repeat(100), 0, 0));
        cases.spawn(is_left(pace, &[EHLO, MAIL], RCPT.repeat(100), GRACE, 0));
        cases.spawn(is_left(pace, &[EHLO, MAIL, RCPT, DATA], MESSAGE.to_owned(), 0, 1));
        cases.join_all().await;
    });
}

/// In the middle of a handshake there is nobody to be told.
#[test]
fn on_the_way_to_tls_it_ends_at_once() {
    on_both(async |pace| {
        // The permission to begin is taken, and is not.
        for (said, then) in [(&[EHLO, "STARTTLS\r\n"][..], ""), (&[EHLO], "STARTTLS\r\n")] {
            let (server, book) = server(pace, Immediate(Users), Faulty::new(At::Never, How::Stall));
            let (own, serving) = served(&server, 16);
            let mut client = Listener::new(own);
            client.say_all(said).await;
            client.write(then).await;
            sleep(pace.units(1)).await;
            let began = Instant::now();
            server.shutdown();
            serving.await.unwrap();
            pace.assert_took(began, pace.units(0), then);
            book.assert_kept(0, then);
            drop(client);
        }
        // From the first octet.
        let (server, _) = server(pace, Immediate(Users), Faulty::new(At::Never, How::Stall));
        let (client, theirs) = tokio::io::duplex(64);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve_tls_stream(theirs, None).await.unwrap() }
        });
        sleep(pace.units(1)).await;
        let began = Instant::now();
        server.shutdown();
        serving.await.unwrap();
        pace.assert_took(began, pace.units(0), "TLS");
        drop(client);
    });
}

/// A client that has heard the last words, and stays for so long.
async fn stays(pace: Pace, limits: Limits, heard: &str, time: Duration) {
    let (server, _) = server(pace, Immediate(Users), Faulty::new(At::Never, How::Stall));
    let server = server.limits(limits);
    let began = Instant::now();
    let (own, serving) = served(&server, 64);
    let mut client = Listener::new(own);
    client.write("QUIT\r\n").await;
    assert_eq!(client.hear_all().await, heard);
    server.shutdown();
    serving.await.unwrap();
    pace.assert_took(began, time, heard);
    drop(client);
}

#[test]
fn lingering_has_its_time() {
    on_both(async |pace| {
        let one_too_many = Limits::default().connections(0);
        // Whoever has said QUIT says nothing more.
        let has_quit = stays(pace, Limits::default(), "220 221 -", Duration::ZERO);
        let one_too_many = stays(pace, one_too_many, "421 -", CLOSE);
        tokio::join!(has_quit, one_too_many);
    });
}

/// A proxy that does not say whose connection it is.
#[test]
fn a_proxys_header_is_not_waited_for() {
    on_both_in_real_time(async |pace| {
        let (server, _) = server(pace, Immediate(Users), Faulty::new(At::Never, How::Stall));
        let server = server.proxies(["127.0.0.1".parse().unwrap()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(listener).await }
        });
        let mut client = Listener::new(TcpStream::connect(address).await.unwrap());
        client.write("PROXY TCP4 192.0.2.1").await;
        sleep(pace.units(2)).await;
        let began = Instant::now();
        server.shutdown();
        assert_eq!(client.hear_all().await, "-");
        serving.await.unwrap();
        pace.assert_took(began, pace.units(0), "PROXY");
    });
}
