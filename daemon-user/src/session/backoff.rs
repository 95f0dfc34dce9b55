//! How long to wait before the next attempt.

use std::time::Duration;

/// Starts at 50 ms, so that a link that broke once is back before anyone notices, doubles to 5 s, and
/// is spread at random, so that many machines don't come back at one moment.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

impl Backoff {
    /// An attempt worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// An attempt failed: how long to wait.
    pub fn next(&mut self) -> Duration {
        let longest = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= FIRST);
        for _ in 0..50 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
