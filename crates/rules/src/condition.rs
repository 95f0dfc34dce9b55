//! One thing that a request must have.

use std::fmt;

use http::header::HeaderName;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::baggage::{
    any_member, is_baggage_key, is_token, is_tracestate_key, is_tracestate_value,
};
use crate::error::ConditionError;
use crate::flags::{Flag, OWS, bounded};
use crate::head::{Head, path_of};
use crate::pattern::Pattern;

/// One thing that a request must have. Values are compared byte by byte; regexes match whole values, as if they
/// began with `^` and ended with `$`, are case-sensitive and don't care for Unicode: `.` is any byte, `\w` ASCII.
#[derive(Clone, PartialEq, Eq)]
pub struct Condition(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Header { name: HeaderName, value: Box<str> },
    HeaderRegex { name: HeaderName, regex: Pattern },
    Path(Box<str>),
    PathPrefix(Box<str>),
    PathRegex(Pattern),
    Method(Box<str>),
    Baggage { key: Box<str>, value: Box<str> },
}

impl Condition {
    /// A line of this header with this value. Spaces and tabs around the value don't count.
    ///
    /// # Errors
    ///
    /// When no request can carry it.
    pub fn header(name: &str, value: &str) -> Result<Self, ConditionError> {
        bounded(Flag::Header, name.len() + 1 + value.len())?;
        let name = header_name(name)?;
        let value = value.trim_matches(OWS);
        if value.chars().any(|it| it.is_ascii_control() && it != '\t') {
            return Err(ConditionError::HeaderValue {
                name: name.to_string(),
                value: value.into(),
            });
        }
        let value = value.into();
        Ok(Self(Kind::Header { name, value }))
    }

    /// A line of this header whose value the regex matches.
    ///
    /// # Errors
    ///
    /// When the name or the regex isn't one, or the regex too big.
    pub fn header_regex(name: &str, regex: &str) -> Result<Self, ConditionError> {
        bounded(Flag::Header, name.len() + 1 + regex.len())?;
        let name = header_name(name)?;
        let regex = pattern(Flag::Header, regex)?;
        Ok(Self(Kind::HeaderRegex { name, regex }))
    }

    /// This path.
    ///
    /// # Errors
    ///
    /// When it isn't a path as requests carry it.
    pub fn path(path: &str) -> Result<Self, ConditionError> {
        checked_path(Flag::Path, path).map(|path| Self(Kind::Path(path)))
    }

    /// This path and all below it, see [`Flag::PathPrefix`].
    ///
    /// # Errors
    ///
    /// When it isn't a path as requests carry it.
    pub fn path_prefix(prefix: &str) -> Result<Self, ConditionError> {
        checked_path(Flag::PathPrefix, prefix).map(|path| Self(Kind::PathPrefix(path)))
    }

    /// A path that the regex matches.
    ///
    /// # Errors
    ///
    /// When it isn't a regex or too big.
    pub fn path_regex(regex: &str) -> Result<Self, ConditionError> {
        bounded(Flag::PathRegex, regex.len())?;
        pattern(Flag::PathRegex, regex).map(|regex| Self(Kind::PathRegex(regex)))
    }

    /// This method.
    ///
    /// # Errors
    ///
    /// When it isn't a method, or one in the wrong case.
    pub fn method(method: &str) -> Result<Self, ConditionError> {
        bounded(Flag::Method, method.len())?;
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(ConditionError::Method {
                method: method.into(),
            });
        }
        let upper = method.to_ascii_uppercase();
        if STANDARD_METHODS.contains(&&*upper) && upper != method {
            return Err(ConditionError::MethodCase {
                method: method.into(),
                instead: upper,
            });
        }
        Ok(Self(Kind::Method(method.into())))
    }

    /// A member of `baggage` or `tracestate` with this value.
    ///
    /// # Errors
    ///
    /// When neither can carry it.
    pub fn baggage(key: &str, value: &str) -> Result<Self, ConditionError> {
        bounded(Flag::Baggage, key.len() + 1 + value.len())?;
        // What can't be typed: `~` separates, `\0` ends arguments.
        let typed = !key.contains('~') && !value.contains('\0');
        let carried = is_baggage_key(key) || is_tracestate_key(key) && is_tracestate_value(value);
        if !typed || !carried {
            return Err(ConditionError::BaggageMember {
                key: key.into(),
                value: value.into(),
            });
        }
        Ok(Self(Kind::Baggage {
            key: key.into(),
            value: value.into(),
        }))
    }

    /// Whether a request has it.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        match &self.0 {
            Kind::Header { name, value } => head.any_value(name, |it| it == value.as_bytes()),
            Kind::HeaderRegex { name, regex } => head.any_value(name, |it| regex.is_match(it)),
            Kind::Path(path) => head.path() == Some(path.as_bytes()),
            Kind::PathPrefix(prefix) => head.path().is_some_and(|path| is_below(path, prefix)),
            Kind::PathRegex(regex) => head.path().is_some_and(|path| regex.is_match(path)),
            Kind::Method(method) => head.method() == method.as_bytes(),
            Kind::Baggage { key, value } => any_member(head, |its_key, its_value| {
                its_key == key.as_bytes() && its_value == value.as_bytes()
            }),
        }
    }

    /// What it asks for, if a request has only one of that.
    pub(crate) fn only(&self) -> Option<String> {
        match &self.0 {
            Kind::Header { name, .. } => Some(format!("a value of the header {name}")),
            Kind::Path(_) => Some("a path".to_owned()),
            Kind::Method(_) => Some("a method".to_owned()),
            Kind::Baggage { key, .. } => Some(format!("a value of {key} in baggage")),
            Kind::HeaderRegex { .. } | Kind::PathPrefix(_) | Kind::PathRegex(_) => None,
        }
    }

    /// What its regex takes in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        match &self.0 {
            Kind::HeaderRegex { regex, .. } | Kind::PathRegex(regex) => regex.size(),
            _ => 0,
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 9110 section 9.1, and RFC 5789.
const STANDARD_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// What no request carries in a path, besides what isn't ASCII. Of what else RFC 3986 has encoded, clients
/// send much as it is.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ');

fn header_name(name: &str) -> Result<HeaderName, ConditionError> {
    let instead = match name {
        ":authority" => "the header host",
        ":path" => "path, path-prefix or path-regex",
        ":method" => "method",
        _ => "",
    };
    if !instead.is_empty() {
        return Err(ConditionError::PseudoHeader {
            name: name.into(),
            instead,
        });
    }
    // A name could hold `~`, but it couldn't be typed.
    HeaderName::from_bytes(name.as_bytes())
        .ok()
        .filter(|name| !name.as_str().contains('~'))
        .ok_or_else(|| ConditionError::HeaderName { name: name.into() })
}

fn pattern(flag: Flag, regex: &str) -> Result<Pattern, ConditionError> {
    if regex.contains('\0') {
        // It couldn't be typed.
        return Err(ConditionError::Regex {
            flag,
            regex: regex.into(),
            why: r"it holds a NUL: write \x00".to_owned(),
        });
    }
    Pattern::new(regex).map_err(|error| error.of(flag, regex))
}

fn checked_path(flag: Flag, path: &str) -> Result<Box<str>, ConditionError> {
    bounded(flag, path.len())?;
    let given = || path.to_owned();
    if !path.starts_with('/') {
        let instead = path_of(path).map_or_else(|| format!("/{path}"), str::to_owned);
        return Err(ConditionError::PathStart {
            flag,
            path: given(),
            instead,
        });
    }
    if let Some(end) = path.find(['?', '#']) {
        return Err(ConditionError::PathEnd {
            flag,
            path: given(),
            instead: path[..end].to_owned(),
        });
    }
    let encoded = utf8_percent_encode(path, ENCODED).to_string();
    if encoded != path {
        return Err(ConditionError::PathEncoding {
            flag,
            path: given(),
            instead: encoded,
        });
    }
    Ok(path.into())
}

/// A prefix without the slash that it may end with: a path below it goes on with `/`, or not at all.
pub(crate) fn stem(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

pub(crate) fn is_below(path: &[u8], prefix: &str) -> bool {
    path.strip_prefix(stem(prefix).as_bytes())
        .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
