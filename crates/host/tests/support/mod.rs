//! A network and mount namespace of a test's own.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

pub mod machine;
pub mod packet;

use std::future::Future;
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// After so long a test has failed, whatever it waits for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Runs a test on a thread whose network devices, routes and mounts are nobody else's, with a
/// runtime of that one thread. All of it vanishes with the thread.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("tests need root");
        // Nothing that is mounted here is seen elsewhere.
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { within(test()).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until the deadline.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("nothing happened until the deadline")
}

/// Runs `ip` with these arguments in the calling thread's namespaces and returns what it says.
pub fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until there is no network device of this name. A process that another test is just starting
/// has its descriptor for a moment.
pub async fn is_gone(device: &str) {
    let mut changes = kdev_host::link::changes().unwrap();
    let there = || ip("-o link show").contains(&format!(" {device}:"));
    while there() {
        within(changes.changed()).await.unwrap();
    }
}
