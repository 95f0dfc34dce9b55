//! Echo messages as they travel in a flow: whole ICMP messages, of which the kernel that sends them
//! fills in checksum and identifier (icmp(7)).

use std::net::IpAddr;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;

/// Makes the request that the far end's kernel sends to `target`.
pub fn request(target: IpAddr, sequence: u16, payload: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(HEADER + payload.len());
    message.put_u8(if target.is_ipv4() { 8 } else { 128 });
    message.put_slice(&[0; 5]);
    message.put_u16(sequence);
    message.put_slice(payload);
    message.freeze()
}

/// Reads a reply: its sequence number and payload.
pub fn reply(message: &[u8]) -> Option<(u16, &[u8])> {
    let payload = message.get(HEADER..)?;
    matches!(message[0], 0 | 129).then(|| (u16::from_be_bytes([message[6], message[7]]), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_everything_else() {
        let target = IpAddr::from([10, 0, 0, 1]);
        let asked = request(target, 7, b"hello");
        assert_eq!(reply(&asked), None, "a request isn't one");
        let mut answer = asked.to_vec();
        answer[0] = 0;
        assert_eq!(reply(&answer), Some((7, &b"hello"[..])));
        assert_eq!(reply(&answer[..7]), None);
    }
}
