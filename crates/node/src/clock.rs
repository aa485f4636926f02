//! The one place where this crate reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds; zero before 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "the clock module: everything else asks here"
)]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
