//! How soon a selector that somebody writes back is cleared again, and when that has no sense any more.

use std::time::Duration;

use tokio::time::Instant;

/// The pauses before it is cleared again, in seconds. Whoever writes it back once more after the last one does so
/// whatever is done, and every time some connections go astray.
const PAUSES: [u64; 6] = [0, 1, 2, 4, 8, 16];

/// After how long without trouble the first attempt is at once again: who writes back every few minutes may.
const QUIET: Duration = Duration::from_secs(120);

/// The dispute over one Service's selector.
#[derive(Debug, Default)]
pub(super) struct Contest {
    rounds: usize,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Contest {
    /// Notes that the selector was found written back, and returns when to clear it again; `None` when it is lost.
    pub(super) fn handle_written_back(&mut self, now: Instant) -> Option<Instant> {
        if self.due.is_some() {
            return self.due;
        }
        if self
            .last
            .is_some_and(|last| now.duration_since(last) > QUIET)
        {
            self.rounds = 0;
        }
        let pause = PAUSES.get(self.rounds)?;
        self.rounds += 1;
        self.last = Some(now);
        self.due = Some(now + Duration::from_secs(*pause));
        self.due
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
    fn pauses_grow_until_it_is_lost_and_begin_anew_after_a_quiet_time() {
        let mut contest = Contest::default();
        let mut now = Instant::now();
        for pause in PAUSES {
            let due = contest.handle_written_back(now).unwrap();
            assert_eq!((due - now).as_secs(), pause);
            now = due;
            assert!(contest.is_due(now));
            contest.handle_cleared();
        }
        assert_eq!(contest.handle_written_back(now), None);
        now += QUIET + Duration::from_secs(1);
        assert_eq!(contest.handle_written_back(now), Some(now));
    }

    #[test]
    fn looking_again_during_a_pause_does_not_prolong_it() {
        let mut contest = Contest::default();
        let now = Instant::now();
        contest.handle_written_back(now);
        contest.handle_cleared();
        let due = contest.handle_written_back(now);
        let later = now + Duration::from_millis(500);
        assert_eq!(contest.handle_written_back(later), due);
        assert!(!contest.is_due(now));
    }
}
