//! IPv6: beside IPv4 on a cluster of both, and on a cluster that has nothing else.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use kdev_e2e::cluster::Cluster;
use kdev_e2e::command::Outcome;
use kdev_e2e::datagrams::{Client, Responder, Who};
use kdev_e2e::desk::{self, DEMO, Desk};
use kdev_e2e::http::{Requests, who_answers};
use kdev_e2e::kept::Kept;
use kdev_e2e::laptop::{COMMAND, User};
use kdev_e2e::pod::PodPlace;
use kdev_e2e::snapshot::Machine;
use kdev_e2e::wait;
use serde_json::{Value, json};

/// A program that waits longer than this has been left hanging.
const SECONDS: Duration = Duration::from_secs(10);
/// An address of the node's pods that no pod has.
const FREE: &str = "fd00:10:244::fb";
/// The largest UDP payloads: of a whole IPv6 packet that has 65,535 bytes, of IPv4, and of IPv6.
const LARGEST: [usize; 3] = [65_487, 65_507, 65_527];

#[test]
fn a_cluster_of_both_families_is_reached_over_ipv6_as_over_ipv4() {
    let desk = Desk::clean();
    let site = Site::up(&desk, "dual");
    let both = site.serve_as("both", &json!({ "ipFamilyPolicy": "RequireDualStack" }));
    let six = site.serve_as("six", &json!({ "ipFamilies": ["IPv6"] }));
    assert_eq!((both.len(), six.len()), (2, 1));
    site.connect();

    every_pod_is_reached(&site);
    megabytes_arrive_unchanged_each_way(&site);
    let (_, pod) = site.pods().remove(0);
    datagrams_of_every_size_come_back(&site, (pod, 7007).into());
    datagrams_of_every_size_come_back(&site, SocketAddr::new(six[0], 7));
    only_a_pod_answers_ping(&site);
    what_isnt_there_is_told_at_once(&site);
    services_are_reached_by_the_addresses_of_their_names(&site, &both, &six);
    prefixes_are_shown(
        &site,
        &["10.96.0.0/16", "fd00:10:96::/112", "fd00:10:244::/64"],
    );
    an_intercept_takes_every_address_and_gives_it_back(&site, "both", &both);
    an_intercept_takes_every_address_and_gives_it_back(&site, "six", &six);
    datagrams_to_every_address_come_to_the_local_program(&site, "both", &both);
    quitting_leaves_nothing(&site);
    a_machine_without_ipv6_reaches_it_over_ipv4(&site);
}

#[test]
fn a_cluster_without_ipv4_is_reached_as_any_other() {
    let desk = Desk::clean();
    let site = Site::up(&desk, "ipv6");
    site.connect();

    every_pod_is_reached(&site);
    let web = site.addresses("web");
    datagrams_of_every_size_come_back(&site, SocketAddr::new(web[0], 7));
    only_a_pod_answers_ping(&site);
    what_isnt_there_is_told_at_once(&site);
    assert!(site.pod_at("http://web/").starts_with("web-"));
    let name = site.laptop(&["dig", "+short", "+time=5", "-x", &web[0].to_string()]);
    assert_eq!(name.text(), "web.demo.svc.cluster.local.");
    let page = site.laptop(&["curl", "-sS", "http://www.public.test/"]);
    assert_eq!(
        page.text(),
        "public page",
        "the outside is reached as before"
    );
    prefixes_are_shown(&site, &["fd00:10:96::/112", "fd00:10:244::/64"]);
    an_intercept_takes_every_address_and_gives_it_back(&site, "web", &web);
    datagrams_to_every_address_come_to_the_local_program(&site, "web", &web);
    quitting_leaves_nothing(&site);
}

fn every_pod_is_reached(site: &Site<'_>) {
    let pods = site.pods();
    assert_eq!(pods.len(), 2);
    for (name, address) in pods {
        let answers = site.inside(|| who_answers((address, 8080).into()));
        assert_eq!(answers.unwrap(), name, "{address}");
    }
}

fn megabytes_arrive_unchanged_each_way(site: &Site<'_>) {
    const BYTES: u32 = 20 * 1024 * 1024;
    let (_, pod) = site.pods().remove(0);
    let url = format!("http://[{pod}]:8080");
    let down = format!("curl -sS '{url}/big?bytes={BYTES}' | sha256sum");
    let direct = site.cluster.on_node(&["sh", "-c", &down]).ok();
    assert_eq!(site.laptop(&["sh", "-c", &down]).text(), direct.text());

    let up = format!(
        "head -c {BYTES} /dev/urandom > ~/e2e-upload; sha256sum < ~/e2e-upload; \
         curl -sS -X POST -T ~/e2e-upload {url}/sum; rm ~/e2e-upload"
    );
    let up = site.laptop(&["sh", "-c", &up]);
    let [sent, received] = &up.lines()[..] else {
        panic!("{up:#?}")
    };
    let sent = sent.split(' ').next().unwrap();
    assert_eq!(*received, format!("{sent} {BYTES}"));
}

fn datagrams_of_every_size_come_back(site: &Site<'_>, echo: SocketAddr) {
    site.inside(|| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(SECONDS)).unwrap();
        socket.connect(echo).unwrap();
        let mut back = vec![0; 70_000];
        for length in [0, 1, 1_452, 1_453, 8_000].into_iter().chain(LARGEST) {
            let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            socket.send(&sent).unwrap();
            let received = socket.recv(&mut back);
            let received = received.unwrap_or_else(|error| panic!("{length} bytes: {error}"));
            assert!(back[..received] == sent[..], "{length} bytes are others");
        }
    });
}

fn only_a_pod_answers_ping(site: &Site<'_>) {
    let (_, pod) = site.pods().remove(0);
    let ping = |address: &str, size: &str| {
        let words = [
            "ping", "-n", "-c", "2", "-i", "0.2", "-W", "3", "-s", size, address,
        ];
        site.cluster.laptop().run(User::Dev, &words)
    };
    for size in ["56", "8000", "65527"] {
        let answered = ping(&pod.to_string(), size).ok().says("2 received");
        assert!(!answered.stdout.contains("truncated"), "{answered:#?}");
    }
    let none = ping(FREE, "56");
    assert_ne!(none.code, 0, "{none:#?}");
    none.says("0 received");
}

fn what_isnt_there_is_told_at_once(site: &Site<'_>) {
    let (_, pod) = site.pods().remove(0);
    let connect = |to: SocketAddr| {
        let laptop = site.cluster.laptop();
        let (connected, took) = laptop.network().connect(to, SECONDS);
        assert!(took < SECONDS, "{to}: only after {took:?}");
        connected.unwrap_err().kind()
    };
    assert_eq!(connect((pod, 4321).into()), ErrorKind::ConnectionRefused);
    let free: Ipv6Addr = FREE.parse().unwrap();
    assert_eq!(connect((free, 80).into()), ErrorKind::HostUnreachable);
    site.inside(|| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        socket.set_read_timeout(Some(SECONDS)).unwrap();
        socket.connect((pod, 4321)).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

fn services_are_reached_by_the_addresses_of_their_names(
    site: &Site<'_>,
    both: &[IpAddr],
    six: &[IpAddr],
) {
    for (service, addresses) in [("both", both), ("six", six)] {
        for name in [
            service.to_owned(),
            format!("{service}.demo.svc.cluster.local"),
        ] {
            for kind in ["A", "AAAA"] {
                let wanted: Vec<String> = addresses
                    .iter()
                    .filter(|address| address.is_ipv4() == (kind == "A"))
                    .map(ToString::to_string)
                    .collect();
                let dig = ["dig", "+search", "+time=5", &name, kind];
                site.laptop(&dig).says("status: NOERROR");
                let dig = ["dig", "+short", "+search", "+time=5", &name, kind];
                assert_eq!(site.laptop(&dig).lines(), wanted, "{name} {kind}");
            }
        }
    }
    for words in [
        ["curl", "-4", "-sS", "http://both/"],
        ["curl", "-6", "-sS", "http://both/"],
        ["curl", "-6", "-sS", "http://six/"],
    ] {
        let page = site.laptop(&words).json();
        assert!(page["pod"].as_str().unwrap().starts_with("web-"), "{page}");
    }
    assert!(site.pod_at("http://six.demo.svc/").starts_with("web-"));
}

fn prefixes_are_shown(site: &Site<'_>, wanted: &[&str]) {
    let status = site.laptop(&["kdev", "status", "-o", "json"]).json();
    for prefix in wanted {
        let shown = status["routes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|route| route["prefix"] == *prefix);
        let shown = shown.unwrap_or_else(|| panic!("no {prefix} in {status:#}"));
        assert_eq!(shown["installed"], json!([prefix]), "{shown}");
    }
}

fn an_intercept_takes_every_address_and_gives_it_back(
    site: &Site<'_>,
    service: &str,
    addresses: &[IpAddr],
) {
    let before = site.look_at(service);
    let _program = site.cluster.laptop().serve(9000);
    let last = SocketAddr::new(*addresses.last().unwrap(), 80);
    let requests = Requests::start(site.cluster.node(), last);
    requests.more(10);
    let intercept = ["kdev", "intercept", service, "--port", "9000:http"];
    site.laptop(&intercept).says("active");
    for address in addresses {
        let address = SocketAddr::new(*address, 80);
        let page = site.in_pod(&["get", &format!("http://{address}/")]).json();
        assert_eq!(page["pod"], "the-laptop", "{address}");
        let answers = site.inside(|| who_answers(address));
        assert_eq!(answers.unwrap(), "the-laptop", "{address}");
        let echo = SocketAddr::new(address.ip(), 7).to_string();
        let echo = site.in_pod(&["tcp", &echo, "still here"]);
        assert_eq!(echo.text(), "still here", "the other port is alive");
    }
    requests.more(10);

    site.laptop(&["kdev", "leave", service]);
    for address in addresses {
        let page = site.in_pod(&["get", &format!("http://{}/", SocketAddr::new(*address, 80))]);
        let pod = page.json()["pod"].as_str().unwrap().to_owned();
        assert!(pod.starts_with("web-"), "{address} led to {pod}");
    }
    assert_eq!(site.look_at(service), before);
    requests.more(50);
    let tally = requests.stop();
    assert!(tally.failed.is_empty(), "{tally:?}");
    assert!(tally.answered["the-laptop"] >= 10, "{tally:?}");

    let rule = ["--header", "x-user=ann"];
    site.laptop(&[&intercept[..], &rule].concat())
        .says("active");
    for address in addresses {
        site.cluster.node().inside(|| {
            let mut kept = Kept::connect(SocketAddr::new(*address, 80)).unwrap();
            let who = kept.who_answers("x-user: ann\r\n").unwrap();
            assert_eq!(who, "the-laptop", "{address}");
            let who = kept.who_answers("x-user: bob\r\n").unwrap();
            assert!(who.starts_with("web-"), "{address} led to {who}");
        });
    }
    site.laptop(&["kdev", "leave", service]);
    assert_eq!(site.look_at(service), before);
}

fn datagrams_to_every_address_come_to_the_local_program(
    site: &Site<'_>,
    service: &str,
    addresses: &[IpAddr],
) {
    let before = site.look_at(service);
    // One that listens over IPv6 only.
    let program = Responder::start(site.cluster.laptop().network(), "[::1]:9000");
    let intercept = ["kdev", "intercept", service, "--port", "9000:echo-udp"];
    site.laptop(&intercept).says("active");
    let pod = PodPlace::all(&site.cluster, DEMO, "app=web").remove(0);
    let clients: Vec<Client> = addresses
        .iter()
        .map(|address| Client::new(&pod.network, SocketAddr::new(*address, 7)))
        .collect();
    for (client, address) in clients.iter().zip(addresses) {
        let largest = LARGEST[if address.is_ipv4() { 1 } else { 2 }];
        for length in [0, 1, 1_452, largest] {
            client.assert_laptop_answers(&vec![7; length]);
        }
    }
    let heard = program.heard();
    assert!(
        heard
            .iter()
            .all(|(from, _)| from.ip() == Ipv6Addr::LOCALHOST)
    );
    site.laptop(&["kdev", "leave", service]);
    for client in &clients {
        wait::until_true("a pod answers", SECONDS, || {
            client.who_answers() == Some(Who::Pod)
        });
    }
    assert_eq!(site.look_at(service), before);
}

fn quitting_leaves_nothing(site: &Site<'_>) {
    site.laptop(&["kdev", "quit"]);
    wait::until_true("the daemons are gone", SECONDS, || {
        site.cluster.laptop().all_daemons().is_empty()
    });
    let after = Machine::of(&site.cluster.laptop());
    assert_eq!(after, site.before);
    let text = after.routes.join("\n");
    assert!(
        text.contains("fd00:10:88::/64"),
        "IPv6 was looked at: {text}"
    );
}

fn a_machine_without_ipv6_reaches_it_over_ipv4(site: &Site<'_>) {
    let off = "for one in all default; do echo 1 > /proc/sys/net/ipv6/conf/$one/disable_ipv6; done";
    site.cluster.laptop().shell(User::Root, off).ok();
    site.laptop(&["kdev", "connect", "-n", DEMO])
        .says("this machine has no IPv6");
    let status = site.laptop(&["kdev", "status", "-o", "json"]).json();
    for route in status["routes"].as_array().unwrap() {
        let six = route["prefix"].as_str().unwrap().contains(':');
        assert_eq!(route["state"], if six { "down" } else { "ok" }, "{route}");
    }
    assert!(site.pod_at("http://both/").starts_with("web-"));
    site.laptop(&["kdev", "quit"]);
}

/// A cluster of its own, with a manager, and its laptop.
struct Site<'a> {
    cluster: Cluster,
    before: Machine,
    /// No other test runs meanwhile.
    _desk: &'a Desk,
}

impl<'a> Site<'a> {
    fn up(desk: &'a Desk, family: &str) -> Self {
        let name = format!("{}-{family}", desk.cluster.name());
        let cluster = Cluster::up(&name, &["--ip-family", family]);
        desk::furnish(&cluster);
        let before = Machine::of(&cluster.laptop());
        Self {
            cluster,
            before,
            _desk: desk,
        }
    }

    fn connect(&self) {
        let laptop = self.cluster.laptop();
        laptop
            .run_for(User::Dev, &["kdev", "install"], 3 * COMMAND)
            .ok();
        self.laptop(&["kdev", "connect", "-n", DEMO]);
    }

    /// Puts one more Service in front of the pods of `web`, and returns its addresses.
    fn serve_as(&self, name: &str, families: &Value) -> Vec<IpAddr> {
        let web = self.cluster.get(&["-n", DEMO, "service", "web"]);
        let mut spec = json!({ "selector": { "app": "web" }, "ports": web["spec"]["ports"] });
        for (key, value) in families.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let metadata = json!({ "name": name, "namespace": DEMO });
        self.cluster.apply(
            &json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec }),
        );
        let addresses = self.addresses(name);
        wait::until_true("kube-proxy knows the Service", 6 * SECONDS, || {
            self.cluster.node().inside(|| {
                let answers = |address: &IpAddr| who_answers((*address, 80).into()).is_ok();
                addresses.iter().all(answers)
            })
        });
        addresses
    }

    fn addresses(&self, service: &str) -> Vec<IpAddr> {
        let service = self.cluster.get(&["-n", DEMO, "service", service]);
        let addresses = service["spec"]["clusterIPs"].as_array().unwrap().iter();
        addresses
            .map(|address| address.as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Name and IPv6 address of every pod of `web`.
    fn pods(&self) -> Vec<(String, Ipv6Addr)> {
        let list = self.cluster.get(&["-n", DEMO, "pods", "-l", "app=web"]);
        let pods = list["items"].as_array().unwrap().iter().map(|pod| {
            let addresses = pod["status"]["podIPs"].as_array().unwrap().iter();
            let address = addresses
                .filter_map(|one| one["ip"].as_str()?.parse().ok())
                .next();
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            (name, address.expect("every pod has an IPv6 address"))
        });
        pods.collect()
    }

    /// All that an intercept may change of a Service.
    fn look_at(&self, service: &str) -> Value {
        let object = self.cluster.get(&["-n", DEMO, "service", service]);
        let label = format!("kubernetes.io/service-name={service}");
        let slices = self
            .cluster
            .get(&["-n", DEMO, "endpointslices", "-l", &label]);
        let mut slices: Vec<String> = slices["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|slice| {
                let author = &slice["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
                let mut addresses: Vec<String> = slice["endpoints"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|endpoint| endpoint["addresses"].to_string())
                    .collect();
                addresses.sort();
                format!("{author} {} {addresses:?}", slice["addressType"])
            })
            .collect();
        slices.sort();
        let annotations = &object["metadata"]["annotations"];
        json!({ "spec": object["spec"], "annotations": annotations, "slices": slices })
    }

    /// Runs a command as the developer, and expects that it succeeds.
    #[track_caller]
    fn laptop(&self, words: &[&str]) -> Outcome {
        self.cluster.laptop().run(User::Dev, words).ok()
    }

    fn pod_at(&self, url: &str) -> String {
        let page = self
            .laptop(&["curl", "-sS", "--max-time", "10", url])
            .json();
        page["pod"].as_str().unwrap().to_owned()
    }

    /// Looks from within the laptop's network.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.cluster.laptop().network().inside(work)
    }

    /// Runs the workload's client in a pod.
    #[track_caller]
    fn in_pod(&self, args: &[&str]) -> Outcome {
        let exec = ["-n", DEMO, "exec", "deploy/web", "--", "/workload"];
        self.cluster.kubectl(&[&exec[..], args].concat()).ok()
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            desk::explain(&self.cluster, &self.cluster.laptop());
        }
    }
}
