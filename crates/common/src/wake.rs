//! Noticing that the machine was asleep.

use std::io;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the clocks are compared; they run on only while the machine is awake.
const LOOK: Duration = Duration::from_millis(500);
/// Clocks that are read one after the other differ by less.
const LEAST: Duration = Duration::from_millis(500);

/// The clock that counts sleep and the one that doesn't, clock_gettime(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Clocks {
    boot: Duration,
    monotonic: Duration,
}

impl Clocks {
    #[cfg(target_os = "linux")]
    fn read() -> io::Result<Self> {
        use nix::time::{ClockId, clock_gettime};
        Ok(Self {
            monotonic: clock_gettime(ClockId::CLOCK_MONOTONIC)?.into(),
            boot: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into(),
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn asleep_since(self, before: Self) -> Duration {
        let all = self.boot.saturating_sub(before.boot);
        all.saturating_sub(self.monotonic.saturating_sub(before.monotonic))
    }
}

/// Watches for the end of a sleep.
#[derive(Debug)]
pub struct Wake {
    /// `None` where the system doesn't tell.
    last: Option<Clocks>,
    look: Interval,
}

impl Default for Wake {
    fn default() -> Self {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            last: Clocks::read().ok(),
            look,
        }
    }
}

impl Wake {
    /// Waits until the machine has woken from a sleep, and returns how long that was; for ever where the
    /// system doesn't tell. Cancel safe.
    pub async fn woke(&mut self) -> Duration {
        loop {
            self.look.tick().await;
            let (Some(before), Ok(now)) = (self.last, Clocks::read()) else {
                return std::future::pending().await;
            };
            self.last = Some(now);
            let asleep = now.asleep_since(before);
            if asleep >= LEAST {
                return asleep;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(boot: u64, monotonic: u64) -> Clocks {
        Clocks {
            boot: Duration::from_secs(boot),
            monotonic: Duration::from_secs(monotonic),
        }
    }

    #[test]
    fn sleep_is_what_only_one_clock_counts() {
        let before = clocks(100, 50);
        assert_eq!(clocks(110, 60).asleep_since(before), Duration::ZERO);
        assert_eq!(
            clocks(400, 60).asleep_since(before),
            Duration::from_secs(290)
        );
        // A clock that went back, as after a restored snapshot, is no sleep.
        assert_eq!(clocks(90, 60).asleep_since(before), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_is_awake_doesnt_wake() {
        let mut wake = Wake::default();
        let woke = tokio::time::timeout(Duration::from_secs(60), wake.woke()).await;
        assert!(woke.is_err());
    }
}
