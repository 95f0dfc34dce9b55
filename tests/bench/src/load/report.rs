//! What a measurement prints: one line of JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// All streams together.
    pub gbit_per_second: f64,
}

/// Of one thing done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// How often it was done.
    pub count: usize,
    /// How often it failed.
    pub failed: usize,
    /// How often per second.
    pub per_second: f64,
    /// Half took no longer, in µs.
    pub p50_micros: f64,
    /// 99 of 100 took no longer, in µs.
    pub p99_micros: f64,
}

impl Repeated {
    /// Sums up what took how long, within `elapsed` altogether.
    pub fn of(mut took: Vec<Duration>, failed: usize, elapsed: Duration) -> Self {
        took.sort_unstable();
        let count = took.len();
        #[allow(clippy::cast_precision_loss, reason = "counts are small")]
        let per_second = count as f64 / elapsed.as_secs_f64();
        Self {
            count,
            failed,
            per_second,
            p50_micros: quantile(&took, 50),
            p99_micros: quantile(&took, 99),
        }
    }
}

fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_took_no_longer_than_the_median() {
        let took = (1..=101).rev().map(Duration::from_micros).collect();
        let report = Repeated::of(took, 2, Duration::from_secs(2));
        assert!((report.p50_micros - 51.0).abs() < 1e-6);
        assert!((report.p99_micros - 100.0).abs() < 1e-6);
        assert!((report.per_second - 50.5).abs() < 1e-6);
        assert_eq!((report.count, report.failed), (101, 2));
    }
}
