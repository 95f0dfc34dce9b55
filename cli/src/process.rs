//! Other processes, as the kernel shows them.

/// Whether there is such a process; one that nobody has waited for yet has ended all the same.
pub fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "PID (NAME) STATE …", where the name may hold anything.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_runs_until_it_has_ended_and_none_has_the_number_zero() {
        assert!(runs(std::process::id()));
        assert!(!runs(0));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!runs(pid));
    }
}
