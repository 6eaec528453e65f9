//! A test on a runtime with one thread, and on one with many. No task may be left in either.

use std::{fmt::Debug, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::{Instant, sleep, timeout},
};

/// How long the driver's last words and its lingering take at most, which no limit changes.
pub(crate) const CLOSE: Duration = Duration::from_secs(5);

/// How fast a test goes: its limits are so many units of time. With one thread the clock is paused, and moves on once nothing
/// else can; with many it cannot be.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    unit: Duration,
    is_paused: bool,
}

const PAUSED: Pace = Pace { unit: Duration::from_secs(1), is_paused: true };
const REAL: Pace = Pace { unit: Duration::from_millis(40), is_paused: false };

impl Pace {
    pub(crate) fn units(self, many: u32) -> Duration {
        self.unit * many
    }

    pub(crate) fn is_paused(self) -> bool {
        self.is_paused
    }

    /// That it has taken so long since then: to the millisecond where the clock is paused.
    pub(crate) fn assert_took(self, began: Instant, expected: Duration, what: impl Debug) {
        let (took, rounding) = (began.elapsed(), Duration::from_millis(5));
        let most = if self.is_paused { rounding } else { Duration::from_secs(4) };
        assert!(took + rounding >= expected, "{what:?}: after {took:?}, before {expected:?}");
        assert!(took <= expected + most, "{what:?}: after {took:?}, not {expected:?}");
    }
}

/// Runs the test on both. What waits for the system, as sockets do, needs [`on_both_in_real_time`].
pub(crate) fn on_both(test: impl AsyncFn(Pace)) {
    run(Builder::new_current_thread().start_paused(true), PAUSED, &test);
    run(Builder::new_multi_thread().worker_threads(4), REAL, &test);
}

pub(crate) fn on_both_in_real_time(test: impl AsyncFn(Pace)) {
    run(&mut Builder::new_current_thread(), REAL, &test);
    run(Builder::new_multi_thread().worker_threads(4), REAL, &test);
}

fn run(builder: &mut Builder, pace: Pace, test: &impl AsyncFn(Pace)) {
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(if pace.is_paused { 1_000_000 } else { 60 });
        timeout(limit, test(pace)).await.expect("it hangs");
        no_task_is_left().await;
    });
}

/// The last ones may still linger.
pub(crate) async fn no_task_is_left() {
    let (tasks, began) = (Handle::current().metrics(), Instant::now());
    while tasks.num_alive_tasks() > 0 {
        assert!(began.elapsed() < 2 * CLOSE, "{} tasks are left", tasks.num_alive_tasks());
        sleep(Duration::from_millis(5)).await;
    }
}
