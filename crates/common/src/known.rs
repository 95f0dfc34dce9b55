//! A stream with what is known of its other end, as a gRPC server hands it to each call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// See the module.
#[derive(Debug)]
pub struct Known<S, I> {
    pub(crate) stream: S,
    who: I,
}

impl<S, I> Known<S, I> {
    /// A stream at whose other end is `who`.
    pub fn new(stream: S, who: I) -> Self {
        Self { stream, who }
    }

    /// Who is at the other end.
    pub fn who(&self) -> &I {
        &self.who
    }
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Known<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.who.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Known<S, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Known<S, I> {
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
