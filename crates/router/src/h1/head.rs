//! The heads of requests and responses, RFC 9112 sections 2 to 5. No IO.

use httparse::{Header, ParserConfig, Request, Response, Status};
use kdev_rules::Head;
use memchr::{memchr, memchr_iter};

use super::body::Body;
use super::framing::{Lines, Unclear};

/// What has to be known of a request to find its end and that of its response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) body: Body,
    /// The client wants to go on with the connection.
    pub(crate) keep_alive: bool,
    /// Asking twice is as good as once, RFC 9110 section 9.2.2, and there is nothing but the head to send.
    pub(crate) repeatable: bool,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    /// The client may not send the body unless asked to.
    pub(crate) expects: bool,
    /// Who answers may go on in HTTP/2, see [`super::upgrade`].
    pub(crate) offers_h2c: bool,
}

/// What has to be known of a response to find its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) kind: Kind,
    pub(crate) body: Body,
    /// The destination goes on with the connection.
    pub(crate) keep_alive: bool,
    /// The body's end is certain.
    pub(crate) certain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another response follows, RFC 9110 section 15.2.
    Interim,
    Final,
    /// From now on both sides speak another protocol.
    Switch,
}

/// Why a head can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    TooManyHeaders,
    Unclear(Unclear),
}

/// Searches for the end of a head in bytes that grow.
#[derive(Debug, Default)]
pub(crate) struct End {
    begun: bool,
    seen: usize,
}

impl End {
    /// The head's length with its empty line, and with those before it (RFC 9112 section 2.2).
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.begun {
            let blank = |byte: &&u8| b"\r\n".contains(byte);
            self.seen += bytes[self.seen..].iter().take_while(blank).count();
            self.begun = self.seen < bytes.len();
        }
        while let Some(at) = memchr(b'\n', &bytes[self.seen..]) {
            let next = self.seen + at + 1;
            match &bytes[next..] {
                [b'\n', ..] => return Some(next + 1),
                [b'\r', b'\n', ..] => return Some(next + 2),
                [] | [b'\r'] => {
                    self.seen += at;
                    return None;
                }
                _ => self.seen = next,
            }
        }
        self.seen = bytes.len();
        None
    }

    /// Whether there was more than empty lines.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }
}

/// Reads a request's head, shows it, and says what was made of it.
pub(crate) fn request<R>(
    bytes: &[u8],
    most_headers: usize,
    show: impl FnOnce(&Head<'_>) -> R,
) -> Result<(Asked, R), Refused> {
    let mut headers = room(bytes, most_headers);
    let mut request = Request::new(&mut headers);
    whole(request.parse(bytes), bytes)?;
    // Some take an LF alone for a line's end and some don't.
    let without_cr = |at: usize| at == 0 || bytes[at - 1] != b'\r';
    if memchr_iter(b'\n', bytes).any(without_cr) {
        return Err(unclear("a line ends without CR"));
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(unclear("no request line"));
    };
    let lines = Lines::of(request.headers);
    let body = lines.of_request(minor).map_err(Refused::Unclear)?;
    let is_connect = method == "CONNECT";
    if is_connect && body != Body::NONE {
        return Err(unclear("CONNECT with a body"));
    }
    let idempotent = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&method);
    let pairs: Vec<_> = request.headers.iter().map(pair).collect();
    let shown = show(&Head::new(method.as_bytes(), target.as_bytes(), &pairs[..]));
    let asked = Asked {
        repeatable: idempotent && body == Body::NONE,
        body,
        keep_alive: lines.keep_alive(minor),
        is_head: method == "HEAD",
        is_connect,
        expects: lines.expects,
        offers_h2c: lines.offers_h2c,
    };
    Ok((asked, shown))
}

/// How many of the first bytes of a connection are the head of a request that may be said twice, see
/// [`Asked::repeatable`]; none, where they are anything else.
pub fn repeatable(bytes: &[u8], most_headers: usize) -> usize {
    let Some(length) = End::default().find(bytes) else {
        return 0;
    };
    match request(&bytes[..length], most_headers, |_| ()) {
        Ok((asked, ())) if asked.repeatable => length,
        _ => 0,
    }
}

/// Reads a response's head. What clients let servers write is let through.
pub(crate) fn response(
    bytes: &[u8],
    most_headers: usize,
    asked: &Asked,
) -> Result<Answered, Refused> {
    let mut headers = room(bytes, most_headers);
    let mut response = Response::new(&mut headers);
    let mut parser = ParserConfig::default();
    parser
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true);
    whole(parser.parse_response(&mut response, bytes), bytes)?;
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(unclear("no status line"));
    };
    let lines = Lines::of(response.headers);
    let (body, certain) = lines.of_response(minor);
    let kind = match status {
        101 => Kind::Switch,
        100..=199 => Kind::Interim,
        200..=299 if asked.is_connect => Kind::Switch,
        _ => Kind::Final,
    };
    let bodyless = asked.is_head || kind != Kind::Final || matches!(status, 204 | 304);
    let body = if bodyless { Body::NONE } else { body };
    Ok(Answered {
        kind,
        keep_alive: lines.keep_alive(minor) && body != Body::UntilClose && (certain || bodyless),
        certain: certain || bodyless,
        body,
    })
}

/// Room for as many header lines as there can be in a head, which are fewer than may be in most.
fn room<'a>(bytes: &[u8], most: usize) -> Vec<Header<'a>> {
    let lines = memchr_iter(b'\n', bytes).count();
    vec![httparse::EMPTY_HEADER; lines.min(most)]
}

fn whole(parsed: httparse::Result<usize>, bytes: &[u8]) -> Result<(), Refused> {
    match parsed {
        Ok(Status::Complete(length)) if length == bytes.len() => Ok(()),
        Ok(_) => Err(unclear("the head ends elsewhere")),
        Err(httparse::Error::TooManyHeaders) => Err(Refused::TooManyHeaders),
        Err(_) => Err(unclear("the head can't be read")),
    }
}

fn unclear(why: &'static str) -> Refused {
    Refused::Unclear(Unclear(why))
}

fn pair<'a>(header: &Header<'a>) -> (&'a [u8], &'a [u8]) {
    (header.name.as_bytes(), header.value)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
