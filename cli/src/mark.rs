//! The personal mark: what `--mine` intercepts.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kdev_common::person::Person;
use kdev_rules::{Flag, Item, Rule, RuleError};

/// The member of `baggage` that carries it, so that services hand it on to those that they ask
/// (W3C Baggage).
const KEY: &str = "kdev";

/// Whoever sits here, as requests can say it: the same at every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// That of the user on this machine.
    pub fn of_user() -> Self {
        let here = Person::here();
        Self::of(&here.user, &here.machine)
    }

    fn of(user: &str, machine: &str) -> Self {
        // Two of one name on different machines are two.
        let mut hasher = DefaultHasher::new();
        (user, machine).hash(&mut hasher);
        let name: String = user
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .collect();
        Self(format!("{name}-{:06x}", hasher.finish() & 0xff_ffff))
    }

    /// The requests that carry it.
    ///
    /// # Errors
    ///
    /// None that a mark could cause.
    pub fn rule(&self) -> Result<Rule, RuleError> {
        Rule::from_flags([Item::Condition(Flag::Baggage, &self.member())])
    }

    fn member(&self) -> String {
        format!("{KEY}={}", self.0)
    }

    /// How to send it, for people.
    pub fn how_to(&self, host: &str) -> String {
        let member = self.member();
        format!(
            "requests with your mark come here:\n  \
             curl:    curl -H 'baggage: {member}' http://{host}/\n  \
             browser: an extension that sets request headers, such as ModHeader: name `baggage`, value \
             `{member}`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_persons_and_a_machines_and_stays() {
        let ann = Mark::of("ann", "laptop");
        assert_eq!(ann, Mark::of("ann", "laptop"));
        assert_ne!(ann, Mark::of("ann", "desk"));
        assert_ne!(ann, Mark::of("bob", "laptop"));
        assert!(
            ann.rule()
                .unwrap()
                .to_string()
                .starts_with("--baggage kdev=ann-")
        );
        let strange = Mark::of("DOM\\ann b", "x");
        assert!(strange.0.starts_with("DOMannb-"), "{strange:?}");
        assert!(ann.how_to("web.shop").contains("-H 'baggage: kdev=ann-"));
    }
}
