//! A forward, whichever way it is spoken.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::spdy::SpdyStream;
use super::stream::ForwardStream;
use super::{End, ForwardError, OpenedForward, Transport};

/// Bytes that are copied at once.
const COPY: usize = 64 << 10;

/// A forward that the API server has accepted. Whether the port answers shows with the first bytes.
#[derive(Debug)]
pub enum Forward {
    /// Over SPDY/3.1.
    Spdy(Box<SpdyStream<Transport>>),
    /// Over a WebSocket.
    WebSocket(Box<OpenedForward>),
}

/// A forward as a byte stream. Shutting down closes both directions: neither protocol has a half-close.
/// An error of the far end arrives as an `io::Error` that holds a [`ForwardError`].
pub type ForwardIo = Either<Box<SpdyStream<Transport>>, Box<ForwardStream>>;

impl Forward {
    /// Turns the forward into a byte stream.
    pub fn into_stream(self) -> ForwardIo {
        match self {
            Self::Spdy(stream) => Either::Left(stream),
            Self::WebSocket(forward) => Either::Right(Box::new(forward.into_stream())),
        }
    }

    /// Moves bytes both ways until one side ends. Dropping the future ends the forward at once.
    ///
    /// # Errors
    ///
    /// Says why the forward ended unless it was closed by either side or cancelled.
    pub async fn pump<L>(self, local: L, cancel: &CancellationToken) -> Result<End, ForwardError>
    where
        L: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = match self {
            Self::WebSocket(forward) => return forward.pump(local, cancel).await,
            Self::Spdy(stream) => stream,
        };
        let mut local = local;
        tokio::select! {
            () = cancel.cancelled() => Ok(End::Cancelled),
            copied = copy_bidirectional_with_sizes(&mut local, &mut stream, COPY, COPY) => {
                copied.map(|_| End::PodClosed).map_err(ended)
            }
        }
    }
}

/// Takes the forward's own error out of where a byte stream had to put it.
fn ended(error: io::Error) -> ForwardError {
    match error.downcast::<ForwardError>() {
        Ok(error) => error,
        Err(error) => ForwardError::Local(error),
    }
}
