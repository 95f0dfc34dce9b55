//! Anonymous private mappings.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    /// Thousands of mostly untouched megabytes are not to be counted as used.
    pub(super) const MAP_LAZILY: libc::c_int = libc::MAP_NORESERVE;
    /// One written byte must not make two megabytes resident.
    pub(super) const FROM_THE_START: Option<libc::c_int> = Some(libc::MADV_NOHUGEPAGE);
    pub(super) const GIVE_BACK: libc::c_int = libc::MADV_DONTNEED;
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    pub(super) const MAP_LAZILY: libc::c_int = 0;
    pub(super) const FROM_THE_START: Option<libc::c_int> = None;
    pub(super) const GIVE_BACK: libc::c_int = libc::MADV_FREE;
}

/// Zeroed memory whose pages become resident when they are first written.
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region owns its mapping alone; nothing about it belongs to a thread.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANON | system::MAP_LAZILY,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast())
            .ok_or_else(|| io::Error::other("the kernel mapped memory at address zero"))?;
        let region = Self { base, len };
        if let Some(advice) = system::FROM_THE_START {
            region.advise(0, len, advice);
        }
        Ok(region)
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Gives the pages that lie within these bytes back to the system; they read as zeroes or as before
    /// until written again.
    pub(super) fn discard(&mut self, bytes: Range<usize>) {
        let page = page_size();
        let (start, end) = (bytes.start.next_multiple_of(page), bytes.end.min(self.len));
        if let Some(len) = (end / page * page).checked_sub(start) {
            self.advise(start, len, system::GIVE_BACK);
        }
    }

    /// Advises the kernel of `len` bytes from `start` on, which are within the region. A kernel that knows
    /// the advice not just keeps the pages, so a failure is no error.
    fn advise(&self, start: usize, len: usize, advice: libc::c_int) {
        // SAFETY: the range is within this region's own mapping.
        let _ = unsafe { libc::madvise(self.base.as_ptr().add(start).cast(), len, advice) };
    }
}

/// The size of a page in bytes; where the system doesn't say, that of the largest there are.
fn page_size() -> usize {
    // SAFETY: it only returns a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_or(64 * 1024, |size| size.max(1))
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range is this region's own mapping, and nobody holds a slice of it any more.
        let _ = unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
