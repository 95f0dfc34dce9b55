//! On kernels that know less of TUN devices everything works, in smaller pieces.

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::User;
use kdev_e2e::snapshot::Machine;
use kdev_e2e::tools;

/// Bytes each way.
const MUCH: u64 = 32 << 20;
/// Larger than what goes over a network in one piece.
const LARGE: u64 = 3_000;

/// Bytes per packet that programs have sent, and how many queues the session's device has.
fn size_and_queues(desk: &Desk) -> (u64, usize) {
    let read = |what: &str| {
        let shown = desk
            .laptop
            .shell(User::Root, &format!("cd /sys/class/net/kdev0 && {what}"));
        shown.ok().text().trim().to_owned()
    };
    let number = |what: &str| -> u64 { read(&format!("cat statistics/{what}")).parse().unwrap() };
    let queues = read("ls -d queues/tx-*").lines().count();
    (number("tx_bytes") / number("tx_packets"), queues)
}

#[test]
fn a_kernel_that_knows_less_of_devices_carries_all_the_same() {
    let desk = Desk::with_manager();
    let older = tools::program("older-kernel");
    let older = older.to_str().unwrap();
    let upload = format!(
        "head -c {MUCH} /dev/zero | curl -sS --data-binary @- http://web/sum; head -c {MUCH} /dev/zero | sha256sum"
    );
    let download = format!("curl -sS 'http://web/big?bytes={MUCH}' | sha256sum");
    let all = ["nothing", "tso6", "tso", "offloads", "steering"];
    let carried = all.map(|without| {
        let rootd = ["kdev-rootd", "launch", "--owner", "1000"];
        let started = match without {
            "nothing" => rootd.to_vec(),
            _ => [&[older, without], &rootd[..]].concat(),
        };
        desk.laptop.run(User::Root, &started).ok();
        desk.kdev(&["connect", "-n", DEMO]).ok();
        let sums = desk.laptop.shell(User::Dev, &upload).ok();
        let sums: Vec<&str> = sums.text().lines().map(|line| &line[..64]).collect();
        assert_eq!(sums[0], sums[1], "without {without}");
        let (size, queues) = size_and_queues(&desk);
        eprintln!("without {without}: {size} bytes per packet, {queues} queues");
        let sum = desk.laptop.shell(User::Dev, &download).ok();
        desk.kdev(&["quit"]).ok();
        assert_eq!(Machine::of(&desk.laptop), desk.before, "without {without}");
        (size > LARGE, queues, sum.text().to_owned())
    });
    let (large, queues, sum) = carried[0].clone();
    assert!(large);
    assert_eq!(carried[1], (true, queues, sum.clone()));
    assert_eq!(carried[2], (false, queues, sum.clone()));
    assert_eq!(carried[3], (false, queues, sum.clone()));
    assert_eq!(carried[4], (true, 1, sum));
}
