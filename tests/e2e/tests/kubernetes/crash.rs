//! kill -9 of a daemon, or both: nothing of theirs stays, `status` tells the truth, and `connect` ends
//! in one working tunnel.

use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::ends::{Way, demo_pod};
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::snapshot::Machine;
use kdev_e2e::wait;

/// What the kernel does it does at once; the guard needs a moment, and a busy machine more.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Each way of dying, this often.
const ROUNDS: usize = 5;

/// Expects that the machine's network is as before anybody connected.
fn wait_until_restored(desk: &Desk) {
    wait::until_true("the network is as it was", AT_ONCE, || {
        let now = Machine::of(&desk.laptop);
        now.devices == desk.before.devices
            && now.routes == desk.before.routes
            && now.resolver == desk.before.resolver
    });
}

/// Expects one tunnel, one daemon of each kind, and that it works.
fn assert_one_working_tunnel(desk: &Desk) {
    let now = Machine::of(&desk.laptop);
    assert_eq!(now.devices_beside(&desk.before).len(), 1, "{now:?}");
    assert_eq!(
        now.daemons,
        [Daemon::User, Daemon::Root, Daemon::Guard],
        "{now:?}"
    );
    assert!(desk.pod_at("http://web/").starts_with("web-"));
    assert!(
        desk.pod_at("http://web.demo.svc.cluster.local/")
            .starts_with("web-")
    );
}

#[test]
fn a_killed_root_daemon_leaves_no_device_no_route_and_the_old_resolver() {
    let desk = Desk::connected();
    desk.laptop.kill(Daemon::Root);
    wait_until_restored(&desk);
    assert_eq!(
        desk.curl("http://www.public.test/").ok().text(),
        "public page"
    );
}

#[test]
fn a_killed_user_daemon_leaves_no_device_no_route_and_the_old_resolver() {
    let desk = Desk::connected();
    let (mut client, _server) = Way::outward(&desk.laptop, &demo_pod(desk.cluster)).connect();
    desk.laptop.kill(Daemon::User);
    // The root daemon, which lives on, has told it.
    client.set_read_timeout(Some(AT_ONCE)).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    wait_until_restored(&desk);
    let status = desk.kdev(&["status", "-o", "json"]).exits(14).json();
    assert_eq!(
        (&status["connected"], &status["userd"]["state"]),
        (&false.into(), &"down".into())
    );
}

#[test]
fn when_the_guard_dies_too_the_next_start_restores_the_resolver() {
    let desk = Desk::connected();
    desk.laptop.kill(Daemon::Guard);
    desk.laptop.kill(Daemon::Root);
    desk.laptop.kill(Daemon::User);
    wait::until_true("device and routes are gone", AT_ONCE, || {
        let left = Machine::of(&desk.laptop);
        (left.devices, left.routes) == (desk.before.devices.clone(), desk.before.routes.clone())
    });
    // Any start of the root daemon will do.
    desk.laptop
        .run(User::Root, &["kdev-rootd", "launch", "--owner", "1000"])
        .ok();
    wait::until_true("the resolver's file is the old one", AT_ONCE, || {
        Machine::of(&desk.laptop).resolver == desk.before.resolver
    });
    assert_eq!(
        desk.curl("http://www.public.test/").ok().text(),
        "public page"
    );
}

#[test]
fn after_any_kill_status_is_true_and_connect_ends_in_one_working_tunnel() {
    let ways: [&[Daemon]; 4] = [
        &[Daemon::User],
        &[Daemon::Root],
        &[Daemon::User, Daemon::Root],
        &[Daemon::Root, Daemon::User],
    ];
    let desk = Desk::connected();
    for round in 0..ROUNDS {
        for way in ways {
            for daemon in way {
                desk.laptop.kill(*daemon);
            }
            let told = desk.kdev(&["status", "-o", "json"]);
            let status = told.json();
            let whole = status["connected"] == true
                && status["rootd"]["state"] == "ok"
                && status["dns"]["state"] == "ok";
            assert!(!whole, "round {round}, killed {way:?}: {status:#}");
            if way.contains(&Daemon::User) {
                assert_eq!(told.code, 14, "round {round}, killed {way:?}: {told:#?}");
                assert_eq!(status["userd"]["state"], "down");
            }
            if way.contains(&Daemon::Root) {
                assert_eq!(
                    status["rootd"]["state"], "down",
                    "round {round}, killed {way:?}"
                );
            }
            desk.kdev(&["connect", "-n", DEMO]).ok();
            assert_one_working_tunnel(&desk);
        }
    }
    desk.kdev(&["quit"]).ok();
    assert_eq!(Machine::of(&desk.laptop), desk.before);
}
