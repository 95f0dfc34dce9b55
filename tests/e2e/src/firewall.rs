//! Packets that a network loses or answers, as long as a test wants it to.

use std::process::Command;
use std::time::Duration;

use crate::command::{self, Outcome};
use crate::namespace::Network;

/// How long the kernel may take to change its rules.
const AT_ONCE: Duration = Duration::from_secs(10);
/// The table that tests have; the laptop loses it when the next test begins.
const TABLE: &str = "e2e";

/// Rules that hold until this is dropped.
#[derive(Debug)]
pub struct Firewall<'a> {
    network: &'a Network,
    family: &'static str,
}

impl<'a> Firewall<'a> {
    /// Puts a chain with `rules`, of nft(8), at a hook of `network`: `input` or `output`.
    #[track_caller]
    pub fn put(network: &'a Network, hook: &str, rules: &str) -> Self {
        let made = Self {
            network,
            family: "inet",
        };
        made.change(hook, rules);
        made
    }

    /// Puts another chain in its place, at one stroke.
    #[track_caller]
    pub fn change(&self, hook: &str, rules: &str) {
        let chain = format!("type filter hook {hook} priority 0; {rules};");
        self.put_table(&format!("chain one {{ {chain} }};"));
    }

    /// Loses every packet that a device of `network` takes or hands out.
    #[track_caller]
    pub fn cut(network: &'a Network, device: &str) -> Self {
        let chain = |hook: &str| {
            format!("chain {hook} {{ type filter hook {hook} device {device} priority 0; drop; }};")
        };
        let chains = ["ingress", "egress"].map(chain).concat();
        let made = Self {
            network,
            family: "netdev",
        };
        made.put_table(&chains);
        made
    }

    #[track_caller]
    fn put_table(&self, content: &str) {
        let table = format!("table {} {TABLE}", self.family);
        // What a test that was killed has left must not be added to.
        let all = format!("{table} {{}}\ndelete {table}\n{table} {{ {content} }}");
        self.nft(&all).ok();
    }

    fn nft(&self, commands: &str) -> Outcome {
        let mut nft = Command::new("nft");
        nft.arg(commands);
        self.network.inside(|| command::run(&mut nft, AT_ONCE))
    }
}

impl Drop for Firewall<'_> {
    fn drop(&mut self) {
        let family = self.family;
        self.nft(&format!("delete table {family} {TABLE}"));
    }
}
