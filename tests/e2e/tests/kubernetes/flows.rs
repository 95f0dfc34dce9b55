//! Many flows beside each other: none is in another's way, and none leaves anything behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::ends::{End, PATIENCE, Way, both_ways, demo_pod, reset};
use kdev_e2e::footprint::Footprint;
use kdev_e2e::laptop::Daemon;
use kdev_e2e::namespace::Network;
use kdev_e2e::pod::PodPlace;
use kdev_e2e::talk::Echo;
use kdev_e2e::text::{PIECE, Text};
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

fn udp(network: &Network, local: &str) -> UdpSocket {
    let socket = network.inside(|| UdpSocket::bind(local).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn datagrams_of_every_size_pass_unchanged_both_ways_on_one_flow() {
    let desk = Desk::connected();
    let socket = udp(desk.laptop.network(), "0.0.0.0:0");
    let pod = demo_pod(desk.cluster);
    socket.connect((pod.address, 7007)).unwrap();
    let (text, mut buffer) = (Text::new(1), vec![0; 70_000]);
    let before = flows(&desk);
    // Large ones among small ones, again and again.
    for round in 0..6 {
        for size in [0, 1, 65_507, 3, 1472, 1473, 9_000, 20_000, 32_768] {
            let datagram = text.piece(round * 1000, PIECE)[..size].to_vec();
            socket.send(&datagram).unwrap();
            let count = socket.recv(&mut buffer).unwrap();
            assert!(buffer[..count] == datagram, "{size} bytes came as {count}");
        }
    }
    assert_eq!(flows(&desk), before + 1);
}

/// Flows on all carriers.
fn flows(desk: &Desk) -> u64 {
    let status = desk.status();
    let carriers = status["carriers"].as_array().unwrap().iter();
    carriers
        .filter_map(|carrier| carrier["flows"].as_u64())
        .sum()
}

#[test]
fn datagrams_of_a_flow_keep_their_order() {
    const ALL: u32 = 4000;
    /// As many may be under way without any being lost.
    const UNDER_WAY: u32 = 32;
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let socket = udp(desk.laptop.network(), "0.0.0.0:0");
    socket.connect((pod.address, 7007)).unwrap();
    let receive = || -> Option<u32> {
        let mut number = [0; 4];
        match socket.recv(&mut number) {
            Ok(count) => {
                assert_eq!(count, 4);
                Some(u32::from_be_bytes(number))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    };
    for next in 0..ALL + UNDER_WAY {
        if next < ALL {
            socket.send(&next.to_be_bytes()).unwrap();
        }
        if let Some(due) = next.checked_sub(UNDER_WAY) {
            assert_eq!(receive(), Some(due));
        }
    }
    // More than anything holds: some are lost, and the others are in order.
    for number in 0..ALL {
        socket.send(&number.to_be_bytes()).unwrap();
    }
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let received: Vec<u32> = std::iter::from_fn(receive).collect();
    assert!(!received.is_empty());
    assert!(received.is_sorted_by(|a, b| a < b), "{received:?}");
}

/// A connection whose one end writes and whose other end reads.
struct Transfer {
    from: End,
    to: End,
    /// How much was written.
    written: u64,
}

impl Transfer {
    fn new(way: &Way<'_>, upload: bool) -> Self {
        let (client, server) = way.connect();
        let (from, to) = if upload {
            (client, server)
        } else {
            (server, client)
        };
        let written = 0;
        Self { from, to, written }
    }

    /// One of many: all of them are in this machine's kernel, whose memory for TCP would be used up first. Where it is, the
    /// kernel itself lets nobody have any speed.
    fn small(way: &Way<'_>, upload: bool) -> Self {
        let one = Self::new(way, upload);
        setsockopt(&one.from, SndBuf, &(64 << 10)).unwrap();
        one
    }
}

/// Writes to all who don't read until none takes more.
fn fill(transfers: &mut [Transfer], text: &Text) {
    /// Windows are full when nothing has moved for so long.
    const STILL: Duration = Duration::from_secs(1);
    for one in &*transfers {
        one.from.set_nonblocking(true).unwrap();
    }
    let mut moved = Instant::now();
    while moved.elapsed() < STILL {
        for one in &mut *transfers {
            match one.from.write(text.piece(one.written, PIECE)) {
                Ok(count) => {
                    one.written += count as u64;
                    moved = Instant::now();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The best of a few rates at which a flow moves data, in MB/s.
fn rate(way: &Way<'_>, upload: bool, text: &Text) -> f64 {
    const BYTES: u64 = 64 << 20;
    let once = || {
        let mut one = Transfer::new(way, upload);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| text.write(&mut one.from, BYTES, u64::MAX));
            assert_eq!(text.read(&mut one.to, BYTES).unwrap().bytes, BYTES);
            writing.join().unwrap().unwrap();
        });
        BYTES as f64 / 1e6 / began.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

#[test]
fn one_who_doesnt_read_is_in_nobodys_way_and_neither_are_a_thousand() {
    both_ways("stalled", |_, way| {
        let text = Text::new(3);
        for upload in [true, false] {
            let alone = rate(way, upload, &text);
            let mut stalled: Vec<Transfer> = Vec::new();
            for count in [1, 150, 1_000] {
                let before = stalled.len();
                stalled.extend((before..count).map(|_| Transfer::small(way, upload)));
                fill(&mut stalled[before..], &text);
                let beside = rate(way, upload, &text);
                let held: u64 = stalled.iter().map(|one| one.written).sum();
                eprintln!(
                    "upload {upload}: {alone:.0} MB/s alone, {beside:.0} MB/s beside {count} that \
                     hold {held} bytes"
                );
                assert!(
                    beside > alone / 4.0,
                    "{beside} MB/s beside {count}, {alone} MB/s alone"
                );
            }
            // They have lost nothing by it.
            for mut one in stalled {
                let read = text.read(&mut one.to, one.written).unwrap();
                assert_eq!(read.bytes, one.written);
            }
            // Nor has anybody who comes after them.
            let after = rate(way, upload, &text);
            eprintln!("upload {upload}: {after:.0} MB/s alone again");
            assert!(after > alone / 4.0, "{after} MB/s after, {alone} before");
        }
    });
}

/// Ways in which a connection may be made and end.
const WAYS_TO_END: usize = 8;

/// Makes one short connection, in one of many ways.
fn short_connection(echo: SocketAddr, closed: SocketAddr, number: usize) {
    if number.is_multiple_of(WAYS_TO_END) {
        let error = TcpStream::connect_timeout(&closed, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        return;
    }
    let mut connection = TcpStream::connect_timeout(&echo, PATIENCE).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let said = number.to_be_bytes();
    connection.write_all(&said).unwrap();
    if number % WAYS_TO_END == 1 {
        return reset(connection);
    }
    let mut heard = [0; 8];
    connection.read_exact(&mut heard).unwrap();
    assert_eq!(heard, said);
    if number.is_multiple_of(2) {
        connection.shutdown(Shutdown::Write).unwrap();
        assert_eq!(connection.read(&mut heard).unwrap(), 0);
    }
}

/// Makes `count` short connections from within `network`, as fast as a few threads can.
fn short_connections(network: &Network, targets: &[(SocketAddr, SocketAddr)], count: usize) {
    const THREADS: usize = 24;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            network.inside(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let (echo, closed) = targets[number % targets.len()];
                    short_connection(echo, closed, number / targets.len());
                }
            });
        };
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
}

/// What kdev's processes hold, when no flow is left.
fn at_rest(desk: &Desk, manager: &PodPlace) -> [Footprint; 3] {
    wait::until_true("no flow is left", PATIENCE, || {
        let status = desk.status();
        let carriers = status["carriers"].as_array().unwrap();
        carriers.iter().all(|one| one["flows"] == 0)
    });
    let daemon = |daemon| Footprint::of(desk.laptop.daemons(daemon)[0]);
    let look = || {
        [
            daemon(Daemon::User),
            daemon(Daemon::Root),
            Footprint::of(manager.pid),
        ]
    };
    // The far end's side of a flow goes a moment after the near one's.
    let (mut last, mut since) = (look(), Instant::now());
    wait::until_true("descriptors are closed", PATIENCE, || {
        let now = look();
        if now.map(|one| one.descriptors) != last.map(|one| one.descriptors) {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(1)
    });
    look()
}

#[test]
fn thirty_thousand_short_connections_leave_nothing_behind_on_any_side() {
    /// Descriptors that come and go by themselves, as those of a carrier that is made again.
    const SLACK: usize = 8;
    /// In KiB: what an allocator keeps that has seen more at once than before.
    const GROWTH: u64 = 32 << 10;
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "many");
    desk.kdev(&["connect", "-n", web.namespace()]).ok();
    let local = desk
        .laptop
        .network()
        .inside(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = format!("{}:http", local.local_addr().unwrap().port());
    let _echo = Echo::start(local);
    desk.kdev(&["intercept", "web", "--port", &port]).ok();
    let (manager, pods) = (
        PodPlace::manager(desk.cluster),
        PodPlace::all(desk.cluster, DEMO, "app=web"),
    );
    let pair = |pod: &PodPlace| ((pod.address, 7007).into(), (pod.address, 4321).into());
    let outward: Vec<(SocketAddr, SocketAddr)> = pods.iter().map(pair).collect();
    // Nothing is closed about the local program.
    let inward = [(web.address(80), (pods[0].address, 4321).into())];
    let both = |out: usize, inside: usize| {
        short_connections(desk.laptop.network(), &outward, out);
        short_connections(&pods[0].network, &inward, inside);
    };
    both(3000, 600);
    let before = at_rest(&desk, &manager);
    let began = Instant::now();
    both(25_000, 5000);
    let took = began.elapsed();
    let after = at_rest(&desk, &manager);
    eprintln!("30,000 connections in {took:?}: {before:?}, then {after:?}");
    for (side, (before, after)) in ["userd", "rootd", "manager"]
        .iter()
        .zip(before.iter().zip(&after))
    {
        assert!(
            after.descriptors <= before.descriptors + SLACK,
            "{side}: {before:?}, then {after:?}"
        );
        assert!(
            after.resident <= before.resident + GROWTH,
            "{side}: {before:?}, then {after:?}"
        );
    }
}
