//! A part's state with the time at which it came into it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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

    /// The part for whoever has just asked it: one that takes itself for well and gave no answer, as
    /// `look` says, isn't.
    #[must_use]
    pub fn as_found(&self, look: &Self) -> Self {
        let is_silent = self.state() == State::Ok && look.state() != State::Ok;
        if is_silent { look } else { self }.clone()
    }
}

/// A round trip as the interfaces carry it: in microseconds, where 0 is one that nobody has measured.
pub fn round_trip_us(measured: Option<Duration>) -> u64 {
    measured.map_or(0, |round_trip| {
        u64::try_from(round_trip.as_micros())
            .unwrap_or(u64::MAX)
            .max(1)
    })
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

    #[test]
    fn a_part_that_doesnt_answer_isnt_well_and_its_own_trouble_comes_first() {
        let part = |state: State, since_ms| Part {
            state: state.into(),
            since_ms,
            detail: String::new(),
        };
        let [ok, silent] = [part(State::Ok, 1), part(State::Degraded, 2)];
        assert_eq!(ok.as_found(&part(State::Ok, 3)), ok);
        assert_eq!(ok.as_found(&silent), silent);
        let down = part(State::Down, 4);
        assert_eq!(down.as_found(&silent), down);
    }

    #[test]
    fn a_round_trip_that_was_measured_is_never_taken_for_none() {
        assert_eq!(round_trip_us(None), 0);
        assert_eq!(round_trip_us(Some(Duration::from_nanos(1))), 1);
        assert_eq!(round_trip_us(Some(Duration::from_millis(2))), 2_000);
        assert_eq!(round_trip_us(Some(Duration::MAX)), u64::MAX);
    }
}
