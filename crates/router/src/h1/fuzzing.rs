//! What has to be true of any bytes of HTTP/1.

use super::chunked::Chunked;
use super::head::{End, request, response};
use super::upgrade::without_h2c;
use crate::fuzzing::ends;

const HEADERS: usize = 64;

/// Finds a head's end in bytes that grow where it is in all of them, and reads the head.
pub(crate) fn requests(bytes: &[u8], pieces: &[u8]) {
    if let Some(length) = head_of(bytes, pieces)
        && let Ok((mut asked, methods)) =
            request(&bytes[..length], HEADERS, |head| head.method().to_vec())
    {
        assert_eq!(asked.is_connect, methods == b"CONNECT");
        assert_eq!(asked.is_head, methods == b"HEAD");
        // What is certain enough to be sent on has lines that everybody reads alike.
        let head = &bytes[..length];
        assert!(head.ends_with(b"\r\n\r\n"), "{head:?}");
        // Nor does the offer of another protocol move its end, or stay.
        if std::mem::take(&mut asked.offers_h2c) {
            let without = without_h2c(head);
            let again = request(&without, HEADERS, |_| ()).map(|(asked, ())| asked);
            assert_eq!(again, Ok(asked), "{head:?}");
        }
    }
}

/// The same for an answer to a GET.
pub(crate) fn answer_to_get(bytes: &[u8], pieces: &[u8]) {
    let asked = request(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", HEADERS, |_| ());
    let Ok((asked, ())) = asked else {
        panic!("a plain request isn't read");
    };
    if let Some(length) = head_of(bytes, pieces) {
        // Whatever it says, reading it ends.
        let _ = response(&bytes[..length], HEADERS, &asked);
    }
}

/// Finds a chunked body's end in pieces where it is in all of it.
pub(crate) fn chunks(bytes: &[u8], pieces: &[u8]) {
    let mut at_once = Chunked::default();
    let whole = at_once.take(bytes);
    let mut piecewise = Chunked::default();
    let mut taken = 0;
    let mut result = Ok(());
    for end in ends(bytes, pieces) {
        match piecewise.take(&bytes[taken..end]) {
            Ok(count) => taken += count,
            Err(bad) => {
                result = Err(bad);
                break;
            }
        }
    }
    assert_eq!(whole.is_ok(), result.is_ok(), "{bytes:?}");
    if let Ok(whole) = whole {
        assert_eq!((whole, at_once), (taken, piecewise));
    }
}

fn head_of(bytes: &[u8], pieces: &[u8]) -> Option<usize> {
    let at_once = End::default().find(bytes);
    let mut end = End::default();
    let in_pieces = ends(bytes, pieces).find_map(|length| end.find(&bytes[..length]));
    assert_eq!(at_once, in_pieces, "{bytes:?}");
    at_once
}
