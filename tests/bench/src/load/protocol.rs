//! How a connection between the two sides begins.

use std::time::Duration;

/// The server sends everything back that follows.
pub const ECHO: u8 = b'E';
/// The server counts what follows, says how much came in how long, and reads on.
pub const UP: u8 = b'U';
/// The server sends until it hears a byte, or the end.
pub const DOWN: u8 = b'D';
/// The connection carries HTTP/1.1, whose first request begins so.
pub const GET: u8 = b'G';

/// Bytes per read and write of a transfer.
pub const CHUNK: usize = 256 * 1024;
/// Bytes of a message that is echoed.
pub const MESSAGE: usize = 64;

/// When the bytes of an upload count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From the first byte to when they begin to.
    pub warm_up: Duration,
    /// How long from then on.
    pub length: Duration,
}

impl Window {
    /// Its length on the wire.
    pub const BYTES: usize = 8;

    /// Milliseconds, big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d] = millis(self.warm_up);
        let [e, f, g, h] = millis(self.length);
        [a, b, c, d, e, f, g, h]
    }

    /// The opposite.
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; Self::BYTES]) -> Self {
        let duration = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
        Self {
            warm_up: duration([a, b, c, d]),
            length: duration([e, f, g, h]),
        }
    }
}

fn millis(duration: Duration) -> [u8; 4] {
    u32::try_from(duration.as_millis())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

/// What arrived within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// How many bytes.
    pub bytes: u64,
    /// In what time; a little more than the window's, as reads end late.
    pub time: Duration,
}

impl Arrived {
    /// Its length on the wire.
    pub const BYTES: usize = 16;

    /// Bytes, then nanoseconds, big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let nanos = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_be_bytes());
        bytes[8..].copy_from_slice(&nanos.to_be_bytes());
        bytes
    }

    /// The opposite.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let (count, nanos) = bytes.split_at(8);
        let number = |part: &[u8]| part.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self {
            bytes: number(count),
            time: Duration::from_nanos(number(nanos)),
        }
    }

    /// Gbit/s.
    pub fn rate(self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds == 0.0 {
            return 0.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let bits = self.bytes as f64 * 8.0;
        bits / seconds / 1e9
    }
}

/// Counts what arrives within a window that begins with the first byte.
#[derive(Debug)]
pub struct Meter {
    window: Window,
    first: Option<Duration>,
    counted_from: Option<Duration>,
    bytes: u64,
}

impl Meter {
    /// One that has seen nothing.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            first: None,
            counted_from: None,
            bytes: 0,
        }
    }

    /// Takes bytes that arrived at `now`, since whenever; returns the result once the window is over.
    pub fn handle_bytes(&mut self, bytes: usize, now: Duration) -> Option<Arrived> {
        let first = *self.first.get_or_insert(now);
        let Some(from) = self.counted_from else {
            if now - first >= self.window.warm_up {
                self.counted_from = Some(now);
            }
            return None;
        };
        self.bytes += bytes as u64;
        let time = now - from;
        (time >= self.window.length).then_some(Arrived {
            bytes: self.bytes,
            time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        warm_up: Duration::from_millis(300),
        length: Duration::from_secs(1),
    };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_window_arrives_as_it_was_sent() {
        assert_eq!(Window::from_bytes(WINDOW.to_bytes()), WINDOW);
    }

    #[test]
    fn a_result_arrives_as_it_was_sent() {
        let arrived = Arrived {
            bytes: 1 << 40,
            time: Duration::from_nanos(1_000_000_001),
        };
        assert_eq!(Arrived::from_bytes(arrived.to_bytes()), arrived);
    }

    #[test]
    fn bytes_of_the_warm_up_do_not_count() {
        let mut meter = Meter::new(WINDOW);
        assert_eq!(meter.handle_bytes(1000, at(5000)), None);
        assert_eq!(meter.handle_bytes(1000, at(5299)), None);
        assert_eq!(
            meter.handle_bytes(1000, at(5400)),
            None,
            "came before the count began"
        );
        assert_eq!(meter.handle_bytes(10, at(5500)), None);
        let arrived = meter.handle_bytes(5, at(6400)).unwrap();
        assert_eq!((arrived.bytes, arrived.time), (15, at(1000)));
    }

    #[test]
    fn a_rate_is_in_gigabits_per_second() {
        let arrived = Arrived {
            bytes: 250_000_000,
            time: Duration::from_secs(2),
        };
        assert!((arrived.rate() - 1.0).abs() < 1e-9);
    }
}
