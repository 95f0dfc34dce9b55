//! What waits in copies, of all clients together: memory of a process that others depend on.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// So many bytes at most.
const MOST: usize = 64 << 20;

static ALL: AtomicUsize = AtomicUsize::new(0);

/// Some bytes that wait.
#[derive(Debug)]
pub(crate) struct Waiting {
    bytes: Bytes,
    count: usize,
}

impl Waiting {
    /// So many, which are made then; `None` where too many wait already.
    pub(crate) fn new(count: usize, make: impl FnOnce() -> Bytes) -> Option<Self> {
        let more = |all: usize| all.checked_add(count).filter(|all| *all <= MOST);
        ALL.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        let mut one = Self {
            bytes: Bytes::new(),
            count,
        };
        one.bytes = make();
        Some(one)
    }

    /// They wait no longer.
    pub(crate) fn take(mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        ALL.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_no_longer_makes_room() {
        assert!(Waiting::new(MOST + 1, Bytes::new).is_none());
        let one = Waiting::new(3, || Bytes::from_static(b"abc")).unwrap();
        assert!(Waiting::new(MOST, Bytes::new).is_none());
        assert_eq!(one.take(), "abc");
        assert!(Waiting::new(1, Bytes::new).is_some());
    }
}
