//! `kdev connect` and the daemons that it starts.

use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::{Daemon, User};

/// Generous, as two cores are the cluster's as well; `leaves_nothing` has the figure that counts.
const SOON: Duration = Duration::from_secs(10);

const NOT_PERMITTED: i32 = 4;
const CONFLICT: i32 = 11;
const NOT_CONNECTED: i32 = 14;

#[test]
fn a_developer_connects_with_sudo_and_is_told_so() {
    let desk = Desk::with_manager();
    let connect = desk.connect().within(SOON);
    let connect = connect
        .says("with sudo")
        .says("device ")
        .says("10.96.0.0/16");
    assert_eq!(
        connect.text(),
        format!(
            "connected to context {}, namespace {DEMO}",
            desk.cluster.name()
        )
    );
    assert_eq!(desk.laptop.daemons(Daemon::User).len(), 1);
    assert_eq!(desk.laptop.daemons(Daemon::Root).len(), 1);
    assert!(desk.pod_at("http://web/").starts_with("web-"));
}

#[test]
fn root_connects_without_sudo() {
    let desk = Desk::with_manager();
    desk.kdev_as(User::Root, &["connect", "-n", DEMO])
        .ok()
        .says("as this is root");
    assert!(desk.pod_at("http://web/").starts_with("web-"));
    desk.kdev_as(User::Root, &["quit"]).ok();
}

#[test]
fn the_daemons_keep_nothing_of_the_callers_terminal() {
    let desk = Desk::with_manager();
    // `run` itself fails when somebody keeps the pipe open.
    let last = desk
        .laptop
        .shell(User::Dev, "kdev connect -n demo 2>&1 | tail -1")
        .ok();
    assert!(last.text().starts_with("connected to context"), "{last:#?}");
    for (daemon, pid) in desk.laptop.all_daemons() {
        let files =
            format!("for n in 0 1 2; do readlink /proc/{pid}/fd/$n; done; cat /proc/{pid}/stat");
        let files = desk.laptop.shell(User::Root, &files).ok().lines();
        if daemon != Daemon::Guard {
            assert!(
                files[..3].iter().all(|file| file == "/dev/null"),
                "{daemon:?}: {files:?}"
            );
        }
        // The fields after the name: state, parent, process group, session, terminal.
        let after_name = files[files.len() - 1].rsplit(") ").next().unwrap();
        assert_eq!(
            after_name.split(' ').nth(4),
            Some("0"),
            "{daemon:?} has a terminal"
        );
    }
}

#[test]
fn a_second_connect_says_that_there_is_a_session() {
    let desk = Desk::connected();
    desk.kdev(&["connect"])
        .exits(CONFLICT)
        .says("connected already")
        .says("next: ");
    assert!(desk.pod_at("http://web/").starts_with("web-"));
}

#[test]
fn without_a_session_commands_say_so() {
    let desk = Desk::with_manager();
    for command in [
        &["leave", "web"][..],
        &["intercept", "web", "--port", "1"],
        &["status"],
    ] {
        desk.kdev(command).exits(NOT_CONNECTED).says("kdev connect");
    }
    desk.kdev(&["quit"]).ok();
}

#[test]
fn quitting_says_what_it_looked_at() {
    let desk = Desk::connected();
    let quit = desk.kdev(&["quit"]).ok();
    let quit = quit
        .says("its routes are gone")
        .says("the machine's own")
        .says("no daemon runs");
    assert!(desk.laptop.all_daemons().is_empty(), "{quit:#?}");
    let pod = desk.laptop.run(
        User::Dev,
        &["workload", "lookup", "web.demo.svc.cluster.local"],
    );
    assert_ne!(pod.code, 0, "{pod:#?}");
}

#[test]
fn somebody_who_may_not_become_root_is_told() {
    let desk = Desk::with_manager();
    let connect = desk.kdev_as(User::Eve, &["connect"]).exits(NOT_PERMITTED);
    connect.says("sudo").says("next: ");
    assert!(desk.laptop.daemons(Daemon::Root).is_empty());
}

#[test]
fn somebody_else_cant_drive_the_developers_daemons() {
    let desk = Desk::connected();
    for command in [&["connect"][..], &["quit"], &["status"]] {
        let refused = desk.kdev_as(User::Eve, command);
        assert_ne!(refused.code, 0, "{refused:#?}");
    }
    desk.kdev_as(User::Eve, &["connect"])
        .exits(NOT_PERMITTED)
        .says("another user");
    let sockets = desk
        .laptop
        .shell(User::Root, "find /run/kdev /run/user/1000 -type s")
        .ok()
        .lines();
    assert_eq!(sockets.len(), 3, "{sockets:?}");
    for socket in &sockets {
        let open = [
            "curl",
            "-sS",
            "--http2-prior-knowledge",
            "--unix-socket",
            socket,
            "http://x/",
        ];
        let refused = desk.laptop.run(User::Eve, &open);
        assert_eq!(refused.code, 7, "eve opens {socket}: {refused:#?}");
    }
    assert!(
        desk.pod_at("http://web/").starts_with("web-"),
        "the session goes on"
    );
}
