//! A part's state with the time at which it came into it.

use std::sync::{Mutex, PoisonError};

use kdev_common::clock;

use crate::v1::{Part, State};

impl Part {
    /// A part that is in `state` from now on.
    pub fn new(state: State, detail: impl Into<String>) -> Self {
        Self {
            state: state.into(),
            since_ms: clock::now_ms(),
            detail: detail.into(),
        }
    }

    /// The part after a report of `state`: the time stays while the state does.
    #[must_use]
    pub fn then(&self, state: State, detail: impl Into<String>) -> Self {
        let next = Self::new(state, detail);
        if self.state == next.state {
            Self {
                since_ms: self.since_ms,
                ..next
            }
        } else {
            next
        }
    }
}

/// A part that one task reports on and others read.
#[derive(Debug)]
pub struct PartCell(Mutex<Part>);

impl PartCell {
    /// A part that is in `state` from now on.
    pub fn new(state: State, detail: impl Into<String>) -> Self {
        Self(Mutex::new(Part::new(state, detail)))
    }

    /// Reports a state.
    pub fn set(&self, state: State, detail: impl Into<String>) {
        let mut part = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *part = part.then(state, detail);
    }

    /// Reads the last report.
    pub fn get(&self) -> Part {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_state_not_of_the_report() {
        let first = Part {
            state: State::Ok.into(),
            since_ms: 7,
            detail: String::new(),
        };
        assert_eq!(first.then(State::Ok, "still").since_ms, 7);
        assert_ne!(first.then(State::Down, "now").since_ms, 7);
    }
}
