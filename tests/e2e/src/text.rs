//! Bytes that both ends of a connection know, so that each end can tell the first wrong one.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A prime, so that what is lost or repeated by buffers of any usual size is seen.
const PERIOD: usize = 1_048_573;
/// Most bytes of one write or read.
pub const PIECE: usize = 64 << 10;

/// A text without end, told apart from others by its number.
#[derive(Debug, Clone)]
pub struct Text {
    /// One period, and a piece more, so that every piece is there without a seam.
    block: Vec<u8>,
}

impl Text {
    /// The text of a number.
    pub fn new(number: u64) -> Self {
        // Marsaglia's xorshift64; its state must not be 0.
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        let mut block: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        block.extend_from_within(..PIECE);
        Self { block }
    }

    /// `length` bytes from `offset` on; at most [`PIECE`].
    pub fn piece(&self, offset: u64, length: usize) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).expect("less than the period");
        &self.block[start..start + length]
    }

    /// Writes the first `bytes`, no faster than `rate` bytes per second.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn write(&self, to: &mut impl Write, bytes: u64, rate: u64) -> io::Result<()> {
        let mut writer = Writer::new(self.clone(), rate);
        while writer.written < bytes {
            writer.write_some(to, bytes - writer.written)?;
        }
        Ok(())
    }

    /// Reads up to `bytes`, or to the end.
    ///
    /// # Errors
    ///
    /// When reading fails, or says which byte is wrong.
    pub fn read(&self, from: &mut impl Read, bytes: u64) -> io::Result<Received> {
        let mut reader = Reader::new(self.clone());
        while reader.received.bytes < bytes {
            if reader.read_some(from, bytes - reader.received.bytes)? == 0 {
                break;
            }
        }
        Ok(reader.received)
    }
}

/// Writes a text piece by piece.
#[derive(Debug)]
pub struct Writer {
    text: Text,
    rate: u64,
    began: Instant,
    /// How many bytes were written.
    pub written: u64,
}

impl Writer {
    /// Begins a text, which is written no faster than `rate` bytes per second.
    pub fn new(text: Text, rate: u64) -> Self {
        Self {
            text,
            rate,
            began: Instant::now(),
            written: 0,
        }
    }

    /// Writes the next piece, of `most` bytes at most, and waits until the one after it is due.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn write_some(&mut self, to: &mut impl Write, most: u64) -> io::Result<()> {
        let length = PIECE.min(usize::try_from(most).unwrap_or(PIECE));
        to.write_all(self.text.piece(self.written, length))?;
        self.written += length as u64;
        let due = Duration::from_secs_f64(self.written as f64 / self.rate as f64);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        Ok(())
    }
}

/// What was read of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes, all of them right.
    pub bytes: u64,
    /// The longest time between two reads.
    pub longest_pause: Duration,
}

/// Reads a text piece by piece.
#[derive(Debug)]
pub struct Reader {
    text: Text,
    buffer: Vec<u8>,
    last: Instant,
    /// What was read.
    pub received: Received,
}

impl Reader {
    /// Begins a text.
    pub fn new(text: Text) -> Self {
        Self {
            text,
            buffer: vec![0; PIECE],
            last: Instant::now(),
            received: Received {
                bytes: 0,
                longest_pause: Duration::ZERO,
            },
        }
    }

    /// Reads what comes next, `most` bytes at most, and returns how many; 0 at the end.
    ///
    /// # Errors
    ///
    /// When reading fails, or says which byte is wrong.
    pub fn read_some(&mut self, from: &mut impl Read, most: u64) -> io::Result<usize> {
        let room = PIECE.min(usize::try_from(most).unwrap_or(PIECE));
        let count = from.read(&mut self.buffer[..room])?;
        let pause = self.last.elapsed();
        self.last = Instant::now();
        let received = &mut self.received;
        received.longest_pause = pause.max(received.longest_pause);
        let read = &self.buffer[..count];
        let right = self.text.piece(received.bytes, count);
        if read != right {
            let same = read.iter().zip(right).take_while(|(a, b)| a == b).count();
            let error = format!("byte {} is wrong", received.bytes + same as u64);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        received.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_wrong_byte_is_named() {
        let (text, length) = (Text::new(1), 3 * PERIOD as u64 + 7);
        let mut written = Vec::new();
        text.write(&mut written, length, u64::MAX).unwrap();
        let read = text.read(&mut &written[..], u64::MAX).unwrap();
        assert_eq!(read.bytes, length);
        written[PERIOD + 5] ^= 1;
        let error = text.read(&mut &written[..], length).unwrap_err();
        assert_eq!(error.to_string(), format!("byte {} is wrong", PERIOD + 5));
        assert_ne!(Text::new(2).block, text.block);
    }
}
