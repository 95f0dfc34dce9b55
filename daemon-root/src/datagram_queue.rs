//! The queue between a shard and the task of one datagram flow: the shard never waits, and who is too
//! slow loses the oldest datagrams.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kdev_flow::backlog::{Backlog, cost};
use tokio::sync::Notify;

/// Most bytes that wait on all datagram flows of a device together.
const BUDGET: usize = 64 << 20;

/// What all queues of a device hold together.
#[derive(Debug, Default)]
pub struct Held(AtomicUsize);

#[derive(Debug, Default)]
struct State {
    backlog: Backlog,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
    held: Arc<Held>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard's side.
#[derive(Debug)]
pub struct Inlet(Arc<Queue>);

/// The flow's side; dropping it closes the queue.
#[derive(Debug)]
pub struct Outlet(Arc<Queue>);

/// Makes a queue, which counts among those of `held`.
pub fn queue(held: &Arc<Held>) -> (Inlet, Outlet) {
    let queue = Arc::new(Queue {
        state: Mutex::default(),
        changed: Notify::new(),
        held: Arc::clone(held),
    });
    (Inlet(Arc::clone(&queue)), Outlet(queue))
}

impl Inlet {
    /// Adds a datagram. What doesn't fit is lost, the oldest first.
    pub fn push(&self, datagram: Bytes) {
        let mut state = self.0.lock();
        if state.closed {
            return;
        }
        let Held(total) = &*self.0.held;
        let before = state.backlog.held();
        let others = total.load(Ordering::Relaxed).saturating_sub(before);
        let room = BUDGET.saturating_sub(others);
        if cost(&datagram) > room {
            return;
        }
        while state.backlog.held() + cost(&datagram) > room {
            state.backlog.pop();
        }
        state.backlog.push(datagram);
        let after = state.backlog.held();
        // Wrapping: it may be less than before.
        total.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Returns whether the flow is over.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

impl Outlet {
    /// Waits for the next datagram. Cancel safe.
    pub async fn next(&mut self) -> Bytes {
        loop {
            if let Some(datagram) = self.0.lock().backlog.pop() {
                let Held(total) = &*self.0.held;
                total.fetch_sub(cost(&datagram), Ordering::Relaxed);
                return datagram;
            }
            self.0.changed.notified().await;
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let Held(total) = &*self.0.held;
        total.fetch_sub(state.backlog.held(), Ordering::Relaxed);
        state.backlog = Backlog::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_dropped_were_the_oldest() {
        let held = Arc::default();
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
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn all_queues_together_are_bounded_and_each_of_them_still_moves() {
        let held = Arc::default();
        let queues: Vec<_> = (0..1_000).map(|_| queue(&held)).collect();
        for _ in 0..20 {
            for (inlet, _) in &queues {
                inlet.push(Bytes::from(vec![0; 10_000]));
            }
        }
        let total = || held.0.load(Ordering::Relaxed);
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
        let held = Arc::default();
        let (inlet, outlet) = queue(&held);
        inlet.push(Bytes::from_static(b"early"));
        drop(outlet);
        assert!(inlet.is_closed());
        inlet.push(Bytes::from_static(b"late"));
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }
}
