//! What an idle session holds: a million of them, before the sign-in and after it.
//!
//! `cargo bench --bench idle`
//!
//! `IDLE_SESSIONS` is their number. It fails where a session holds memory of its own before the
//! sign-in.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may stop at the first surprise"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use smtp_auth::{
    sasl::{self, Channel, ChannelBinding, Mechanism, Query},
    server::{Config, Event, Session},
};

/// Counts what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let number = env::var("IDLE_SESSIONS").ok().and_then(|number| number.parse().ok());
    let number: usize = number.unwrap_or(1_000_000);
    let bound = || Channel::tls().with_binding(ChannelBinding::tls_exporter([7; 32]));
    let auth = "AUTH PLAIN AHRpbUBleGFtcGxlLm9yZwB0YW5zdGFhZnRhbnN0YWFm\r\n";
    println!("{number} sessions of {} octets each, and on the heap:", size_of::<Session>());
    let before = [
        table("without TLS, behind EHLO", number, Channel::cleartext, ""),
        table("TLS, behind EHLO", number, Channel::tls, ""),
    ];
    let _ = [
        table("TLS with tls-exporter, behind EHLO", number, bound, ""),
        table("TLS, tim@example.org signed in", number, Channel::tls, auth),
    ];
    if before == [0.0; 2] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes the sessions, and prints how much each holds on the heap.
fn table(what: &str, number: usize, channel: fn() -> Channel, then: &str) -> f64 {
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms(Mechanism::COMPILED)
        .build()
        .unwrap();
    let config = Arc::new(Config::builder("mail.example.org").sasl(sasl).build().unwrap());
    let (mut sessions, mut out) = (Vec::with_capacity(number), Vec::with_capacity(1 << 10));
    let (held, begin) = (HELD.load(Relaxed), Instant::now());
    for _ in 0..number {
        let mut session = Session::new(Arc::clone(&config));
        session.tls_started(channel());
        for said in ["", "EHLO client.example.org\r\n", then] {
            session.receive(said.as_bytes());
            serve(&mut session, &mut out);
            out.clear();
        }
        assert_eq!(session.identity().is_some(), !then.is_empty());
        sessions.push(session);
    }
    let each = (HELD.load(Relaxed) - held) as f64 / number as f64;
    println!("{what:<40}{each:>8.0} octets, made in {:.0?} each", begin.elapsed() / number as u32);
    each
}

fn serve(session: &mut Session, out: &mut Vec<u8>) {
    loop {
        match session.next(out) {
            Event::NeedInput => return,
            Event::Query(Query::CheckPassword(ask)) => {
                let good = ask.password() == "tanstaaftanstaaf";
                ask.answer(good);
            }
            _ => {}
        }
    }
}
