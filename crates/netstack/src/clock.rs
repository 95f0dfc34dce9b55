//! The owner's time as the numbers smoltcp counts in, and who wants to be woken when.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::FlowId;

/// Microseconds since a little before the stack was made.
pub(crate) type Micros = i64;

/// The stack is born at this age, since smoltcp writes "long ago" as zero.
const BIRTH: Micros = 1_000_000;

/// How late a wake-up may be and still count as time that passed.
const GRACE: Micros = 30_000_000;

/// Translates times both ways, and never runs backwards.
#[derive(Debug)]
pub(crate) struct Clock {
    birth: Instant,
    now: Micros,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            birth: now,
            now: BIRTH,
        }
    }

    /// Lets time pass, of which somebody wanted to hear at `due`.
    ///
    /// An owner that comes much too late was suspended, and the client's machine with it: that
    /// time did not pass, or every idle client would count as gone before it was asked.
    pub(crate) fn advance(&mut self, now: Instant, due: Option<Micros>) {
        let age = now.saturating_duration_since(self.birth).as_micros();
        let mut at = BIRTH.saturating_add(Micros::try_from(age).unwrap_or(Micros::MAX));
        let latest = due.map_or(Micros::MAX, |due| due.max(self.now).saturating_add(GRACE));
        if at > latest {
            self.birth += Duration::from_micros(at.abs_diff(latest));
            at = latest;
        }
        self.now = self.now.max(at);
    }

    pub(crate) fn now(&self) -> Micros {
        self.now
    }

    pub(crate) fn smoltcp(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros(self.now)
    }

    pub(crate) fn after(&self, delay: Duration) -> Micros {
        self.now
            .saturating_add(Micros::try_from(delay.as_micros()).unwrap_or(Micros::MAX))
    }

    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.birth + Duration::from_micros(at.saturating_sub(BIRTH).max(0) as u64)
    }
}

/// Wake-ups of flows, earliest first, at most one per flow.
///
/// A flow's deadline moves with every packet; its entry does not. An entry that comes up too early
/// is put back by its flow. Flows come and go faster than their timers expire, so an ended one's
/// entry is taken out.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<(Micros, FlowId)>,
}

impl Timers {
    pub(crate) fn insert(&mut self, at: Micros, flow: FlowId) {
        self.entries.insert((at, flow));
    }

    pub(crate) fn remove(&mut self, at: Micros, flow: FlowId) {
        self.entries.remove(&(at, flow));
    }

    pub(crate) fn next(&self) -> Option<Micros> {
        self.entries.first().map(|(at, _)| *at)
    }

    pub(crate) fn first(&self) -> Option<(Micros, FlowId)> {
        self.entries.first().copied()
    }

    /// Takes the earliest entry out if it is due.
    pub(crate) fn pop_due(&mut self, now: Micros) -> Option<FlowId> {
        let (at, flow) = *self.entries.first()?;
        if at > now {
            return None;
        }
        self.entries.pop_first();
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        let birth = Instant::now();
        let mut clock = Clock::new(birth);
        clock.advance(birth + Duration::from_millis(1_234), None);
        assert_eq!(
            clock.instant(clock.now()),
            birth + Duration::from_millis(1_234)
        );
        let later = clock.after(Duration::from_micros(7));
        assert_eq!(
            clock.instant(later),
            birth + Duration::from_micros(1_234_007)
        );
    }

    #[test]
    fn the_clock_never_runs_backwards() {
        let birth = Instant::now();
        let mut clock = Clock::new(birth);
        clock.advance(birth + Duration::from_secs(5), None);
        clock.advance(birth + Duration::from_secs(3), None);
        assert_eq!(clock.instant(clock.now()), birth + Duration::from_secs(5));
    }

    #[test]
    fn time_nobody_was_awake_in_does_not_pass() {
        let birth = Instant::now();
        let mut clock = Clock::new(birth);
        let due = clock.after(Duration::from_secs(10));
        let woken = birth + Duration::from_secs(10_000);
        clock.advance(woken, Some(due));
        assert_eq!(clock.now(), due + GRACE);
        assert_eq!(clock.instant(clock.now()), woken);
        clock.advance(woken + Duration::from_secs(1), Some(due));
        assert_eq!(clock.now(), due + GRACE + 1_000_000);
    }
}
