//! Random rules and requests of small alphabets, so that they often meet.

use std::ops::ControlFlow;

use proptest::prelude::*;

use crate::{Condition, Flag, Group, Head, Item, Rule};

/// A request without the first line's version and the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    pub(crate) lines: Vec<(&'static str, &'static str)>,
}

impl Request {
    pub(crate) fn with<R>(&self, test: impl FnOnce(&Head<'_>) -> R) -> R {
        let lines = self.lines.iter();
        let lines: Vec<_> = lines
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let head = Head::new(self.method.as_bytes(), self.target.as_bytes(), &lines[..]);
        test(&head)
    }

    pub(crate) fn meets(&self, rule: &Rule) -> bool {
        self.with(|head| rule.matches(head))
    }
}

/// `GET target` with these lines.
pub(crate) fn get(target: &'static str, lines: &[(&'static str, &'static str)]) -> Request {
    Request {
        method: "GET",
        target,
        lines: lines.to_vec(),
    }
}

/// The rule of `--header x=1 --any --path /a`, written so.
pub(crate) fn rule(flags: &str) -> Rule {
    try_rule(flags).unwrap()
}

pub(crate) fn try_rule(flags: &str) -> Result<Rule, crate::RuleError> {
    let mut words = shlex::split(flags).unwrap().into_iter();
    let mut items = Vec::new();
    while let Some(word) = words.next() {
        let (name, text) = match word.split_once('=') {
            Some((name, text)) => (name.to_owned(), Some(text.to_owned())),
            None => (word, None),
        };
        if name == "--any" {
            items.push(None);
            continue;
        }
        let flag = Flag::ALL
            .into_iter()
            .find(|flag| format!("--{flag}") == name);
        let text = text.unwrap_or_else(|| words.next().unwrap());
        items.push(Some((flag.unwrap(), text)));
    }
    Rule::from_flags(items.iter().map(|item| match item {
        Some((flag, text)) => Item::Condition(*flag, text),
        None => Item::Any,
    }))
}

const METHODS: [&str; 2] = ["GET", "POST"];
const PATHS: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"];
const NAMES: [&str; 2] = ["x", "host"];
const VALUES: [&str; 4] = ["", "a", "b", "ab"];
const REGEXES: [&str; 8] = [
    "a.*",
    ".*b",
    "[ab]+",
    "b?",
    "(?:a|b){2}",
    "a|b",
    "^$",
    "[^a]*",
];
const PATH_REGEXES: [&str; 5] = ["/a.*", ".*b", "/[^/]+", "/(?:a/)?b?", "/"];

fn any(words: &[&'static str]) -> proptest::sample::Select<&'static str> {
    proptest::sample::select(words.to_vec())
}

pub(crate) fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => (any(&NAMES), any(&VALUES)).prop_map(|(name, value)| Condition::header(name, value)),
        4 => (any(&NAMES), any(&REGEXES)).prop_map(|(name, regex)| Condition::header_regex(name, regex)),
        2 => any(&PATHS).prop_map(Condition::path),
        2 => any(&PATHS).prop_map(Condition::path_prefix),
        2 => any(&PATH_REGEXES).prop_map(Condition::path_regex),
        1 => any(&METHODS).prop_map(Condition::method),
        3 => (any(&["k", "a@b"]), any(&["a", "b b"]))
            .prop_map(|(key, value)| Condition::baggage(key, value)),
        1 => any(&["k=a", "k=b%20b,j=1"]).prop_map(|value| Condition::header("baggage", value)),
    ]
    .prop_map(Result::unwrap)
}

/// A rule of up to two groups of up to three conditions, or that of every request.
pub(crate) fn any_rule() -> impl Strategy<Value = Rule> {
    let group = prop::collection::vec(condition(), 1..4)
        .prop_filter_map("asks twice", |conditions| Group::new(conditions).ok());
    prop::collection::vec(group, 0..3).prop_map(|groups| Rule::new(groups).unwrap())
}

/// Requests of the same alphabets, with several lines of one header as well.
pub(crate) fn any_request() -> impl Strategy<Value = Request> {
    let line = prop_oneof![
        (any(&["x", "X", "host"]), any(&["", "a", "b", "ab", " a\t"])),
        (
            any(&["baggage"]),
            any(&["k=a", "j=1;p, k = b%20b;q=1", "k=b%20b,j=1"])
        ),
        (any(&["tracestate"]), any(&["k=a", "j=1,k=b b", "a@b=a"])),
    ];
    (
        any(&METHODS),
        any(&PATHS),
        prop::collection::vec(line, 0..4),
    )
        .prop_map(|(method, target, lines)| Request {
            method,
            target,
            lines,
        })
}

/// Every request that has a method and a path of these alphabets, and each header and each member of baggage
/// once at most.
pub(crate) fn single_valued(mut visit: impl FnMut(&Request) -> ControlFlow<()>) {
    let header = || [None].into_iter().chain(VALUES.map(Some));
    let lines_of = |name, value: Option<&'static str>| value.map(|value| (name, value));
    let baggage = [
        vec![],
        vec![("baggage", "k=a")],
        vec![("tracestate", "k=a")],
        vec![("baggage", "k=b%20b,j=1")],
        vec![("tracestate", "k=b b")],
        vec![("baggage", "k=a"), ("tracestate", "a@b=a")],
        vec![("tracestate", "a@b=b b,k=a")],
        vec![("tracestate", "a@b=b b"), ("baggage", "k=b%20b")],
    ];
    for method in METHODS {
        for target in PATHS {
            for x in header() {
                for host in header() {
                    for baggage in &baggage {
                        let lines = lines_of("x", x).into_iter().chain(lines_of("host", host));
                        let request = Request {
                            method,
                            target,
                            lines: lines.chain(baggage.iter().copied()).collect(),
                        };
                        if visit(&request).is_break() {
                            return;
                        }
                    }
                }
            }
        }
    }
}
