//! The time of day.

use std::time::SystemTime;

/// Returns the milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the seconds since 1970.
pub(crate) fn now_s() -> i64 {
    now_ms() / 1000
}
