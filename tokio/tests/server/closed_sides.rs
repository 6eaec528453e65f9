//! A client that closes its side of the connection, and TLS that ends without close_notify.

use std::sync::Arc;

use smtp_auth_tokio::{
    BoxStream, TlsConnect, rustls,
    server::{Limits, Server},
    smtp_auth::sasl::Immediate,
};
use tokio::{
    io::{AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
};

use crate::{
    faulty::{At, Book, DIALOGUE, Faulty, How, Listener, MESSAGE},
    runtimes::on_both_in_real_time,
    support::{Certificate, Users, open},
};

/// Each stage is the last in its turn: what is said, all at once after the commands before it, and the replies to that.
const LAST: [(usize, &str, &str, usize); 12] = [
    (0, "", "220 -", 0),
    (0, "EHLO c\r\n", "220 250 -", 0),
    (1, "NOOP\r\nVRFY x\r\nNOO", "220 250 250 252 -", 0),
    (1, "AUTH PLAIN\r\n", "220 250 334 -", 0),
    (1, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n", "220 250 235 -", 0),
    (2, "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n", "220 250 252 250 250 -", 0),
    (2, "MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n", "220 250 252 250 250 354 -", 0),
    (5, "Subject: half\r\n", "220 250 252 250 250 354 -", 0),
    // All but the end.
    (5, "Subject: a\r\n\r\n..b\r\nthe end\r\n.\r", "220 250 252 250 250 354 -", 0),
    (5, "Subject: a\r\n\r\n..b\r\nthe end\r\n.", "220 250 252 250 250 354 -", 0),
    (5, MESSAGE, "220 250 252 250 250 354 250 -", 1),
    (6, "QUIT\r\n", "220 250 252 250 250 354 250 221 -", 1),
];

#[derive(Clone, Copy, Debug)]
enum Over {
    Tcp,
    Memory,
    Tls,
}

/// A stream to a server, which has one place, and its end.
async fn stream(
    over: Over,
    own: &Certificate,
) -> (BoxStream, Arc<Book>, tokio::task::JoinHandle<()>) {
    let faulty = Faulty::new(At::Each, How::Yield);
    let book = faulty.book.clone();
    let server = Server::new(open(), Immediate(Users), faulty).tls(own.server());
    let server = server.limits(Limits::default().connections(1));
    let client: Arc<dyn TlsConnect> = Arc::new(own.client(rustls::ALL_VERSIONS));
    let (socket, serving): (BoxStream, _) = match over {
        Over::Memory => {
            let (own, theirs) = duplex(64);
            let serving = tokio::spawn(async move { server.serve_stream(theirs, None).await });
            (Box::new(own), serving)
        }
        _ => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (theirs, address) = listener.accept().await.unwrap();
            let serving = tokio::spawn(async move {
                match over {
                    Over::Tls => server.serve_tls_stream(theirs, Some(address)).await.unwrap(),
                    _ => server.serve_stream(theirs, Some(address)).await,
                }
            });
            (Box::new(own), serving)
        }
    };
    let stream = match over {
        Over::Tls => client.connect("localhost", socket).await.unwrap().0,
        _ => socket,
    };
    (stream, book, serving)
}

#[test]
fn a_client_that_closes_its_side_has_all_its_replies() {
    let own = Certificate::new();
    on_both_in_real_time(async |_| {
        for over in [Over::Tcp, Over::Memory, Over::Tls] {
            for (before, last, heard, kept) in LAST {
                let (stream, book, serving) = stream(over, &own).await;
                let mut client = Listener::new(stream);
                let what = (over, last);
                if before > 0 {
                    client.say_all(&DIALOGUE[..before]).await;
                }
                client.write(last).await;
                client.stream.shutdown().await.unwrap();
                assert_eq!(client.hear_all().await, heard, "{what:?}");
                serving.await.unwrap();
                book.assert_kept(kept, what);
            }
        }
    });
}

/// The socket is closed at once, so what is cut off is the end of TLS and with it the replies.
#[test]
fn without_close_notify_half_a_message_is_half_a_message() {
    let own = Certificate::new();
    on_both_in_real_time(async |_| {
        for (before, last, _, kept) in LAST {
            let (stream, book, serving) = stream(Over::Tls, &own).await;
            let mut client = Listener::new(stream);
            if before > 0 {
                client.say_all(&DIALOGUE[..before]).await;
            }
            client.write(last).await;
            drop(client);
            serving.await.unwrap();
            book.assert_kept(kept, last);
        }
    });
}
