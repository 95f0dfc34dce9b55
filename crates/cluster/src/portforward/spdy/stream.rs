//! A forward over SPDY as one byte stream.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::ForwardError;
use super::super::channel::PodError;
use super::frame::{Control, DATA_STREAM, HEAD, Head, data_head, opening, pong};

/// Most bytes of a data frame. The node reads 32 KiB at a time.
const MOST: usize = 64 << 10;
/// Bytes that are read from the connection at once.
const READ: usize = 128 << 10;
/// Most of an error's words.
const WORDS: usize = 4 << 10;

/// See the module. Both ends of the connection end with it: the protocol of forwards has no
/// half-close that could be trusted.
#[derive(Debug)]
pub struct SpdyStream<S> {
    transport: S,
    /// What was read and not taken apart yet.
    received: BytesMut,
    /// What is left of the frame that comes.
    frame: Frame,
    /// What the node said of an error.
    words: Vec<u8>,
    ended: bool,
    /// What is to be written before anything else: at most a frame, and a pong.
    outgoing: BytesMut,
    pong: Option<[u8; HEAD + 4]>,
    /// Whoever writes is woken when the connection takes more, and no reader may be in its place.
    writer_waits: bool,
}

#[derive(Debug, Clone, Copy)]
enum Frame {
    None,
    /// So many bytes for the reader.
    Data {
        left: usize,
        last: bool,
    },
    /// So many bytes of an error.
    Words {
        left: usize,
        last: bool,
    },
    Skipped {
        left: usize,
    },
}

impl<S> SpdyStream<S> {
    /// A forward to `port` over a connection that has been switched to SPDY.
    pub fn new(transport: S, port: u16) -> Self {
        Self {
            transport,
            received: BytesMut::new(),
            frame: Frame::None,
            words: Vec::new(),
            ended: false,
            outgoing: opening(port),
            pong: None,
            writer_waits: false,
        }
    }

    /// Takes apart what was received, and returns at most so many bytes of it; `None` when more is
    /// needed, or all has ended.
    fn next(&mut self, most: usize) -> Result<Option<Bytes>, ForwardError> {
        loop {
            match self.frame {
                Frame::None => {
                    let Some(head) = self.received.first_chunk::<HEAD>().copied() else {
                        return Ok(None);
                    };
                    let head = Head::parse(head)?;
                    if let Head::Control {
                        kind: Control::Ping,
                        ..
                    } = head
                    {
                        let Some(id) = self.received[HEAD..].first_chunk() else {
                            return Ok(None);
                        };
                        // One that wasn't answered yet is answered with the next.
                        self.pong = Some(pong(*id));
                    }
                    self.received.advance(HEAD);
                    self.begin(head);
                    if self.ended {
                        return Ok(None);
                    }
                }
                Frame::Data { left: 0, last } => {
                    self.frame = Frame::None;
                    if last {
                        self.ended = true;
                        return Ok(None);
                    }
                }
                Frame::Data { left, last } => {
                    let count = left.min(self.received.len()).min(most);
                    if count == 0 {
                        return Ok(None);
                    }
                    let left = left - count;
                    self.frame = Frame::Data { left, last };
                    return Ok(Some(self.received.split_to(count).freeze()));
                }
                Frame::Words { left: 0, last } => {
                    self.frame = Frame::None;
                    if last && !self.words.is_empty() {
                        self.ended = true;
                        return Ok(None);
                    }
                }
                Frame::Words { left, last } => {
                    let count = left.min(self.received.len());
                    if count == 0 {
                        return Ok(None);
                    }
                    let words = self.received.split_to(count);
                    let room = WORDS.saturating_sub(self.words.len()).min(count);
                    self.words.extend_from_slice(&words[..room]);
                    let left = left - count;
                    self.frame = Frame::Words { left, last };
                }
                Frame::Skipped { left: 0 } => self.frame = Frame::None,
                Frame::Skipped { left } => {
                    let count = left.min(self.received.len());
                    if count == 0 {
                        return Ok(None);
                    }
                    self.received.advance(count);
                    self.frame = Frame::Skipped { left: left - count };
                }
            }
        }
    }

    fn begin(&mut self, head: Head) {
        self.frame = match head {
            Head::Data {
                stream: DATA_STREAM,
                last,
                length,
            } => Frame::Data { left: length, last },
            Head::Data { last, length, .. } => Frame::Words { left: length, last },
            Head::Control {
                kind: Control::Reset | Control::GoAway,
                ..
            } => {
                self.ended = true;
                return;
            }
            Head::Control { length, .. } => Frame::Skipped { left: length },
        };
    }

    /// What the node said of an error, when the forward has ended.
    fn failure(&mut self) -> Option<ForwardError> {
        if !self.ended || self.words.is_empty() {
            return None;
        }
        let words = mem::take(&mut self.words);
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        Some(PodError::parse(words).into())
    }
}

impl<S: AsyncWrite + Unpin> SpdyStream<S> {
    /// Writes what is to be written before anything else.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.outgoing.is_empty() {
                match self.pong.take() {
                    Some(pong) => self.outgoing.put_slice(&pong),
                    None => return Poll::Ready(Ok(())),
                }
            }
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
    }

    /// The same for whoever writes.
    fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.poll_outgoing(cx);
        self.writer_waits = written.is_pending();
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SpdyStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.ended && buffer.remaining() > 0 {
            let Some(bytes) = this.next(buffer.remaining())? else {
                // Whoever only reads has nobody else to write these.
                if !this.writer_waits
                    && (this.pong.is_some() || !this.outgoing.is_empty())
                    && let Poll::Ready(written) = this.poll_outgoing(cx)
                {
                    written?;
                    let _ = Pin::new(&mut this.transport).poll_flush(cx)?;
                }
                if this.ended {
                    break;
                }
                this.received.reserve(READ);
                let read = tokio_util::io::poll_read_buf(
                    Pin::new(&mut this.transport),
                    cx,
                    &mut this.received,
                );
                if ready!(read)? == 0 {
                    this.ended = true;
                }
                continue;
            };
            buffer.put_slice(&bytes);
            break;
        }
        Poll::Ready(this.failure().map_or(Ok(()), |error| Err(error.into())))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SpdyStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_writer(cx))?;
        let data = &data[..data.len().min(MOST)];
        if !data.is_empty() {
            self.outgoing
                .put_slice(&data_head(DATA_STREAM, data.len(), false));
            self.outgoing.put_slice(data);
            // The frame is taken either way; what can't leave now does with the next write or flush.
            if let Poll::Ready(written) = self.poll_outgoing(cx) {
                written?;
            }
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_writer(cx))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_writer(cx))?;
        // The node lets go of the pod's port when the connection ends, and has no say any more.
        self.ended = true;
        self.words.clear();
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::channel::PodErrorKind;
    use super::super::frame::ERROR_STREAM;
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    const RESET: [u8; 16] = [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5];
    /// It has taken no stream.
    const GO_AWAY: [u8; 16] = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];

    fn data(stream: u32, bytes: &[u8], last: bool) -> Vec<u8> {
        [&data_head(stream, bytes.len(), last)[..], bytes].concat()
    }

    /// A forward, and the node's end of it after it has read the opening.
    async fn forward() -> (SpdyStream<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(1 << 20);
        let mut stream = SpdyStream::new(near, 8080);
        stream.flush().await.unwrap();
        let mut begun = vec![0; opening(8080).len()];
        far.read_exact(&mut begun).await.unwrap();
        assert_eq!(begun, opening(8080));
        (stream, far)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_whatever_the_frames() {
        let (mut stream, mut far) = forward().await;
        let sent: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        let sends = async {
            stream.write_all(&sent).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let receives = async {
            let mut got = Vec::new();
            while got.len() < 200_000 {
                let mut head = [0; HEAD];
                far.read_exact(&mut head).await.unwrap();
                let Ok(Head::Data {
                    stream: DATA_STREAM,
                    last: false,
                    length,
                }) = Head::parse(head)
                else {
                    panic!("{head:?}")
                };
                let start = got.len();
                got.resize(start + length, 0);
                far.read_exact(&mut got[start..]).await.unwrap();
            }
            (got, far)
        };
        let (mut stream, (got, mut far)) = tokio::join!(sends, receives);
        assert!(got == sent);
        // In pieces that are no frames, with a reply that nobody asked for in between.
        let mut all = data(DATA_STREAM, b"hel", false);
        all.extend([0x80, 3, 0, 2, 0, 0, 0, 4, 0, 0, 0, 3]);
        all.extend(data(DATA_STREAM, b"", false));
        all.extend(data(DATA_STREAM, b"lo", true));
        for piece in all.chunks(5) {
            far.write_all(piece).await.unwrap();
        }
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hello");
    }

    #[tokio::test]
    async fn a_ping_is_answered_by_whoever_reads() {
        let (mut stream, mut far) = forward().await;
        far.write_all(&pong([0, 0, 0, 2])).await.unwrap();
        far.write_all(&data(DATA_STREAM, b"x", false))
            .await
            .unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        far.write_all(&data(DATA_STREAM, b"y", false))
            .await
            .unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
        stream.flush().await.unwrap();
        let mut answer = [0; HEAD + 4];
        far.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, pong([0, 0, 0, 2]));
    }

    #[tokio::test]
    async fn whoever_only_reads_opens_the_forward_and_answers_all_of_a_ping() {
        // Less than a pong.
        let (near, mut far) = duplex(9);
        let mut stream = SpdyStream::new(near, 8080);
        let reads = async { stream.read_u8().await.unwrap() };
        let node = async {
            let mut begun = vec![0; opening(8080).len()];
            far.read_exact(&mut begun).await.unwrap();
            assert_eq!(begun, opening(8080));
            far.write_all(&pong([0, 0, 0, 2])).await.unwrap();
            let mut answer = [0; HEAD + 4];
            far.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, pong([0, 0, 0, 2]));
            far.write_all(&data(DATA_STREAM, b"x", false))
                .await
                .unwrap();
        };
        let both = async { tokio::join!(reads, node).0 };
        let read = tokio::time::timeout(Duration::from_secs(10), both).await;
        assert_eq!(read, Ok(b'x'));
    }

    #[tokio::test]
    async fn a_writer_that_waits_is_woken_whatever_a_reader_does() {
        let (near, mut far) = duplex(9);
        let stream = SpdyStream::new(near, 8080);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writes = tokio::spawn(async move {
            writer.write_all(&[7; 3 * MOST]).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let reads = tokio::spawn(async move { reader.read_u8().await });
        far.write_all(&pong([0, 0, 0, 2])).await.unwrap();
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), far.read_to_end(&mut all));
        read.await.expect("it goes on").unwrap();
        let length = opening(8080).len() + 3 * (HEAD + MOST) + HEAD + 4;
        assert_eq!(all.len(), length);
        writes.await.unwrap();
        drop(far);
        let ended = reads.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn an_error_of_the_nodes_is_typed_however_the_forward_ends() {
        let words = b"dial tcp4 127.0.0.1:8080: connect: connection refused";
        for (last, behind) in [
            (true, Vec::new()),
            (false, Vec::new()),
            // What a kubelet of 1.34 says.
            (false, RESET.to_vec()),
            (false, GO_AWAY.to_vec()),
            (false, data(DATA_STREAM, b"", true)),
        ] {
            let (mut stream, mut far) = forward().await;
            let said = [data(ERROR_STREAM, words, last), behind].concat();
            far.write_all(&said).await.unwrap();
            drop(far);
            let error = stream.read_u8().await.unwrap_err();
            let error = error.get_ref().and_then(|error| error.downcast_ref());
            let Some(ForwardError::Pod(PodError {
                kind: PodErrorKind::Refused,
                ..
            })) = error
            else {
                panic!("{error:?}")
            };
            let nothing = stream.read(&mut [0; 9]).await.unwrap();
            assert_eq!(nothing, 0, "it is told once");
        }
    }

    #[tokio::test]
    async fn what_comes_behind_the_end_is_nobodys() {
        // What is in a reset looks like the head of five bytes.
        for end in [&RESET[..], &GO_AWAY, &data(DATA_STREAM, b"", true)] {
            let (mut stream, mut far) = forward().await;
            let said = [end, &data(DATA_STREAM, b"hello", false)].concat();
            far.write_all(&said).await.unwrap();
            let read = stream.read(&mut [0; 9]).await.unwrap();
            assert_eq!(read, 0, "{end:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_broken_off_or_makes_no_sense_ends() {
        for (said, is_error) in [
            (&RESET[..], false),
            (&GO_AWAY, false),
            (b"HTTP/1.1 400 ", true),
        ] {
            let (mut stream, mut far) = forward().await;
            far.write_all(said).await.unwrap();
            let read = stream.read(&mut [0; 9]).await;
            assert_eq!(read.is_err(), is_error, "{said:?}");
            assert!(read.is_err() || read.is_ok_and(|count| count == 0));
        }
    }
}
