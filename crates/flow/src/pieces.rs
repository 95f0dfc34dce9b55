//! Bytes in the pieces that they came in. Pure.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Neighbours that have no more bytes than this together become one: a piece costs memory beside its
/// bytes, and a program that says one byte at a time would cost hundreds of times what it says.
const SMALL: usize = 4 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// Adds bytes behind all others; true if they became a part of the last piece.
    pub(crate) fn push(&mut self, bytes: Bytes) -> bool {
        match self.0.back_mut() {
            Some(last) if last.len() + bytes.len() <= SMALL => {
                let mut joined = mem::take(last).try_into_mut().unwrap_or_else(|shared| {
                    // A frame that waits to be sent has it as well.
                    let mut own = BytesMut::with_capacity(SMALL);
                    own.extend_from_slice(&shared);
                    own
                });
                joined.extend_from_slice(&bytes);
                *last = joined.freeze();
                true
            }
            _ => {
                self.0.push_back(bytes);
                false
            }
        }
    }

    /// Drops so many bytes of the first piece, at most all of it, and the piece with its last byte;
    /// returns how many were dropped.
    pub(crate) fn drop_front(&mut self, count: usize) -> usize {
        let Some(front) = self.0.front_mut() else {
            return 0;
        };
        let count = count.min(front.len());
        drop(front.split_to(count));
        if front.is_empty() {
            self.0.pop_front();
        }
        count
    }

    pub(crate) fn front(&self) -> Option<&Bytes> {
        self.0.front()
    }

    pub(crate) fn back(&self) -> Option<&Bytes> {
        self.0.back()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Bytes> {
        self.0.get(index)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_joined_and_nothing_is_lost() {
        for held in [false, true] {
            let (mut pieces, mut taken) = (Pieces::default(), Vec::new());
            for at in 0..100_000_u32 {
                pieces.push(Bytes::from(vec![at as u8]));
                if held {
                    taken.extend(pieces.back().cloned());
                }
            }
            assert!(pieces.len() <= 100_000 / SMALL + 1, "{}", pieces.len());
            let all = pieces.iter().flatten().copied();
            assert!(all.eq((0..100_000_u32).map(|at| at as u8)));
        }
    }

    #[test]
    fn a_large_piece_is_left_as_it_is() {
        let large = Bytes::from(vec![7; SMALL]);
        let mut pieces = Pieces::default();
        for piece in [&large, &large.slice(..1), &large] {
            assert!(!pieces.push(piece.clone()));
        }
        assert_eq!(
            pieces.front().map(|front| front.as_ptr()),
            Some(large.as_ptr())
        );
        assert_eq!(pieces.drop_front(SMALL - 1), SMALL - 1);
        assert_eq!(pieces.drop_front(SMALL), 1);
        assert_eq!(pieces.len(), 2);
    }
}
