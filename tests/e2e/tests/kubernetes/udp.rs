//! Intercepts of UDP ports: what the cluster sends to a Service as datagrams comes to this machine, and what comes
//! back is the Service's answer.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kdev_e2e::datagrams::{Client, Responder, Who};
use kdev_e2e::desk::Desk;
use kdev_e2e::footprint::Footprint;
use kdev_e2e::laptop::Daemon;
use kdev_e2e::pod::PodPlace;
use kdev_e2e::wait;
use kdev_e2e::workload::{Namespace, Workload};
use serde_json::{Value, json};

const USAGE: i32 = 2;
const CONFLICT: i32 = 11;
const LOCAL_PORT: i32 = 12;
/// The Service's port, which it has over TCP as well.
const PORT: u16 = 7;
/// Whatever takes longer than this doesn't happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client in one of the workload's pods.
fn client(desk: &Desk, web: &Workload<'_>) -> Client {
    let pod = PodPlace::all(desk.cluster, web.namespace(), "app=web").remove(0);
    Client::new(&pod.network, web.address(PORT))
}

fn program(desk: &Desk) -> Responder {
    Responder::start(desk.laptop.network(), "127.0.0.1:9000")
}

/// Waits until it is `who` that answers this client.
#[track_caller]
fn until_answered_by(client: &Client, who: Who) {
    wait::until_true(&format!("{who:?} answers"), PATIENCE, || {
        client.who_answers() == Some(who)
    });
}

#[test]
fn datagrams_of_a_pod_come_to_the_local_program_until_it_is_left() {
    let (desk, web) = Desk::beside("udp");
    let (pods, service) = (web.pods(), web.service());
    let program = program(&desk);
    let early = client(&desk, &web);
    assert_eq!(early.who_answers(), Some(Who::Pod));

    desk.kdev(&["intercept", "web", "--port", "9000:echo-udp"])
        .ok()
        .says("active")
        .says("7/UDP");
    let late = client(&desk, &web);
    for length in [0, 1, 1_472, 1_473, 9_000, 65_507, 1] {
        let said: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        late.assert_laptop_answers(&said);
        let (_, heard) = program.heard().pop().unwrap();
        assert!(heard == said, "{length} bytes came as {}", heard.len());
    }
    // Who spoke before doesn't keep the pod, as a connection would.
    until_answered_by(&early, Who::Laptop);
    // Each client is told from the others, and all of them are of this machine.
    let clients: BTreeSet<_> = program.heard().into_iter().map(|(from, _)| from).collect();
    assert_eq!(clients.len(), 2, "{clients:?}");
    assert!(clients.iter().all(|from| from.ip().is_loopback()));

    // The port of the same number over TCP is nobody's but the pods'.
    let echo = web.in_pod(&["tcp", "web:7", "still here"]).ok();
    assert_eq!(echo.text(), "still here");
    assert!(web.answers_a_pod().starts_with("web-"));
    assert_eq!(web.pods(), pods, "no pod was touched");
    let shown = &desk.status()["intercepts"][0];
    assert_eq!(shown["protocol"], "UDP", "{shown}");
    assert_eq!(
        (&shown["port"], &shown["state"]),
        (&Value::from(7), &Value::from("ok"))
    );
    assert!(shown["connections"].as_u64().unwrap() >= 2, "{shown}");
    desk.kdev(&["status"])
        .ok()
        .says("/web port 7/UDP to local port 9000");
    desk.kdev(&["list"])
        .ok()
        .says("echo-udp:7/UDP held by dev@");

    desk.kdev(&["leave", "web"]).ok().says("7/UDP given back");
    assert_eq!(client(&desk, &web).who_answers(), Some(Who::Pod));
    until_answered_by(&late, Who::Pod);
    web.assert_untouched();
    assert_eq!(web.service()["spec"], service["spec"]);
    assert_eq!(web.pods(), pods);
}

#[test]
fn datagrams_of_a_client_keep_their_order_there_and_back() {
    const ALL: u32 = 1000;
    /// As many may be under way without any being lost.
    const UNDER_WAY: u32 = 16;
    let (desk, web) = Desk::beside("order");
    let program = program(&desk);
    desk.kdev(&["intercept", "web", "--port", "9000:echo-udp"])
        .ok();
    let client = client(&desk, &web);
    let socket = client.socket();
    let receive = || -> Option<u32> {
        let mut number = [0; 4];
        match socket.recv(&mut number) {
            Ok(_) => Some(!u32::from_be_bytes(number)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    };
    let mut back = Vec::new();
    for number in 0..ALL {
        socket.send(&number.to_be_bytes()).unwrap();
        if number >= UNDER_WAY {
            back.extend(receive());
        }
    }
    while back.last() != Some(&(ALL - 1)) {
        back.push(receive().expect("the rest comes"));
    }
    let there: Vec<u32> = program
        .heard()
        .iter()
        .map(|(_, said)| u32::from_be_bytes(said[..].try_into().unwrap()))
        .collect();
    let sent: Vec<u32> = (0..ALL).collect();
    assert_eq!(there, sent);
    assert_eq!(back, sent);
    desk.kdev(&["quit"]).ok();
}

#[test]
fn datagrams_from_outside_of_the_cluster_come_too() {
    const NODE: &str = "10.88.0.10";
    let (desk, web) = Desk::beside("outside");
    let _program = program(&desk);
    let node = desk.cluster.node();
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    for (name, mut spec, balancer) in [
        ("node-port", json!({ "type": "NodePort" }), None),
        (
            "balanced",
            json!({ "type": "LoadBalancer" }),
            Some("203.0.113.7"),
        ),
        ("balanced-local", local, Some("203.0.113.8")),
    ] {
        spec["selector"] = json!({ "app": "web" });
        let port = json!({ "port": PORT, "targetPort": 7007, "protocol": "UDP" });
        spec["ports"] = json!([port]);
        web.add_service(name, &spec);
        let shown = desk.cluster.get(&["-n", web.namespace(), "service", name]);
        let port = &shown["spec"]["ports"][0]["nodePort"];
        let mut places = vec![(desk.laptop.network(), format!("{NODE}:{port}"))];
        if let Some(balancer) = balancer {
            // What a balancer of a cloud's would write.
            let ingress = json!({ "loadBalancer": { "ingress": [{ "ip": balancer }] } });
            let patch = json!({ "status": ingress }).to_string();
            let patch = [
                "patch",
                "service",
                name,
                "--subresource",
                "status",
                "-p",
                &patch,
            ];
            web.kubectl(&patch).ok();
            places.push((&node, format!("{balancer}:{PORT}")));
        }
        let answered_by = |who| {
            for (network, place) in &places {
                wait::until_true(&format!("{who:?} answers at {place}"), PATIENCE, || {
                    Client::new(network, place.parse().unwrap()).who_answers() == Some(who)
                });
            }
        };
        answered_by(Who::Pod);
        desk.kdev(&["intercept", name, "--port", "9000"])
            .ok()
            .says("active");
        answered_by(Who::Laptop);
        desk.kdev(&["leave", name]).ok();
        answered_by(Who::Pod);
    }
    desk.kdev(&["quit"]).ok();
}

#[test]
fn a_number_that_both_protocols_have_means_tcp_and_the_other_is_named() {
    let (desk, web) = Desk::beside("both");
    let _datagrams = program(&desk);
    let intercept = |port: &str| desk.kdev(&["intercept", "web", "--port", port]);
    // Only datagrams are taken there, and without a protocol it is TCP.
    intercept("9000:7")
        .exits(LOCAL_PORT)
        .says("TCP port 9000")
        .says("only on its UDP port")
        .says("/udp");
    let _connections = desk.laptop.serve(9000);
    let tcp = intercept("9000:7").ok();
    tcp.says("port 7/TCP comes to").says("--port 9000:7/udp");
    intercept("9000:7/udp").ok().says("port 7/UDP comes to");
    let client = client(&desk, &web);
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    intercept("9000:7/udp").exits(CONFLICT).says("dev@");
    // One of them is left, and the other stays.
    desk.kdev(&["leave", "web", "--port", "7/tcp"])
        .ok()
        .says("the Service still has port echo-udp (7/UDP)");
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    let echo = web.in_pod(&["tcp", "web:7", "a pod's"]).ok();
    assert_eq!(echo.text(), "a pod's");
    desk.kdev(&["leave", "web", "--port", "echo-udp"]).ok();
    until_answered_by(&client, Who::Pod);
    web.assert_untouched();
}

#[test]
fn a_program_that_isnt_there_gets_nothing_and_finds_all_when_it_is_back() {
    let (desk, web) = Desk::beside("gone");
    let intercept = ["intercept", "web", "--port", "9000:echo-udp"];
    let version = web.service()["metadata"]["resourceVersion"].clone();
    desk.kdev(&intercept)
        .exits(LOCAL_PORT)
        .says("takes datagrams");
    assert_eq!(web.service()["metadata"]["resourceVersion"], version);
    let first = program(&desk);
    desk.kdev(&intercept).ok();
    let client = client(&desk, &web);
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    drop(first);
    for _ in 0..3 {
        assert_eq!(client.who_answers(), None, "nobody else gets them");
    }
    let _second = program(&desk);
    until_answered_by(&client, Who::Laptop);
    assert_eq!(desk.status()["session"]["state"], "ok");
    desk.kdev(&["leave", "web"]).ok();
    until_answered_by(&client, Who::Pod);
    web.assert_untouched();
}

#[test]
fn the_pods_take_what_a_program_that_isnt_there_doesnt_if_that_is_wanted() {
    let (desk, web) = Desk::beside("pass");
    let first = program(&desk);
    let intercept = ["intercept", "web", "--port", "9000:echo-udp"];
    desk.kdev(&[&intercept[..], &["--if-down", "pass"]].concat())
        .ok();
    let kept = client(&desk, &web);
    assert_eq!(kept.who_answers(), Some(Who::Laptop));
    drop(first);
    // Neither who has spoken before nor who is new loses anything.
    assert_eq!(kept.who_answers(), Some(Who::Pod));
    assert_eq!(client(&desk, &web).who_answers(), Some(Who::Pod));
    let _second = program(&desk);
    until_answered_by(&kept, Who::Laptop);
    desk.kdev(&["quit"]).ok();
    until_answered_by(&kept, Who::Pod);
    web.assert_untouched();
}

#[test]
fn somebody_answers_all_the_while_a_port_is_switched_there_and_back() {
    let (desk, web) = Desk::beside("flip");
    let _program = program(&desk);
    let pod = PodPlace::all(desk.cluster, web.namespace(), "app=web").remove(0);
    let address = web.address(PORT);
    let stop = AtomicBool::new(false);
    let asked = || {
        let (kept, mut answers, mut silences) = (Client::new(&pod.network, address), [0; 2], 0);
        while !stop.load(Ordering::Acquire) {
            // As a resolver does it: another port for each question, and a second attempt.
            let once = || {
                let new = Client::new(&pod.network, address);
                new.who_answers().or_else(|| new.who_answers())
            };
            for who in [once(), kept.who_answers().or_else(|| kept.who_answers())] {
                match who {
                    Some(Who::Laptop) => answers[0] += 1,
                    Some(Who::Pod) => answers[1] += 1,
                    None => silences += 1,
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (answers, silences)
    };
    let (answers, silences) = std::thread::scope(|scope| {
        let asking = scope.spawn(asked);
        for _ in 0..3 {
            desk.kdev(&["intercept", "web", "--port", "9000:echo-udp"])
                .ok();
            let new = Client::new(&pod.network, address);
            assert_eq!(new.who_answers(), Some(Who::Laptop), "it is active");
            desk.kdev(&["leave", "web"]).ok();
        }
        stop.store(true, Ordering::Release);
        asking.join().unwrap()
    });
    eprintln!("{answers:?} answered by laptop and pods, {silences} by nobody");
    assert_eq!(silences, 0, "{answers:?}");
    assert!(answers[0] > 10 && answers[1] > 10, "{answers:?}");
    web.assert_untouched();
}

#[test]
fn a_wiretap_gets_copies_of_datagrams_and_its_answers_reach_nobody() {
    let (desk, web) = Desk::beside("udptap");
    let program = program(&desk);
    desk.kdev(&["wiretap", "web", "--port", "9000:echo-udp"])
        .ok()
        .says("active");
    let client = client(&desk, &web);
    for number in 0..20_u32 {
        assert_eq!(
            client.ask(&number.to_be_bytes()),
            Some(number.to_be_bytes().to_vec())
        );
    }
    wait::until_true("the copies have come", PATIENCE, || {
        program.heard().len() >= 20
    });
    let copies: Vec<u32> = program
        .heard()
        .iter()
        .map(|(_, said)| u32::from_be_bytes(said[..].try_into().unwrap()))
        .collect();
    assert_eq!(copies, (0..20).collect::<Vec<_>>());
    // An intercept beside it, whose program answers.
    let _other = Responder::start(desk.laptop.network(), "127.0.0.1:9001");
    desk.kdev(&["intercept", "web", "--port", "9001:echo-udp"])
        .ok();
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    wait::until_true("its copy has come", PATIENCE, || {
        program.heard().len() >= 21
    });
    drop(program);
    for _ in 0..5 {
        assert_eq!(
            client.who_answers(),
            Some(Who::Laptop),
            "nobody waits for a copy"
        );
    }
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

#[test]
fn conditions_on_datagrams_are_refused_with_what_they_are_about() {
    let (desk, web) = Desk::beside("udprules");
    let _program = program(&desk);
    let version = web.service()["metadata"]["resourceVersion"].clone();
    let port = ["--port", "9000:echo-udp"];
    for (command, condition) in [
        ("intercept", &["--header", "x-user=ann"][..]),
        ("intercept", &["--mine"]),
        ("wiretap", &["--path", "/"]),
    ] {
        let words = [&[command, "web"], &port[..], condition].concat();
        desk.kdev(&words).exits(USAGE).says("UDP").says("HTTP");
    }
    assert_eq!(web.service()["metadata"]["resourceVersion"], version);
}

#[test]
fn ports_of_both_protocols_come_for_the_life_of_one_program() {
    let (desk, web) = Desk::beside("mixed");
    let script = format!(
        r#"POD_NAME=the-laptop workload serve --http 9000 --echo 0 --udp-echo 9007 --sink 0 &
        until [ "$(kdev status | grep -c 'probe took')" = 2 ]; do sleep 0.1; done
        workload udp {} hello; curl -s http://{}/; kdev status | grep 7/UDP; kill $!; exit 7"#,
        web.address(PORT),
        web.address(80)
    );
    let ports = ["--port", "9000:http", "--port", "9007:7/udp"];
    let program = ["--", "bash", "-c", &script];
    let run = desk
        .kdev(&[&["intercept", "web"], &ports[..], &program].concat())
        .exits(7);
    let run = run.says("the-laptop").says("to local port 9007, 1 clients");
    run.says("hello").says("80/TCP").says("7/UDP");
    web.assert_untouched();
}

#[test]
fn a_preview_and_a_replaced_workload_take_datagrams_too() {
    let (desk, web) = Desk::beside("udpmodes");
    let _program = program(&desk);
    let pod = PodPlace::all(desk.cluster, web.namespace(), "app=web").remove(0);
    desk.kdev(&["preview", "mine", "--port", "9000:53/udp"])
        .ok()
        .says("53/UDP");
    let mine = desk
        .cluster
        .get(&["-n", web.namespace(), "service", "mine"]);
    assert_eq!(mine["spec"]["ports"][0]["protocol"], "UDP");
    let address = mine["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    let client = Client::new(&pod.network, SocketAddr::new(address, 53));
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    desk.kdev(&["leave", "mine"]).ok().says("removed");

    let from_node = Client::new(&desk.cluster.node(), web.address(PORT));
    desk.kdev(&["replace", "web", "--port", "9000:echo-udp"])
        .ok()
        .says("from 2 to 0");
    wait::until_true("its pods are gone", PATIENCE, || web.pods().is_empty());
    assert_eq!(from_node.who_answers(), Some(Who::Laptop));
    desk.kdev(&["leave", "web"]).ok().says("scaled deployment");
    until_answered_by(&from_node, Who::Pod);
    web.assert_untouched();
}

#[test]
fn the_pods_get_the_datagrams_back_from_a_daemon_that_was_killed_and_without_a_manager() {
    let desk = Desk::clean();
    let web = Workload::up(desk.cluster, "udpkilled");
    let namespace = Namespace::only_named(desk.cluster, "udplease");
    let manager = namespace.name();
    desk.connect_to_own(&namespace, "3", &web);
    let _program = program(&desk);
    let intercept = ["intercept", "web", "--port", "9000:echo-udp"];
    desk.kdev(&intercept).ok();
    let client = client(&desk, &web);
    assert_eq!(client.who_answers(), Some(Who::Laptop));
    desk.laptop.kill(Daemon::User);
    until_answered_by(&client, Who::Pod);
    wait::until_true("the Service is whole", PATIENCE, || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();

    desk.connect_to(&namespace, &web);
    desk.kdev(&intercept).ok();
    until_answered_by(&client, Who::Laptop);
    let scale = |replicas: &str| {
        let scale = [
            "-n",
            manager,
            "scale",
            "deploy/kdev-traffic-manager",
            replicas,
        ];
        desk.cluster.kubectl(&scale).ok();
    };
    scale("--replicas=0");
    until_answered_by(&client, Who::Pod);
    scale("--replicas=1");
    until_answered_by(&client, Who::Laptop);
    scale("--replicas=0");
    desk.laptop.kill(Daemon::User);
    desk.kdev(&["recover", "--manager-namespace", manager]).ok();
    until_answered_by(&client, Who::Pod);
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", manager]).ok();
}

#[test]
fn more_clients_than_there_are_places_are_all_answered() {
    const CLIENTS: usize = 5_000;
    /// Flows that a port has at once, and what a daemon holds anyway.
    const DESCRIPTORS: usize = 4_096 + 256;
    let (desk, web) = Desk::beside("crowd");
    let _program = program(&desk);
    desk.kdev(&["intercept", "web", "--port", "9000:echo-udp"])
        .ok();
    let pod = PodPlace::all(desk.cluster, web.namespace(), "app=web").remove(0);
    let address = web.address(PORT);
    let first = Client::new(&pod.network, address);
    let lost = pod.network.inside(|| {
        let answered = |_: &usize| Client::here(address).who_answers() == Some(Who::Laptop);
        CLIENTS - (0..CLIENTS).filter(answered).count()
    });
    let held = Footprint::of(desk.laptop.daemons(Daemon::User)[0]);
    eprintln!("{CLIENTS} clients, {lost} not answered; {held:?}");
    assert_eq!(lost, 0);
    assert!(held.descriptors <= DESCRIPTORS, "{held:?}");
    assert_eq!(first.who_answers(), Some(Who::Laptop));
    desk.kdev(&["leave", "web"]).ok();
    until_answered_by(&first, Who::Pod);
    // Its streams went with it.
    wait::until_true("the flows are gone", PATIENCE, || {
        Footprint::of(desk.laptop.daemons(Daemon::User)[0]).descriptors < 256
    });
}
