//! What is done how often and for how long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::contender::Contender;
use crate::measure::Topic;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Only a glance.
    pub quick: bool,
    /// Repetitions by round-trip delay in ms.
    pub repetitions: BTreeMap<u32, u32>,
    /// What is measured.
    pub topics: Vec<Topic>,
    /// Who takes part, if possible.
    pub contenders: Vec<Contender>,
    /// How many idle connections there are.
    pub idle_connections: usize,
}

impl Plan {
    /// How long a transfer or a loop is measured.
    pub fn time(&self) -> Duration {
        Duration::from_millis(if self.quick { 500 } else { 1000 })
    }

    /// How long nothing is done.
    pub fn idle_time(&self) -> Duration {
        Duration::from_secs(if self.quick { 10 } else { 30 })
    }

    /// How often all is done with idle connections and without.
    pub fn idle_rounds(&self, delay: u32) -> u32 {
        if self.quick || delay > 0 { 1 } else { 3 }
    }

    /// How often requests that no rule wants are made; they have no delay.
    pub fn router_rounds(&self) -> u32 {
        self.repetitions.get(&0).copied().unwrap_or(0)
    }

    /// How often requests come to the machine: each round makes two sessions.
    pub fn intercept_rounds(&self) -> u32 {
        self.router_rounds().min(3)
    }

    /// Whether a topic was asked for.
    pub fn wants(&self, topic: Topic) -> bool {
        self.topics.contains(&topic)
    }
}

/// How long a transfer isn't counted at its beginning: until windows have grown.
pub fn warm_up(delay: u32) -> Duration {
    match delay {
        0 => Duration::from_millis(300),
        _ => Duration::from_millis(500) + 5 * Duration::from_millis(delay.into()),
    }
}

/// Who is measured in turns, one group after the other: those who are compared most, and no two that
/// can't be open at once.
pub const GROUPS: [&[Contender]; 3] = [
    &[Contender::Kubectl, Contender::Forward],
    &[Contender::Kernel, Contender::Direct],
    &[Contender::Sshuttle],
];
