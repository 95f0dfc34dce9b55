//! Conditions as people type them, and rules as flags.

use std::fmt;

use crate::condition::{Condition, Kind};
use crate::error::{ConditionError, RuleError};
use crate::pattern::PatternError;
use crate::rule::{Group, MAX_TEXT, Rule};

/// The kinds of conditions, named as on the command line and in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `NAME=VALUE`, or `NAME~REGEX` for a regex on the whole value: what comes first separates. Spaces around
    /// name and value don't count.
    Header,
    /// The exact path.
    Path,
    /// The path and all below it, by elements: `/a` and `/a/` are `/a`, `/a/` and `/a/b`, but not `/ab`, as
    /// `PathPrefix` of the Gateway API.
    PathPrefix,
    /// A regex on the whole path.
    PathRegex,
    /// The method.
    Method,
    /// `KEY=VALUE`: a member of `baggage` or `tracestate` with this value. The value is typed as it is, not as
    /// `baggage` encodes it.
    Baggage,
}

impl Flag {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Header,
        Self::Path,
        Self::PathPrefix,
        Self::PathRegex,
        Self::Method,
        Self::Baggage,
    ];

    /// `path-prefix`, say: the flag without its dashes, and the key in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Path => "path",
            Self::PathPrefix => "path-prefix",
            Self::PathRegex => "path-regex",
            Self::Method => "method",
            Self::Baggage => "baggage",
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What can be typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A flag and its value.
    Condition(Flag, &'a str),
    /// `--any`: what follows is another group.
    Any,
}

impl Rule {
    /// The rule that flags say, in their order: conditions up to an [`Item::Any`] are a group. No flags are the
    /// rule of every request.
    ///
    /// # Errors
    ///
    /// When a condition or the whole is refused: the first thing that is wrong.
    pub fn from_flags<'a>(items: impl IntoIterator<Item = Item<'a>>) -> Result<Self, RuleError> {
        let items: Vec<_> = items.into_iter().collect();
        if items.is_empty() {
            return Ok(Self::default());
        }
        let group = |items: &[Item<'a>]| {
            Group::gather(items.iter().filter_map(|item| match item {
                Item::Condition(flag, text) => {
                    Some(Condition::typed(*flag, text).map_err(Into::into))
                }
                Item::Any => None,
            }))
        };
        Self::gather(items.split(|item| *item == Item::Any).map(group))
    }
}

impl Condition {
    /// The condition that was typed as a flag's value, or stands in a file.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it and what to type instead.
    pub fn typed(flag: Flag, text: &str) -> Result<Self, ConditionError> {
        match flag {
            Flag::Header => header(text),
            Flag::Path => Self::path(text),
            Flag::PathPrefix => Self::path_prefix(text),
            Flag::PathRegex => Self::path_regex(text),
            Flag::Method => Self::method(text),
            Flag::Baggage => {
                let separated = text.split_once('=').filter(|(key, _)| !key.contains('~'));
                let (key, value) = separated
                    .ok_or_else(|| ConditionError::BaggageSeparator { text: text.into() })?;
                Self::baggage(key.trim_matches(OWS), value)
            }
        }
    }

    /// Which flag says it.
    pub fn flag(&self) -> Flag {
        match &self.0 {
            Kind::Header { .. } | Kind::HeaderRegex { .. } => Flag::Header,
            Kind::Path(_) => Flag::Path,
            Kind::PathPrefix(_) => Flag::PathPrefix,
            Kind::PathRegex(_) => Flag::PathRegex,
            Kind::Method(_) => Flag::Method,
            Kind::Baggage { .. } => Flag::Baggage,
        }
    }

    /// The flag's value.
    pub fn text(&self) -> String {
        match &self.0 {
            Kind::Header { name, value } => format!("{name}={value}"),
            Kind::HeaderRegex { name, regex } => format!("{name}~{}", regex.as_str()),
            Kind::PathRegex(regex) => regex.as_str().to_owned(),
            Kind::Path(text) | Kind::PathPrefix(text) | Kind::Method(text) => text.to_string(),
            Kind::Baggage { key, value } => format!("{key}={value}"),
        }
    }
}

/// Optional whitespace, RFC 9110 section 5.6.3.
pub(crate) const OWS: [char; 2] = [' ', '\t'];

fn header(text: &str) -> Result<Condition, ConditionError> {
    let Some(at) = text.find(['=', '~']) else {
        let instead = match text.trim_start_matches(':').split_once(':') {
            // As curl has it.
            Some((name, value)) if !name.is_empty() => {
                format!("{}={}", name.trim_matches(OWS), value.trim_matches(OWS))
            }
            _ => {
                let name = text.trim_matches(OWS);
                let name = if name.is_empty() { "NAME" } else { name };
                format!("{name}=VALUE or {name}~REGEX")
            }
        };
        return Err(ConditionError::HeaderSeparator {
            text: text.into(),
            instead,
        });
    };
    let (name, value) = (text[..at].trim_matches(OWS), &text[at + 1..]);
    if text[at..].starts_with('=') {
        Condition::header(name, value)
    } else {
        Condition::header_regex(name, value)
    }
}

impl PatternError {
    pub(crate) fn of(self, flag: Flag, regex: &str) -> ConditionError {
        let regex = regex.into();
        match self {
            Self::Syntax(why) => ConditionError::Regex { flag, regex, why },
            Self::TooBig => ConditionError::RegexTooBig { flag, regex },
        }
    }
}

/// Refuses what is longer than it may be.
pub(crate) fn bounded(flag: Flag, bytes: usize) -> Result<(), ConditionError> {
    if bytes > MAX_TEXT {
        return Err(ConditionError::TooLong { flag, bytes });
    }
    Ok(())
}

/// As it is typed: `--header x-user=ann`, quoted for a POSIX shell where needed.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        // What begins with a dash would be taken for a flag.
        let between = if text.starts_with('-') { '=' } else { ' ' };
        write!(f, "--{}{between}{}", self.flag(), Quoted(&text))
    }
}

/// Conditions with spaces between them.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, condition) in self.conditions().iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{condition}")?;
        }
        Ok(())
    }
}

/// As it is typed, groups with `--any` between them; nothing for the rule of every request.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.groups().iter().enumerate() {
            let any = if index > 0 { " --any " } else { "" };
            write!(f, "{any}{group}")?;
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:@%+,".contains(&byte);
        if !self.0.is_empty() && self.0.bytes().all(plain) {
            return f.write_str(self.0);
        }
        write!(f, "'{}'", self.0.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
