//! Rules in files and annotations.
//!
//! ```yaml
//! any:
//! - all:
//!   - header: x-user=ann
//!   - path-prefix: /cart
//! - all:
//!   - baggage: user=ann
//! ```
//!
//! Conditions are texts as one types them for the flag of the same name. `{}` is every request.

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::error::RuleError;
use crate::flags::Flag;
use crate::rule::{Group, Rule};

/// Why a text isn't a rule.
#[derive(Debug, thiserror::Error)]
pub enum WrittenError {
    /// It isn't JSON, or has other keys than a rule has.
    #[error(
        "not the JSON of a rule, such as {{\"any\":[{{\"all\":[{{\"header\":\"x-user=ann\"}}]}}]}}: {0}"
    )]
    Syntax(#[from] serde_json::Error),
    /// It is a rule that was refused.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    any: Option<Vec<WrittenGroup>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    all: Vec<WrittenCondition>,
}

/// One of these. A map would take the last of two equal keys; a struct refuses the second.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenCondition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_regex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baggage: Option<String>,
}

impl WrittenCondition {
    fn field(&mut self, flag: Flag) -> &mut Option<String> {
        match flag {
            Flag::Header => &mut self.header,
            Flag::Path => &mut self.path,
            Flag::PathPrefix => &mut self.path_prefix,
            Flag::PathRegex => &mut self.path_regex,
            Flag::Method => &mut self.method,
            Flag::Baggage => &mut self.baggage,
        }
    }
}

impl Rule {
    /// Reads the JSON that [`Rule::to_json`] writes.
    ///
    /// # Errors
    ///
    /// When it isn't that, or the rule in it is refused.
    pub fn from_json(text: &str) -> Result<Self, WrittenError> {
        Ok(serde_json::from_str::<Written>(text)?.try_into()?)
    }

    /// Writes it as JSON in one line, without spaces.
    ///
    /// # Errors
    ///
    /// None that a rule could cause.
    pub fn to_json(&self) -> Result<String, WrittenError> {
        Ok(serde_json::to_string(self)?)
    }
}

impl TryFrom<Written> for Rule {
    type Error = RuleError;

    fn try_from(written: Written) -> Result<Self, RuleError> {
        let Some(groups) = written.any else {
            return Ok(Self::default());
        };
        if groups.is_empty() {
            return Err(RuleError::EmptyGroup);
        }
        Self::gather(groups.into_iter().map(Group::try_from))
    }
}

impl TryFrom<WrittenGroup> for Group {
    type Error = RuleError;

    fn try_from(written: WrittenGroup) -> Result<Self, RuleError> {
        Self::gather(written.all.into_iter().map(Condition::try_from))
    }
}

impl TryFrom<WrittenCondition> for Condition {
    type Error = RuleError;

    fn try_from(mut written: WrittenCondition) -> Result<Self, RuleError> {
        let mut given = Flag::ALL
            .into_iter()
            .filter_map(|flag| Some((flag, written.field(flag).take()?)));
        match (given.next(), given.next()) {
            (Some((flag, text)), None) => Ok(Self::typed(flag, &text)?),
            _ => Err(RuleError::NotOneCondition),
        }
    }
}

impl From<Rule> for Written {
    fn from(rule: Rule) -> Self {
        let groups = rule.groups().iter().map(WrittenGroup::from).collect();
        Self {
            any: (!rule.is_everything()).then_some(groups),
        }
    }
}

impl From<&Group> for WrittenGroup {
    fn from(group: &Group) -> Self {
        let all = group.conditions().iter().map(WrittenCondition::from);
        Self { all: all.collect() }
    }
}

impl From<&Condition> for WrittenCondition {
    fn from(condition: &Condition) -> Self {
        let mut written = Self::default();
        *written.field(condition.flag()) = Some(condition.text());
        written
    }
}

#[cfg(test)]
#[path = "written_tests.rs"]
mod tests;
