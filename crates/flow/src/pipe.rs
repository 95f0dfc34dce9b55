//! A near end within this process: a byte stream for whoever reads and writes it here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::CHUNK;
use crate::carry::{Allowed, Gone, NearRead, NearWrite, Outcome, Resume, Said, Stream, carry};

/// Pieces of at most [`CHUNK`] bytes that wait per direction.
const WAITING: usize = 4;

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

/// A flow as a byte stream. Dropping it before it is shut down resets the flow, as [`carry_pipe`] sees.
#[derive(Debug)]
pub struct Pipe {
    outgoing: PollSender<Piece>,
    incoming: mpsc::Receiver<Piece>,
    /// What has come and wasn't read.
    current: Bytes,
    ended: bool,
    /// What of the first bytes to be written the other side has already.
    before: usize,
}

/// The flow's half of a [`Pipe`].
#[derive(Debug)]
pub struct NearEnd {
    said: mpsc::Receiver<Piece>,
    heard: mpsc::Sender<Piece>,
}

/// Makes a byte stream, and what [`carry_pipe`] needs to carry it. Its first `before` bytes have gone out
/// already, see [`Stream::said`].
pub fn pipe(before: usize) -> (Pipe, NearEnd) {
    let (outgoing, said) = mpsc::channel(WAITING);
    let (heard, incoming) = mpsc::channel(WAITING);
    let pipe = Pipe {
        outgoing: PollSender::new(outgoing),
        incoming,
        current: Bytes::new(),
        ended: false,
        before,
    };
    (pipe, NearEnd { said, heard })
}

/// Carries a flow whose near end is a [`Pipe`]. Dropping the future, at any time, resets both.
pub async fn carry_pipe<M: Resume>(near: NearEnd, stream: Stream, means: M) -> Outcome {
    let NearEnd { said, heard } = near;
    let listener = heard.clone();
    let reader = Reader {
        said,
        later: Bytes::new(),
        listener,
    };
    carry(reader, Writer { heard }, stream, means).await
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() && !self.ended {
            match ready!(self.incoming.poll_recv(cx)) {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let count = self.current.len().min(into.remaining());
        into.put_slice(&self.current[..count]);
        self.current.advance(count);
        if self.current.is_empty() {
            // Its frame is given back now, not with the next one.
            self.current = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.before > 0 {
            let count = self.before.min(bytes.len());
            self.before -= count;
            return Poll::Ready(Ok(count));
        }
        ready!(self.outgoing.poll_reserve(cx)).map_err(reset)?;
        let count = bytes.len().min(CHUNK);
        let piece = Piece::Data(Bytes::copy_from_slice(&bytes[..count]));
        self.outgoing.send_item(piece).map_err(reset)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.outgoing.is_closed() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.outgoing.poll_reserve(cx)).map_err(reset)?;
        self.outgoing.send_item(Piece::End).map_err(reset)?;
        self.outgoing.close();
        Poll::Ready(Ok(()))
    }
}

/// The flow doesn't listen any more.
fn reset<E>(_: E) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

struct Reader {
    said: mpsc::Receiver<Piece>,
    /// What was said and has to wait.
    later: Bytes,
    listener: mpsc::Sender<Piece>,
}

impl NearRead for Reader {
    async fn next(&mut self, allowed: Allowed<'_>) -> Said {
        if self.later.is_empty() {
            self.later = match self.said.recv().await {
                Some(Piece::Data(bytes)) => bytes,
                Some(Piece::End) => return Said::End,
                None => return Said::Reset,
            };
        }
        let (now, later) = allowed.part(std::mem::take(&mut self.later));
        self.later = later;
        if now.is_empty() {
            return std::future::pending().await;
        }
        Said::Data(now)
    }

    async fn gone(&mut self) {
        self.listener.closed().await;
        if !self.said.is_empty() || !self.later.is_empty() {
            // Its last words are waiting to be taken.
            std::future::pending::<()>().await;
        }
    }
}

struct Writer {
    heard: mpsc::Sender<Piece>,
}

impl Writer {
    async fn say(&self, piece: Piece) -> Result<(), Gone> {
        self.heard.send(piece).await.map_err(|_| Gone)
    }
}

impl NearWrite for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<usize, Gone> {
        let count = bytes.len();
        self.say(Piece::Data(bytes)).await.map(|()| count)
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.say(Piece::End).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::ledger::Ledger;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    static BUDGET: Budget = Budget::new(1 << 20);

    fn ends() -> (Pipe, Reader, Writer) {
        let (pipe, NearEnd { said, heard }) = pipe(0);
        let reader = Reader {
            said,
            later: Bytes::new(),
            listener: heard.clone(),
        };
        (pipe, reader, Writer { heard })
    }

    async fn next(reader: &mut Reader) -> Said {
        reader.next(Ledger::new(&BUDGET, None).allowed()).await
    }

    #[tokio::test]
    async fn bytes_and_ends_go_both_ways() {
        let (mut pipe, mut reader, mut writer) = ends();
        pipe.write_all(b"there").await.unwrap();
        pipe.shutdown().await.unwrap();
        assert_eq!(
            next(&mut reader).await,
            Said::Data(Bytes::from_static(b"there"))
        );
        assert_eq!(next(&mut reader).await, Said::End);
        writer.write(Bytes::from_static(b"back")).await.unwrap();
        writer.end().await.unwrap();
        drop((reader, writer));
        let mut back = Vec::new();
        pipe.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"back");
    }

    #[tokio::test]
    async fn what_has_gone_out_before_isnt_said_again() {
        let (mut pipe, NearEnd { mut said, .. }) = pipe(7);
        pipe.write_all(b"GET").await.unwrap();
        pipe.write_all(b" / HTTP").await.unwrap();
        assert!(matches!(said.recv().await, Some(Piece::Data(bytes)) if bytes == "TTP"));
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_without_an_end_is_a_reset() {
        let (mut pipe, mut reader, mut writer) = ends();
        pipe.write_all(b"half").await.unwrap();
        drop(pipe);
        assert!(matches!(next(&mut reader).await, Said::Data(_)));
        assert_eq!(next(&mut reader).await, Said::Reset);
        reader.gone().await;
        assert_eq!(writer.end().await, Err(Gone));
    }

    #[tokio::test]
    async fn a_flow_that_breaks_is_an_error_on_both_halves_and_not_an_end() {
        let (mut pipe, reader, mut writer) = ends();
        writer.write(Bytes::from_static(b"half")).await.unwrap();
        drop((reader, writer));
        let mut half = [0; 4];
        pipe.read_exact(&mut half).await.unwrap();
        assert!(pipe.read(&mut half).await.is_err());
        assert!(pipe.write_all(b"more").await.is_err());
    }

    #[tokio::test]
    async fn what_isnt_read_holds_the_writer_back() {
        let (mut pipe, _reader, _writer) = ends();
        let much = vec![0; (WAITING + 1) * CHUNK];
        let write =
            tokio::time::timeout(std::time::Duration::from_millis(50), pipe.write_all(&much));
        assert!(write.await.is_err());
    }
}
