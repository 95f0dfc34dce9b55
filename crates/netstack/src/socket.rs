//! A smoltcp socket with the memory of its rings.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use crate::memory::{Rings, Used};

/// One TCP socket, alone in its set, so that no packet makes smoltcp look at another flow's.
pub(crate) struct TcpSocket {
    // Before `rings`, whose memory it uses: fields are dropped in this order.
    set: SocketSet<'static>,
    handle: SocketHandle,
    rings: Rings,
}

impl TcpSocket {
    pub(crate) fn new(mut rings: Rings) -> Self {
        // SAFETY: only `set` holds the slices, and it is dropped before `rings` is: in `drop` by
        // the order of the fields, in `into_rings` explicitly. Nothing else lends them.
        let (rx, tx) = unsafe { rings.lend() };
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(tcp::Socket::new(
            tcp::SocketBuffer::new(rx),
            tcp::SocketBuffer::new(tx),
        ));
        Self { set, handle, rings }
    }

    pub(crate) fn set(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }

    pub(crate) fn get(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(crate) fn get_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.rings.note_written(bytes);
    }

    /// Returns how many bytes were written to the rings since they were last trimmed.
    pub(crate) fn written(&self) -> usize {
        self.rings.written()
    }

    /// Returns how many bytes of memory the rings have at most.
    pub(crate) fn resident(&self) -> usize {
        self.rings.resident()
    }

    /// Gives the pages back that hold nothing of what is queued: a flow that stands still has been through
    /// all of its rings, and holds little. Nothing may lie in them beside.
    pub(crate) fn trim(&mut self) {
        let tcp = self.set.get_mut::<tcp::Socket<'_>>(self.handle);
        let (rx, tx) = (tcp.recv_queue(), tcp.send_queue());
        // An empty ring begins anew at its start.
        let received = match tcp.peek(rx) {
            Ok(first) if !first.is_empty() => Some(first.as_ptr()),
            _ if rx > 0 => return,
            _ => None,
        };
        // What is queued ends where there is room.
        let all = tcp.send_capacity();
        let queued = match tcp.send(|room| (0, room.as_ptr())) {
            Ok(room) if tx > 0 => Some((room.wrapping_sub(tx), tx)),
            // Behind its end nothing is queued any more, and smoltcp doesn't say where that is.
            Err(_) if tx > 0 => Some((std::ptr::null(), all)),
            _ => None,
        };
        let used = |(first, bytes)| Used { first, bytes };
        self.rings.trim(
            received.map(|first| (first, rx)).map(used),
            queued.map(used),
        );
    }

    pub(crate) fn into_rings(self) -> Rings {
        let Self { set, rings, .. } = self;
        drop(set);
        rings
    }
}
