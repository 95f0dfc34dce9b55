//! A bounded number of places, where a newcomer takes the oldest holder's.
//!
//! The newest is served because the oldest has waited longest for something that doesn't come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The places. A clone is the same set.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limit: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Holders by age; to drop the sender displaces the holder.
    holders: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    age: u64,
    taken: Arc<Mutex<Taken>>,
    displaced: oneshot::Receiver<()>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            taken: Arc::default(),
        }
    }

    /// Takes a place, the oldest holder's if there is no other.
    pub(super) fn take(&self) -> Place {
        let (holder, displaced) = oneshot::channel();
        let mut taken = lock(&self.taken);
        if taken.holders.len() >= self.limit {
            taken.holders.pop_first();
        }
        let age = taken.next;
        taken.next += 1;
        taken.holders.insert(age, holder);
        Place {
            age,
            taken: self.taken.clone(),
            displaced,
        }
    }
}

impl Place {
    /// Waits until the place is lost. Cancel safe; not to be called again afterwards.
    pub(super) async fn displaced(&mut self) {
        // Nothing is ever sent: the end of the sender is the message.
        let _ = (&mut self.displaced).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).holders.remove(&self.age);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // No holder of the lock leaves it half changed.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn lost(place: &mut Place) -> bool {
        place.displaced().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_holder_gives_way_when_all_places_are_taken() {
        let places = Places::new(2);
        let mut first = places.take();
        let mut second = places.take();
        assert!(!lost(&mut first));

        let mut third = places.take();
        assert!(lost(&mut first));
        assert!(!lost(&mut second));
        assert!(!lost(&mut third));
    }

    #[test]
    fn a_place_that_was_left_is_taken_before_anybody_gives_way() {
        let places = Places::new(2);
        let mut first = places.take();
        drop(places.take());
        let mut third = places.take();
        assert!(!lost(&mut first));
        assert!(!lost(&mut third));
    }
}
