//! The bytes that wait between shards and tasks: bounded for each flow, and for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kdev_flow::budget::Budget;
use kdev_shares::LEAST;
use tokio::sync::Notify;

/// What waits between all shards and tasks.
static ALL: Budget = Budget::new(16 << 20);

/// The bytes that wait in one direction of a flow.
#[derive(Debug)]
pub struct Gauge {
    bytes: AtomicU64,
    /// All that have been handed on.
    moved: AtomicU64,
    less: Notify,
}

impl Default for Gauge {
    fn default() -> Self {
        ALL.join();
        Self {
            bytes: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            less: Notify::new(),
        }
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        ALL.leave();
    }
}

impl Gauge {
    /// How many of so many bytes may wait beside those that do: no few of many, and some where none wait, so that a flow
    /// goes on.
    pub fn room(&self, bytes: usize) -> usize {
        let waiting = self.bytes.load(Ordering::Acquire);
        if waiting + bytes as u64 <= LEAST {
            return bytes;
        }
        let most = ALL.allowance_nearby(self.moved.load(Ordering::Relaxed));
        let room = most.saturating_sub(waiting).min(bytes as u64);
        // Of the least there may be two pieces, one that is taken while the other comes.
        if room >= (LEAST / 2).min(bytes as u64) {
            usize::try_from(room).unwrap_or(bytes)
        } else {
            0
        }
    }

    /// Waits until there is room for some of so many bytes; returns for how many. For one who waits. Cancel safe.
    pub async fn some_room(&self, bytes: usize) -> usize {
        loop {
            match self.room(bytes) {
                0 if bytes > 0 => self.less.notified().await,
                room => return room,
            }
        }
    }

    /// So many of the bytes that were handed on last come back.
    pub fn take_back(&self, bytes: usize) {
        self.moved.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Counts bytes for as long as the result lives.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Held {
        let bytes = bytes as u64;
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        ALL.take(bytes);
        Held {
            gauge: Arc::clone(self),
            bytes,
        }
    }
}

/// Bytes that are counted.
#[derive(Debug)]
pub struct Held {
    gauge: Arc<Gauge>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        ALL.give_back(self.bytes);
        self.gauge.moved.fetch_add(self.bytes, Ordering::Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.gauge.less.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_put_back_hasnt_moved() {
        let gauge: Arc<Gauge> = Arc::default();
        drop(gauge.hold(1_000));
        for _ in 0..100 {
            gauge.take_back(900);
            drop(gauge.hold(900));
        }
        assert_eq!(gauge.moved.load(Ordering::Relaxed), 1_000);
    }

    #[tokio::test]
    async fn many_that_stand_still_leave_each_a_little_and_give_all_of_it_back() {
        let chunk = kdev_flow::CHUNK;
        let gauges: Vec<Arc<Gauge>> = (0..2_000).map(|_| Arc::default()).collect();
        let mut held = Vec::new();
        for gauge in &gauges {
            assert_ne!(gauge.room(chunk), 0, "the first bytes always find room");
            while let room @ 1.. = gauge.room(chunk) {
                held.push(gauge.hold(room));
            }
        }
        let most = (16 << 20) + 2_000 * LEAST;
        assert!(ALL.used() <= most, "{} bytes", ALL.used());
        let last = &gauges[1_999];
        let room = last.some_room(chunk);
        tokio::pin!(room);
        assert!(futures::poll!(&mut room).is_pending());
        held.clear();
        assert!(room.await as u64 >= LEAST);
        assert_eq!(ALL.used(), 0);
    }
}
