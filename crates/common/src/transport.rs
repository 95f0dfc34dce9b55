//! The settings of gRPC that decide its speed, the same on both ends.
//!
//! Windows: a stream's window bounds what one stalled reader can hold; the connection's window must
//! never be the limit, or one stalled reader stops all others.

use std::time::Duration;

use tonic::transport::Server;

/// Bytes that a flow may have under way.
pub const STREAM_WINDOW: u32 = 16 << 20;
/// Largest that HTTP/2 knows, RFC 9113 section 6.9.1.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Bytes of an HTTP/2 frame, and of the data in one message.
pub const FRAME: u32 = 64 << 10;
/// Flows that a connection may carry.
pub const MAX_STREAMS: u32 = 65_536;

/// How often a server asks a silent client whether it is there; it has twice as long for an answer.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A server with these settings.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_adaptive_window(Some(false))
        // A client that is gone without a word, as behind a network that swallows everything, is found out;
        // one that sleeps for a moment isn't taken for it.
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(2 * KEEPALIVE))
        // A session that opens and resets many flows at once is work, not an attack.
        .http2_max_pending_accept_reset_streams(Some(4096))
}
