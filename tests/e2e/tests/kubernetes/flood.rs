//! A program that asks for more connections than anybody answers hurts only itself.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::{Daemon, User};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

const REQUESTS: u32 = 200_000;
const TRANSFER: u32 = 50 << 20;
/// What the root daemon may grow by.
const GROWTH_KB: u64 = 64 << 10;

#[test]
fn a_flood_of_requests_costs_bounded_memory_and_hurts_no_other_flow() {
    let desk = Desk::connected();
    let service = desk.cluster.get(&["-n", DEMO, "service", "web"]);
    let service: Ipv4Addr = service["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let [daemon] = desk.laptop.daemons(Daemon::Root)[..] else {
        panic!("one root daemon")
    };
    let url = format!("http://{service}/big?bytes={TRANSFER}");
    let wanted = format!("curl -sS {url} | sha256sum");
    let wanted = desk.cluster.on_node(&["sh", "-c", &wanted]).ok();
    let before = forget_peak(daemon);

    // Slow enough to be there for all of it, fast enough to suffer.
    let line = format!("curl -sS --limit-rate 8M --max-time 50 {url} | sha256sum");
    let received = std::thread::scope(|scope| {
        let transfer = scope.spawn(|| desk.laptop.shell(User::Dev, &line).ok());
        desk.laptop.network().inside(|| flood(service)).unwrap();
        transfer.join().unwrap()
    });
    assert_eq!(received.text(), wanted.text());
    let peak = memory(daemon, "VmHWM");
    eprintln!(
        "root daemon: {before} kB before the flood, {peak} kB at most; transfer {:?}",
        received.took
    );
    assert!(peak < before + GROWTH_KB, "from {before} kB to {peak} kB");
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
    let manager = desk.cluster.get(&["-n", "kdev", "pods"]);
    let restarts = &manager["items"][0]["status"]["containerStatuses"][0]["restartCount"];
    assert_eq!(restarts, 0, "{manager:#}");
}

/// Asks for connections from ports that are nobody's: to a service, to a closed port of it, and to
/// addresses where there is no pod.
fn flood(service: Ipv4Addr) -> io::Result<()> {
    let probe = UdpSocket::bind("0.0.0.0:0")?;
    probe.connect((service, 9))?;
    let IpAddr::V4(source) = probe.local_addr()?.ip() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::Raw,
    )?;
    for number in 0..REQUESTS {
        let free = Ipv4Addr::new(10, 244, 0, 200 + (number % 50) as u8);
        let target = match number % 4 {
            0 => SocketAddr::from((service, 80)),
            1 => SocketAddr::from((service, 4_321)),
            _ => SocketAddr::from((free, 80)),
        };
        let port = 1_024 + (number % 30_000) as u16;
        let (SocketAddr::V4(target), packet) = (target, syn(source, port, target, number)) else {
            continue;
        };
        match sendto(
            raw.as_raw_fd(),
            &packet,
            &SockaddrIn::from(target),
            MsgFlags::empty(),
        ) {
            // The device's queue is full: as good as lost.
            Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn syn(source: Ipv4Addr, port: u16, target: SocketAddr, sequence: u32) -> Vec<u8> {
    let IpAddr::V4(address) = target.ip() else {
        return Vec::new();
    };
    let mut tcp = [0; 20];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    // A header of five words, SYN, a window.
    (tcp[12], tcp[13], tcp[14]) = (5 << 4, 0x02, 0xff);
    let pseudo = [
        &source.octets()[..],
        &address.octets(),
        &[0, 6, 0, 20],
        &tcp,
    ]
    .concat();
    let sum: u32 = pseudo
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    tcp[16..18].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    // The kernel fills in length, identification and checksum (raw(7)).
    let ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    [&ip[..], &source.octets(), &address.octets(), &tcp].concat()
}

/// Lets the kernel forget the most memory that a process had, and returns what it has, in kB.
fn forget_peak(pid: i32) -> u64 {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    memory(pid, "VmRSS")
}

/// A field of proc_pid_status(5) in kB.
fn memory(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    let number = line.trim_matches(|c: char| !c.is_ascii_digit());
    number.parse().unwrap()
}
