//! Deciding how to make the settings, from who keeps them on this machine.

use std::path::{Path, PathBuf};

/// Where systemd-resolved lists the servers that it asks itself (systemd-resolved.service(8)).
pub const UPLINKS: &str = "/run/systemd/resolve/resolv.conf";

/// The addresses on which systemd-resolved itself answers.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// What there is to know about the machine's DNS settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverFacts {
    /// The file in question.
    pub path: PathBuf,
    /// What there is in its place.
    pub place: Place,
    /// Its text.
    pub text: String,
    /// Whether [`UPLINKS`] is there.
    pub uplinks: bool,
}

/// What there is in the place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Missing,
    /// A file.
    File,
    /// A file that is a mount point: a container's.
    MountedFile,
    /// A symbolic link, with where it leads in the end.
    Symlink(PathBuf),
}

/// How the settings are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// By writing the file that the system's resolver reads.
    ResolvConf,
}

/// Who keeps the settings when kdev isn't connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Nobody: the administrator, by hand.
    Nobody,
    /// systemd-resolved.
    SystemdResolved,
    /// NetworkManager.
    NetworkManager,
    /// resolvconf or openresolv.
    Resolvconf,
    /// A DHCP client.
    DhcpClient,
    /// Windows, for its subsystem for Linux.
    Wsl,
    /// A container's runtime.
    ContainerRuntime,
    /// Some program that put a symbolic link there.
    Unknown,
    /// An earlier kdev whose journal is lost.
    Kdev,
}

/// How the settings are made, and why so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How.
    pub backend: Backend,
    /// Who keeps them otherwise.
    pub manager: Manager,
    /// Which file names those to forward to, if it isn't the one that is replaced.
    pub upstreams: Option<PathBuf>,
    /// Why, in a sentence for a person.
    pub reason: String,
}

/// Chooses the backend.
pub fn choose(facts: &ResolverFacts) -> Choice {
    let manager = manager(facts);
    // When the file isn't its own, systemd-resolved reads it and asks kdev, so that forwarding to it
    // would go round in circles.
    let upstreams = (facts.uplinks && leads_to_stub(&facts.text)).then(|| PathBuf::from(UPLINKS));
    let path = facts.path.display();
    let what = match &facts.place {
        Place::Missing => format!("there is no {path}, so kdev writes one while it is connected"),
        Place::File => format!("{path} is a file, which kdev replaces while it is connected"),
        Place::MountedFile => {
            format!("{path} is mounted here, so kdev writes into it while it is connected")
        }
        Place::Symlink(target) => format!(
            "{path} is a link to {}, in whose place kdev puts a file while it is connected",
            target.display()
        ),
    };
    let whose = match manager {
        Manager::Nobody => "",
        Manager::SystemdResolved => "; systemd-resolved keeps it otherwise",
        Manager::NetworkManager => "; NetworkManager keeps it otherwise",
        Manager::Resolvconf => "; resolvconf keeps it otherwise",
        Manager::DhcpClient => "; a DHCP client keeps it otherwise",
        Manager::Wsl => "; Windows keeps it otherwise",
        Manager::ContainerRuntime => "; the container's runtime keeps it otherwise",
        Manager::Unknown => "; some other program keeps it otherwise",
        Manager::Kdev => "; an earlier kdev left it there and its journal is lost",
    };
    let reason = format!("{what}{whose}");
    Choice {
        backend: Backend::ResolvConf,
        manager,
        upstreams,
        reason,
    }
}

fn manager(facts: &ResolverFacts) -> Manager {
    let by_mark = || by_mark(&facts.text);
    match &facts.place {
        Place::Missing => Manager::Nobody,
        Place::Symlink(target) => by_target(target)
            .or_else(by_mark)
            .unwrap_or(Manager::Unknown),
        Place::File => by_mark().unwrap_or(Manager::Nobody),
        Place::MountedFile => by_mark().unwrap_or(Manager::ContainerRuntime),
    }
}

fn by_target(target: &Path) -> Option<Manager> {
    const TARGETS: [(&str, Manager); 6] = [
        ("/run/systemd/resolve", Manager::SystemdResolved),
        ("/usr/lib/systemd", Manager::SystemdResolved),
        ("/run/NetworkManager", Manager::NetworkManager),
        ("/run/resolvconf", Manager::Resolvconf),
        ("/etc/resolvconf", Manager::Resolvconf),
        ("/mnt/wsl", Manager::Wsl),
    ];
    TARGETS
        .iter()
        .find(|(dir, _)| target.starts_with(dir))
        .map(|(_, manager)| *manager)
}

/// Managers say so in a comment.
fn by_mark(text: &str) -> Option<Manager> {
    const MARKS: [(&str, Manager); 8] = [
        ("written by kdev", Manager::Kdev),
        ("systemd-resolved", Manager::SystemdResolved),
        ("networkmanager", Manager::NetworkManager),
        ("resolvconf", Manager::Resolvconf),
        ("dhcpcd", Manager::DhcpClient),
        ("dhclient", Manager::DhcpClient),
        ("by wsl", Manager::Wsl),
        ("docker", Manager::ContainerRuntime),
    ];
    let comments: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with(['#', ';']))
        .map(str::to_lowercase)
        .collect();
    let marked = |mark: &str| comments.iter().any(|comment| comment.contains(mark));
    MARKS
        .iter()
        .find(|(mark, _)| marked(mark))
        .map(|(_, manager)| *manager)
}

fn leads_to_stub(text: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix("nameserver")
            .and_then(|rest| rest.split_ascii_whitespace().next())
            .is_some_and(|server| STUBS.contains(&server))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(place: Place, text: &str, uplinks: bool) -> ResolverFacts {
        ResolverFacts {
            path: "/etc/resolv.conf".into(),
            place,
            text: text.to_owned(),
            uplinks,
        }
    }

    fn link(target: &str) -> Place {
        Place::Symlink(target.into())
    }

    #[test]
    fn each_machine_s_keeper_is_recognised() {
        const STUB: &str = "# This is /run/systemd/resolve/stub-resolv.conf managed by \
                            man:systemd-resolved(8).\nnameserver 127.0.0.53\noptions edns0 trust-ad\n";
        let plain = "nameserver 10.0.0.1\n";
        let table = [
            (facts(Place::File, plain, false), Manager::Nobody, false),
            (facts(Place::Missing, "", false), Manager::Nobody, false),
            (
                facts(Place::MountedFile, plain, false),
                Manager::ContainerRuntime,
                false,
            ),
            (
                facts(link("/run/systemd/resolve/stub-resolv.conf"), STUB, true),
                Manager::SystemdResolved,
                true,
            ),
            // Resolved is installed and doesn't run.
            (
                facts(link("/run/systemd/resolve/stub-resolv.conf"), "", false),
                Manager::SystemdResolved,
                false,
            ),
            (
                facts(link("/run/systemd/resolve/resolv.conf"), plain, true),
                Manager::SystemdResolved,
                false,
            ),
            (
                facts(link("/usr/lib/systemd/resolv.conf"), STUB, true),
                Manager::SystemdResolved,
                true,
            ),
            // A copy of the stub's file.
            (
                facts(Place::File, STUB, true),
                Manager::SystemdResolved,
                true,
            ),
            (
                facts(
                    Place::File,
                    "# Generated by NetworkManager\nnameserver 10.0.0.1\n",
                    false,
                ),
                Manager::NetworkManager,
                false,
            ),
            (
                facts(link("/run/NetworkManager/resolv.conf"), plain, false),
                Manager::NetworkManager,
                false,
            ),
            (
                facts(link("/run/resolvconf/resolv.conf"), plain, false),
                Manager::Resolvconf,
                false,
            ),
            (
                facts(
                    Place::File,
                    "# Generated by resolvconf\nnameserver 127.0.0.1\n",
                    false,
                ),
                Manager::Resolvconf,
                false,
            ),
            (
                facts(Place::File, "# Generated by dhcpcd from eth0.dhcp\n", false),
                Manager::DhcpClient,
                false,
            ),
            (
                facts(link("/mnt/wsl/resolv.conf"), "# generated by WSL\n", false),
                Manager::Wsl,
                false,
            ),
            (
                facts(Place::MountedFile, "# Generated by Docker Engine.\n", false),
                Manager::ContainerRuntime,
                false,
            ),
            (
                facts(link("/opt/vpn/resolv.conf"), plain, false),
                Manager::Unknown,
                false,
            ),
            (
                facts(
                    Place::File,
                    "# Written by kdev, which is connected\n",
                    false,
                ),
                Manager::Kdev,
                false,
            ),
        ];
        for (facts, manager, by_uplinks) in table {
            let choice = choose(&facts);
            assert_eq!(choice.backend, Backend::ResolvConf, "{facts:?}");
            assert_eq!(choice.manager, manager, "{facts:?}");
            assert_eq!(choice.upstreams.is_some(), by_uplinks, "{facts:?}");
        }
    }

    #[test]
    fn the_reason_is_a_sentence_for_a_person() {
        let choice = choose(&facts(
            link("/run/systemd/resolve/stub-resolv.conf"),
            "",
            false,
        ));
        assert_eq!(
            choice.reason,
            "/etc/resolv.conf is a link to /run/systemd/resolve/stub-resolv.conf, in whose place \
             kdev puts a file while it is connected; systemd-resolved keeps it otherwise"
        );
        let choice = choose(&facts(Place::File, "nameserver 10.0.0.1\n", false));
        assert_eq!(
            choice.reason,
            "/etc/resolv.conf is a file, which kdev replaces while it is connected"
        );
    }
}
