//! A forward as one byte stream, for clients that want a socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Sink, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use super::channel::{Channels, DATA, Frame};
use super::pump::MESSAGE;
use super::{ForwardError, OpenedForward, Transport};

/// A port-forward as a byte stream.
///
/// Shutting down closes both directions: the protocol has no half-close. An error of the far end
/// arrives as an `io::Error` that holds a [`ForwardError`].
#[derive(Debug)]
pub struct ForwardStream<S = Transport> {
    socket: WebSocketStream<S>,
    channels: Channels,
    /// What was received and not yet read.
    received: Bytes,
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> OpenedForward<S> {
    /// Turns the forward into a byte stream.
    pub fn into_stream(self) -> ForwardStream<S> {
        ForwardStream {
            socket: self.socket,
            channels: Channels::new(self.port),
            received: Bytes::new(),
            ended: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ForwardStream<S> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, ForwardError>> {
        Poll::Ready(match ready!(self.socket.poll_next_unpin(cx)) {
            None | Some(Ok(Message::Close(_))) => Ok(None),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(Message::Binary(message))) => self
                .channels
                .handle_message(message)
                .map(Some)
                .map_err(ForwardError::from),
            Some(Ok(_)) => Ok(Some(Frame::Nothing)),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ForwardStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() && !self.ended {
            match ready!(self.poll_frame(cx)) {
                Ok(Some(Frame::Nothing)) => {}
                Ok(Some(Frame::Data(data))) => self.received = data,
                Ok(None) => self.ended = true,
                Ok(Some(Frame::Failed(error))) => {
                    self.ended = true;
                    return Poll::Ready(Err(ForwardError::from(error).into()));
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ForwardStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(lost)?;
        let data = &data[..data.len().min(MESSAGE - 1)];
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.put_u8(DATA);
        message.put_slice(data);
        Pin::new(&mut self.socket)
            .start_send(Message::Binary(message.freeze()))
            .map_err(lost)?;
        // The message is taken either way; what can't leave now does with the next write or flush.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.socket).poll_flush(cx) {
            return Poll::Ready(Err(lost(error)));
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(lost)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(lost)
    }
}

fn lost(error: tungstenite::Error) -> io::Error {
    ForwardError::from(error).into()
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
