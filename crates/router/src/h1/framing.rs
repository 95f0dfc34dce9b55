//! How a message's body is framed, RFC 9112 section 6. No IO.

use httparse::Header;

use super::body::Body;
use super::upgrade::is_h2c;

/// What the lines of a head say of the body and of the connection.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    length: Length,
    coding: Coding,
    close: bool,
    keep: bool,
    /// Whether the client waits to be asked for the body, RFC 9110 section 10.1.1.
    pub(crate) expects: bool,
    /// Whether the other side may go on in HTTP/2, RFC 7540 section 3.2.
    pub(crate) offers_h2c: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Length {
    #[default]
    None,
    Is(u64),
    Unclear,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// The last coding is chunked, and no other is.
    Chunked,
    Other,
}

/// What can be said of a body's end, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unclear(pub(crate) &'static str);

impl Lines {
    pub(crate) fn of(headers: &[Header<'_>]) -> Self {
        let mut lines = Self::default();
        for Header { name, value } in headers {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("content-length") {
                lines.length = lines.length.and(value);
            } else if is("transfer-encoding") {
                lines.coding = lines.coding.then(value);
            } else if is("connection") {
                for option in list(value) {
                    lines.close |= option.eq_ignore_ascii_case(b"close");
                    lines.keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("expect") {
                lines.expects = true;
            } else if is("upgrade") {
                lines.offers_h2c |= list(value).any(is_h2c);
            }
        }
        lines
    }

    /// Whether the connection may be used again after the message, RFC 9112 section 9.3.
    pub(crate) fn keep_alive(&self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.keep)
    }

    /// A request's body.
    ///
    /// # Errors
    ///
    /// When servers are known to differ, or to be allowed to.
    pub(crate) fn of_request(&self, minor: u8) -> Result<Body, Unclear> {
        match (self.coding, self.length) {
            (Coding::None, Length::None) => Ok(Body::NONE),
            (Coding::None, Length::Is(length)) => Ok(Body::Length(length)),
            (Coding::Chunked, Length::None) if minor == 1 => Ok(Body::chunked()),
            (Coding::None, Length::Unclear) => Err(Unclear("the Content-Length is unclear")),
            (Coding::Chunked, Length::None) => Err(Unclear("chunks in HTTP/1.0")),
            (Coding::Other, Length::None) => Err(Unclear("the Transfer-Encoding is unclear")),
            (_, _) => Err(Unclear("both Content-Length and Transfer-Encoding")),
        }
    }

    /// A response's body, and whether that is certain: where it isn't, no other message can follow.
    pub(crate) fn of_response(&self, minor: u8) -> (Body, bool) {
        match (self.coding, self.length) {
            (Coding::None, Length::None) => (Body::UntilClose, true),
            (Coding::None, Length::Is(length)) => (Body::Length(length), true),
            (Coding::Chunked, length) => {
                let certain = minor == 1 && length == Length::None;
                (Body::chunked(), certain)
            }
            (Coding::Other, Length::None) => (Body::UntilClose, true),
            (Coding::Other, _) | (Coding::None, Length::Unclear) => (Body::UntilClose, false),
        }
    }
}

impl Length {
    /// With another line. Equal ones say the same, RFC 9112 section 6.3.
    fn and(self, value: &[u8]) -> Self {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| digits);
        match (self, number.and_then(|number| number.parse().ok())) {
            (Self::None, Some(length)) => Self::Is(length),
            (Self::Is(before), Some(length)) if before == length => self,
            _ => Self::Unclear,
        }
    }
}

impl Coding {
    /// With the codings of another line after it.
    fn then(self, value: &[u8]) -> Self {
        let known: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
        let mut all = self;
        for coding in list(value) {
            let is = |known: &[u8]| coding.eq_ignore_ascii_case(known);
            all = match all {
                Self::None if is(b"chunked") => Self::Chunked,
                Self::None if known.iter().any(|known| is(known)) => continue,
                _ => Self::Other,
            };
        }
        // Compressed, but not chunked after that.
        if all == Self::None { Self::Other } else { all }
    }
}

/// A header's list, RFC 9110 section 5.6.1.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trimmed)
}

/// An item without the blanks around it.
pub(super) fn trimmed(item: &[u8]) -> &[u8] {
    let blank = |byte: &u8| b" \t".contains(byte);
    let start = item.iter().position(|byte| !blank(byte));
    let end = item.iter().rposition(|byte| !blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => &item[start..=end],
        _ => &[],
    }
}
