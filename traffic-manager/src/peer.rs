//! A connection whose other end is known, and which ends with its session.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kdev_common::killable::Killable;
use kdev_flow::Carrier;
use kdev_identity::ServerStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

use crate::sessions::{ConnectionPlace, Session};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The session whose key was proven.
    pub session: Arc<Session>,
    /// Whether it is the user's daemon, which alone speaks for the session.
    pub speaks: bool,
    /// The connection itself.
    pub carrier: Carrier,
}

/// See the module.
pub struct PeerStream {
    stream: Killable<ServerStream<TcpStream>>,
    peer: Peer,
    _place: ConnectionPlace,
}

impl PeerStream {
    /// A connection of `peer`'s, which holds `place` as long as it is there.
    pub fn new(
        stream: ServerStream<TcpStream>,
        session: Arc<Session>,
        speaks: bool,
        place: ConnectionPlace,
    ) -> Self {
        let close = session.cut.child_token();
        let peer = Peer {
            carrier: Carrier::new(close.clone()).within(Arc::clone(&session.memory)),
            session,
            speaks,
        };
        Self {
            stream: Killable::new(stream, close),
            peer,
            _place: place,
        }
    }
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
