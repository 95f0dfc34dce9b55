//! What the rings of all flows hold together, and so how much each may, and how soon they give memory back. Pure.

use std::time::Duration;

use crate::flow::Flow;

/// The least and the most that a ring may hold whatever the others do, in bytes: a flow always goes on.
const FLOOR: usize = 16 * 1024;
const CEILING: usize = 256 * 1024;

/// Where nothing is held, one ring may hold one part in so many.
const PART: u128 = 8;

/// After how long an idle flow gives memory back while the rings have more of it than they may hold bytes.
const CROWDED: Duration = Duration::from_millis(100);

/// What the rings of one flow have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Bytes that are queued.
    pub(crate) buffered: usize,
    /// Bytes of memory, which a ring has wherever it was written to.
    pub(crate) resident: usize,
}

/// The rings of all flows.
#[derive(Debug)]
pub(crate) struct Held {
    limit: usize,
    bytes: usize,
    resident: usize,
    flows: usize,
}

impl Held {
    /// Nothing is held yet, of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            resident: 0,
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

    /// After how long an idle flow gives memory back, where `usually` is for those that leave room to others.
    pub(crate) fn trim_after(&self, usually: Duration) -> Duration {
        if self.resident > self.limit {
            CROWDED.min(usually)
        } else {
            usually
        }
    }

    /// Counts anew what a flow's rings have.
    pub(crate) fn count(&mut self, flow: &mut Flow) {
        self.forget(flow);
        let now = flow.count();
        flow.counted = Some(now);
        self.flows += 1;
        self.bytes += now.buffered;
        self.resident += now.resident;
    }

    /// A flow's rings are gone.
    pub(crate) fn forget(&mut self, flow: &Flow) {
        if let Some(counted) = flow.counted {
            self.bytes -= counted.buffered;
            self.resident -= counted.resident;
            self.flows -= 1;
        }
    }
}
