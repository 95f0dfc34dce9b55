//! Which servers were silent lately: a dead first server shouldn't delay every query.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Per server, until when it is asked last.
#[derive(Debug)]
pub(super) struct Health {
    silent_until: Mutex<Vec<Option<Instant>>>,
}

impl Health {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            silent_until: Mutex::new(vec![None; servers]),
        }
    }

    /// All servers: those that answer in their order, then the silent ones in theirs.
    pub(super) fn order(&self, now: Instant) -> Vec<usize> {
        let silent_until = self.lock();
        let mut order: Vec<usize> = (0..silent_until.len()).collect();
        order.sort_by_key(|&server| silent_until[server].is_some_and(|until| until > now));
        order
    }

    pub(super) fn answered(&self, server: usize) {
        self.lock()[server] = None;
    }

    pub(super) fn silent(&self, server: usize, until: Instant) {
        self.lock()[server] = Some(until);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        // No method leaves it half changed.
        self.silent_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_silent_server_comes_last_until_it_answers_or_the_time_is_over() {
        let health = Health::new(3);
        let now = Instant::now();
        let later = now + Duration::from_secs(30);
        assert_eq!(health.order(now), [0, 1, 2]);

        health.silent(0, later);
        assert_eq!(health.order(now), [1, 2, 0]);
        assert_eq!(health.order(later), [0, 1, 2]);

        health.answered(0);
        assert_eq!(health.order(now), [0, 1, 2]);
    }
}
