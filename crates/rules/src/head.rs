//! What conditions see of a request: borrowed, so that it costs nothing to make.
//!
//! | | is |
//! |---|---|
//! | method | as sent; methods are case-sensitive (RFC 9110 section 9.1) |
//! | path | the target's path without query, as sent: nothing is decoded or normalized. `/` where an absolute target has none. The targets `*` and `host:port` have no path, so no condition on the path matches them |
//! | header | the bytes of a line's value without spaces and tabs around it; names don't care for case. Of several lines, one has to match |
//! | header `host` | the target's authority without user info, which is `:authority` in HTTP/2 and stands above `Host` (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1); `Host` when there is none. Of a TLS connection, the name of the server that the client asks for |

use http::header::{HOST, HeaderMap, HeaderName};
use http::request::Parts;

/// A request's head. See the module.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    method: &'a [u8],
    path: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    fields: Fields<'a>,
}

/// A request's header lines.
#[derive(Debug, Clone, Copy)]
pub enum Fields<'a> {
    /// As the `http` crate holds them.
    Map(&'a HeaderMap),
    /// Names and values as a parser found them, in any case and order.
    Lines(&'a [(&'a [u8], &'a [u8])]),
}

impl<'a> From<&'a HeaderMap> for Fields<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        Self::Map(map)
    }
}

impl<'a> From<&'a [(&'a [u8], &'a [u8])]> for Fields<'a> {
    fn from(lines: &'a [(&'a [u8], &'a [u8])]) -> Self {
        Self::Lines(lines)
    }
}

impl<'a> From<&'a Parts> for Head<'a> {
    fn from(parts: &'a Parts) -> Self {
        let path = match parts.uri.path() {
            "" | "*" => None,
            path => Some(path.as_bytes()),
        };
        Self {
            method: parts.method.as_str().as_bytes(),
            path,
            authority: parts.uri.authority().map(|it| host(it.as_str().as_bytes())),
            fields: Fields::Map(&parts.headers),
        }
    }
}

impl<'a> Head<'a> {
    /// The head of a request whose first line had this method and this target in any of the forms of
    /// RFC 9112 section 3.2; for HTTP/2 the target is `:path`.
    pub fn new(method: &'a [u8], target: &'a [u8], fields: impl Into<Fields<'a>>) -> Self {
        let (authority, path) = split(method, target);
        Self {
            method,
            path,
            authority: authority.map(host),
            fields: fields.into(),
        }
    }

    /// The same head with HTTP/2's `:authority`.
    #[must_use]
    pub fn with_authority(self, authority: &'a [u8]) -> Self {
        Self {
            authority: Some(host(authority)),
            ..self
        }
    }

    /// What is seen of a TLS connection: the name of the server that the client asks for (SNI, RFC 6066 section 3),
    /// as the header `host`. It has no method, no path and no other header.
    pub fn of_tls(server_name: &'a [u8]) -> Self {
        Self {
            method: b"",
            path: None,
            authority: Some(server_name),
            fields: Fields::Lines(&[]),
        }
    }

    /// The method.
    pub fn method(&self) -> &'a [u8] {
        self.method
    }

    /// The path, where the target has one.
    pub fn path(&self) -> Option<&'a [u8]> {
        self.path
    }

    /// Whether the value of any line of this header passes the test.
    pub fn any_value(&self, name: &HeaderName, mut test: impl FnMut(&'a [u8]) -> bool) -> bool {
        if let (Some(authority), true) = (self.authority, *name == HOST) {
            return test(authority);
        }
        match self.fields {
            Fields::Map(map) => map
                .get_all(name)
                .iter()
                .any(|value| test(trim(value.as_bytes()))),
            Fields::Lines(lines) => lines
                .iter()
                .filter(|(line, _)| line.eq_ignore_ascii_case(name.as_str().as_bytes()))
                .any(|(_, value)| test(trim(value))),
        }
    }
}

/// The authority and the path of a request's target.
fn split<'a>(method: &[u8], target: &'a [u8]) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
    if target.first() == Some(&b'/') {
        return (None, Some(without_query(target)));
    }
    if let Some(rest) = after_scheme(target) {
        let end = rest
            .iter()
            .position(|byte| b"/?#".contains(byte))
            .unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = without_query(path);
        return (
            Some(authority),
            Some(if path.is_empty() { b"/" } else { path }),
        );
    }
    ((method == b"CONNECT").then_some(target), None)
}

/// What follows `scheme://` in a target in absolute form.
pub(crate) fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let named = scheme.first()?.is_ascii_alphabetic()
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    rest.strip_prefix(b"://").filter(|_| named)
}

/// The path of what may also be a whole URL, for hints.
pub(crate) fn path_of(target: &str) -> Option<&str> {
    let path = split(b"GET", target.as_bytes()).1?;
    std::str::from_utf8(path).ok()
}

fn without_query(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| b"?#".contains(byte));
    end.map_or(target, |end| &target[..end])
}

fn host(authority: &[u8]) -> &[u8] {
    let at = authority.iter().rposition(|byte| *byte == b'@');
    at.map_or(authority, |at| &authority[at + 1..])
}

/// A value without optional whitespace around it, RFC 9110 section 5.6.3.
pub(crate) fn trim(value: &[u8]) -> &[u8] {
    let seen = |byte: &u8| !b" \t".contains(byte);
    let Some(start) = value.iter().position(seen) else {
        return b"";
    };
    let end = value.iter().rposition(seen).unwrap_or(start);
    &value[start..=end]
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
