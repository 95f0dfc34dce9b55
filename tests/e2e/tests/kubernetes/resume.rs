//! Connections outlive the ways that they are carried over.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kdev_e2e::desk::Desk;
use kdev_e2e::ends::{Way, demo_pod};
use kdev_e2e::laptop::User;
use kdev_e2e::text::{Reader, Received, Text};
use kdev_e2e::workload::Workload;

/// Ends every connection to the node, and with them all carriers and the control stream, of whatever kind.
const CUT: &str = "ss -K state established dst 10.88.0.10";

/// Chances that nobody can foresee.
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = u64::from(seed.subsec_nanos()) | 1;
        eprintln!("the dice's seed is {seed}");
        Self(seed)
    }

    /// One of so many.
    fn roll(&mut self, sides: u64) -> u64 {
        // Marsaglia's xorshift64; its low bits are its worst.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }
}

/// Cuts one of the connections to the API server, or all.
pub fn cut_at_random(desk: &Desk, dice: &mut Dice) {
    let line = if dice.roll(2) == 0 {
        CUT.to_owned()
    } else {
        let which = dice.roll(4) + 1;
        let ports = "ss -Htn state established dst 10.88.0.10 | awk '{ print $3 }' | sed 's/.*://'";
        format!("port=$({ports} | sed -n {which}p); [ -z \"$port\" ] || {CUT} sport = $port")
    };
    desk.laptop.shell(User::Root, &line).ok();
}

/// Reads to the end, and says how far whoever is ahead has come.
fn read(text: &Text, from: &mut TcpStream, ahead: &AtomicU64) -> io::Result<Received> {
    let mut reader = Reader::new(text.clone());
    while reader.read_some(from, u64::MAX)? > 0 {
        ahead.fetch_max(reader.received.bytes, Ordering::Relaxed);
    }
    Ok(reader.received)
}

#[test]
fn a_gigabyte_each_way_at_once_arrives_unchanged_though_carriers_are_cut_twenty_times() {
    const BYTES: u64 = 1 << 30;
    const RATE: u64 = 90_000_000;
    const CUTS: u64 = 20;
    /// A person takes a longer pause for an outage.
    const PAUSE: Duration = Duration::from_secs(2);
    // The slower of the ways to have a carrier back.
    let desk = Desk::connected_by(&["--direct", "never"]);
    let pod = demo_pod(desk.cluster);
    let (mut client, mut server) = Way::outward(&desk.laptop, &pod).connect();
    let (up, down) = (Text::new(1), Text::new(2));
    let (mut client_reads, mut server_reads) =
        (client.try_clone().unwrap(), server.try_clone().unwrap());
    let ahead = AtomicU64::new(0);
    let received: Vec<Received> = std::thread::scope(|scope| {
        let read = [
            scope.spawn(|| read(&up, &mut server_reads, &ahead)),
            scope.spawn(|| read(&down, &mut client_reads, &ahead)),
        ];
        let written = [(&up, &mut client), (&down, &mut server)].map(|(text, end)| {
            scope.spawn(move || {
                text.write(end, BYTES, RATE)?;
                end.shutdown(Shutdown::Write)
            })
        });
        let mut dice = Dice::new();
        for cut in 0..CUTS {
            // Each somewhere in its own part of the transfer, however fast the machine.
            let part = BYTES * 9 / 10 / CUTS;
            let due = cut * part + dice.roll(part);
            while ahead.load(Ordering::Relaxed) < due && !read.iter().any(|one| one.is_finished()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let over = read.iter().any(|one| one.is_finished());
            assert!(!over, "it was over before the last cut");
            cut_at_random(&desk, &mut dice);
        }
        for one in written {
            one.join().unwrap().unwrap();
        }
        read.map(|one| one.join().unwrap().unwrap()).to_vec()
    });
    eprintln!("{received:?}");
    for one in received {
        assert_eq!(one.bytes, BYTES);
        assert!(one.longest_pause <= PAUSE, "{one:?}");
    }
}

#[test]
fn an_intercepted_download_outlives_cuts_too() {
    const BYTES: u64 = 300_000_000;
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "outlives");
    let connect = ["connect", "-n", web.namespace(), "--direct", "never"];
    desk.kdev(&connect).ok();
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    let sum = |address: SocketAddr, rate: &str| {
        let line = format!(
            "curl -sS --limit-rate {rate} 'http://{address}/big?bytes={BYTES}' | sha256sum"
        );
        desk.cluster
            .on_node(&["bash", "-o", "pipefail", "-c", &line])
    };
    // Each time some carrier has to be there to be cut.
    let there = "ss -Htn state established dst 10.88.0.10 | grep -q .";
    let cuts = format!(
        "for n in $(seq 10); do
             sleep 0.3; timeout 10 sh -c 'until {there}; do sleep 0.05; done' || exit 1
             {CUT} | grep 10.88.0.10 || exit 1
         done"
    );
    let cut = std::thread::scope(|scope| {
        let (sum, address) = (&sum, web.address(80));
        let download = scope.spawn(move || sum(address, "20M"));
        desk.laptop.shell(User::Root, &cuts).ok();
        assert!(!download.is_finished(), "it was over before the last cut");
        download.join().unwrap()
    });
    let direct = desk
        .laptop
        .shell(
            User::Dev,
            &format!("curl -sS 'http://127.0.0.1:9000/big?bytes={BYTES}' | sha256sum"),
        )
        .ok();
    assert_eq!(cut.ok().text(), direct.text());
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}
