//! How long to wait before the API server is asked again after a failure.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;

/// How long one watch request lasts, in seconds. A connection that died without a word is noticed
/// a few seconds after that.
pub(crate) const WATCH_SECONDS: u32 = 60;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(4);

/// Delays of 1 s at first and at most 5 s. Up to a quarter of each is left to chance, so that not
/// all clients of an API server that comes back arrive at once.
#[derive(Debug, Clone)]
pub(crate) struct ApiBackoff {
    next: Duration,
}

impl ApiBackoff {
    pub(crate) fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// Returns the next delay.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(LONGEST);
        // Each state has random keys of its own.
        let chance = RandomState::new().hash_one(()) % 1000;
        delay + delay.mul_f64(chance as f64 / 4000.0)
    }
}

impl Iterator for ApiBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.delay())
    }
}

impl Backoff for ApiBackoff {
    fn reset(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_one_to_at_most_five_seconds() {
        let mut backoff = ApiBackoff::new();
        for shortest in [1.0, 2.0, 4.0, 4.0, 4.0] {
            let delay = backoff.delay().as_secs_f32();
            assert!((shortest..=shortest * 1.25).contains(&delay), "{delay}");
        }
        backoff.reset();
        assert!(backoff.delay() < Duration::from_secs(2));
    }
}
