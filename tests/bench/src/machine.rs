//! The machine that the figures are of.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What a reader has to know of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many processors the kernel sees.
    pub processors: usize,
    /// Memory, in MB.
    pub memory: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub system: String,
    /// What the commit was of which kdev was built.
    pub commit: String,
    /// When, in UTC.
    pub date: String,
    /// Load averages just before.
    pub load_before: String,
}

impl Machine {
    /// This one, now.
    pub fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kilobytes = memory
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        let os_release = read("/etc/os-release").replace('=', ":");
        Self {
            processor: field(&cpuinfo, "model name"),
            processors: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            memory: kilobytes.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&os_release, "PRETTY_NAME")
                .trim_matches('"')
                .to_owned(),
            commit: said("git", &["describe", "--always", "--dirty"]),
            date: said("date", &["-u", "+%F %R"]),
            load_before: read("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

/// "NAME : VALUE"
fn field(text: &str, name: &str) -> String {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name);
    found
        .map(|(_, value)| value.trim().to_owned())
        .unwrap_or_default()
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().trim().to_owned()
}
