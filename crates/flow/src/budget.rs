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
    pub(crate) limit: u64,
}

impl Budget {
    /// Bytes that the other side of each flow may send at first, whatever the others do: it begins before
    /// it could be told anything else.
    pub const SHARE: u64 = 256 << 10;
    /// Bytes that each flow may keep whatever the others do, so that it always goes on, and is of use to
    /// somebody where many stand still: at 16 KiB a round trip, flows beside many that are stuck had a
    /// twentieth of their speed. The flows of a full session keep four budgets of a process in this way.
    pub const FLOOR: u64 = 64 << 10;
    /// Of what is left, one flow has a part at most.
    const PART: u64 = 8;

    /// A budget of so many bytes.
    pub const fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit,
        }
    }

    /// What they hold now, in bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that one flow may keep, or be granted, now.
    pub fn allowance(&self) -> u64 {
        let left = self.limit.saturating_sub(self.used());
        (left / Self::PART).clamp(Self::FLOOR, WINDOW)
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
