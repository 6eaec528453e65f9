//! An allocator that looks at what is freed.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, RefCell},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::memmem::Finder;

/// Looks at what is freed.
struct Looking;

thread_local! {
    static LOOKED_FOR: RefCell<Vec<Finder<'static>>> = const { RefCell::new(Vec::new()) };
    /// How much freed memory held something of it.
    static FOUND: Cell<usize> = const { Cell::new(0) };
    static ON: Cell<bool> = const { Cell::new(false) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: everything is the system allocator's; `realloc` is the trait's own, made of the other two,
// so that what a growing buffer leaves behind is seen as well.
unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise. Zeroed, as what was never written may be read below.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if ON.get() {
            ON.set(false);
            // SAFETY: the memory is the caller's until it is freed, and was zeroed when it was made.
            let freed = unsafe { std::slice::from_raw_parts(at, layout.size()) };
            LOOKED_FOR.with_borrow(|all| {
                let seen = all.iter().any(|one| one.find(freed).is_some());
                FOUND.set(FOUND.get() + usize::from(seen));
            });
            ON.set(true);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// Of each secret, its beginning, middle and end, as they are and as base64 wherever they begin in a
/// group of three: a copy that is not whole is found as well.
pub(crate) fn look_for(secrets: &[&[u8]]) {
    let mut all = Vec::new();
    for secret in secrets {
        let part = secret.len().min(16);
        for start in [0, (secret.len() - part) / 2, secret.len() - part] {
            let secret = &secret[start..start + part];
            all.push(secret.to_vec());
            for before in 0..3 {
                let text = STANDARD.encode([&b"xx"[..before], secret].concat()).into_bytes();
                // The ends depend on what stands beside.
                all.push(text[4..text.len() - 4].to_vec());
            }
        }
    }
    LOOKED_FOR.set(all.iter().map(|octets| Finder::new(octets).into_owned()).collect());
}

/// A copy of what calls before have left on the stack.
pub(crate) struct Stack(Vec<u8>);

impl Stack {
    pub(crate) fn new() -> Self {
        Self(vec![0; 16 << 10])
    }

    #[inline(never)]
    #[expect(unsafe_code, reason = "no variable is there any more")]
    pub(crate) fn copy(&mut self) {
        let mark = 0_u8;
        let mut at = std::hint::black_box(&raw const mark);
        for octet in &mut self.0 {
            at = at.wrapping_sub(1);
            // SAFETY: the thread's stack grows downwards, and has far more room than that below this frame.
            *octet = unsafe { at.read_volatile() };
        }
        self.0.reverse();
    }

    /// Whether something of what is looked for is in it.
    pub(crate) fn holds_any(&self) -> bool {
        LOOKED_FOR.with_borrow(|all| all.iter().any(|one| one.find(&self.0).is_some()))
    }
}

/// Zeroes the stack that the next call is going to use. A test's own secrets may lie there, from the calls that made them
/// or from an earlier test whose stack this thread has inherited, and would get into the padding of values on the heap.
#[inline(never)]
fn zero_stack() {
    std::hint::black_box([0_u8; 256 << 10]);
}

/// Runs with the allocator looking; how much it has found.
pub(crate) fn looking<T>(run: impl FnOnce() -> T) -> (T, usize) {
    zero_stack();
    FOUND.set(0);
    ON.set(true);
    let done = run();
    ON.set(false);
    (done, FOUND.get())
}

/// The same where the stack is unwound once it has run.
pub(crate) fn unwinding(run: impl FnOnce()) -> usize {
    let run = std::panic::AssertUnwindSafe(run);
    let (unwound, found) = looking(|| std::panic::catch_unwind(run).is_err());
    assert!(unwound);
    found
}

/// Unwinds without a message.
pub(crate) fn unwind() {
    std::panic::resume_unwind(Box::new(()))
}
