//! Rules: any of groups, which are all of conditions.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::error::RuleError;
use crate::head::Head;
use crate::written::Written;

/// The most groups that a rule has.
pub const MAX_GROUPS: usize = 64;
/// The most conditions that a group has.
pub const MAX_CONDITIONS: usize = 64;
/// The longest text of a condition, in bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// What the regexes of a rule may take together once compiled, in bytes.
const MAX_COMPILED: usize = 4 << 20;

/// Which requests are intercepted: those that any of its groups matches, or all when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rule {
    groups: Vec<Group>,
}

/// Conditions that a request must meet together: one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    conditions: Vec<Condition>,
}

impl Group {
    /// All of these.
    ///
    /// # Errors
    ///
    /// When there are none, more than [`MAX_CONDITIONS`], or two of which a request meets one at most: two
    /// methods, paths, values of one header or of one member of baggage; or when their regexes take too much
    /// memory together.
    pub fn new(conditions: impl IntoIterator<Item = Condition>) -> Result<Self, RuleError> {
        Self::gather(conditions.into_iter().map(Ok))
    }

    /// The same for conditions that may be refused, which are made one after the other: what is too much
    /// is never in memory.
    pub(crate) fn gather(
        given: impl Iterator<Item = Result<Condition, RuleError>>,
    ) -> Result<Self, RuleError> {
        let mut conditions = Vec::new();
        let mut asked = HashSet::new();
        let mut size = 0;
        for condition in given {
            let condition = condition?;
            size += condition.size();
            if conditions.len() == MAX_CONDITIONS {
                return Err(RuleError::TooManyConditions);
            }
            if size > MAX_COMPILED {
                return Err(RuleError::RegexesTooBig);
            }
            if let Some(what) = condition.only()
                && let Some(what) = asked.replace(what)
            {
                return Err(RuleError::Twice { what });
            }
            conditions.push(condition);
        }
        if conditions.is_empty() {
            return Err(RuleError::EmptyGroup);
        }
        Ok(Self { conditions })
    }

    /// The conditions, in the order in which they were given.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn size(&self) -> usize {
        self.conditions.iter().map(Condition::size).sum()
    }

    /// Whether a request meets all of them.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        self.conditions.iter().all(|it| it.matches(head))
    }
}

impl Rule {
    /// Any of these; every request when there are none.
    ///
    /// # Errors
    ///
    /// When there are more than [`MAX_GROUPS`], or their regexes take too much memory together.
    pub fn new(groups: impl IntoIterator<Item = Group>) -> Result<Self, RuleError> {
        Self::gather(groups.into_iter().map(Ok))
    }

    /// See [`Group::gather`].
    pub(crate) fn gather(
        given: impl Iterator<Item = Result<Group, RuleError>>,
    ) -> Result<Self, RuleError> {
        let mut groups = Vec::new();
        let mut size = 0;
        for group in given {
            let group = group?;
            size += group.size();
            if groups.len() == MAX_GROUPS {
                return Err(RuleError::TooManyGroups);
            }
            if size > MAX_COMPILED {
                return Err(RuleError::RegexesTooBig);
            }
            groups.push(group);
        }
        Ok(Self { groups })
    }

    /// The groups, in the order in which they were given.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether it has no conditions, and so every request matches.
    pub fn is_everything(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether a request is intercepted.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        self.is_everything() || self.groups.iter().any(|it| it.matches(head))
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
