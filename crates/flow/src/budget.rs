//! What many flows may hold together. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ledger::WINDOW;

/// What all flows of a process may hold together: what they keep for the other side, what waits for
/// their near ends, and what the other side may send beyond [`Budget::SHARE`]. The less of it is left, the
/// less more each flow may keep, down to [`Budget::FLOOR`]: those that stand still so leave something to
/// those that move, and don't fill the memory.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    flows: AtomicU64,
    pub(crate) limit: u64,
}

impl Budget {
    /// Bytes that the other side of each flow may send at first, whatever the others do: it begins before
    /// it could be told anything else.
    pub const SHARE: u64 = 256 << 10;
    /// Bytes that each flow may keep whatever the others do, so that it always goes on. The flows of a full
    /// session keep two budgets of a process in this way; fewer may keep more each, see [`Budget::floor`].
    pub const FLOOR: u64 = 16 << 10;
    /// One flow has a part at most, of what is left where nothing is taken.
    const PART: u128 = 8;

    /// A budget of so many bytes.
    pub const fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            limit,
        }
    }

    /// What they hold now, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that one flow may keep, or be granted, now: with half of it left a quarter of what it is
    /// with all of it, so that flows that stand still leave something to those that come after them.
    pub fn allowance(&self) -> u64 {
        let left = u128::from(self.limit.saturating_sub(self.used()));
        let part = left * left / (u128::from(self.limit.max(1)) * Self::PART);
        // No more than what is left.
        u64::try_from(part).map_or(WINDOW, |part| part.clamp(self.floor(), WINDOW))
    }

    /// What each flow may keep whatever the others do: among all of them half as much as the limit, so that one that
    /// moves beside hundreds that stand still has what it needs.
    pub(crate) fn floor(&self) -> u64 {
        let each = self.limit / 2 / self.flows.load(Ordering::Relaxed).max(1);
        // Alone it needs no more than what it keeps at first: the first window, and as much ahead of it.
        each.clamp(Self::FLOOR, 2 * Self::SHARE)
    }

    /// One flow more shares it, until [`Budget::leave`].
    pub fn join(&self) {
        self.flows.fetch_add(1, Ordering::Relaxed);
    }

    /// One of those has ended.
    pub fn leave(&self) {
        self.flows.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether its flows hold more than this process can: twice what they may keep here, and as much for what the
    /// other sides keep, which have budgets of their own.
    pub(crate) fn is_overrun(&self) -> bool {
        let floors = self.flows.load(Ordering::Relaxed) * self.floor();
        self.used() > self.limit.saturating_mul(4).saturating_add(2 * floors)
    }

    /// Takes so many bytes, also beyond the limit.
    pub fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes so many bytes as far as the limit allows; false when it doesn't.
    pub(crate) fn try_take(&self, bytes: u64) -> bool {
        let more = |used| Some(used + bytes).filter(|used| *used <= self.limit);
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }

    /// So many bytes are held no more.
    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
