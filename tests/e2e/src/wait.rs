//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until there is something, and returns it.
///
/// # Panics
///
/// Says `what` was waited for when there is nothing after `deadline`.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    let found = within(deadline, look);
    found.unwrap_or_else(|| panic!("{what}: not within {deadline:?}"))
}

/// Looks until a condition holds.
///
/// # Panics
///
/// See [`until`].
#[track_caller]
pub fn until_true(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) {
    until(what, deadline, || look().then_some(()));
}

/// Looks until there is something; `None` after `deadline`.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
