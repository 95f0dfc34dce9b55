//! Which rules conflict: whether a request can match both.
//!
//! This is decided for requests that have each header once at most, and each member of baggage once in `baggage`
//! and `tracestate` together. Two rules with different values of one header don't conflict, although a request
//! with two such lines would match both; such a request goes to the older rule.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::automata::{Beyond, Work};
use crate::baggage::{BAGGAGE, TRACESTATE, is_baggage_key, member};
use crate::condition::{Condition, Kind, is_below, stem};
use crate::head::Head;
use crate::pattern::Pattern;
use crate::rule::{Group, Rule};

/// Why two rules conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlap {
    /// Both match this request.
    Example(Witness),
    /// They can't be told apart.
    Undecided(Undecided),
}

/// Why two rules can't be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// Their regexes are too many or too big to compare.
    #[error("their regexes are too complex to compare")]
    TooComplex,
    /// There are conditions on members of baggage, and on the header that carries them as a whole.
    #[error(
        "conditions on baggage can't be compared with those on the header that carries it as a whole"
    )]
    BaggageHeader,
}

/// A request that two rules match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    method: String,
    path: Vec<u8>,
    headers: HeaderMap,
}

impl Witness {
    /// Its head.
    pub fn head(&self) -> Head<'_> {
        Head::new(self.method.as_bytes(), &self.path, &self.headers)
    }

    /// Its method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its path. ASCII, unless a regex asks for more.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its headers, those that matter.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// `GET /cart with x-user: ann and x-team: blue`.
impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path.escape_ascii())?;
        for (index, (name, value)) in self.headers.iter().enumerate() {
            let before = if index == 0 { "with" } else { "and" };
            write!(f, " {before} {name}: {}", value.as_bytes().escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Example(witness) => write!(f, "both match {witness}"),
            Self::Undecided(why) => why.fmt(f),
        }
    }
}

/// Whether a request can match both rules; see the module for which requests. The time it takes is bounded:
/// microseconds where there are no regexes, a tenth of a millisecond for a pair of usual ones, a fraction of a
/// second for the worst.
#[must_use]
pub fn overlap(one: &Rule, other: &Rule) -> Option<Overlap> {
    let mut work = Work::default();
    let mut undecided = None;
    for group in groups(one) {
        for other in groups(other) {
            match meet(group.iter().chain(other), &mut work) {
                Ok(witness) => return Some(Overlap::Example(witness)),
                Err(Apart::Undecided(why)) => undecided = undecided.or(Some(why)),
                Err(Apart::Never) => {}
            }
        }
    }
    undecided.map(Overlap::Undecided)
}

/// The conditions of each group; none at all for the rule of every request.
fn groups(rule: &Rule) -> Vec<&[Condition]> {
    if rule.is_everything() {
        return vec![&[]];
    }
    rule.groups().iter().map(Group::conditions).collect()
}

/// Why there is no request to show.
enum Apart {
    Never,
    Undecided(Undecided),
}

impl From<Beyond> for Apart {
    fn from(_: Beyond) -> Self {
        Self::Undecided(Undecided::TooComplex)
    }
}

/// What conditions ask for together.
#[derive(Default)]
struct Asked<'a> {
    method: Option<&'a str>,
    path: Texts<'a>,
    headers: BTreeMap<&'a str, (&'a HeaderName, Texts<'a>)>,
    baggage: BTreeMap<&'a str, &'a str>,
}

/// What they ask of one text.
#[derive(Default)]
struct Texts<'a> {
    exact: Option<&'a str>,
    prefixes: Vec<&'a str>,
    regexes: Vec<&'a Pattern>,
}

/// A request that meets all of these conditions.
fn meet<'a>(
    conditions: impl Iterator<Item = &'a Condition>,
    work: &mut Work,
) -> Result<Witness, Apart> {
    let asked = ask(conditions)?;
    // What never meets says more than what can't be decided, so that comes last.
    let mut undecided = None;
    let mut found = |text: Result<Vec<u8>, Apart>| match text {
        Err(Apart::Undecided(why)) => {
            undecided = Some(why);
            Ok(Vec::new())
        }
        text => text,
    };

    let path = found(asked.path.find(&PATH, work))?;
    let mut headers = HeaderMap::new();
    for (name, texts) in asked.headers.values() {
        let value = found(texts.find(&VALUE, work))?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| Beyond)?;
        headers.insert((*name).clone(), value);
    }
    carry(&asked.baggage, &mut headers)?;
    match undecided {
        Some(why) => Err(Apart::Undecided(why)),
        None => Ok(Witness {
            method: asked.method.unwrap_or("GET").to_owned(),
            path,
            headers,
        }),
    }
}

/// Puts what conditions ask for together, unless they contradict each other.
fn ask<'a>(conditions: impl Iterator<Item = &'a Condition>) -> Result<Asked<'a>, Apart> {
    let mut asked = Asked::default();
    for condition in conditions {
        match &condition.0 {
            Kind::Method(method) => one(&mut asked.method, method)?,
            Kind::Path(path) => one(&mut asked.path.exact, path)?,
            Kind::PathPrefix(prefix) => asked.path.prefixes.push(prefix),
            Kind::PathRegex(regex) => asked.path.regexes.push(regex),
            Kind::Header { name, value } => one(&mut asked.header(name).exact, value)?,
            Kind::HeaderRegex { name, regex } => asked.header(name).regexes.push(regex),
            Kind::Baggage { key, value } => {
                let mut known = asked.baggage.get(&**key).copied();
                one(&mut known, value)?;
                asked.baggage.insert(key, value);
            }
        }
    }
    Ok(asked)
}

fn one<'a>(known: &mut Option<&'a str>, text: &'a str) -> Result<(), Apart> {
    match known.replace(text) {
        Some(other) if other != text => Err(Apart::Never),
        _ => Ok(()),
    }
}

impl<'a> Asked<'a> {
    fn header(&mut self, name: &'a HeaderName) -> &mut Texts<'a> {
        let header = self.headers.entry(name.as_str());
        &mut header.or_insert_with(|| (name, Texts::default())).1
    }
}

/// What texts of a kind look like in requests.
struct Texture {
    shortest: &'static str,
    regex: &'static str,
}

const PATH: Texture = Texture {
    shortest: "/",
    regex: r"/[!-~\x80-\xff&&[^?#]]*",
};

const VALUE: Texture = Texture {
    shortest: "",
    regex: r"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?",
};

impl Texts<'_> {
    /// A text as asked for.
    fn find(&self, texture: &Texture, work: &mut Work) -> Result<Vec<u8>, Apart> {
        // A prefix that has all others among its ancestors is the first path below them all.
        let deepest = self.prefixes.iter().map(|prefix| stem(prefix));
        let deepest = deepest.max_by_key(|stem| stem.len());
        let deepest = deepest.filter(|stem| !stem.is_empty());
        let text = self.exact.or(deepest).unwrap_or(texture.shortest);
        if self.allow(text) {
            return Ok(text.as_bytes().to_vec());
        }
        if self.exact.is_some() || self.regexes.is_empty() {
            return Err(Apart::Never);
        }
        let below = self.prefixes.iter().map(|prefix| below(stem(prefix)));
        let below: Vec<String> = below.collect();
        let regexes = self.regexes.iter().map(|regex| regex.as_str());
        let regexes = regexes.chain(below.iter().map(String::as_str));
        work.common(regexes.chain([texture.regex]))?
            .ok_or(Apart::Never)
    }

    fn allow(&self, text: &str) -> bool {
        let below = |prefix: &&str| is_below(text.as_bytes(), prefix);
        let matched = |regex: &&Pattern| regex.is_match(text.as_bytes());
        self.prefixes.iter().all(below) && self.regexes.iter().all(matched)
    }
}

/// The regex of a path and all below it.
fn below(stem: &str) -> String {
    format!(r"{}(?:/(?s:.)*)?", regex_syntax::escape(stem))
}

/// Adds the members of baggage to headers.
fn carry(asked: &BTreeMap<&str, &str>, headers: &mut HeaderMap) -> Result<(), Apart> {
    let (baggage, vendors): (Vec<_>, Vec<_>) =
        asked.iter().partition(|(key, _)| is_baggage_key(key));
    let baggage = baggage.iter().map(|(key, value)| member(key, value));
    let vendors = vendors.iter().map(|(key, value)| format!("{key}={value}"));
    for (name, members) in [
        (&BAGGAGE, baggage.collect::<Vec<_>>()),
        (&TRACESTATE, vendors.collect()),
    ] {
        if members.is_empty() {
            continue;
        }
        let line = HeaderValue::try_from(members.join(",")).map_err(|_| Beyond)?;
        if headers.insert(name, line).is_some() {
            return Err(Apart::Undecided(Undecided::BaggageHeader));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "overlap_tests.rs"]
mod tests;
