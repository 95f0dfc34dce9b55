//! Which connections from the cluster this machine was asked to take, so that each is taken once: the manager asks again
//! when it hears no answer, though the first question may have been heard, with words that may be said once. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long one is remembered beyond the time for which a flow may be without a carrier, and the manager asks for it.
const BEYOND: Duration = Duration::from_secs(60);
/// Most that are remembered.
const MOST: usize = 65_536;

/// What a question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is the first one for its flow: whoever gets this sees whether it can be taken.
    Take,
    /// It was taken, and its flow is resumed from here.
    TakenBefore,
    /// It was refused, and stays so.
    RefusedBefore,
    /// It was taken, and is over.
    OverBefore,
}

/// All of them.
#[derive(Debug)]
pub struct Calls {
    remembered: Duration,
    /// What a question that comes again is answered.
    known: HashMap<Bytes, Answer>,
    order: VecDeque<(Instant, Bytes)>,
}

impl Calls {
    /// Of a session whose flows may be without a carrier for `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            remembered: limit.saturating_add(BEYOND),
            known: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The manager asks for this flow.
    pub fn handle_asked(&mut self, flow: &Bytes, now: Instant) -> Answer {
        if let Some(answer) = self.known.get(flow) {
            return *answer;
        }
        while let Some((since, _)) = self.order.front()
            && (self.order.len() >= MOST || now.duration_since(*since) > self.remembered)
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(flow.clone(), Answer::TakenBefore);
        self.order.push_back((now, flow.clone()));
        Answer::Take
    }

    /// It wasn't taken.
    pub fn handle_refused(&mut self, flow: &Bytes) {
        self.change(flow, Answer::RefusedBefore);
    }

    /// It was taken, and is over.
    pub fn handle_over(&mut self, flow: &Bytes) {
        self.change(flow, Answer::OverBefore);
    }

    fn change(&mut self, flow: &Bytes, answer: Answer) {
        if let Some(known) = self.known.get_mut(flow) {
            *known = answer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(100);

    fn flow(number: usize) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn each_is_taken_once() {
        let (mut calls, now) = (Calls::new(LIMIT), Instant::now());
        assert_eq!(calls.handle_asked(&flow(1), now), Answer::Take);
        assert_eq!(calls.handle_asked(&flow(2), now), Answer::Take);
        assert_eq!(calls.handle_asked(&flow(1), now), Answer::TakenBefore);
        calls.handle_refused(&flow(1));
        assert_eq!(calls.handle_asked(&flow(1), now), Answer::RefusedBefore);
        assert_eq!(calls.handle_asked(&flow(2), now), Answer::TakenBefore);
        calls.handle_over(&flow(2));
        assert_eq!(calls.handle_asked(&flow(2), now), Answer::OverBefore);
    }

    #[test]
    fn neither_their_number_nor_their_age_grows_without_limit() {
        let (mut calls, now) = (Calls::new(LIMIT), Instant::now());
        for number in 0..MOST + 10 {
            calls.handle_asked(&flow(number), now);
        }
        assert_eq!((calls.known.len(), calls.order.len()), (MOST, MOST));
        assert_eq!(calls.handle_asked(&flow(10), now), Answer::TakenBefore);
        let later = now + LIMIT + BEYOND + Duration::from_secs(1);
        assert_eq!(calls.handle_asked(&flow(10), later), Answer::TakenBefore);
        assert_eq!(calls.handle_asked(&flow(MOST + 10), later), Answer::Take);
        assert_eq!((calls.known.len(), calls.order.len()), (1, 1));
        calls.handle_refused(&flow(7));
        assert_eq!(calls.known.len(), 1);
    }
}
