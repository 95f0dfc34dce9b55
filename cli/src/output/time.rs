//! Time as people say it.

/// How long ago a moment was; empty for one that isn't known.
pub fn ago(since_ms: u64, now_ms: u64) -> String {
    if since_ms == 0 {
        return String::new();
    }
    let seconds = now_ms.saturating_sub(since_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A round trip of so many microseconds.
pub fn round_trip(microseconds: u64) -> String {
    match microseconds {
        0..100 => "< 0.1 ms".to_owned(),
        _ => format!("{:.1} ms", microseconds as f64 / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_two_units_at_most() {
        let table = [
            (1, "0s"),
            (61_001, "1m01s"),
            (3_660_001, "1h01m"),
            (90_000_001, "1d01h"),
        ];
        for (later, text) in table {
            assert_eq!(ago(1, later), text);
        }
        assert_eq!(ago(0, 5), "");
    }

    #[test]
    fn a_round_trip_takes_some_time() {
        let table = [(1, "< 0.1 ms"), (100, "0.1 ms"), (12_345, "12.3 ms")];
        for (microseconds, text) in table {
            assert_eq!(round_trip(microseconds), text);
        }
    }
}
