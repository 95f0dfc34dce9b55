//! What clients are answered from here.

/// An answer of the router's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// RFC 9110 section 15.5.1.
    BadRequest(&'static str),
    /// RFC 9110 section 15.5.9.
    Timeout,
    /// RFC 6585 section 5.
    HeadTooLarge,
    /// RFC 9110 section 15.6.3: the destination can't be reached.
    BadGateway(&'a str),
}

impl Answer<'_> {
    /// Its bytes; those of the body aren't sent to who asked for the head only.
    pub(crate) fn bytes(self, with_body: bool, close: bool) -> Vec<u8> {
        let (status, body) = match self {
            Self::BadRequest(why) => (
                "400 Bad Request",
                format!("kdev can't tell where this request ends: {why}.\n"),
            ),
            Self::Timeout => (
                "408 Request Timeout",
                "kdev waited too long for the end of this request's head.\n".to_owned(),
            ),
            Self::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                "kdev doesn't take a request's head of this size.\n".to_owned(),
            ),
            Self::BadGateway(body) => ("502 Bad Gateway", body.to_owned()),
        };
        let close = if close { "Connection: close\r\n" } else { "" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{close}\r\n"
        );
        let mut bytes = head.into_bytes();
        if with_body {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}
