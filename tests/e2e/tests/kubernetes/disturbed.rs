//! What is under way while the API server, the network or the machine itself is away, and goes on
//! afterwards: every byte is checked.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use kdev_e2e::command;
use kdev_e2e::desk::Desk;
use kdev_e2e::ends::{Way, demo_pod};
use kdev_e2e::firewall::Firewall;
use kdev_e2e::laptop::User;
use kdev_e2e::pod::PodPlace;
use kdev_e2e::talk::{Echo, Talk};
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;
use serde_json::Value;

/// Where the API server is, and the manager's own port.
const NODE: &str = "10.88.0.10";
/// "Within seconds": three heartbeats of two seconds, and some for a busy machine.
const SECONDS: Duration = Duration::from_secs(12);
/// Two looks at the status, where nobody answers: sooner than three heartbeats.
const ASKED: Duration = Duration::from_secs(5);
/// An API server takes its time to start, and a session to find it.
const BACK: Duration = Duration::from_secs(40);
/// How long a program waits for a connection.
const DIAL: Duration = Duration::from_secs(60);
/// Bytes per second of one talk: much more than fits into all buffers between two looks.
const RATE: u64 = 3_000_000;

/// Talks into the cluster, and from it to the machine.
struct Talks<'a> {
    desk: &'a Desk,
    pod: PodPlace,
    all: Vec<Talk>,
    _echo: Echo,
}

impl<'a> Talks<'a> {
    fn start(desk: &'a Desk, web: &Workload<'_>) -> Self {
        let pod = demo_pod(desk.cluster);
        let (way, listener) = Way::inward(desk, &pod, web).into_parts();
        let echo = Echo::start(listener);
        let dial_in = || pod.network.connect(way, DIAL).0.unwrap();
        let dial_out = || dial(desk, pod.address).unwrap();
        let all = (0..6).map(|number| {
            let connection = if number % 2 == 0 {
                dial_in()
            } else {
                dial_out()
            };
            Talk::start(connection, number, RATE)
        });
        let all: Vec<Talk> = all.collect();
        for talk in &all {
            talk.more(DIAL);
        }
        Self {
            desk,
            pod,
            all,
            _echo: echo,
        }
    }

    /// A connection that is asked for now, and made whenever it can be.
    fn dial_meanwhile<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
    ) -> ScopedJoinHandle<'scope, io::Result<TcpStream>>
    where
        'a: 'scope,
    {
        let (desk, address) = (self.desk, self.pod.address);
        scope.spawn(move || dial(desk, address))
    }

    /// Waits until every one of them goes on.
    #[track_caller]
    fn go_on(&self) {
        for talk in &self.all {
            talk.more(BACK);
        }
    }

    /// Ends them; every byte was repeated.
    #[track_caller]
    fn end(self) {
        for talk in self.all {
            let heard = talk.end();
            assert!(heard.bytes > 0);
        }
    }
}

/// Connects to a pod's echo.
fn dial(desk: &Desk, pod: IpAddr) -> io::Result<TcpStream> {
    desk.laptop.network().connect((pod, 7007).into(), DIAL).0
}

fn connected(topic: &str, options: &[&str]) -> (Desk, Workload<'static>) {
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, topic);
    let connect = ["connect", "-n", web.namespace()];
    desk.kdev(&[&connect, options].concat()).ok();
    wait_until_whole(&desk);
    (desk, web)
}

/// Every part that is ok, or isn't.
fn parts(status: &Value) -> Vec<(String, bool)> {
    let carriers = status["carriers"].as_array().into_iter().flatten();
    let intercepts = status["intercepts"].as_array().into_iter().flatten();
    let named = ["session", "manager"].map(|name| (name.to_owned(), &status[name]));
    named
        .into_iter()
        .chain(carriers.map(|one| (format!("carrier {}", one["id"]), one)))
        .chain(intercepts.map(|one| ("intercept".to_owned(), one)))
        .map(|(name, part)| (name, part["state"] == "ok"))
        .collect()
}

#[track_caller]
fn wait_until_whole(desk: &Desk) {
    wait::until_true("status is well", BACK, || {
        let parts = parts(&desk.status());
        parts.len() >= 6 && parts.iter().all(|(_, ok)| *ok)
    });
}

/// Waits until `kdev status` says that no carrier carries.
#[track_caller]
fn wait_until_told(desk: &Desk) {
    wait::until_true("status tells of it", SECONDS, || {
        parts(&desk.status())
            .iter()
            .all(|(name, ok)| !ok || name == "intercept")
    });
}

/// Since when each carrier has been there.
fn carriers_since(desk: &Desk) -> Vec<u64> {
    let status = desk.status();
    let carriers = status["carriers"].as_array().unwrap();
    carriers
        .iter()
        .map(|one| one["since_ms"].as_u64().unwrap())
        .collect()
}

/// Loses what goes from the laptop to the node, and so all that carriers of any kind carry.
fn swallow(desk: &Desk) -> Firewall<'_> {
    let rule = format!("ip daddr {NODE} drop");
    Firewall::put(desk.laptop.network(), "output", &rule)
}

#[test]
fn an_api_server_that_is_restarted_under_load_costs_no_byte_and_no_connection() {
    // Direct carriers wouldn't notice.
    let (desk, web) = connected("restarted", &["--direct", "never"]);
    let talks = Talks::start(&desk, &web);
    std::thread::scope(|scope| {
        let away = desk.cluster.without_api_server();
        wait_until_told(&desk);
        let meanwhile = talks.dial_meanwhile(scope);
        drop(away);
        meanwhile.join().unwrap().unwrap();
    });
    talks.go_on();
    wait_until_whole(&desk);
    talks.end();
}

#[test]
fn a_network_that_swallows_everything_is_told_and_what_was_under_way_goes_on() {
    let (desk, web) = connected("swallowed", &[]);
    // Names that nobody has asked for yet.
    let short = format!("web.{}", web.namespace());
    let unasked = [format!("{short}.svc.cluster.local"), short];
    let talks = Talks::start(&desk, &web);
    std::thread::scope(|scope| {
        let swallowing = swallow(&desk);
        // No connection has missed its heartbeats yet: whoever asks for the status asks them.
        wait::until_true("status tells who asks", ASKED, || {
            parts(&desk.status()).iter().all(|(_, ok)| !ok)
        });
        wait_until_told(&desk);
        let meanwhile = talks.dial_meanwhile(scope);
        let named = unasked.each_ref().map(|name| {
            let words = ["env", "RES_OPTIONS=attempts:4", "getent", "hosts", name];
            let laptop = &desk.laptop;
            scope.spawn(move || laptop.run(User::Dev, &words))
        });
        let early = wait::within(Duration::from_secs(4), || {
            let named = named.iter().any(|one| one.is_finished());
            (meanwhile.is_finished() || named).then_some(())
        });
        assert_eq!(early, None, "they wait");
        drop(swallowing);
        meanwhile.join().unwrap().unwrap();
        for one in named {
            one.join().unwrap().ok();
        }
    });
    talks.go_on();
    wait_until_whole(&desk);
    talks.end();
}

#[test]
fn connections_that_are_accepted_and_pass_nothing_are_given_up() {
    let (desk, web) = connected("mute", &[]);
    let talks = Talks::start(&desk, &web);
    // A connection that was made while this is there passes no more than its handshake, for ever.
    let mute = format!("ip daddr {NODE} ct mark 0x66 ip length > 100 drop");
    let marking =
        format!("ip daddr {NODE} tcp flags & (syn | ack) == syn ct mark set 0x66; {mute}");
    let network = desk.laptop.network();
    let marking = Firewall::put(network, "output", &marking);
    let cut = ["ss", "-K", "state", "established", "dst", NODE];
    desk.laptop.run(User::Root, &cut).ok();
    wait_until_told(&desk);
    let accepted = ["ss", "-Htn", "state", "established", "dst", NODE];
    wait::until_true("connections are accepted", SECONDS, || {
        !desk
            .laptop
            .run(User::Root, &accepted)
            .ok()
            .text()
            .is_empty()
    });
    marking.change("output", &mute);
    talks.go_on();
    wait_until_whole(&desk);
    talks.end();
    drop(marking);
}

#[test]
fn the_managers_network_may_be_away_for_ten_seconds() {
    let (desk, web) = connected("unplugged", &[]);
    let talks = Talks::start(&desk, &web);
    let (manager, node) = (PodPlace::manager(desk.cluster), desk.cluster.node());
    let device = node_side(&manager, &desk);
    std::thread::scope(|scope| {
        let unplugged = Firewall::cut(&node, &device);
        let meanwhile = talks.dial_meanwhile(scope);
        std::thread::sleep(Duration::from_secs(10));
        drop(unplugged);
        meanwhile.join().unwrap().unwrap();
    });
    talks.go_on();
    wait_until_whole(&desk);
    talks.end();
}

/// The node's end of a pod's cable.
fn node_side(pod: &PodPlace, desk: &Desk) -> String {
    let mut links = Command::new("ip");
    links.args(["-o", "link", "show", "eth0"]);
    let inside = pod
        .network
        .inside(|| command::run(&mut links, SECONDS))
        .ok();
    // "2: eth0@if7: <...": the other end is number 7 of its own network.
    let number = inside
        .text()
        .split("@if")
        .nth(1)
        .unwrap()
        .split(':')
        .next()
        .unwrap();
    let links = desk.cluster.on_node(&["ip", "-o", "link"]).ok().lines();
    let line = links
        .iter()
        .find(|line| line.starts_with(&format!("{number}: ")))
        .unwrap();
    line.split(": ")
        .nth(1)
        .unwrap()
        .split('@')
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn carriers_that_are_idle_or_one_sided_are_left_alone() {
    /// Longer than any heartbeat, several times over.
    const IDLE: u32 = 32;
    let (desk, web) = connected("idle", &[]);
    let pod = demo_pod(desk.cluster);
    let (outward, inward) = (
        Way::outward(&desk.laptop, &pod),
        Way::inward(&desk, &pod, &web),
    );
    let before = carriers_since(&desk);
    let mut pairs: Vec<_> = [&outward, &outward, &outward, &inward, &inward, &inward]
        .map(Way::connect)
        .into_iter()
        .collect();
    for _ in 0..IDLE {
        std::thread::sleep(Duration::from_secs(1));
        for (number, (client, server)) in pairs.iter_mut().enumerate() {
            match number % 3 {
                0 => {}
                1 => client.write_all(b"x").unwrap(),
                _ => server.write_all(b"x").unwrap(),
            }
        }
    }
    assert_eq!(carriers_since(&desk), before, "one was made again");
    for (number, (client, server)) in pairs.iter_mut().enumerate() {
        client.write_all(b"x").unwrap();
        server.write_all(b"x").unwrap();
        let said = |one: bool| vec![0; 1 + if one { IDLE as usize } else { 0 }];
        server.read_exact(&mut said(number % 3 == 1)).unwrap();
        client.read_exact(&mut said(number % 3 == 2)).unwrap();
    }
}

#[test]
fn a_machine_that_slept_goes_on_at_once_over_the_carriers_that_it_had() {
    let (desk, web) = connected("asleep", &[]);
    let talks = Talks::start(&desk, &web);
    let before = carriers_since(&desk);
    desk.laptop.suspend();
    std::thread::sleep(Duration::from_secs(15));
    desk.laptop.wake();
    for talk in &talks.all {
        talk.more(Duration::from_secs(20));
    }
    wait_until_whole(&desk);
    assert_eq!(carriers_since(&desk), before, "one was made again");
    talks.end();
}

#[test]
fn beyond_the_resume_limit_both_ends_are_reset_and_the_session_lives_on() {
    let (desk, web) = connected("limit", &["--resume-limit", "3"]);
    let pod = demo_pod(desk.cluster);
    let outward = Way::outward(&desk.laptop, &pod);
    let inward = Way::inward(&desk, &pod, &web);
    let mut ends: Vec<TcpStream> = [outward.connect(), inward.connect()]
        .into_iter()
        .flat_map(|(client, server)| [client, server])
        .collect();
    let swallowing = swallow(&desk);
    wait_until_told(&desk);
    for end in &mut ends {
        // The manager asks a silent machine after 10 s, and gives it 20 s.
        end.set_read_timeout(Some(BACK)).unwrap();
        let error = end.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    drop(swallowing);
    wait_until_whole(&desk);
    drop((outward.connect(), inward.connect()));
}
