//! What a connected machine reaches, and what it is told of what isn't there.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::http::who_answers;
use kdev_e2e::laptop::User;
use kdev_e2e::workload::Namespace;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv4RecvErr;

/// A program that waits longer than this has been left hanging.
const SECONDS: Duration = Duration::from_secs(10);

/// Name and address of every pod behind the Service `web`.
fn pods(desk: &Desk) -> Vec<(String, IpAddr)> {
    let list = desk.cluster.get(&["-n", DEMO, "pods", "-l", "app=web"]);
    let pods = list["items"].as_array().unwrap().iter().map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
        (
            name,
            pod["status"]["podIP"].as_str().unwrap().parse().unwrap(),
        )
    });
    pods.collect()
}

fn service_address(desk: &Desk, namespace: &str, service: &str) -> IpAddr {
    let service = desk.cluster.get(&["-n", namespace, "service", service]);
    service["spec"]["clusterIP"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_service_is_reached_by_each_of_its_names() {
    let desk = Desk::connected();
    for name in [
        "web",
        "web.demo",
        "web.demo.svc",
        "web.demo.svc.cluster.local",
    ] {
        let pod = desk.pod_at(&format!("http://{name}/"));
        assert!(pod.starts_with("web-"), "{name} led to {pod}");
    }
    for name in ["api.other", "api.other.svc", "api.other.svc.cluster.local"] {
        let pod = desk.pod_at(&format!("http://{name}/"));
        assert!(pod.starts_with("api-"), "{name} led to {pod}");
    }
}

#[test]
fn a_service_is_reached_by_its_cluster_ip() {
    let desk = Desk::connected();
    let address = SocketAddr::new(service_address(&desk, DEMO, "web"), 80);
    let pod = desk
        .laptop
        .network()
        .inside(|| who_answers(address))
        .unwrap();
    assert!(pod.starts_with("web-"), "{pod}");
}

#[test]
fn every_pod_is_reached_by_its_own_address() {
    let desk = Desk::connected();
    for (name, address) in pods(&desk) {
        let address = SocketAddr::new(address, 8080);
        assert_eq!(
            desk.laptop
                .network()
                .inside(|| who_answers(address))
                .unwrap(),
            name
        );
    }
}

#[test]
fn a_headless_service_leads_to_its_pods() {
    let desk = Desk::connected();
    assert!(
        desk.pod_at("http://web-headless.demo:8080/")
            .starts_with("web-")
    );
}

#[test]
fn without_a_session_none_of_it_is_reached() {
    let desk = Desk::with_manager();
    let page = desk.curl("http://web.demo/");
    assert_eq!(page.code, 6, "the name is unknown: {page:#?}");
    let address = SocketAddr::new(service_address(&desk, DEMO, "web"), 80);
    let error = desk
        .laptop
        .network()
        .connect(address, SECONDS)
        .0
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
}

#[test]
fn every_port_of_a_service_works_and_a_half_closed_connection_still_answers() {
    let desk = Desk::connected();
    // The client closes its half before it reads.
    let echo = desk
        .laptop
        .run(User::Dev, &["workload", "tcp", "web.demo:7", "once more"])
        .ok();
    assert_eq!(echo.text(), "once more");
}

#[test]
fn datagrams_reach_a_service_and_their_answers_come_back() {
    let desk = Desk::connected();
    for length in [1, 512, 1400, 8000] {
        let text = "x".repeat(length);
        let echo = desk
            .laptop
            .run(User::Dev, &["workload", "udp", "web.demo:7", &text])
            .ok();
        assert_eq!(echo.text(), text, "{length} bytes");
    }
}

#[test]
fn a_hundred_connections_at_once_are_all_served() {
    let desk = Desk::connected();
    let address = SocketAddr::new(service_address(&desk, DEMO, "web"), 80);
    let network = desk.laptop.network();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| network.inside(|| who_answers(address))))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let failed: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_closed_port_of_a_pod_is_refused() {
    let desk = Desk::connected();
    let (_, address) = pods(&desk).remove(0);
    let (connected, took) = desk
        .laptop
        .network()
        .connect((address, 4321).into(), SECONDS);
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(took < SECONDS, "only after {took:?}");
}

#[test]
fn a_service_without_pods_is_refused() {
    let desk = Desk::connected();
    let namespace = Namespace::new(desk.cluster, "empty");
    let create = [
        "-n",
        namespace.name(),
        "create",
        "service",
        "clusterip",
        "web",
        "--tcp=80:80",
    ];
    desk.cluster.kubectl(&create).ok();
    let address = service_address(&desk, namespace.name(), "web");
    // Until kube-proxy knows the Service, its address is nobody's.
    kdev_e2e::wait::until_true("the connection is refused", Duration::from_secs(20), || {
        let connected = desk
            .laptop
            .network()
            .connect((address, 80).into(), SECONDS)
            .0;
        connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

#[test]
fn a_pod_answers_ping_and_an_address_without_one_is_unreachable() {
    let desk = Desk::connected();
    let (_, pod) = pods(&desk).remove(0);
    let ping = |address: &str, size: &str| {
        let words = [
            "ping", "-n", "-c", "3", "-i", "0.2", "-W", "3", "-s", size, address,
        ];
        desk.laptop.run(User::Dev, &words)
    };
    for size in ["56", "8000"] {
        ping(&pod.to_string(), size).ok().says("3 received");
    }
    let none = ping("10.244.0.251", "56");
    assert_ne!(none.code, 0, "{none:#?}");
    none.says("0 received").says("Destination Host Unreachable");
}

#[test]
fn an_address_without_a_pod_is_unreachable() {
    let desk = Desk::connected();
    let taken = pods(&desk);
    let free: IpAddr = "10.244.0.251".parse().unwrap();
    assert!(taken.iter().all(|(_, address)| *address != free));
    let (connected, took) = desk.laptop.network().connect((free, 80).into(), SECONDS);
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::HostUnreachable);
    assert!(took < SECONDS, "only after {took:?}");
    // A datagram's sender hears it the same way.
    let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let socket = desk.laptop.network().inside(bind);
    setsockopt(&socket, Ipv4RecvErr, &true).unwrap();
    socket.set_read_timeout(Some(SECONDS)).unwrap();
    socket.connect((free, 7)).unwrap();
    socket.send(b"is anybody there").unwrap();
    let heard = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(heard.kind(), ErrorKind::HostUnreachable);
}

#[test]
fn a_hundred_megabytes_arrive_unchanged_each_way() {
    const BYTES: u32 = 100 * 1024 * 1024;
    let desk = Desk::connected();
    let url = format!("http://web.demo/big?bytes={BYTES}");
    let down = desk
        .laptop
        .shell(User::Dev, &format!("curl -sS {url} | sha256sum"))
        .ok();
    let address = service_address(&desk, DEMO, "web");
    let direct = format!("curl -sS http://{address}/big?bytes={BYTES} | sha256sum");
    let direct = desk.cluster.on_node(&["sh", "-c", &direct]).ok();
    assert_eq!(down.text(), direct.text());

    let up = format!(
        "head -c {BYTES} /dev/urandom > ~/e2e-upload; sha256sum < ~/e2e-upload; \
         curl -sS -X POST -T ~/e2e-upload http://web.demo/sum; rm ~/e2e-upload"
    );
    let up = desk.laptop.shell(User::Dev, &up).ok();
    let [sent, received] = &up.lines()[..] else {
        panic!("{up:#?}")
    };
    let sent = sent.split(' ').next().unwrap();
    assert_eq!(*received, format!("{sent} {BYTES}"));
    eprintln!(
        "100 MB: down in {:?}, up in {:?} (with making them)",
        down.took, up.took
    );
}
