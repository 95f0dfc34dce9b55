//! What the rings of all flows hold together, and so how much each may. Pure.

use crate::flow::Flow;

/// The least and the most that a ring may hold whatever the others do, in bytes: a flow always goes on.
const FLOOR: usize = 16 * 1024;
const CEILING: usize = 256 * 1024;

/// Where nothing is held, one ring may hold one part in so many.
const PART: u128 = 8;

/// The bytes in the rings of all flows.
#[derive(Debug)]
pub(crate) struct Held {
    limit: usize,
    bytes: usize,
    flows: usize,
}

impl Held {
    /// Nothing is held yet, of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            flows: 0,
        }
    }

    /// Returns how many bytes one ring may hold now: with half of the limit left a quarter of what it is with
    /// all of it, so that flows that stand still leave something to those that come after them.
    pub(crate) fn allowance(&self) -> usize {
        let left = self.limit.saturating_sub(self.bytes) as u128;
        let part = left * left / (self.limit.max(1) as u128 * PART);
        // No more than what is left.
        usize::try_from(part).map_or(self.limit, |part| part.max(self.floor()))
    }

    /// What a ring may hold whatever the others do: all of them together as much as the limit, as a flow has two.
    fn floor(&self) -> usize {
        (self.limit / 2 / self.flows.max(1)).clamp(FLOOR, CEILING)
    }

    /// Counts anew what a flow's rings hold.
    pub(crate) fn count(&mut self, flow: &mut Flow) {
        let now = flow.buffered();
        match flow.counted.replace(now) {
            Some(before) => self.bytes -= before,
            None => self.flows += 1,
        }
        self.bytes += now;
    }

    /// A flow's rings hold nothing any more.
    pub(crate) fn forget(&mut self, flow: &Flow) {
        if let Some(counted) = flow.counted {
            self.bytes -= counted;
            self.flows -= 1;
        }
    }
}
