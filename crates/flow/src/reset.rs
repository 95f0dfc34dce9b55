//! A connection that isn't ended by accident, and isn't waited for when its peer is gone.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A peer that says nothing is asked after so long, and a few times; one that was switched off would
/// otherwise hold its connection for ever.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What the kernel takes for a peer beyond what it may send it. Otherwise it takes megabytes for one that doesn't
/// read, which looks as if it were read, and has the flow's window grow: that is memory, and others' share of it.
const UNSENT: u32 = 128 << 10;

/// A connection that is closed in order only when told so; otherwise, also by cancellation, it is
/// reset, so that its peer never takes a part for the whole.
#[derive(Debug)]
pub(crate) struct ResetUnlessClosed {
    pub(crate) connection: TcpStream,
    closed: bool,
}

impl ResetUnlessClosed {
    pub(crate) fn new(connection: TcpStream) -> Self {
        // The flow has its own chunks: waiting for more would only add latency.
        let _ = connection.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let socket = SockRef::from(&connection);
        let _ = socket.set_tcp_keepalive(&keepalive);
        let _ = socket.set_tcp_notsent_lowat(UNSENT);
        Self {
            connection,
            closed: false,
        }
    }

    /// Both directions were closed in order.
    pub(crate) fn handle_closed(&mut self) {
        self.closed = true;
    }
}

impl Drop for ResetUnlessClosed {
    fn drop(&mut self) {
        if !self.closed {
            // Fails only on a connection that is gone already.
            let _ = self.connection.set_zero_linger();
        }
    }
}
