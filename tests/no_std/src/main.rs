//! A session on a machine that has an allocator and nothing else. `cargo run` shows the replies, and
//! ends with 0 if they are right, with 1 if not.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::{
    alloc::{GlobalAlloc, Layout},
    ffi::{c_int, c_void},
    panic::PanicInfo,
};

use smtp_auth::{
    reply::Reply,
    sasl::{self, Channel, Query},
    server::{Config, Event, Session},
};

#[link(name = "c")]
unsafe extern "C" {
    fn write(fd: c_int, text: *const c_void, size: usize) -> isize;
    fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn abort() -> !;
}

struct Allocator;

// SAFETY: both are C's, and `aligned_alloc` is asked for a size that is a multiple of the alignment.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let alignment = layout.align().max(size_of::<usize>());
        unsafe { aligned_alloc(alignment, layout.size().next_multiple_of(alignment)).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _: Layout) {
        unsafe { free(memory.cast()) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    unsafe { abort() }
}

/// `alloc` as it comes was built to unwind, and asks for these two. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unsafe { abort() }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let out = replies().unwrap_or_default();
    // SAFETY: that many octets are there to read.
    unsafe { write(1, out.as_ptr().cast(), out.len()) };
    c_int::from(out != EXPECTED.as_bytes())
}

#[cfg(feature = "mechanisms")]
const EXPECTED: &str = "220 mail.example.org ESMTP ready\r\n250-mail.example.org\r\n250-PIPELINING\r\n\
    250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-SIZE 52428800\r\n\
    250 AUTH SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN\r\n\
    235 2.7.0 Authentication succeeded\r\n221 2.0.0 Goodbye\r\n";

#[cfg(not(feature = "mechanisms"))]
const EXPECTED: &str = "220 mail.example.org ESMTP ready\r\n250-mail.example.org\r\n250-PIPELINING\r\n\
    250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250 SIZE 52428800\r\n\
    504 5.5.4 This mechanism is not offered here\r\n221 2.0.0 Goodbye\r\n";

#[cfg(feature = "mechanisms")]
fn config() -> Result<Config, sasl::ConfigError> {
    use sasl::Mechanism::{CramMd5, Login, Plain, ScramSha1, ScramSha256, ScramSha512};
    let sasl = sasl::server::Config::builder("mail.example.org")
        .mechanisms([ScramSha512, ScramSha256, ScramSha1, CramMd5, Plain, Login])
        .nonces(|| sasl::Nonce::new("fixed"))
        .salt_key("sixteen octets, and fixed");
    Config::builder("mail.example.org").sasl(sasl.build()?).build()
}

#[cfg(not(feature = "mechanisms"))]
fn config() -> Result<Config, sasl::ConfigError> {
    Config::builder("mail.example.org").allow_unauthenticated(true).build()
}

fn replies() -> Result<Vec<u8>, sasl::ConfigError> {
    let mut session = Session::new(config()?.into());
    session.tls_started(Channel::tls());
    session.receive(b"EHLO a\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nQUIT\r\n");
    let mut out = Vec::new();
    loop {
        match session.next(&mut out) {
            Event::Query(Query::CheckPassword(ask)) => {
                let right = ask.authcid() == "tim" && ask.password() == "tanstaaftanstaaf";
                ask.answer(right);
            }
            Event::Query(query) => query.not_implemented(),
            Event::Command(_, ask) | Event::EndOfData(ask) => ask.reply(Reply::NOT_IMPLEMENTED),
            Event::StartOfData(permission) => permission.refuse(Reply::NOT_IMPLEMENTED),
            Event::Hello(_) | Event::Authenticated(_) | Event::AuthFailed(_) => {}
            Event::Data(_) | Event::Reset => {}
            Event::NeedInput | Event::StartTls | Event::Close => return Ok(out),
        }
    }
}
