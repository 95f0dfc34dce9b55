//! What a client speaks, by its first bytes. No IO.

/// What an HTTP/2 connection begins with, RFC 9113 section 3.4.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// More letters than any method has.
const METHOD: usize = 64;

const VERSION: &[u8] = b"HTTP/1.";

/// What a handshake's first record begins with, RFC 8446 section 5.1: its type, and the version that all have.
const TLS: [u8; 2] = [22, 3];

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Tls,
    Other,
}

/// Reads a request line, RFC 9112 section 3, as far as it has come. Each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Sniffer {
    seen: usize,
    part: Part,
    /// Bytes of that part.
    length: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Part {
    #[default]
    Method,
    Target,
    Version,
    /// The line's end.
    End,
}

impl Sniffer {
    /// What these bytes begin, of which a part may have been given before; none as long as it can be several.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Option<Protocol> {
        if bytes.starts_with(PREFACE) {
            return Some(Protocol::Http2);
        }
        if bytes.starts_with(&TLS) {
            return Some(Protocol::Tls);
        }
        if PREFACE.starts_with(bytes) || TLS.starts_with(bytes) {
            return None;
        }
        while let Some(byte) = bytes.get(self.seen) {
            self.seen += 1;
            match self.step(*byte) {
                Step::Same => self.length += 1,
                Step::Next(part) => (self.part, self.length) = (part, 0),
                Step::Is(protocol) => return Some(protocol),
            }
        }
        None
    }

    fn step(&self, byte: u8) -> Step {
        match (self.part, byte) {
            (Part::Method, byte) if is_token(byte) && self.length < METHOD => Step::Same,
            (Part::Method, b' ') if self.length > 0 => Step::Next(Part::Target),
            (Part::Target, b'!'..=b'~' | 0x80..) => Step::Same,
            (Part::Target, b' ') if self.length > 0 => Step::Next(Part::Version),
            (Part::Version, byte) if VERSION.get(self.length) == Some(&byte) => Step::Same,
            (Part::Version, b'0' | b'1') if self.length == VERSION.len() => Step::Next(Part::End),
            (Part::End, b'\r') if self.length == 0 => Step::Same,
            (Part::End, b'\n') if self.length == 1 => Step::Is(Protocol::Http1),
            _ => Step::Is(Protocol::Other),
        }
    }
}

enum Step {
    Same,
    Next(Part),
    Is(Protocol),
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said after each byte, up to the first verdict: how many bytes that took, and the verdict.
    fn verdict(bytes: &[u8]) -> Option<(usize, Protocol)> {
        let mut sniffer = Sniffer::default();
        (1..=bytes.len()).find_map(|end| Some((end, sniffer.look(&bytes[..end])?)))
    }

    #[test]
    fn a_protocol_is_known_at_the_first_byte_that_tells() {
        use Protocol::{Http1, Http2, Other, Tls};
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some((16, Http1))),
            (b"M-SEARCH * HTTP/1.0\r\nHost", Some((21, Http1))),
            (b"POST /\xc3\xa4 HTTP/1.1\r\n", Some((19, Http1))),
            (b"PRI / HTTP/1.1\r\n", Some((16, Http1))),
            (PREFACE, Some((24, Http2))),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Some((24, Other))),
            (b"GET", None),
            (b"GET / HTTP/1.1", None),
            (b"P", None),
            (b"\x16\x03\x01\x02\x00", Some((2, Tls))),
            (b"\x16", None),
            (b"\x16\x16", Some((2, Other))),
            (b"\r\nGET / HTTP/1.1\r\n", Some((1, Other))),
            (b" GET / HTTP/1.1\r\n", Some((1, Other))),
            (b"PING\r\n", Some((5, Other))),
            (b"*1\r\n$4\r\nPING\r\n", Some((3, Other))),
            (b"GET /\r\n", Some((6, Other))),
            (b"get key\r\n", Some((8, Other))),
            (b"set k 0 0 5\r\n", Some((7, Other))),
            (b"GET  / HTTP/1.1\r\n", Some((5, Other))),
            (b"GET / HTTP/1.1\n", Some((15, Other))),
            (b"GET / HTTP/1.2\r\n", Some((14, Other))),
            (b"GET / HTTP/1.1 \r\n", Some((15, Other))),
            (b"AMQP\x00\x00\x09\x01", Some((5, Other))),
        ] {
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(verdict(bytes), expected, "{shown:?}");
            let at_once = Sniffer::default().look(bytes);
            assert_eq!(at_once, expected.map(|(_, protocol)| protocol), "{shown:?}");
        }
    }

    #[test]
    fn a_word_that_never_ends_is_no_method() {
        assert_eq!(verdict(&[b'A'; 100]), Some((65, Protocol::Other)));
    }
}
