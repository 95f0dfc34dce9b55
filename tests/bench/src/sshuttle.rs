//! sshuttle, where it is installed, with an SSH server on the node.

use anyhow::bail;
use kdev_e2e::laptop::User;

use crate::scene::Scene;
use crate::way::Way;

/// What is missing for it, if anything.
pub fn missing(scene: &Scene) -> Option<String> {
    let laptop = scene.laptop();
    let lacks = |program: &str| {
        let look = format!("command -v {program} || test -x /usr/sbin/{program}");
        laptop.shell(User::Root, &look).code != 0
    };
    let lacking = ["sshuttle", "ssh", "sshd"]
        .into_iter()
        .find(|program| lacks(program));
    lacking.map(|program| format!("{program} isn't installed"))
}

/// Opens it.
pub(crate) fn open(_scene: &Scene, _delay: u32) -> anyhow::Result<Way<'_>> {
    bail!("not yet")
}
