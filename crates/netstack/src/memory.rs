//! Ring buffers that cost memory only where bytes were written.
//!
//! A flow has megabytes of buffer, thousands of flows are idle, and an idle one must cost next to
//! nothing. So buffers are anonymous mappings: a page is resident from its first byte on, and
//! given back when the flow ends or falls idle.

#[cfg(not(unix))]
#[path = "memory/other.rs"]
mod region;
#[cfg(unix)]
#[path = "memory/unix.rs"]
mod region;

use std::io;
use std::ops::Range;

use self::region::Region;

/// How many unused buffers are kept for the next flows.
const POOL_LIMIT: usize = 64;

/// Up to this many written bytes a buffer's pages are left resident for its next flow.
const WARM: usize = 64 * 1024;

/// What of a ring is in use: so many bytes from the first one on, which may go on at the ring's start. One
/// ring's length before the first one is the same place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) first: *const u8,
    pub(crate) bytes: usize,
}

/// The memory of one flow's receive and transmit ring.
pub(crate) struct Rings {
    region: Region,
    rx_len: usize,
    written: usize,
}

impl Rings {
    fn new(rx_len: usize, tx_len: usize) -> io::Result<Self> {
        Ok(Self {
            region: Region::new(rx_len + tx_len)?,
            rx_len,
            written: 0,
        })
    }

    /// Lends both rings out for as long as the borrower likes.
    ///
    /// # Safety
    ///
    /// The slices must be gone before these `Rings` are lent again, pooled or dropped.
    pub(crate) unsafe fn lend(&mut self) -> (&'static mut [u8], &'static mut [u8]) {
        let base = self.region.as_ptr();
        let tx_len = self.region.len() - self.rx_len;
        // SAFETY: the region is `rx_len + tx_len` readable, writable, initialised (zeroed) bytes;
        // the two halves do not overlap, and the caller keeps them from outliving the region.
        unsafe {
            (
                std::slice::from_raw_parts_mut(base, self.rx_len),
                std::slice::from_raw_parts_mut(base.add(self.rx_len), tx_len),
            )
        }
    }

    /// Notes that so many bytes were written to either ring.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Returns how many bytes were written since the pages were last given back.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Returns how many bytes of memory the rings have at most since then.
    pub(crate) fn resident(&self) -> usize {
        self.written.min(self.region.len())
    }

    /// Returns whether giving the pages back would save anything worth a system call.
    pub(crate) fn is_worth_trimming(&self) -> bool {
        self.written > WARM
    }

    /// Gives the pages back that aren't in use, and may read as zeroes from now on: those of either ring
    /// but where its used part is.
    pub(crate) fn trim(&mut self, rx: Option<Used>, tx: Option<Used>) {
        let end = self.region.len();
        self.trim_ring(0..self.rx_len, rx);
        self.trim_ring(self.rx_len..end, tx);
        self.written = 0;
    }

    fn trim_ring(&mut self, ring: Range<usize>, used: Option<Used>) {
        let Some(Used { first, bytes }) = used else {
            return self.region.discard(ring);
        };
        let start = self.region.as_ptr().addr() + ring.start;
        let from_start = (first.addr() + ring.len()).saturating_sub(start);
        let first = ring.start + from_start % ring.len();
        let behind = first + bytes;
        match behind.checked_sub(ring.end) {
            Some(wrapped) => self.region.discard(ring.start + wrapped..first),
            None => {
                self.region.discard(behind..ring.end);
                self.region.discard(ring.start..first);
            }
        }
    }
}

/// Buffers of ended flows, for the next ones: mapping anew would halve the connection rate.
pub(crate) struct Pool {
    rx_len: usize,
    tx_len: usize,
    unused: Vec<Rings>,
}

impl Pool {
    pub(crate) fn new(rx_len: usize, tx_len: usize) -> Self {
        Self {
            rx_len,
            tx_len,
            unused: Vec::new(),
        }
    }

    pub(crate) fn take(&mut self) -> io::Result<Rings> {
        match self.unused.pop() {
            Some(rings) => Ok(rings),
            None => Rings::new(self.rx_len, self.tx_len),
        }
    }

    pub(crate) fn give(&mut self, mut rings: Rings) {
        if self.unused.len() >= POOL_LIMIT {
            return;
        }
        if rings.is_worth_trimming() {
            rings.trim(None, None);
        }
        self.unused.push(rings);
    }

    pub(crate) fn len(&self) -> usize {
        self.unused.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_writable_and_read_zeroes_once_trimmed() {
        let mut rings = Rings::new(64 * 1024, 128 * 1024).unwrap();
        // SAFETY: the slices are not used after the next call on `rings`.
        let (rx, tx) = unsafe { rings.lend() };
        assert_eq!((rx.len(), tx.len()), (64 * 1024, 128 * 1024));
        rx.fill(1);
        tx.fill(2);
        assert_eq!((rx[65_535], tx[0]), (1, 2));
        rings.trim(None, None);
        // SAFETY: the earlier slices are gone, these do not outlive `rings`.
        let (rx, tx) = unsafe { rings.lend() };
        assert!(cfg!(not(target_os = "linux")) || (rx[65_535], tx[0]) == (0, 0));
    }

    #[test]
    fn what_is_in_use_stays() {
        let (len, page) = (256 * 1024, 64 * 1024);
        for (first, used) in [
            (0, 10),
            (page + 7, page),
            (3 * page + 5, page),
            (len - 1, 2 * page),
            (page, len),
        ] {
            for before in [0, len] {
                let mut rings = Rings::new(len, len).unwrap();
                // SAFETY: the slices are not used after the next call on `rings`.
                let (rx, tx) = unsafe { rings.lend() };
                let used_of = |ring: &mut [u8]| {
                    ring.fill(1);
                    let first = (&raw const ring[first]).wrapping_sub(before);
                    Some(Used { first, bytes: used })
                };
                let in_use = (used_of(rx), used_of(tx));
                rings.trim(in_use.0, in_use.1);
                // SAFETY: the earlier slices are gone, these do not outlive `rings`.
                let (rx, tx) = unsafe { rings.lend() };
                for ring in [rx, tx] {
                    assert!((first..first + used).all(|at| ring[at % len] == 1));
                    let kept = ring.iter().filter(|byte| **byte == 1).count();
                    assert!(cfg!(not(target_os = "linux")) || kept <= used + 2 * page);
                }
            }
        }
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let mut pool = Pool::new(16 * 1024, 16 * 1024);
        let taken: Vec<_> = (0..POOL_LIMIT + 5).map(|_| pool.take().unwrap()).collect();
        taken.into_iter().for_each(|rings| pool.give(rings));
        assert_eq!(pool.len(), POOL_LIMIT);
    }
}
