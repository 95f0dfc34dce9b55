//! What may be heard once is heard once, whatever happens to its way.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::ends::demo_pod;
use kdev_e2e::namespace::Network;
use kdev_e2e::orders::{Taker, Version, order};
use kdev_e2e::workload::Workload;

use crate::resume::{Dice, cut_at_random};

const CLIENTS: usize = 8;

/// Orders that were answered, by whom.
#[derive(Default)]
struct Answered {
    /// The paths of those that the machine has answered, and of those of the pods.
    machine: Vec<String>,
    pods: Vec<String>,
}

/// Orders from a pod, with so many clients at once, while something is done.
fn while_ordering(
    network: &Network,
    to: SocketAddr,
    version: Version,
    doing: impl FnOnce(),
) -> Answered {
    let (sent, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answered = Mutex::<Answered>::default();
    let client = || {
        while !over.load(Ordering::Relaxed) {
            let path = format!("/{}", sent.fetch_add(1, Ordering::Relaxed));
            let by_machine = order(to, &path, version).unwrap_or_else(|error| {
                panic!("{version:?} order {path}: {error}");
            });
            let mut answered = answered.lock().unwrap();
            match by_machine {
                true => answered.machine.push(path),
                false => answered.pods.push(path),
            }
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| network.inside(client)))
            .collect();
        doing();
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
    });
    let mut answered = answered.into_inner().unwrap();
    answered.machine.sort_unstable();
    answered
}

/// Each order that the machine answered was heard there once, and no other.
#[track_caller]
fn assert_heard_once(answered: &Answered, taker: &Taker, what: &str) {
    let heard = taker.heard();
    let (machine, pods) = (answered.machine.len(), answered.pods.len());
    eprintln!(
        "{what}: {machine} orders answered by the machine, {pods} by pods, {} heard",
        heard.len()
    );
    assert!(
        heard == answered.machine,
        "{what}: {machine} answered, {} heard",
        heard.len()
    );
}

#[test]
fn an_order_is_heard_once_though_carriers_are_cut() {
    const CUTS: usize = 12;
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "once");
    let connect = ["connect", "-n", web.namespace(), "--direct", "never"];
    desk.kdev(&connect).ok();
    let (pod, address) = (demo_pod(desk.cluster), web.address(80));
    let kinds: [(Version, &[&str]); 3] = [
        (Version::Http1, &[]),
        (Version::Http1, &["--path-prefix", "/"]),
        (Version::Http2, &["--path-prefix", "/"]),
    ];
    for (version, rule) in kinds {
        let taker = Taker::listen(desk.laptop.network(), version);
        let port = format!("{}:http", taker.port());
        desk.kdev(&[&["intercept", "web", "--port", &port], rule].concat())
            .ok();
        let mut dice = Dice::new();
        let answered = while_ordering(&pod.network, address, version, || {
            for _ in 0..CUTS {
                std::thread::sleep(Duration::from_millis(300));
                cut_at_random(&desk, &mut dice);
            }
        });
        assert_heard_once(&answered, &taker, &format!("{version:?} {rule:?}"));
        assert_eq!(answered.pods, [""; 0]);
        desk.kdev(&["leave", "web"]).ok();
    }
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

#[test]
fn an_order_is_heard_by_one_side_when_the_intercept_ends() {
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "ends");
    let (pod, address) = (demo_pod(desk.cluster), web.address(80));
    for version in [Version::Http1, Version::Http2] {
        let taker = Taker::listen(desk.laptop.network(), version);
        let port = format!("{}:http", taker.port());
        desk.kdev(&["connect", "-n", web.namespace()]).ok();
        for end in [&["leave", "web"][..], &["quit"]] {
            let intercept = ["intercept", "web", "--port", &port, "--path-prefix", "/"];
            desk.kdev(&intercept).ok();
            let answered = while_ordering(&pod.network, address, version, || {
                std::thread::sleep(Duration::from_millis(500));
                desk.kdev(end).ok();
                std::thread::sleep(Duration::from_millis(500));
            });
            assert_heard_once(&answered, &taker, &format!("{version:?}, {end:?}"));
            assert!(!answered.machine.is_empty() && !answered.pods.is_empty());
        }
    }
    web.assert_untouched();
}
