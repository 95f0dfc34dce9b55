//! What the rings of all flows hold together, and so how much each may. Pure.

use crate::flow::Flow;

/// What a ring may hold whatever the others do, in bytes: a flow always goes on.
const FLOOR: usize = 64 * 1024;

/// Of what is left, one ring may hold one part in so many.
const PART: usize = 8;

/// The bytes in the rings of all flows.
#[derive(Debug)]
pub(crate) struct Held {
    limit: usize,
    bytes: usize,
}

impl Held {
    /// Nothing is held yet, of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0 }
    }

    /// Returns how many bytes one ring may hold now.
    pub(crate) fn allowance(&self) -> usize {
        (self.limit.saturating_sub(self.bytes) / PART).max(FLOOR)
    }

    /// Counts anew what a flow's rings hold.
    pub(crate) fn count(&mut self, flow: &mut Flow) {
        let now = flow.buffered();
        self.bytes = self.bytes - flow.counted + now;
        flow.counted = now;
    }

    /// A flow's rings hold nothing any more.
    pub(crate) fn forget(&mut self, flow: &Flow) {
        self.bytes -= flow.counted;
    }
}
