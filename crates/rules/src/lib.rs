//! What a request must look like to be intercepted, and which rules conflict. No IO.
//!
//! A [`Rule`] is any of its [`Group`]s, a group all of its [`Condition`]s; a rule without groups is every
//! request. People write rules as flags ([`Rule::from_flags`]) or as a file ([`Rule::from_json`], or serde for
//! YAML); both say conditions in the same words. The router asks a [`Table`] whose request it is; who claims
//! a rule is told by [`overlap`] which others could want the same request.
//!
//! ```text
//! flags ──► flags ──┐                          ┌─► table: the first rule that matches a request
//!                   ├─► condition ─► rule ─────┤
//! file ───► written ┘   (pattern,              └─► overlap: a request that two rules match
//!                        baggage)                   (automata: of regexes)
//! ```
//!
//! What conditions see of a request is in [`head`].
//!
//! ```
//! use kdev_rules::{Flag, Head, Item, Rule};
//!
//! let rule = Rule::from_flags([
//!     Item::Condition(Flag::Header, "x-user=ann"),
//!     Item::Condition(Flag::PathPrefix, "/cart"),
//! ])?;
//! let lines = [(&b"X-User"[..], &b"ann"[..])];
//! assert!(rule.matches(&Head::new(b"GET", b"/cart/items?page=2", &lines[..])));
//! assert!(!rule.matches(&Head::new(b"GET", b"/cartoons", &lines[..])));
//! assert_eq!(rule.to_string(), "--header x-user=ann --path-prefix /cart");
//! # Ok::<(), kdev_rules::RuleError>(())
//! ```

mod automata;
mod baggage;
mod condition;
mod error;
mod flags;
pub mod head;
mod overlap;
mod pattern;
mod rule;
mod table;
#[cfg(test)]
mod testing;
mod written;

pub use condition::Condition;
pub use error::{ConditionError, RuleError};
pub use flags::{Flag, Item};
pub use head::{Fields, Head};
pub use overlap::{Overlap, Undecided, Witness, overlap};
pub use rule::{Group, MAX_CONDITIONS, MAX_GROUPS, MAX_TEXT, Rule};
pub use table::Table;
pub use written::WrittenError;
