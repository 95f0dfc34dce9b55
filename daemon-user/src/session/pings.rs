//! Pings of a session's stream, and how long their answers took. Pure but for the clock.

use std::time::{Duration, Instant};

/// Numbers pings by the time at which they are sent, so that nothing has to be kept of them.
#[derive(Debug, Clone, Copy)]
pub struct Pings {
    began: Instant,
}

impl Pings {
    /// None was sent yet.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// The number of a ping that is sent now: microseconds, from 1 on.
    pub fn number(&self) -> u64 {
        let elapsed = u64::try_from(self.began.elapsed().as_micros());
        elapsed.unwrap_or(u64::MAX).saturating_add(1)
    }

    /// How long ago the ping of this number was sent; `None` for one that wasn't.
    pub fn round_trip(&self, number: u64) -> Option<Duration> {
        let took = self.number().checked_sub(number.max(1))?;
        Some(Duration::from_micros(took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_what_it_took_and_not_whole_milliseconds() {
        let pings = Pings::new();
        let number = pings.number();
        while pings.number() < number + 300 {
            std::hint::spin_loop();
        }
        assert!(pings.round_trip(number) >= Some(Duration::from_micros(300)));
        let ahead = Duration::from_secs(3600);
        let never_sent = number + u64::try_from(ahead.as_micros()).unwrap();
        assert_eq!(pings.round_trip(never_sent), None, "nobody has sent it");
    }
}
