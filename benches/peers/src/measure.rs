//! Time, instructions and allocations of a work.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::works::{Row, Run, Work};

/// Counts what is asked of the allocator, growing included.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

/// One thread measures: no locked instruction, which would weigh on who allocates much.
fn count() {
    ASKED.store(ASKED.load(Relaxed) + 1, Relaxed);
}

// SAFETY: all is passed on to the system's allocator as it came.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of one run.
pub fn allocations(row: &Row) -> u64 {
    let of = |make: fn() -> Run| {
        let mut run = make();
        run(); // what is set up at first use
        let before = ASKED.load(Relaxed);
        run();
        ASKED.load(Relaxed) - before
    };
    of(row.make) - row.aside.map_or(0, of)
}

/// How often each implementation gets its turn, and how long a turn is.
const ROUNDS: usize = 1000;
const TURN: Duration = Duration::from_micros(500);

/// Nanoseconds of each row: the least of many turns, which go around, so that what else the machine
/// does falls on all alike.
pub fn times(work: &Work) -> Vec<f64> {
    let sides =
        |row: &Row| [Some(row.make), row.aside].map(|make| make.map(|make| Turn::new(make())));
    let mut rows: Vec<_> = work.rows.iter().map(sides).collect();
    for round in 0..ROUNDS {
        deeper(round % 8, &mut || rows.iter_mut().flatten().flatten().for_each(Turn::take));
    }
    let own = |sides: &[Option<Turn>; 2]| sides[0].least() - sides[1].least();
    rows.iter().map(|sides| own(sides) / work.parts as f64).collect()
}

/// Calls with some more on the stack: where a hash's state lies in the lines of the cache is luck, so
/// each implementation is run at several places.
#[inline(never)]
fn deeper(levels: usize, call: &mut dyn FnMut()) {
    let frame = black_box([0_u8; 16]);
    match levels {
        0 => call(),
        _ => deeper(levels - 1, call),
    }
    black_box(&frame);
}

struct Turn {
    run: Run,
    runs: u32,
    least: f64,
}

impl Turn {
    fn new(mut run: Run) -> Self {
        let begin = Instant::now();
        let mut runs = 0;
        while runs == 0 || begin.elapsed() < TURN {
            run();
            runs += 1;
        }
        Self { run, runs, least: f64::INFINITY }
    }

    fn take(&mut self) {
        let begin = Instant::now();
        for _ in 0..self.runs {
            (self.run)();
        }
        let each = begin.elapsed().as_nanos() as f64 / f64::from(self.runs);
        self.least = self.least.min(each);
    }
}

trait Least {
    fn least(&self) -> f64;
}

impl Least for Option<Turn> {
    fn least(&self) -> f64 {
        self.as_ref().map_or(0.0, |turn| turn.least)
    }
}

/// Instructions of one run, counted in a process of `program`: of twice as many runs, less those of
/// as many, so that what is done once falls out.
pub fn instructions(program: &Path, work: &Work, row: &Row) -> Result<u64, String> {
    let of = |side| {
        let once = refs(program, work, row, side, work.times)?;
        let twice = refs(program, work, row, side, 2 * work.times)?;
        Ok::<_, String>((twice - once) / work.times)
    };
    let aside = if row.aside.is_some() { of("aside")? } else { 0 };
    Ok((of("make")? - aside) / work.parts)
}

fn refs(program: &Path, work: &Work, row: &Row, side: &str, times: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["run", work.name, row.who, side, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}. Install it: apt-get install valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("refs:"));
    match count.and_then(|(_, count)| count.trim().replace(',', "").parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("no count for {} by {}:\n{said}", work.name, row.who)),
    }
}

/// What a process does whose instructions are counted.
pub fn run(row: &Row, side: &str, times: u64) {
    let make = if side == "aside" { row.aside.expect("it has another side") } else { row.make };
    let mut run = make();
    run();
    for _ in 0..times {
        run();
    }
}
