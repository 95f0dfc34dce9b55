//! How long to wait before the next attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// Starts at 50 ms, so that a link that broke once is back before anyone notices, doubles to a limit, and
/// is spread at random, so that many machines don't come back at one moment.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    longest: Duration,
    nudge: Nudge,
}

/// Ends all waiting at once: somebody knows that the next attempt is worth it. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    /// See the type.
    pub fn nudge(&self) {
        self.0.notify_waiters();
    }
}

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
/// What works for so long makes up for one failure.
const FORGIVES_ONE: Duration = Duration::from_millis(250);

impl Backoff {
    /// One whose waiting can be ended.
    pub fn new(nudge: Nudge) -> Self {
        Self::up_to(LONGEST, nudge)
    }

    /// The same with another limit than 5 s.
    pub fn up_to(longest: Duration, nudge: Nudge) -> Self {
        Self {
            failures: 0,
            longest,
            nudge,
        }
    }

    /// Waits before the next attempt. Cancel safe.
    pub async fn wait(&mut self) {
        let nudge = self.nudge.clone();
        tokio::select! {
            () = tokio::time::sleep(self.next()) => {}
            () = nudge.0.notified() => self.reset(),
        }
    }

    /// An attempt worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// What an attempt has made worked for so long: the longer, the fewer of the failures before count.
    pub fn handle_lived(&mut self, lived: Duration) {
        let forgiven = lived.as_millis() / FORGIVES_ONE.as_millis();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_sub(forgiven);
    }

    /// An attempt failed: how long to wait.
    fn next(&mut self) -> Duration {
        let longest = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::new(Nudge::default());
        assert!(backoff.next() <= FIRST);
        for _ in 0..50 {
            assert!(backoff.next() <= LONGEST);
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn what_breaks_now_and_then_is_made_again_at_once_and_what_breaks_at_once_is_not() {
        let mut backoff = Backoff::new(Nudge::default());
        for _ in 0..50 {
            backoff.handle_lived(FORGIVES_ONE);
            assert!(backoff.next() <= FIRST);
        }
        for _ in 0..50 {
            backoff.handle_lived(FORGIVES_ONE / 2);
            backoff.next();
        }
        assert!(backoff.next() >= LONGEST / 2);
    }
}
