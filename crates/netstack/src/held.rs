//! What the rings of all flows hold together, and so how much each may, and how soon they give memory back. Pure.

use std::time::Duration;

use kdev_shares::Shares;

use crate::flow::Flow;

/// After how long an idle flow gives memory back while the rings have more of it than half of what they may hold.
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

    /// Returns how many bytes each ring of a flow may hold now that has moved `moved`.
    pub(crate) fn allowance(&self, moved: u64) -> usize {
        let shares = Shares {
            limit: self.limit as u64,
            held: self.bytes as u64,
            // A flow has two.
            count: 2 * self.flows as u64,
        };
        usize::try_from(shares.most_nearby(moved, shares.offer())).unwrap_or(self.limit)
    }

    /// After how long an idle flow gives memory back, where `usually` is for those that leave room to others.
    pub(crate) fn trim_after(&self, usually: Duration) -> Duration {
        if self.resident > self.limit / 2 {
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
