//! Memory that a daemon has used and doesn't use any more.

use std::time::Duration;

use tokio::time::sleep;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(20);

/// Gives it back to the system again and again: glibc keeps what threads have freed until somebody asks, and a
/// daemon that has carried hundreds of flows at once would stay as large for days. Never ends.
pub async fn give_back() {
    loop {
        sleep(EVERY).await;
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: malloc_trim(3) takes a plain number, and may be called at any time by any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Others give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Resident pages of this process, in KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_freed_is_given_back() {
        // Pieces that are too small to be mapped each on its own, with some between that stay.
        let mut kept = Vec::new();
        let pieces: Vec<Vec<u8>> = (0..2_000)
            .map(|number| {
                if number % 10 == 0 {
                    kept.push(vec![1_u8; 512]);
                }
                vec![1_u8; 60 << 10]
            })
            .collect();
        let full = resident();
        drop(pieces);
        trim();
        let after = resident();
        assert!(after + (60 << 10) < full, "{full} KiB, and then {after}");
        assert_eq!(kept.len(), 200);
    }
}
