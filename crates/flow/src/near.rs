//! A near end for tests: says numbered bytes, and keeps what it hears.

use crate::budget::Budget;
use crate::ledger::{Ledger, Undelivered};

pub(crate) struct Near {
    pub(crate) ledger: Ledger,
    pub(crate) said: Vec<u8>,
    pub(crate) ended: bool,
    pub(crate) heard: Vec<u8>,
    pub(crate) heard_end: bool,
}

impl Near {
    pub(crate) fn new(budget: &'static Budget) -> Self {
        Self {
            ledger: Ledger::new(budget, None),
            said: Vec::new(),
            ended: false,
            heard: Vec::new(),
            heard_end: false,
        }
    }

    pub(crate) fn say(&mut self, size: usize) {
        let size = size.min(self.ledger.room());
        if !self.ended && size > 0 {
            let start = self.said.len();
            let bytes: Vec<u8> = (start..start + size).map(|at| (at * 7 / 3) as u8).collect();
            self.said.extend_from_slice(&bytes);
            self.ledger.handle_said(bytes.into());
        }
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.ledger.handle_ended();
    }

    /// Takes at most so many bytes of what has come, or the end.
    pub(crate) fn deliver(&mut self, size: usize) {
        match self.ledger.undelivered() {
            Some(Undelivered::Data(bytes)) => {
                let size = size.min(bytes.len());
                self.heard.extend_from_slice(&bytes[..size]);
                self.ledger.handle_delivered(size);
            }
            Some(Undelivered::End) => {
                assert!(!self.heard_end, "the end comes once");
                self.heard_end = true;
                self.ledger.handle_end_delivered();
            }
            None => {}
        }
    }
}
