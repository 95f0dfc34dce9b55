//! Which intercepts were given back while their sessions were away: those who come back may have them again, and nobody
//! else whose claim is gone.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are remembered; of more the oldest are forgotten, and have to be made again by hand.
const MOST: usize = 4096;

/// Their ids.
#[derive(Debug, Default)]
pub struct Lapsed(Mutex<VecDeque<String>>);

impl Lapsed {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is given back.
    pub fn note(&self, id: &str) {
        let mut ids = self.lock();
        if ids.iter().all(|one| one != id) {
            ids.push_back(id.to_owned());
        }
        if ids.len() > MOST {
            ids.pop_front();
        }
    }

    /// One is claimed again.
    pub fn forget(&self, id: &str) {
        self.lock().retain(|one| one != id);
    }

    /// Whether one was.
    pub fn has(&self, id: &str) -> bool {
        self.lock().iter().any(|one| one == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_once_each() {
        let lapsed = Lapsed::default();
        lapsed.note("first");
        for number in 0..MOST {
            assert!(lapsed.has("first"), "{number}");
            lapsed.note(&number.to_string());
            lapsed.note(&number.to_string());
        }
        assert!(!lapsed.has("first"));
        assert!(lapsed.has("0") && lapsed.has(&(MOST - 1).to_string()));
        lapsed.forget("0");
        assert!(!lapsed.has("0"));
    }
}
