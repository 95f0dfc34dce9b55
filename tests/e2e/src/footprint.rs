//! What a process holds: descriptors and memory.

use std::fs;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub resident: u64,
}

impl Footprint {
    /// That of a process.
    ///
    /// # Panics
    ///
    /// When there is none of that number.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap_or_else(|error| panic!("process {pid}: {error}"))
            .count();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .unwrap_or_else(|error| panic!("process {pid}: {error}"));
        // "VmRSS:     1234 kB"
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|size| size.split_whitespace().next()?.parse().ok());
        Self {
            descriptors,
            resident: resident.unwrap_or_else(|| panic!("process {pid} has no memory: {status}")),
        }
    }
}
