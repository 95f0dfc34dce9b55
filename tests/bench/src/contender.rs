//! Who is compared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way to a pod: from the machine, into the machine, or within the cluster.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The kernel's own route.
    Kernel,
    /// `kubectl port-forward`.
    Kubectl,
    /// kdev whose carriers are port-forwards.
    Forward,
    /// kdev whose carriers are connections to the manager's own port.
    Direct,
    /// sshuttle, with an SSH server on the node.
    Sshuttle,
    /// From a pod to the address of another.
    Pod,
    /// From a pod to a Service that is intercepted, whose machine has carriers as (c).
    TakenForward,
    /// The same with carriers as (d).
    TakenDirect,
    /// From a pod to a Service of which those requests are intercepted that have a header; carriers as (c).
    RuledForward,
    /// The same with carriers as (d).
    RuledDirect,
    /// From a pod through nginx in another to the pods of a Service.
    Nginx,
    /// From a pod to a Service, of whose requests one intercept wants others; so to its pods.
    Router1,
    /// The same with [`RULES`](crate::router::RULES) intercepts.
    Router250,
}

impl Contender {
    /// From the machine to a pod, in the order in which they are shown.
    pub const WAYS: [Self; 5] = [
        Self::Kernel,
        Self::Kubectl,
        Self::Forward,
        Self::Direct,
        Self::Sshuttle,
    ];
    /// From a pod to the machine, and what that is compared with.
    pub const INTERCEPTS: [Self; 5] = [
        Self::Pod,
        Self::TakenForward,
        Self::RuledForward,
        Self::TakenDirect,
        Self::RuledDirect,
    ];
    /// From a pod past the machine, and what that is compared with.
    pub const ROUTERS: [Self; 4] = [Self::Pod, Self::Nginx, Self::Router1, Self::Router250];

    /// All.
    pub fn all() -> Vec<Self> {
        let mut all = [&Self::WAYS[..], &Self::INTERCEPTS, &Self::ROUTERS].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kernel => "(a) kernel",
            Self::Kubectl => "(b) kubectl",
            Self::Forward => "(c) kdev, port-forward",
            Self::Direct => "(d) kdev, direct",
            Self::Sshuttle => "(e) sshuttle",
            Self::Pod => "(f) pod",
            Self::TakenForward => "(g) all, port-forward",
            Self::RuledForward => "(h) by header, port-forward",
            Self::TakenDirect => "(i) all, direct",
            Self::RuledDirect => "(j) by header, direct",
            Self::Nginx => "(k) nginx",
            Self::Router1 => "(l) kdev, 1 rule",
            Self::Router250 => "(m) kdev, 250 rules",
        }
    }

    /// Its letter.
    pub fn letter(self) -> &'static str {
        // "(a) kernel"
        self.title().split_whitespace().next().unwrap_or_default()
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_letter_of_their_own_in_the_order_of_the_alphabet() {
        let mut letters: Vec<_> = Contender::all()
            .into_iter()
            .map(Contender::letter)
            .collect();
        letters.sort_unstable();
        let expected: Vec<_> = ('a'..='m').map(|letter| format!("({letter})")).collect();
        assert_eq!(letters, expected);
        let shown = [
            &Contender::WAYS[..],
            &Contender::INTERCEPTS,
            &Contender::ROUTERS[1..],
        ]
        .concat();
        assert!(
            shown.is_sorted_by_key(|contender| contender.letter()),
            "{shown:?}"
        );
    }
}
