//! Connections that are over on both sides, but whose last acknowledgement may have been lost.
//!
//! smoltcp would keep the socket and its buffers for this. A client that repeats its FIN needs
//! only one more acknowledgement, whose numbers are known, so a few bytes do.

use std::collections::{HashMap, VecDeque};

use crate::FlowKey;
use crate::clock::Micros;
use crate::link::Sent;
use crate::reply::Control;
use crate::segment::{ACK, RST, SYN, Segment};

/// How long a repeated FIN is answered. Nothing is delayed on a way this short, so this only has
/// to outlive a few retransmissions.
const PATIENCE: Micros = 10_000_000;

/// How many ended connections are remembered; beyond it the oldest are forgotten.
const LIMIT: usize = 4_096;

/// The ended connections.
#[derive(Debug, Default)]
pub(crate) struct TimeWait {
    ended: HashMap<FlowKey, (Sent, Micros)>,
    order: VecDeque<(Micros, FlowKey)>,
}

/// What is to be done with a segment.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It belongs to no ended connection.
    Unknown,
    /// It is answered with this, or not at all.
    Answered(Option<Control>),
}

impl TimeWait {
    pub(crate) fn insert(&mut self, key: FlowKey, sent: Sent, now: Micros) {
        let until = now.saturating_add(PATIENCE);
        self.ended.insert(key, (sent, until));
        self.order.push_back((until, key));
        while self.order.len() > LIMIT {
            self.forget_oldest();
        }
    }

    /// Judges a segment. A new SYN ends the wait: the client's kernel knows what it is doing.
    pub(crate) fn handle(&mut self, key: &FlowKey, segment: &Segment) -> Verdict {
        let Some((sent, _)) = self.ended.get(key) else {
            return Verdict::Unknown;
        };
        if segment.is_request() || segment.has(RST) {
            let answered = segment.has(RST);
            self.ended.remove(key);
            return if answered {
                Verdict::Answered(None)
            } else {
                Verdict::Unknown
            };
        }
        let occupies = segment.end() != segment.seq;
        let acknowledges = Control {
            reset: false,
            seq: sent.next,
            ack: Some(sent.ack),
            window: sent.window,
        };
        Verdict::Answered(
            (occupies && segment.has(ACK) && !segment.has(SYN)).then_some(acknowledges),
        )
    }

    pub(crate) fn expire(&mut self, now: Micros) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Micros> {
        self.order.front().map(|(until, _)| *until)
    }

    fn forget_oldest(&mut self) {
        let Some((until, key)) = self.order.pop_front() else {
            return;
        };
        // The same two ends may have met and parted again meanwhile.
        if self
            .ended
            .get(&key)
            .is_some_and(|(_, latest)| *latest == until)
        {
            self.ended.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::FIN;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            client: ([10, 0, 0, 1], port).into(),
            target: ([10, 96, 0, 7], 80).into(),
        }
    }

    fn segment(flags: u8) -> Segment {
        Segment {
            source_port: 1,
            target_port: 2,
            seq: 10,
            ack: 20,
            flags,
            window: 0,
            header_len: 20,
            payload_len: 0,
        }
    }

    #[test]
    fn a_repeated_fin_is_acknowledged_until_the_time_is_over() {
        let mut ended = TimeWait::default();
        let mut sent = Sent::default();
        (sent.next, sent.ack) = (20, 11);
        ended.insert(key(1), sent, 0);
        let Verdict::Answered(Some(control)) = ended.handle(&key(1), &segment(FIN | ACK)) else {
            panic!("the FIN is answered")
        };
        assert_eq!(
            (control.seq, control.ack, control.reset),
            (20, Some(11), false)
        );
        assert!(matches!(
            ended.handle(&key(1), &segment(ACK)),
            Verdict::Answered(None)
        ));
        ended.expire(PATIENCE);
        assert!(matches!(
            ended.handle(&key(1), &segment(FIN | ACK)),
            Verdict::Unknown
        ));
    }

    #[test]
    fn a_new_syn_or_a_reset_ends_the_wait() {
        for flags in [SYN, RST] {
            let mut ended = TimeWait::default();
            ended.insert(key(1), Sent::default(), 0);
            ended.handle(&key(1), &segment(flags));
            assert!(matches!(
                ended.handle(&key(1), &segment(FIN | ACK)),
                Verdict::Unknown
            ));
        }
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut ended = TimeWait::default();
        for port in 1..=(LIMIT as u16 + 10) {
            ended.insert(key(port), Sent::default(), 0);
        }
        assert_eq!(ended.ended.len(), LIMIT);
        assert!(matches!(
            ended.handle(&key(5), &segment(ACK)),
            Verdict::Unknown
        ));
    }
}
