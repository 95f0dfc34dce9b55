//! The members of `baggage` (W3C Baggage) and `tracestate` (W3C Trace Context, section 3.3): lists that
//! services hand on from request to request. Pure.

use std::borrow::Cow;

use http::header::HeaderName;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::head::{Head, trim};

/// Where context is carried as `key=value;properties, ...`, values percent-encoded.
pub(crate) static BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Where vendors of tracing keep `key=value, ...`, values as they are.
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What isn't a baggage-octet, and the percent sign.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'\\');

/// Whether any member of either header passes the test, which gets its key and its decoded value.
pub(crate) fn any_member(head: &Head<'_>, mut test: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
    head.any_value(&BAGGAGE, |line| {
        members(line).any(|(key, value)| test(key, &decoded(value)))
    }) || head.any_value(&TRACESTATE, |line| {
        vendors(line).any(|(key, value)| test(key, value))
    })
}

/// Keys and encoded values of a `baggage` line. What isn't a member is passed over, as the others
/// may still be meant.
fn members(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b',').filter_map(|member| {
        let member = member.split(|byte| *byte == b';').next()?;
        let (key, value) = halves(member)?;
        Some((trim(key), trim(value)))
    })
}

/// Keys and values of a `tracestate` line. Spaces before a value are part of it.
fn vendors(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|byte| *byte == b',')
        .filter_map(|member| halves(trim(member)))
}

fn halves(member: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = member.iter().position(|byte| *byte == b'=')?;
    Some((&member[..equals], &member[equals + 1..]))
}

/// The value that was encoded; what doesn't decode to UTF-8 is U+FFFD, as the recommendation has it.
fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'%') {
        return Cow::Borrowed(value);
    }
    let text = percent_decode(value).decode_utf8_lossy();
    Cow::Owned(text.into_owned().into_bytes())
}

/// A member for a `baggage` line.
pub(crate) fn member(key: &str, value: &str) -> String {
    format!("{key}={}", utf8_percent_encode(value, ENCODED))
}

/// Whether `baggage` can have such a key: a token of RFC 9110 section 5.6.2.
pub(crate) fn is_baggage_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(is_token)
}

/// Whether `tracestate` can have such a key.
pub(crate) fn is_tracestate_key(key: &str) -> bool {
    let rest =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.as_bytes().first().is_some_and(first)
        && key.len() <= 256
        && key.bytes().all(rest)
        && key.bytes().filter(|byte| *byte == b'@').count() <= 1
}

/// Whether `tracestate` can have such a value.
pub(crate) fn is_tracestate_value(value: &str) -> bool {
    let legal = |byte: u8| matches!(byte, b' '..=b'~') && !b",=".contains(&byte);
    (1..=256).contains(&value.len()) && value.bytes().all(legal) && !value.ends_with(' ')
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "baggage_tests.rs"]
mod tests;
