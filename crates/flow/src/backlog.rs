//! Datagrams that wait, within bounds: who can't keep up loses the oldest, as a new one is worth more.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Budget;

/// Most bytes that wait on one flow: eight of the largest datagrams, hundreds of those that fit into a
/// packet.
pub const LIMIT: u64 = 512 << 10;
/// What a datagram costs beside its bytes, so that the number of empty ones is bounded as well.
const COST: usize = 256;

/// What a flow on which nothing waits may add whatever the others hold: who says little is heard beside
/// those that say much.
const SMALL: u64 = 2 << 10;

/// What a datagram counts while it waits, in bytes.
fn cost(datagram: &Bytes) -> u64 {
    (datagram.len() + COST) as u64
}

/// Datagrams in their order.
#[derive(Debug)]
pub struct Backlog {
    datagrams: VecDeque<Bytes>,
    held: u64,
    all: Arc<Budget>,
}

impl Backlog {
    /// An empty one, which counts among those of `all`.
    pub fn new(all: Arc<Budget>) -> Self {
        Self {
            datagrams: VecDeque::new(),
            held: 0,
            all,
        }
    }

    /// Adds a datagram behind the others and returns what had to go for it: the oldest, or the new one
    /// where the others have taken all room.
    pub fn push(&mut self, datagram: Bytes) -> usize {
        let mut dropped = 0;
        while self.held + cost(&datagram) > LIMIT && self.pop().is_some() {
            dropped += 1;
        }
        while !self.all.try_take(cost(&datagram)) {
            if self.is_empty() && cost(&datagram) <= SMALL {
                self.all.take(cost(&datagram));
                break;
            }
            dropped += 1;
            if self.pop().is_none() {
                return dropped;
            }
        }
        self.held += cost(&datagram);
        self.datagrams.push_back(datagram);
        dropped
    }

    /// Puts one that was taken before all others again; it is lost where there is no room.
    pub fn put_back(&mut self, datagram: Bytes) {
        let cost = cost(&datagram);
        if self.held + cost <= LIMIT && self.all.try_take(cost) {
            self.held += cost;
            self.datagrams.push_front(datagram);
        }
    }

    /// Takes the oldest datagram.
    pub fn pop(&mut self) -> Option<Bytes> {
        let datagram = self.datagrams.pop_front()?;
        self.held -= cost(&datagram);
        self.all.give_back(cost(&datagram));
        if self.is_empty() && self.datagrams.capacity() > 64 {
            // A burst of small ones takes much room, which nobody counts.
            self.datagrams = VecDeque::new();
        }
        Some(datagram)
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.all.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::MAX_DATAGRAM;

    fn numbered(number: u32, length: usize) -> Bytes {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(length, 0);
        bytes.into()
    }

    #[test]
    fn the_oldest_are_dropped_and_the_rest_keep_their_order() {
        let mut backlog = Backlog::new(Arc::new(Budget::new(u64::MAX)));
        let dropped: usize = (0..1_000)
            .map(|number| backlog.push(numbered(number, 1_400)))
            .sum();
        assert!(dropped > 0 && backlog.held <= LIMIT);
        for number in dropped as u32..1_000 {
            assert_eq!(backlog.pop(), Some(numbered(number, 1_400)));
        }
        assert!(backlog.is_empty());
        assert_eq!((backlog.pop(), backlog.held), (None, 0));
    }

    #[test]
    fn one_that_is_put_back_is_the_oldest_and_counts() {
        let all = Arc::new(Budget::new(1_000));
        let mut backlog = Backlog::new(Arc::clone(&all));
        backlog.push(numbered(2, 100));
        backlog.put_back(numbered(1, 100));
        backlog.put_back(numbered(0, 1_000));
        assert_eq!(all.used(), 2 * (100 + COST as u64));
        assert_eq!(backlog.pop(), Some(numbered(1, 100)));
        assert_eq!(backlog.pop(), Some(numbered(2, 100)));
        assert!(backlog.is_empty() && all.used() == 0);
    }

    #[test]
    fn who_says_little_is_heard_beside_those_that_hold_all_there_is() {
        let all = Arc::new(Budget::new(100_000));
        let mut greedy = Backlog::new(Arc::clone(&all));
        assert!(
            (0..1_000)
                .map(|number| greedy.push(numbered(number, 1_000)))
                .sum::<usize>()
                > 0
        );
        let mut quiet = Backlog::new(Arc::clone(&all));
        assert_eq!(quiet.push(numbered(1, 9_000)), 1);
        for number in 0..100 {
            assert_eq!(quiet.push(numbered(number, 1_000)), 0);
            assert_eq!(quiet.pop(), Some(numbered(number, 1_000)));
        }
        drop((greedy, quiet));
        assert_eq!(all.used(), 0);
    }

    #[test]
    fn a_flow_holds_several_of_the_largest_and_not_any_number_of_empty_ones() {
        let mut backlog = Backlog::new(Arc::new(Budget::new(u64::MAX)));
        for number in 0..7 {
            assert_eq!(backlog.push(numbered(number, MAX_DATAGRAM)), 0);
        }
        let mut backlog = Backlog::new(Arc::new(Budget::new(u64::MAX)));
        let dropped: usize = (0..10_000).map(|_| backlog.push(Bytes::new())).sum();
        assert_eq!(10_000 - dropped, LIMIT as usize / COST);
    }
}
