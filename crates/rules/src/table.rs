//! Whose a request is: the rules of one port.

use std::collections::HashMap;

use http::header::HeaderName;

use crate::baggage::any_member;
use crate::condition::Kind;
use crate::head::Head;
use crate::rule::{Group, Rule};

/// The rules of one port in the order in which they were claimed: the first that matches has the request.
///
/// A lookup takes as long as there are rules that could match, not rules: each group is filed under one of its
/// exact conditions (a header's value, a member of baggage, a path), and a request takes out what is filed under
/// what it has, with one hash per header name that rules ask for. With 250 rules of one header each that is one
/// comparison. Only groups without any exact condition are tried one after the other: prefixes, regexes, and
/// those on the method alone.
#[derive(Debug, Clone)]
pub struct Table<T> {
    entries: Vec<(Rule, T)>,
    /// The first rule of every request: none after it has anything.
    everything: Option<usize>,
    headers: HashMap<HeaderName, Files>,
    baggage: HashMap<Box<[u8]>, Files>,
    paths: Files,
    /// Groups that can't be filed.
    others: Vec<Place>,
}

/// Groups by the value that they ask for.
type Files = HashMap<Box<[u8]>, Vec<Place>>;

/// Where a group is. They are ordered as rules are.
#[derive(Debug, Clone, Copy)]
struct Place {
    entry: usize,
    group: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            everything: None,
            headers: HashMap::new(),
            baggage: HashMap::new(),
            paths: HashMap::new(),
            others: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    /// A table without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule after all others, and what is given for its requests.
    pub fn push(&mut self, rule: Rule, whose: T) {
        let entry = self.entries.len();
        if rule.is_everything() {
            self.everything = self.everything.or(Some(entry));
        }
        for (group, conditions) in rule.groups().iter().enumerate() {
            self.file(conditions, Place { entry, group });
        }
        self.entries.push((rule, whose));
    }

    /// The rules, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule, &T)> {
        self.entries.iter().map(|(rule, whose)| (rule, whose))
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What was given with the first rule that matches; none when no rule does.
    pub fn route(&self, head: &Head<'_>) -> Option<&T> {
        let mut first = First {
            entries: &self.entries,
            head,
            found: self.everything,
        };
        for (name, files) in &self.headers {
            head.any_value(name, |value| first.look(files, value));
        }
        if !self.baggage.is_empty() {
            any_member(head, |key, value| {
                let files = self.baggage.get(key);
                files.is_some_and(|files| first.look(files, value))
            });
        }
        if let (Some(path), false) = (head.path(), self.paths.is_empty()) {
            first.look(&self.paths, path);
        }
        first.try_all(&self.others);
        let (_, whose) = self.entries.get(first.found?)?;
        Some(whose)
    }

    /// Files a group where there are the fewest so far.
    fn file(&mut self, group: &Group, place: Place) {
        let filed = |files: Option<&Files>, value: &str| {
            let places = files.and_then(|files| files.get(value.as_bytes()));
            places.map_or(0, Vec::len)
        };
        let best = group
            .conditions()
            .iter()
            .filter_map(|condition| {
                let load = match &condition.0 {
                    Kind::Header { name, value } => filed(self.headers.get(name), value),
                    Kind::Baggage { key, value } => filed(self.baggage.get(key.as_bytes()), value),
                    Kind::Path(path) => filed(Some(&self.paths), path),
                    _ => return None,
                };
                Some((load, &condition.0))
            })
            .min_by_key(|(load, _)| *load);
        let (files, value) = match best {
            Some((_, Kind::Header { name, value })) => {
                (self.headers.entry(name.clone()).or_default(), value)
            }
            Some((_, Kind::Baggage { key, value })) => {
                let key = key.as_bytes().into();
                (self.baggage.entry(key).or_default(), value)
            }
            Some((_, Kind::Path(path))) => (&mut self.paths, path),
            _ => return self.others.push(place),
        };
        files
            .entry(value.as_bytes().into())
            .or_default()
            .push(place);
    }
}

impl<T> FromIterator<(Rule, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (Rule, T)>>(rules: I) -> Self {
        let mut table = Self::new();
        for (rule, whose) in rules {
            table.push(rule, whose);
        }
        table
    }
}

/// The first rule found so far.
struct First<'a, T> {
    entries: &'a [(Rule, T)],
    head: &'a Head<'a>,
    found: Option<usize>,
}

impl<T> First<'_, T> {
    /// Tries what is filed under a value. Never says to stop: a line or member after it may be of an earlier rule.
    fn look(&mut self, files: &Files, value: &[u8]) -> bool {
        if let Some(places) = files.get(value) {
            self.try_all(places);
        }
        false
    }

    /// Tries groups in their order, as long as they are of earlier rules than the one found.
    fn try_all(&mut self, places: &[Place]) {
        let earlier = |place: &&Place| self.found.is_none_or(|found| place.entry < found);
        let matching = places.iter().take_while(earlier).find(|place| {
            let group = self.entries.get(place.entry);
            let group = group.and_then(|(rule, _)| rule.groups().get(place.group));
            group.is_some_and(|group| group.matches(self.head))
        });
        if let Some(place) = matching {
            self.found = Some(place.entry);
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
