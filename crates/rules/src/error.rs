//! Why a condition or a rule was refused: what is wrong with it, and what to write instead.

use crate::flags::Flag;
use crate::rule::{MAX_CONDITIONS, MAX_GROUPS, MAX_TEXT};

/// Why a condition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Longer than [`MAX_TEXT`].
    #[error(
        "{flag} has {bytes} bytes, and may have {MAX_TEXT}: match a part with a regex or a prefix"
    )]
    TooLong {
        /// Which condition.
        flag: Flag,
        /// How long it is.
        bytes: usize,
    },
    /// A header without `=` and `~`.
    #[error("header {text:?} doesn't say which values match: write {instead}")]
    HeaderSeparator {
        /// What was given.
        text: String,
        /// What was probably meant.
        instead: String,
    },
    /// HTTP/2 has fields of this name, but they aren't headers.
    #[error("{name:?} isn't a header: use {instead}")]
    PseudoHeader {
        /// What was given.
        name: String,
        /// The condition that says the same.
        instead: &'static str,
    },
    /// Not a header's name.
    #[error(
        "{name:?} can't be a header's name: write NAME=VALUE or NAME~REGEX, with a name of letters, \
         digits and -_.!#$%&'*+^`|"
    )]
    HeaderName {
        /// What was given.
        name: String,
    },
    /// A value that no request can carry.
    #[error(
        "header {name} can't have the value {value:?}, which holds a control character: leave that out, \
         or write {name}~REGEX for what is around it"
    )]
    HeaderValue {
        /// The header.
        name: String,
        /// What was given.
        value: String,
    },
    /// A path that isn't one.
    #[error("{flag} {path:?} has no / at its beginning: write {instead}")]
    PathStart {
        /// Which condition.
        flag: Flag,
        /// What was given.
        path: String,
        /// What was probably meant.
        instead: String,
    },
    /// A path with a query.
    #[error("{flag} {path:?} goes beyond the path, which ends before ? and #: write {instead}")]
    PathEnd {
        /// Which condition.
        flag: Flag,
        /// What was given.
        path: String,
        /// The path alone.
        instead: String,
    },
    /// A path as people see it, not as requests carry it.
    #[error("{flag} {path:?} holds what requests carry encoded: write {instead}")]
    PathEncoding {
        /// Which condition.
        flag: Flag,
        /// What was given.
        path: String,
        /// The encoded path.
        instead: String,
    },
    /// Not a method.
    #[error("{method:?} can't be a method: write one, such as GET, and --any between several")]
    Method {
        /// What was given.
        method: String,
    },
    /// A method that would never match.
    #[error("methods are case-sensitive, and requests don't say {method}: write {instead}")]
    MethodCase {
        /// What was given.
        method: String,
        /// What requests say.
        instead: String,
    },
    /// Not a regex.
    #[error("{flag}: {regex:?} isn't a regex: {why}")]
    Regex {
        /// Which condition.
        flag: Flag,
        /// What was given.
        regex: String,
        /// What is wrong with it.
        why: String,
    },
    /// A regex that takes too much memory.
    #[error("{flag}: the regex {regex:?} takes too much memory: repeat fewer things, fewer times")]
    RegexTooBig {
        /// Which condition.
        flag: Flag,
        /// What was given.
        regex: String,
    },
    /// A baggage member without `=`, or with a regex.
    #[error(
        "baggage {text:?} doesn't say which value matches: write KEY=VALUE, regexes aren't possible here"
    )]
    BaggageSeparator {
        /// What was given.
        text: String,
    },
    /// Neither `baggage` nor `tracestate` can have such a member.
    #[error(
        "no request can carry {key:?} with the value {value:?} in baggage or tracestate: write KEY=VALUE, with \
         a key without spaces, commas, semicolons, brackets and quotes"
    )]
    BaggageMember {
        /// The member's key.
        key: String,
        /// The member's value, decoded.
        value: String,
    },
}

/// Why a rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// One of its conditions was.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// A group that would match every request, beside others.
    #[error(
        "a group has no conditions and would match every request: write --any only between conditions, \
         and leave everything out to match every request"
    )]
    EmptyGroup,
    /// Two conditions of which a request meets one at most.
    #[error(
        "a group asks twice for {what}, and a request has one: write --any between them to match either"
    )]
    Twice {
        /// What it asks for.
        what: String,
    },
    /// More groups than [`MAX_GROUPS`].
    #[error("a rule has {MAX_GROUPS} groups at most: use a regex instead of a list")]
    TooManyGroups,
    /// More conditions than [`MAX_CONDITIONS`].
    #[error(
        "a group has {MAX_CONDITIONS} conditions at most: use a regex for several of one header"
    )]
    TooManyConditions,
    /// Its regexes take too much memory together.
    #[error("the rule's regexes take too much memory together: use fewer or simpler ones")]
    RegexesTooBig,
    /// A part of the written form that has no condition, or several.
    #[error(
        "each item of `all` has one condition, such as `header: x-user=ann`: begin an item for each"
    )]
    NotOneCondition,
}
