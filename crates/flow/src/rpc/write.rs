//! How frames become bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::{PLAIN, PREFIX};

/// The number of `FlowFrame.data`.
const DATA: u32 = 4;
/// Payloads of fewer bytes are copied: a piece of their own costs more.
const LARGE: usize = 1024;

/// Writes a message behind what `into` has already, but for a large payload at its end: that is returned,
/// and has to follow.
pub(super) fn write(frame: &FlowFrame, into: &mut BytesMut) -> Option<Bytes> {
    match &frame.kind {
        Some(Kind::Data(payload)) if payload.len() >= LARGE => {
            let length = payload.len() as u64;
            let head = key_len(DATA) + encoded_len_varint(length);
            prefix(head + payload.len(), head, into);
            encode_key(DATA, WireType::LengthDelimited, into);
            encode_varint(length, into);
            Some(payload.clone())
        }
        _ => {
            let length = frame.encoded_len();
            prefix(length, length, into);
            // It can only fail for want of room.
            let _ = frame.encode(into);
            None
        }
    }
}

/// The prefix of a message of `length` bytes, with room for `more` behind it.
fn prefix(length: usize, more: usize, into: &mut BytesMut) {
    into.reserve(PREFIX + more);
    into.put_u8(PLAIN);
    // No frame comes near to 4 GiB.
    into.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}
