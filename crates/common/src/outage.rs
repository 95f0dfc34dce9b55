//! When to say that something is away: once when it goes and once when it is back, however often it is
//! tried meanwhile. Pure.

use std::time::{Duration, Instant};

/// Since when something is away, if it is.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// It broke, or an attempt at it failed; whether that is news.
    pub fn handle_lost(&mut self, now: Instant) -> bool {
        let is_news = self.since.is_none();
        self.since.get_or_insert(now);
        is_news
    }

    /// It works; for how long it didn't, where that was news.
    pub fn handle_back(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.take()?;
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_news_once_and_its_end_is_as_well() {
        let mut outage = Outage::default();
        let began = Instant::now();
        let second = |number: u64| began + Duration::from_secs(number);
        assert_eq!(outage.handle_back(began), None, "it wasn't away");
        for _ in 0..2 {
            let told: Vec<bool> = (0..50).map(|at| outage.handle_lost(second(at))).collect();
            assert_eq!(told.iter().filter(|told| **told).count(), 1);
            assert!(told[0]);
            let away = outage.handle_back(second(60));
            assert_eq!(away, Some(Duration::from_secs(60)));
            assert_eq!(outage.handle_back(second(61)), None);
        }
    }
}
