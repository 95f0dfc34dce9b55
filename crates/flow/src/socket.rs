//! A connection of the kernel's as the near end of a flow.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::CHUNK;
use crate::carry::{Gone, NearRead, NearWrite, Outcome, Resume, Said, Stream, carry};
use crate::reset::ResetUnlessClosed;

/// Room for which it is still worth to read.
const LEAST: usize = 4 << 10;

/// Carries a flow whose near end is `connection`. Dropping the future, at any time, resets both.
pub async fn carry_socket<M: Resume>(connection: TcpStream, stream: Stream, means: M) -> Outcome {
    let mut guard = ResetUnlessClosed::new(connection);
    let (read, write) = guard.connection.split();
    let buffer = BytesMut::new();
    let outcome = carry(Reader { read, buffer }, Writer { write }, stream, means).await;
    if outcome == Outcome::Closed {
        guard.handle_closed();
    }
    outcome
}

struct Reader<'a> {
    read: ReadHalf<'a>,
    buffer: BytesMut,
}

impl NearRead for Reader<'_> {
    async fn next(&mut self) -> Said {
        // A frame takes its part of the buffer with it; small ones share an allocation.
        if self.buffer.capacity() - self.buffer.len() < LEAST {
            self.buffer.reserve(CHUNK);
        }
        let mut window = (&mut self.read).take(CHUNK as u64);
        match window.read_buf(&mut self.buffer).await {
            Ok(0) => Said::End,
            Ok(_) => Said::Data(self.buffer.split().freeze()),
            Err(_) => Said::Reset,
        }
    }

    async fn gone(&mut self) {
        // Writing will tell.
        std::future::pending().await
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
