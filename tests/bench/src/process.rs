//! What a process costs.

use std::fs;
use std::io;
use std::time::Duration;

/// Memory of some processes together, in MB.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// Pages that are there.
    pub resident: f64,
    /// The same, a shared one counted as a part.
    pub proportional: f64,
}

impl Memory {
    /// Of processes, from `smaps_rollup`.
    ///
    /// # Errors
    ///
    /// When one of them is gone.
    pub fn of(pids: &[i32]) -> io::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            sum.resident += megabytes(&text, "Rss:");
            sum.proportional += megabytes(&text, "Pss:");
        }
        Ok(sum)
    }
}

fn megabytes(text: &str, name: &str) -> f64 {
    // "Rss:      1234 kB"
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
    let number = lines.next().and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(0.0)
        * 1024.0
        / 1e6
}

/// CPU time that processes have used so far.
///
/// # Errors
///
/// When one of them is gone.
pub fn cpu_time(pids: &[i32]) -> io::Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ticks += ticks_of(&text);
    }
    // USER_HZ is 100 on every architecture that this runs on.
    Ok(Duration::from_millis(ticks * 10))
}

fn ticks_of(stat: &str) -> u64 {
    // The name may hold spaces and parentheses; utime and stime are the 14th and 15th field of all.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_does_not_shift_the_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks_of(stat), 42);
    }

    #[test]
    fn memory_is_in_millions_of_bytes() {
        let text = "00400000-7fff [rollup]\nRss:    1000 kB\nPss:     500 kB\nPss_Dirty: 3 kB\n";
        assert!((megabytes(text, "Rss:") - 1.024).abs() < 1e-9);
        assert!((megabytes(text, "Pss:") - 0.512).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory() {
        let own = Memory::of(&[i32::try_from(std::process::id()).unwrap()]).unwrap();
        assert!(own.resident >= own.proportional && own.proportional > 0.0);
    }
}
