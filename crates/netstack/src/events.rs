//! The queue of what the owner has not yet been told.

use std::collections::VecDeque;

use crate::Event;

/// How many bytes of datagrams may wait.
const DATAGRAM_BYTES: usize = 4 * 1024 * 1024;

/// What an empty datagram counts, so that their number is bounded too.
const DATAGRAM_COST: usize = 128;

/// Events in order. Those of flows are bounded by the number of flows, datagrams by their size.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    datagram_bytes: usize,
}

fn cost(event: &Event) -> usize {
    match event {
        Event::Datagram { payload, .. } => payload.len() + DATAGRAM_COST,
        Event::Echo { message, .. } => message.len() + DATAGRAM_COST,
        Event::Reassembled { packet } => packet.len() + DATAGRAM_COST,
        _ => 0,
    }
}

impl Events {
    /// Queues an event; false if it is a datagram too many.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        let cost = cost(&event);
        if cost > 0 && self.datagram_bytes + cost > DATAGRAM_BYTES {
            return false;
        }
        self.datagram_bytes += cost;
        self.queue.push_back(event);
        true
    }

    /// Returns how many bytes of datagrams wait.
    pub(crate) fn bytes(&self) -> usize {
        self.datagram_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let event = self.queue.pop_front()?;
        self.datagram_bytes -= cost(&event);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn datagrams_nobody_takes_are_bounded_and_flows_are_still_heard() {
        let datagram = |len| Event::Datagram {
            client: ([10, 0, 0, 1], 1).into(),
            target: ([10, 96, 0, 7], 53).into(),
            payload: Bytes::from(vec![0; len]),
        };
        let mut events = Events::default();
        let taken = (0..1_000_000)
            .take_while(|_| events.push(datagram(0)))
            .count();
        assert_eq!(taken, DATAGRAM_BYTES / DATAGRAM_COST);
        assert!(!events.push(datagram(60_000)));
        let mut flows = crate::flow_id::FlowTable::new();
        assert!(events.push(Event::TcpReadable {
            flow: flows.insert(())
        }));
        assert_eq!(events.pop(), Some(datagram(0)));
        assert!(events.push(datagram(0)));
    }
}
