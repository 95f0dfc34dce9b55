//! What many flows may hold together. Pure.

use std::sync::atomic::{AtomicU64, Ordering};

use kdev_shares::{CEILING, FLOOR, Shares};

use crate::ledger::WINDOW;

/// What all flows of a process may hold together: what they keep for the other side, and what waits for
/// their near ends. Each may have what [`Shares`] gives it.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    flows: AtomicU64,
    /// What was granted beyond first windows.
    promised: AtomicU64,
    pub(crate) limit: u64,
}

impl Budget {
    /// Bytes that the other side of each flow may send at first, whatever the others do: it begins before
    /// it could be told anything else.
    pub const SHARE: u64 = 256 << 10;

    /// A budget of so many bytes.
    pub const fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            flows: AtomicU64::new(0),
            promised: AtomicU64::new(0),
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

    /// As [`Budget::allowance`], of what waits between tasks of this process.
    pub fn allowance_nearby(&self, moved: u64) -> u64 {
        self.shares().most_nearby(moved, u64::MAX).min(WINDOW)
    }

    /// An equal part of half of it: who has less waiting is in nobody's way.
    pub(crate) fn part(&self) -> u64 {
        let flows = self.flows.load(Ordering::Relaxed).max(1);
        (self.limit / 2 / flows).clamp(FLOOR, CEILING)
    }

    /// The most that one flow may be promised beyond its first window. Promises are kept in the other sides' budgets, and
    /// most of them aren't used: together they may be twice what may be held here.
    pub(crate) fn promisable(&self) -> u64 {
        let promises = Shares {
            limit: self.limit.saturating_mul(2),
            held: self.promised.load(Ordering::Relaxed),
            count: self.flows.load(Ordering::Relaxed),
        };
        promises.most(u64::MAX)
    }

    /// Promises so many bytes more, until [`Budget::redeem`].
    pub(crate) fn promise(&self, bytes: u64) {
        self.promised.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes are promised no more.
    pub(crate) fn redeem(&self, bytes: u64) {
        self.promised.fetch_sub(bytes, Ordering::Relaxed);
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
        let parts = self.flows.load(Ordering::Relaxed) * self.part();
        self.used() > self.limit.saturating_mul(4).saturating_add(2 * parts)
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
