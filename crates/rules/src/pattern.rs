//! Regexes on whole values.

use std::fmt;

use regex_automata::meta;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::{Hir, Look};

/// What one regex may take once compiled, in bytes.
const COMPILED: usize = 256 << 10;

/// What each thread that uses one may remember of it, in bytes.
const CACHE: usize = 64 << 10;

/// A regex on a whole value, as if it began with `^` and ended with `$`. It is case-sensitive, and on
/// bytes: `.` is any byte but a line feed, and classes such as `\w` are ASCII, whatever the value holds.
#[derive(Clone)]
pub(crate) struct Pattern {
    text: Box<str>,
    regex: meta::Regex,
}

/// Why a regex was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// It isn't one. What is wrong, in one line.
    Syntax(String),
    /// It would take more memory than it may.
    TooBig,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, PatternError> {
        let config = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(COMPILED))
            .onepass_size_limit(Some(COMPILED))
            .hybrid_cache_capacity(CACHE)
            // Whole DFAs are for overlaps only.
            .dfa(false);
        let regex = meta::Builder::new()
            .configure(config)
            .build_from_hir(&whole(text).map_err(PatternError::Syntax)?)
            .map_err(|error| match error.size_limit() {
                Some(_) => PatternError::TooBig,
                None => PatternError::Syntax(error.to_string()),
            })?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.regex
            .is_match(Input::new(value).anchored(Anchored::Yes))
    }

    /// What it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.regex.memory_usage()
    }
}

/// The meaning of a regex up to the end of a value, or what is wrong with it. The end is put after its meaning,
/// not its text, which could swallow it: `a|b`, `(?x)a # comment`.
pub(crate) fn whole(text: &str) -> Result<Hir, String> {
    let hir = regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .build()
        .parse(text)
        .map_err(|error| said(text, &error))?;
    // Its beginning is where the search is anchored.
    Ok(Hir::concat(vec![hir, Hir::look(Look::End)]))
}

fn said(text: &str, error: &regex_syntax::Error) -> String {
    let (why, at) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => {
            let instead = match error.kind() {
                regex_syntax::hir::ErrorKind::UnicodeNotAllowed => {
                    "it is about bytes: put what isn't ASCII in (?u:…)".to_owned()
                }
                kind => kind.to_string(),
            };
            (instead, error.span().start.offset)
        }
        error => return error.to_string(),
    };
    match text.get(at..).filter(|rest| !rest.is_empty()) {
        Some(rest) => format!("{why}, at {rest:?}"),
        None => format!("{why}, at its end"),
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
