//! sshuttle, where it is installed, with an SSH server on the node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kdev_e2e::laptop::User;
use kdev_e2e::{tools, wait};

use crate::background::Background;
use crate::contender::Contender;
use crate::scene::Scene;
use crate::way::{Way, loopback, relay};

/// Where the node's SSH server listens, and the laptop's way to it with a delay.
const SSH: u16 = 2222;
const RELAY_SSH: u16 = 17222;
/// How long either may take to begin.
const OPEN: Duration = Duration::from_secs(30);

/// What is missing for it, if anything.
pub fn missing(scene: &Scene) -> Option<String> {
    let laptop = scene.laptop();
    let lacks = |look: &str| laptop.shell(User::Root, look).code != 0;
    let looks = [
        ("sshuttle", "sshuttle --version"),
        ("ssh", "command -v ssh"),
        ("sshd", "PATH=$PATH:/usr/sbin command -v sshd"),
    ];
    let lacking = looks.into_iter().find(|(_, look)| lacks(look));
    lacking.map(|(program, _)| format!("{program} isn't installed"))
}

/// Opens it: a server with keys of its own on the node, and sshuttle as root on the laptop.
pub(crate) fn open(scene: &Scene, delay: u32) -> anyhow::Result<Way<'_>> {
    let keys = Keys::make(&tools::checkout().join("target/bench/ssh"))?;
    let server = Background::start(scene.on_node(&["sh", "-c", &keys.server()]), OPEN)?;
    let node = SocketAddr::new(scene.api_server.ip(), SSH);
    let (at, relays) = match delay {
        0 => (node, None),
        _ => (
            loopback(RELAY_SSH),
            Some(relay(scene, "root", loopback(RELAY_SSH), node, delay)?),
        ),
    };
    let line = keys.client(at, scene);
    let client = scene.command("root", &["sh", "-c", &line]);
    let client = Background::start_until(client, "Connected to server", OPEN)?;
    // It says so before its rules are there.
    let reached = || {
        let (connected, _) = scene.laptop().network().connect(scene.server, OPEN);
        connected.ok()
    };
    wait::within(OPEN, reached).context("sshuttle leads nowhere")?;
    let programs = [client].into_iter().chain(relays).chain([server]).collect();
    Ok(Way::plain(
        scene,
        Contender::Sshuttle,
        Some((scene.names, true)),
        programs,
    ))
}

struct Keys(PathBuf);

impl Keys {
    fn make(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        for name in ["host", "user"] {
            let path = directory.join(name);
            if path.exists() {
                continue;
            }
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path)
                .status()
                .context("ssh-keygen")?;
            ensure!(made.success(), "ssh-keygen: {made}");
        }
        Ok(Self(directory.to_owned()))
    }

    /// It speaks of where it listens before anything else.
    fn server(&self) -> String {
        let keys = self.0.display();
        let options = [
            "UsePAM=no",
            "PidFile=none",
            "StrictModes=no",
            "PermitRootLogin=yes",
            &format!("AuthorizedKeysFile={keys}/user.pub"),
        ]
        .map(|option| format!("-o {option}"))
        .join(" ");
        // It wants to be called by its whole path.
        format!(
            "mkdir -p /run/sshd; PATH=$PATH:/usr/sbin
             exec $(command -v sshd) -D -e -f /dev/null -p {SSH} -h {keys}/host {options} 2>&1"
        )
    }

    fn client(&self, at: SocketAddr, scene: &Scene) -> String {
        let keys = self.0.display();
        let ssh = format!(
            "ssh -i {keys}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        );
        let (address, port, pods) = (at.ip(), at.port(), &scene.pods);
        format!("exec sshuttle --method nft -e '{ssh}' -r root@{address}:{port} {pods} 2>&1")
    }
}
