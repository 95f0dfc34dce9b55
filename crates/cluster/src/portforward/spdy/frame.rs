//! The frames of SPDY/3.1 that a port-forward needs. Pure.
//!
//! A forward is two streams with the same request's id: one for errors, one for data
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go`). Their windows are never checked by
//! Kubernetes' implementation, so none is kept here.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes in front of every frame.
pub(super) const HEAD: usize = 8;
/// Stream on which the node tells of errors; a client's are odd.
pub(super) const ERROR_STREAM: u32 = 1;
/// Stream with the connection's bytes.
pub(super) const DATA_STREAM: u32 = 3;

/// Set in the first bit of a frame that isn't data.
const CONTROL: u32 = 1 << 31;
const VERSION: u32 = 3;
const SYN_STREAM: u32 = 1;
const RST_STREAM: u32 = 3;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
/// Nothing more comes on the stream.
const FIN: u32 = 1 << 24;
const LENGTH: u32 = (1 << 24) - 1;

/// A frame, by what is in front of it; as many bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Data {
        stream: u32,
        last: bool,
        length: usize,
    },
    /// A stream was accepted or broken, the connection is to end, somebody wants to know whether it
    /// lives; or something that needs no answer.
    Control { kind: Control, length: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Reset,
    GoAway,
    Ping,
    Other,
}

/// Bytes that are no SPDY/3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpdyError {
    /// Another version.
    #[error("version {0} of SPDY")]
    Version(u32),
    /// A stream that nobody opened.
    #[error("a frame for the unknown stream {0}")]
    Stream(u32),
    /// More than such a frame can have, or less.
    #[error("a frame of {0} bytes")]
    Length(usize),
}

/// Most bytes of a frame that isn't data: none of those that matter has more.
const MOST_CONTROL: usize = 64 << 10;

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Result<Self, SpdyError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let (first, second) = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        );
        // 24 bits.
        let length = (second & LENGTH) as usize;
        if first & CONTROL == 0 {
            let stream = first;
            if stream != DATA_STREAM && stream != ERROR_STREAM {
                return Err(SpdyError::Stream(stream));
            }
            let last = second & FIN != 0;
            return Ok(Self::Data {
                stream,
                last,
                length,
            });
        }
        let version = first >> 16 & 0x7fff;
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > MOST_CONTROL {
            return Err(SpdyError::Length(length));
        }
        let kind = match first & 0xffff {
            // The four bytes of its id go back.
            PING if length != 4 => return Err(SpdyError::Length(length)),
            RST_STREAM => Control::Reset,
            GOAWAY => Control::GoAway,
            PING => Control::Ping,
            _ => Control::Other,
        };
        Ok(Self::Control { kind, length })
    }
}

/// What is in front of so many bytes of data.
pub(super) fn data_head(stream: u32, length: usize, last: bool) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(LENGTH) & LENGTH;
    let second = length | if last { FIN } else { 0 };
    join(stream, second)
}

/// The answer to a ping is the same ping.
pub(super) fn pong(id: [u8; 4]) -> [u8; HEAD + 4] {
    let mut frame = [0; HEAD + 4];
    frame[..HEAD].copy_from_slice(&join(CONTROL | VERSION << 16 | PING, 4));
    frame[HEAD..].copy_from_slice(&id);
    frame
}

fn join(first: u32, second: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&first.to_be_bytes());
    head[4..].copy_from_slice(&second.to_be_bytes());
    head
}

/// All that opens a forward to `port`: both streams, and the end of this side's errors.
pub(super) fn opening(port: u16) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut headers = Headers::default();
    syn_stream(&mut bytes, ERROR_STREAM, &headers.block("error", port));
    bytes.put_slice(&data_head(ERROR_STREAM, 0, true));
    syn_stream(&mut bytes, DATA_STREAM, &headers.block("data", port));
    bytes
}

fn syn_stream(bytes: &mut BytesMut, stream: u32, headers: &[u8]) {
    let length = u32::try_from(headers.len() + 10).unwrap_or(LENGTH);
    bytes.put_slice(&join(CONTROL | VERSION << 16 | SYN_STREAM, length));
    bytes.put_u32(stream);
    // Belongs to no other stream; priority and slot of no meaning.
    bytes.put_u32(0);
    bytes.put_u16(0);
    bytes.put_slice(headers);
}

/// The headers of a connection are one zlib stream (RFC 1950). Blocks that are stored as they are
/// (RFC 1951 section 3.2.4) make one that needs no compressor.
#[derive(Default)]
struct Headers {
    begun: bool,
}

impl Headers {
    fn block(&mut self, kind: &str, port: u16) -> Vec<u8> {
        let port = port.to_string();
        let pairs = [("streamtype", kind), ("port", &port), ("requestid", "0")];
        let mut plain = BytesMut::new();
        plain.put_u32(3);
        for text in pairs.iter().flat_map(|(name, value)| [*name, *value]) {
            plain.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::new();
        if !self.begun {
            // Deflate with the largest window, no dictionary; the check makes it a multiple of 31.
            block.extend([0x78, 0x01]);
            self.begun = true;
        }
        let length = u16::try_from(plain.len()).unwrap_or(u16::MAX);
        block.push(0);
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(&plain[..]);
        // An empty one behind it makes the reader hand out what it has, as after a flush of zlib's.
        block.extend([0, 0, 0, 0xff, 0xff]);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(first: u32, second: u32) -> Result<Head, SpdyError> {
        Head::parse(join(first, second))
    }

    #[test]
    fn a_head_says_what_follows() {
        let data = |last| Head::Data {
            stream: DATA_STREAM,
            last,
            length: 5,
        };
        assert_eq!(head(3, 5), Ok(data(false)));
        assert_eq!(head(3, FIN | 5), Ok(data(true)));
        let control = |kind| Ok(Head::Control { kind, length: 4 });
        assert_eq!(head(0x8003_0006, 4), control(Control::Ping));
        assert_eq!(head(0x8003_0003, 4), control(Control::Reset));
        assert_eq!(head(0x8003_0007, 4), control(Control::GoAway));
        assert_eq!(head(0x8003_0002, 4), control(Control::Other));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(head(5, 0), Err(SpdyError::Stream(5)));
        assert_eq!(head(0x8002_0006, 4), Err(SpdyError::Version(2)));
        let too_long = LENGTH as usize;
        assert_eq!(head(0x8003_0002, LENGTH), Err(SpdyError::Length(too_long)));
        for length in [0, 3, 5] {
            let refused = Err(SpdyError::Length(length as usize));
            assert_eq!(head(0x8003_0006, length), refused, "of a ping");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let head = Head::parse(data_head(DATA_STREAM, 70_000, true));
        let expected = Head::Data {
            stream: DATA_STREAM,
            last: true,
            length: 70_000,
        };
        assert_eq!(head, Ok(expected));
        let pong = pong([0, 0, 0, 7]);
        let head = Head::parse(*pong.first_chunk().unwrap());
        assert_eq!(
            head,
            Ok(Head::Control {
                kind: Control::Ping,
                length: 4
            })
        );
    }

    #[test]
    fn both_streams_are_opened_in_one_zlib_stream_of_stored_blocks() {
        let opening = opening(8080);
        let at = |offset: usize| u32::from_be_bytes(*opening[offset..].first_chunk().unwrap());
        assert_eq!(at(0), 0x8003_0001);
        let length = at(4) as usize;
        assert_eq!(at(8), ERROR_STREAM);
        assert_eq!(opening[18..20], [0x78, 0x01]);
        assert_eq!(0x7801 % 31, 0, "RFC 1950 section 2.2");
        let stored = u16::from_le_bytes(*opening[21..].first_chunk().unwrap());
        assert_eq!(usize::from(stored) + 5 + 5 + 2 + 10, length);
        let next = HEAD + length;
        assert_eq!(opening[next..next + HEAD], data_head(ERROR_STREAM, 0, true));
        assert_eq!(
            (at(next + HEAD), at(next + 2 * HEAD)),
            (0x8003_0001, DATA_STREAM)
        );
        assert_eq!(opening[next + 2 * HEAD + 10], 0, "the stream goes on");
    }
}
