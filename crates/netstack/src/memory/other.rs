//! Zeroed heap memory, for systems without `mmap`: the allocator decides what is resident.

use std::alloc::{self, Layout};
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Zeroed memory.
pub(super) struct Region {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a region owns its memory alone; nothing about it belongs to a thread.
unsafe impl Send for Region {}

impl Region {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let layout = Layout::array::<u8>(len.max(1)).map_err(|_| out_of_memory())?;
        // SAFETY: the layout is not of zero size.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        Ok(Self {
            base: NonNull::new(base).ok_or_else(out_of_memory)?,
            layout,
        })
    }

    pub(super) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(super) fn len(&self) -> usize {
        self.layout.size()
    }

    /// Keeps the pages: this allocator has no way to give them back in place.
    pub(super) fn discard(&mut self, _: Range<usize>) {}
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout, and nobody holds a slice of it any more.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}
