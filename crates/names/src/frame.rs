//! Messages over TCP: each after its length in two bytes (RFC 1035 section 4.2.2).

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::wire::MAX_MESSAGE;

/// The next message, or `None` when the peer closed between two. What was read of an unfinished one
/// stays in `buffer`. Cancel safe.
pub(crate) async fn read<R>(reader: &mut R, buffer: &mut BytesMut) -> io::Result<Option<Bytes>>
where
    R: AsyncRead + Unpin,
{
    loop {
        if let Some(length) = buffer.first_chunk().copied().map(u16::from_be_bytes) {
            let length = usize::from(length);
            if buffer.len() >= 2 + length {
                buffer.advance(2);
                return Ok(Some(buffer.split_to(length).freeze()));
            }
            buffer.reserve(2 + length - buffer.len());
        }
        if reader.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    }
}

/// Writes a message, in one piece with its length. Not cancel safe: afterwards the connection is of no use.
pub(crate) async fn write<W>(writer: &mut W, message: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let length = u16::try_from(message.len()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a DNS message has at most {MAX_MESSAGE} bytes"),
        )
    })?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    writer.write_all(&framed).await
}
