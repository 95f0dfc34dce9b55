//! How soon a selector that somebody writes back is cleared again.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(60);

/// After how long without trouble the first attempt is at once again.
const QUIET: Duration = Duration::from_secs(600);

/// The dispute over one Service's selector: at once the first time, then after 1, 2, 4 ... s.
#[derive(Debug, Default)]
pub(super) struct Contest {
    rounds: u32,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Contest {
    /// Notes that the selector was found written back, and returns when to clear it again.
    pub(super) fn handle_written_back(&mut self, now: Instant) -> Instant {
        if let Some(due) = self.due {
            return due;
        }
        if self
            .last
            .is_some_and(|last| now.duration_since(last) > QUIET)
        {
            self.rounds = 0;
        }
        let delay = match self.rounds {
            0 => Duration::ZERO,
            rounds => Duration::from_secs(1 << (rounds - 1).min(6)).min(LONGEST),
        };
        self.rounds += 1;
        self.last = Some(now);
        *self.due.insert(now + delay)
    }

    /// Returns whether the pause is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Notes that the selector is cleared.
    pub(super) fn handle_cleared(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_ten_quiet_ones() {
        let mut contest = Contest::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let due = contest.handle_written_back(now);
            pauses.push((due - now).as_secs());
            now = due;
            assert!(contest.is_due(now));
            contest.handle_cleared();
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        now += QUIET + Duration::from_secs(1);
        assert_eq!(contest.handle_written_back(now), now);
    }

    #[test]
    fn looking_again_during_a_pause_does_not_prolong_it() {
        let mut contest = Contest::default();
        let now = Instant::now();
        contest.handle_written_back(now);
        contest.handle_cleared();
        let due = contest.handle_written_back(now);
        assert_eq!(
            contest.handle_written_back(now + Duration::from_millis(500)),
            due
        );
        assert!(!contest.is_due(now));
    }
}
