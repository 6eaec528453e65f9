//! An idle connection holds no buffers.
#![allow(clippy::restriction, reason = "a test fails by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use smtp_auth_tokio::{
    server::{Message, Server},
    smtp_auth::{AsyncAuthenticator, Mechanism, Reply, server::Config},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Duration, sleep},
};

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Nobody;

impl AsyncAuthenticator for Nobody {
    fn mechanisms(&self) -> &[Mechanism] {
        &[Mechanism::Plain]
    }
}

/// Says that, if anything, and hears something.
async fn say(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).await.unwrap();
    assert!(client.read(&mut [0; 1024]).await.unwrap() > 0);
}

/// All on one thread, the server's side and the client's. The latter holds a socket.
#[tokio::test]
async fn an_idle_connection_holds_no_buffers() {
    const MANY: usize = 64;
    let config = Config::builder("localhost").allow_unauthenticated(true).build().unwrap();
    let server = Server::new(config, Nobody, async |_: Message| Ok(Reply::OK));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { server.serve(listener).await });
    let mut clients = Vec::with_capacity(2 * MANY);
    let each = |held: isize| held / MANY as isize;
    for counted in [false, true] {
        // The first ones for what is there once.
        let before = HELD.get();
        for _ in 0..MANY / (1 + usize::from(!counted)) {
            let mut client = TcpStream::connect(address).await.unwrap();
            say(&mut client, b"").await;
            clients.push(client);
        }
        sleep(Duration::from_millis(50)).await;
        let new = each(HELD.get() - before);
        assert!(!counted || new <= 2048, "{new}");
    }
    let message = [&b"0123456789\r\n".repeat(2_000)[..], b".\r\n"].concat();
    let before = HELD.get();
    for client in clients.iter_mut().rev().take(MANY) {
        for said in [&b"EHLO c\r\n"[..], b"MAIL FROM:<a@b.c>\r\n", b"RCPT TO:<a@b.c>\r\n"] {
            say(client, said).await;
        }
        say(client, b"DATA\r\n").await;
        say(client, &message).await;
        say(client, b"MAIL FROM:<a@b.c>\r\n").await;
        say(client, b"RSET\r\n").await;
    }
    sleep(Duration::from_millis(50)).await;
    // The name in EHLO is kept.
    let more = each(HELD.get() - before);
    assert!(more <= 16, "{more}");
}
