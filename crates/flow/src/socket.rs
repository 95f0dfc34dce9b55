//! A connection of the kernel's as the near end of a flow.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::CHUNK;
use crate::carry::{Allowed, Gone, NearRead, NearWrite, Outcome, Resume, Said, Stream, carry};
use crate::receive_buffer::ReceiveBuffer;
use crate::reset::ResetUnlessClosed;

/// Room for which it is still worth to read.
const LEAST: usize = 1 << 10;
/// The least room that a buffer begins with.
const SMALL: usize = 4 << 10;

/// Carries a flow whose near end is `connection`. Dropping the future, at any time, resets both.
pub async fn carry_socket<M: Resume>(connection: TcpStream, stream: Stream, means: M) -> Outcome {
    let mut guard = ResetUnlessClosed::new(connection);
    let (read, write) = guard.connection.split();
    let outcome = carry(Reader::new(read), Writer { write }, stream, means).await;
    if outcome == Outcome::Closed {
        guard.handle_closed();
    }
    outcome
}

struct Reader<'a> {
    read: ReadHalf<'a>,
    kernels: ReceiveBuffer,
    buffer: BytesMut,
    /// How much room the next buffer begins with: about what the last reads needed.
    size: usize,
}

impl NearRead for Reader<'_> {
    async fn next(&mut self, allowed: Allowed<'_>) -> Said {
        loop {
            if self.readable().await.is_err() {
                return Said::Reset;
            }
            let most = allowed.bytes();
            if most == 0 {
                self.kernels.stands_still(self.read.as_ref()).await;
                return std::future::pending().await;
            }
            let moved = allowed.moved();
            self.kernels.handle_read(self.read.as_ref(), moved);
            let read = if most < CHUNK {
                self.read_exactly_kept(most)
            } else {
                self.read_into_shared(most)
            };
            match read {
                Ok(bytes) if bytes.is_empty() => return Said::End,
                Ok(bytes) => return Said::Data(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Said::Reset,
            }
        }
    }

    async fn gone(&mut self) {
        self.kernels.stands_still(self.read.as_ref()).await;
        // Writing will tell.
        std::future::pending().await
    }
}

impl<'a> Reader<'a> {
    fn new(read: ReadHalf<'a>) -> Self {
        Self {
            kernels: ReceiveBuffer::kept(read.as_ref()),
            read,
            buffer: BytesMut::new(),
            size: SMALL,
        }
    }

    /// Waits until there is something to read. Meanwhile no buffer is kept: thousands of flows are idle.
    async fn readable(&mut self) -> io::Result<()> {
        if let Some(readable) = self.read.readable().now_or_never() {
            return readable;
        }
        self.buffer = BytesMut::new();
        self.read.readable().await
    }

    /// Reads into a buffer from which a frame takes its part with it; small ones share an allocation.
    fn read_into_shared(&mut self, most: usize) -> io::Result<Bytes> {
        if self.buffer.capacity() < LEAST {
            self.buffer.reserve(self.size.min(most));
        }
        let room = self.buffer.capacity().min(most);
        let count = self
            .read
            .try_read_buf(&mut (&mut self.buffer).limit(room))?;
        self.size = if count == room {
            (4 * self.size).min(CHUNK)
        } else {
            self.size.min(4 * count).max(SMALL)
        };
        Ok(self.buffer.split().freeze())
    }

    /// Reads what has a memory of its own size, as thousands of flows that may keep little keep it for long.
    fn read_exactly_kept(&mut self, most: usize) -> io::Result<Bytes> {
        self.buffer = BytesMut::new();
        let mut read = BytesMut::with_capacity(most);
        let count = self.read.try_read_buf(&mut (&mut read).limit(most))?;
        // All of it, as mostly, is handed on as it is.
        let is_exact = count >= most;
        Ok(if is_exact {
            read.freeze()
        } else {
            Bytes::copy_from_slice(&read)
        })
    }
}

struct Writer<'a> {
    write: WriteHalf<'a>,
}

impl NearWrite for Writer<'_> {
    async fn write(&mut self, bytes: Bytes) -> Result<usize, Gone> {
        self.write.write(&bytes).await.map_err(gone)
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.write.shutdown().await.map_err(gone)
    }
}

fn gone(_: io::Error) -> Gone {
    Gone
}
