//! Moving bytes between a forward and a local socket: two pumps that don't wait for each other.

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use super::channel::{Channels, DATA, Frame};
use super::{ForwardError, OpenedForward};

/// The largest message sent to the pod, in bytes, its channel included.
pub(super) const MESSAGE: usize = 64 * 1024;

/// How long a goodbye may take on a connection that may be stuck.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which side ended a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The local socket was closed for writing.
    LocalClosed,
    /// The pod closed its connection.
    PodClosed,
    /// The caller's token was cancelled.
    Cancelled,
}

impl<S: AsyncRead + AsyncWrite + Unpin> OpenedForward<S> {
    /// Moves bytes both ways until one side ends, then says goodbye on the other.
    ///
    /// The protocol has no half-close: when one side ends, bytes still on their way to it are lost.
    /// Each direction holds at most a few messages; a side that doesn't read stops the other's
    /// reading. Dropping the future ends the forward at once, without a goodbye.
    ///
    /// # Errors
    /// Says why the forward ended unless it was closed by either side or cancelled.
    pub async fn pump<L>(self, local: L, cancel: &CancellationToken) -> Result<End, ForwardError>
    where
        L: AsyncRead + AsyncWrite,
    {
        let (mut sink, mut source) = self.socket.split();
        let (mut reader, mut writer) = tokio::io::split(local);
        let mut channels = Channels::new(self.port);
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(End::Cancelled),
            ended = to_pod(&mut reader, &mut sink) => ended,
            ended = from_pod(&mut source, &mut writer, &mut channels) => ended,
        };
        // Either may be stuck or broken; both are dropped in any case.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            let _ = tokio::join!(sink.close(), writer.shutdown());
        })
        .await;
        ended
    }
}

async fn to_pod(
    reader: &mut (impl AsyncRead + Unpin),
    sink: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
) -> Result<End, ForwardError> {
    let mut buffer = BytesMut::new();
    let mut unflushed = false;
    loop {
        buffer.reserve(MESSAGE);
        buffer.put_u8(DATA);
        let mut room = (&mut buffer).limit(MESSAGE - 1);
        let mut read = pin!(reader.read_buf(&mut room));
        let read = if unflushed {
            // Small messages leave together, but none waits for the next one.
            tokio::select! {
                biased;
                read = &mut read => read,
                flushed = sink.flush() => {
                    flushed?;
                    unflushed = false;
                    read.await
                }
            }
        } else {
            read.await
        };
        if read.map_err(ForwardError::Local)? == 0 {
            if unflushed {
                sink.flush().await?;
            }
            return Ok(End::LocalClosed);
        }
        sink.feed(Message::Binary(buffer.split().freeze())).await?;
        unflushed = true;
    }
}

async fn from_pod(
    source: &mut (impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    channels: &mut Channels,
) -> Result<End, ForwardError> {
    // Reading on after a ping is what sends its pong.
    while let Some(message) = source.next().await {
        let frame = match message? {
            Message::Binary(message) => channels.handle_message(message)?,
            Message::Close(_) => return Ok(End::PodClosed),
            _ => Frame::Nothing,
        };
        match frame {
            Frame::Nothing => {}
            Frame::Data(data) => {
                writer.write_all(&data).await.map_err(ForwardError::Local)?;
                writer.flush().await.map_err(ForwardError::Local)?;
            }
            Frame::Failed(error) => return Err(error.into()),
        }
    }
    Ok(End::PodClosed)
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
