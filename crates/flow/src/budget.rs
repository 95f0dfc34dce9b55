//! What many flows may hold together. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

use kdev_shares::Shares;

use crate::ledger::WINDOW;

/// What all flows of a process may hold together: what they keep for the other side, and what waits for
/// their near ends. Each may have what [`Shares`] gives it.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    flows: AtomicU64,
    pub(crate) limit: u64,
}

impl Budget {
    /// Bytes that the other side of each flow may send at first, whatever the others do: it begins before
    /// it could be told anything else.
    pub const SHARE: u64 = kdev_shares::FIRST;

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

    /// The most that one flow may keep, or be granted, now that so many bytes of it have been handed on.
    pub fn allowance(&self, moved: u64) -> u64 {
        self.shares().most(moved).min(WINDOW)
    }

    /// What each flow that moves may keep whatever the others do.
    pub(crate) fn floor(&self) -> u64 {
        self.shares().floor()
    }

    fn shares(&self) -> Shares {
        Shares {
            limit: self.limit,
            held: self.used(),
            count: self.flows.load(Ordering::Relaxed),
        }
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
