//! Who is compared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way to the pod.
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
}

impl Contender {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::Kernel,
        Self::Kubectl,
        Self::Forward,
        Self::Direct,
        Self::Sshuttle,
    ];

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kernel => "(a) kernel",
            Self::Kubectl => "(b) kubectl",
            Self::Forward => "(c) kdev, port-forward",
            Self::Direct => "(d) kdev, direct",
            Self::Sshuttle => "(e) sshuttle",
        }
    }

    /// Its letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Kernel => "(a)",
            Self::Kubectl => "(b)",
            Self::Forward => "(c)",
            Self::Direct => "(d)",
            Self::Sshuttle => "(e)",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}
