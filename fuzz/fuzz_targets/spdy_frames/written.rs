//! What a forward writes, and whether a node takes it.

use bytes::{Buf, BytesMut};

use crate::pattern;

/// Most bytes of a data frame.
const MOST_DATA: usize = 64 << 10;
const PING: [u8; 8] = [0x80, 3, 0, 6, 0, 0, 0, 4];

#[derive(Default)]
pub struct Written {
    bytes: BytesMut,
    /// How many frames of the three that open a forward were written.
    opened: usize,
    /// How many of the owner's bytes were accepted, and how many of them written in whole frames.
    pub accepted: usize,
    sent: usize,
    pub last_pong: Option<[u8; 4]>,
}

impl Written {
    /// All that was accepted is written.
    pub fn is_complete(&self) -> bool {
        self.bytes.is_empty() && self.opened == 3 && self.sent == self.accepted
    }

    /// At most one frame waits.
    pub fn check_waiting(&self) {
        assert!(self.accepted - self.sent <= MOST_DATA);
    }

    pub fn handle_written(&mut self, bytes: &[u8], unanswered: &mut Vec<[u8; 4]>) {
        self.bytes.extend_from_slice(bytes);
        while let Some(head) = self.bytes.first_chunk::<8>().copied() {
            let [kind @ .., _, a, b, c] = head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if self.bytes.len() < 8 + length {
                break;
            }
            self.bytes.advance(8);
            let body = self.bytes.split_to(length);
            if self.opened < 3 {
                self.handle_opening(head, &body);
            } else if head == PING {
                let id = *body.first_chunk().expect("four bytes");
                let place = unanswered.iter().position(|ping| ping == &id);
                unanswered.drain(..=place.expect("a pong that nobody asked for"));
                self.last_pong = Some(id);
            } else {
                assert_eq!(kind, [0, 0, 0, 3]);
                assert_eq!(head[4], 0, "no end");
                assert!((1..=MOST_DATA).contains(&length));
                assert!(
                    body == pattern(self.sent, length),
                    "other bytes than were accepted"
                );
                self.sent += length;
            }
        }
    }

    /// A stream for errors, its end, and a stream for data.
    fn handle_opening(&mut self, head: [u8; 8], body: &[u8]) {
        match self.opened {
            1 => assert_eq!((head, body), ([0, 0, 0, 1, 1, 0, 0, 0], &[][..])),
            before => {
                assert_eq!(head[..5], [0x80, 3, 0, 1, 0]);
                assert_eq!(body[..4], [0, 0, 0, if before == 0 { 1 } else { 3 }]);
            }
        }
        self.opened += 1;
    }
}
