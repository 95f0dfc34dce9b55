//! The queue between whoever takes datagrams of many flows and the task of one of them: the former never
//! waits, and who is too slow loses the oldest datagrams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::backlog::Backlog;
use crate::budget::Budget;

#[derive(Debug)]
struct Queue {
    /// `None` when the flow is over.
    backlog: Mutex<Option<Backlog>>,
    changed: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Option<Backlog>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of whoever takes them.
#[derive(Debug)]
pub struct Inlet(Arc<Queue>);

/// The flow's side; dropping it closes the queue.
#[derive(Debug)]
pub struct Outlet(Arc<Queue>);

/// Makes a queue, which counts among those of `held`.
pub fn queue(held: &Arc<Budget>) -> (Inlet, Outlet) {
    let queue = Arc::new(Queue {
        backlog: Mutex::new(Some(Backlog::new(Arc::clone(held)))),
        changed: Notify::new(),
    });
    (Inlet(Arc::clone(&queue)), Outlet(queue))
}

impl Inlet {
    /// Adds a datagram. What doesn't fit is lost, the oldest first.
    pub fn push(&self, datagram: Bytes) {
        if let Some(backlog) = &mut *self.0.lock() {
            backlog.push(datagram);
        }
        self.0.changed.notify_one();
    }

    /// Returns whether the flow is over.
    pub fn is_closed(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl Outlet {
    /// Waits for the next datagram. Cancel safe.
    pub async fn next(&mut self) -> Bytes {
        loop {
            if let Some(datagram) = self.try_next() {
                return datagram;
            }
            self.0.changed.notified().await;
        }
    }

    /// Takes the next datagram, if one waits.
    pub fn try_next(&mut self) -> Option<Bytes> {
        self.0.lock().as_mut().and_then(Backlog::pop)
    }

    /// Puts one that was taken before all others again; it is lost where there is no room.
    pub fn put_back(&mut self, datagram: Bytes) {
        if let Some(backlog) = &mut *self.0.lock() {
            backlog.put_back(datagram);
        }
    }

    /// Closes the queue if nothing waits; returns whether it did.
    pub fn close_if_empty(&mut self) -> bool {
        let mut backlog = self.0.lock();
        if backlog.as_ref().is_some_and(|backlog| !backlog.is_empty()) {
            return false;
        }
        *backlog = None;
        true
    }

    /// Waits until a datagram waits, and leaves it there. Cancel safe.
    pub async fn waits(&mut self) {
        let is_empty = || self.0.lock().as_ref().is_none_or(Backlog::is_empty);
        while is_empty() {
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 64 << 20;

    fn held() -> Arc<Budget> {
        Arc::new(Budget::new(BUDGET))
    }

    #[tokio::test]
    async fn what_was_dropped_were_the_oldest() {
        let held = held();
        let (inlet, mut outlet) = queue(&held);
        for number in 0..10_000_u32 {
            inlet.push(Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        let first = outlet.next().await;
        let first = u32::from_be_bytes(first[..].try_into().unwrap());
        assert!((1..10_000).contains(&first), "{first}");
        for number in first + 1..10_000 {
            assert_eq!(outlet.next().await[..], number.to_be_bytes());
        }
        assert_eq!(held.used(), 0);
    }

    #[tokio::test]
    async fn all_queues_together_are_bounded_and_each_of_them_still_moves() {
        let held = held();
        let queues: Vec<_> = (0..1_000).map(|_| queue(&held)).collect();
        for _ in 0..20 {
            for (inlet, _) in &queues {
                inlet.push(Bytes::from(vec![0; 10_000]));
            }
        }
        let total = || held.used();
        assert!(
            total() <= BUDGET && total() > BUDGET - 20_000,
            "{}",
            total()
        );
        // The newest takes the place of the queue's own oldest.
        let (inlet, mut outlet) = queues.into_iter().next().unwrap();
        inlet.push(Bytes::from_static(b"newest"));
        let mut last = Bytes::new();
        while last != "newest" {
            last = outlet.next().await;
        }
        drop((inlet, outlet));
        assert_eq!(total(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_one_leaves_it_where_it_is() {
        let (inlet, mut outlet) = queue(&held());
        assert_eq!(outlet.try_next(), None);
        inlet.push(Bytes::from_static(b"first"));
        outlet.waits().await;
        outlet.waits().await;
        assert_eq!(outlet.next().await, "first");
    }

    #[test]
    fn who_has_something_left_to_send_isnt_over() {
        let (inlet, mut outlet) = queue(&held());
        inlet.push(Bytes::from_static(b"last"));
        assert!(!outlet.close_if_empty() && !inlet.is_closed());
        assert_eq!(outlet.try_next().unwrap(), "last");
        assert!(outlet.close_if_empty() && inlet.is_closed());
    }

    #[tokio::test]
    async fn a_flow_that_is_over_takes_nothing() {
        let held = held();
        let (inlet, outlet) = queue(&held);
        inlet.push(Bytes::from_static(b"early"));
        drop(outlet);
        assert!(inlet.is_closed());
        inlet.push(Bytes::from_static(b"late"));
        assert_eq!(held.used(), 0);
    }
}
