//! Which carrier of a flow is the latest. Pure.

/// Which attempt at resuming a flow is the latest: one that was under way for long may arrive after a
/// later one, and then is nobody's any more.
#[derive(Debug, Default)]
pub struct Attempts(u64);

impl Attempts {
    /// An attempt has arrived; whether it is later than all before. They count from 1.
    pub fn handle_arrived(&mut self, attempt: u64) -> bool {
        let is_latest = attempt > self.0;
        self.0 = self.0.max(attempt);
        is_latest
    }
}
