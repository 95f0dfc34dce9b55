//! The queue between a shard and the task of one datagram flow: the shard never waits, and who is too
//! slow loses the oldest datagrams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kdev_flow::backlog::Backlog;
use kdev_flow::budget::Budget;
use tokio::sync::Notify;

/// Most bytes that wait on all datagram flows of a device together.
const BUDGET: u64 = 64 << 20;

/// What all queues of a device hold together.
pub fn held() -> Arc<Budget> {
    Arc::new(Budget::new(BUDGET))
}

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

/// The shard's side.
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
            let next = self.0.lock().as_mut().and_then(Backlog::pop);
            if let Some(datagram) = next {
                return datagram;
            }
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
