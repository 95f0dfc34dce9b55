//! Connecting and quitting many times in a row leaves nothing, on the machine and in the cluster.

use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::snapshot::{self, Machine};
use kdev_e2e::wait;

/// How long connecting may take when the manager is there, mostly.
const CONNECT: Duration = Duration::from_secs(1);
/// How long daemons may take to be gone.
const END: Duration = Duration::from_secs(20);

/// How many times: `KDEV_E2E_CYCLES`, else 200.
fn cycles() -> usize {
    let asked = std::env::var("KDEV_E2E_CYCLES").ok();
    asked.map_or(200, |count| {
        count.parse().expect("KDEV_E2E_CYCLES is a number")
    })
}

#[test]
fn two_hundred_connects_and_quits_leave_machine_and_cluster_as_they_were() {
    let desk = Desk::with_manager();
    let objects = snapshot::objects(desk.cluster);
    let mut times = Vec::new();
    for cycle in 0..cycles() {
        times.push(desk.connect().took);
        if cycle % 20 == 0 {
            assert!(desk.pod_at("http://web/").starts_with("web-"));
        }
        desk.kdev(&["quit"]).ok();
        // Quitting has closed their doors; the kernel may still be at their remains.
        wait::until_true("the daemons are gone", END, || {
            desk.laptop.all_daemons().is_empty()
        });
    }
    assert_eq!(Machine::of(&desk.laptop), desk.before);
    snapshot::assert_same_objects(desk.cluster, &objects);
    times.sort_unstable();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{} connects with -n {DEMO}: median {median:?}, slowest {slowest:?}",
        times.len()
    );
    assert!(
        median <= CONNECT,
        "half of the connects take longer than {median:?}"
    );
}
