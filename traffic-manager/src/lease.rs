//! When a session that is away is over: by the manager's clock, never by a client's.
//!
//! A machine that ends (kill -9 of its daemon included) closes its connection: it is *gone*, and gets
//! the time of a reconnect. A machine that sleeps or lost its network just falls *silent*, and gets
//! the time of a nap, also where somebody on the way closes the connection for that.

use std::time::{Duration, Instant};

/// How long a session may be away before what it holds is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace {
    /// After its connection was closed.
    pub gone: Duration,
    /// After it was heard last, where it fell silent before its connection was closed.
    pub silent: Duration,
}

/// Who says nothing for longer than this is silent: a machine that is there speaks every two seconds.
const SILENT: Duration = Duration::from_secs(6);

impl Default for Grace {
    fn default() -> Self {
        Self {
            gone: Duration::from_secs(15),
            silent: Duration::from_secs(60),
        }
    }
}

/// The lease of one session.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    grace: Grace,
    heard: Instant,
    closed: Option<Instant>,
}

impl Lease {
    /// A lease of a session that was heard at `now`.
    pub fn new(grace: Grace, now: Instant) -> Self {
        Self {
            grace,
            heard: now,
            closed: None,
        }
    }

    /// The session said something, on a connection that is open.
    pub fn handle_heard(&mut self, now: Instant) {
        self.heard = now;
        self.closed = None;
    }

    /// The session's connection was closed: by itself, if it spoke just before.
    pub fn handle_closed(&mut self, now: Instant) {
        if now.duration_since(self.heard) <= SILENT {
            self.closed = Some(now);
        }
    }

    /// When the session is over unless it is heard before.
    pub fn expires(&self) -> Instant {
        match self.closed {
            Some(closed) => closed + self.grace.gone,
            None => self.heard + self.grace.silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_closed_connection_counts_from_its_end() {
        let start = Instant::now();
        let mut lease = Lease::new(Grace::default(), start);
        lease.handle_heard(start + 50 * SECOND);
        lease.handle_closed(start + 51 * SECOND);
        assert_eq!(lease.expires(), start + 66 * SECOND);
    }

    #[test]
    fn a_silent_machine_may_sleep_longer() {
        let start = Instant::now();
        let lease = Lease::new(Grace::default(), start);
        assert_eq!(lease.expires(), start + 60 * SECOND);
    }

    #[test]
    fn a_connection_that_is_closed_for_its_silence_is_no_word_of_the_machines() {
        let start = Instant::now();
        let mut lease = Lease::new(Grace::default(), start);
        lease.handle_closed(start + 30 * SECOND);
        assert_eq!(lease.expires(), start + 60 * SECOND);
        lease.handle_heard(start + 40 * SECOND);
        lease.handle_closed(start + 42 * SECOND);
        assert_eq!(lease.expires(), start + 57 * SECOND);
    }

    #[test]
    fn coming_back_renews_the_lease() {
        let start = Instant::now();
        let mut lease = Lease::new(Grace::default(), start);
        lease.handle_closed(start + SECOND);
        lease.handle_heard(start + 10 * SECOND);
        assert_eq!(lease.expires(), start + 70 * SECOND);
    }
}
