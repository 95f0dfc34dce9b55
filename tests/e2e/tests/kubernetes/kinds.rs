//! Intercepts of every kind of Service, in front of every kind of pods.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::http::who_answers;
use kdev_e2e::kept::Kept;
use kdev_e2e::kinds::{KINDS, Kind, Kinds};
use kdev_e2e::pod::PodPlace;
use kdev_e2e::wait;

const RULE: [&str; 2] = ["--header", "x-user=ann"];

/// A laptop that is connected, with a program on port 9000 to come, beside Services of every kind.
fn beside(topic: &str) -> (Desk, Kinds<'static>) {
    let desk = Desk::with_manager();
    let kinds = Kinds::up(desk.cluster, topic);
    desk.kdev(&["connect", "-n", kinds.namespace()]).ok();
    (desk, kinds)
}

fn intercept(desk: &Desk, kind: &Kind, rule: &[&str]) {
    let port = format!("9000:{}", kind.port.0);
    let port = port.trim_end_matches(':');
    desk.kdev(&[&["intercept", kind.service, "--port", port], rule].concat())
        .ok()
        .says("active");
}

fn kind(service: &str) -> Kind {
    let mut all = KINDS.into_iter();
    all.find(|kind| kind.service == service).unwrap()
}

#[test]
fn a_service_of_any_kind_is_intercepted_whole_or_by_a_rule_and_given_back() {
    let (desk, kinds) = beside("kinds");
    let _program = desk.laptop.serve(9000);
    let pods = kinds.all_pods();
    for kind in &KINDS {
        let (name, address) = (kind.service, kinds.address(kind));
        let before = kinds.look_at(name);
        let own: BTreeSet<String> = kinds.pods(kind.app).into_iter().map(|p| p.name).collect();
        let ask = || kinds.from(kind, || who_answers(address).unwrap());

        intercept(&desk, kind, &[]);
        for _ in 0..5 {
            assert_eq!(ask(), "the-laptop", "{kind:?}");
        }
        desk.kdev(&["leave", name]).ok();
        kinds.expect(name, &before);
        assert!(own.contains(&ask()), "{kind:?}");

        intercept(&desk, kind, &RULE);
        kinds.from(kind, || {
            for _ in 0..3 {
                let mut kept = Kept::connect(address).unwrap();
                for _ in 0..2 {
                    let who = kept.who_answers("x-user: ann\r\n").unwrap();
                    assert_eq!(who, "the-laptop", "{kind:?}");
                    let who = kept.who_answers("x-user: bob\r\n").unwrap();
                    assert!(own.contains(&who), "{kind:?}: {who}");
                }
            }
        });
        desk.kdev(&["leave", name]).ok();
        kinds.expect(name, &before);
        assert!(own.contains(&ask()), "{kind:?}");
    }
    assert_eq!(kinds.all_pods(), pods, "no pod was touched");
}

#[test]
fn ports_that_nobody_asked_for_go_on() {
    let (desk, kinds) = beside("ports");
    let _program = desk.laptop.serve(9000);
    let (both, many) = (kind("tcp-and-udp"), kind("many-ports"));
    intercept(&desk, &both, &[]);
    intercept(&desk, &many, &[]);
    let (both, many) = (kinds.address(&both), kinds.address(&many));
    desk.cluster.node().inside(|| {
        assert_eq!(who_answers(both).unwrap(), "the-laptop");
        // The same number, over UDP: nobody but the pods echoes.
        for _ in 0..5 {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            socket.connect(both).unwrap();
            socket.send(b"still here").unwrap();
            let mut back = [0; 16];
            let count = socket.recv(&mut back).unwrap();
            assert_eq!(&back[..count], b"still here");
        }
        assert_eq!(who_answers(many).unwrap(), "the-laptop");
        let other = who_answers(SocketAddr::new(many.ip(), 8081)).unwrap();
        assert!(other.starts_with("bare-"), "{other}");
    });
    desk.kdev(&["quit"]).ok();
}

#[test]
fn clients_that_a_service_keeps_with_their_pods_stay_with_them_beside_a_rule() {
    let (desk, kinds) = beside("sticky");
    let _program = desk.laptop.serve(9000);
    let sticky = kind("sticky");
    let address = kinds.address(&sticky);
    let clients = PodPlace::all(desk.cluster, kinds.namespace(), "app=set");
    let answers = |client: &PodPlace| -> BTreeSet<String> {
        client
            .network
            .inside(|| (0..15).map(|_| who_answers(address).unwrap()).collect())
    };
    // Each has had its pod, as far as kube-proxy goes.
    for client in &clients {
        assert_eq!(answers(client).len(), 1);
    }
    intercept(&desk, &sticky, &[]);
    for client in &clients {
        let laptop = ["the-laptop".to_owned()].into();
        assert_eq!(answers(client), laptop, "whichever pod it had");
    }
    desk.kdev(&["leave", "sticky"]).ok();
    intercept(&desk, &sticky, &RULE);
    for client in &clients {
        let all = answers(client);
        assert_eq!(all.len(), 1, "{all:?}");
        client.network.inside(|| {
            for _ in 0..10 {
                let mut kept = Kept::connect(address).unwrap();
                let who = kept.who_answers("x-user: ann\r\n").unwrap();
                assert_eq!(who, "the-laptop");
                let who = kept.who_answers("").unwrap();
                assert!(all.contains(&who), "{who} instead of {all:?}");
            }
        });
    }
    desk.kdev(&["quit"]).ok();
}

#[test]
fn statefulsets_and_replicasets_are_replaced_as_deployments_are() {
    let (desk, kinds) = beside("replace");
    let _program = desk.laptop.serve(9000);
    // A Service that answers on nodes with pods only loses all of them, and is the laptop's still.
    for (service, workload) in [
        ("local", "statefulset/set"),
        ("of-replicaset", "replicaset/replica"),
    ] {
        let kind = kind(service);
        let (address, before) = (kinds.address(&kind), kinds.look_at(service));
        let said = workload.replace('/', &format!(" {}/", kinds.namespace()));
        desk.kdev(&["replace", service, "--port", "9000:http"])
            .ok()
            .says(&format!("scaled {said} from 2 to 0"))
            .says("active");
        wait::until_true("its pods are gone", Duration::from_secs(30), || {
            kinds.pods(kind.app).is_empty()
        });
        for _ in 0..5 {
            let who = desk.cluster.node().inside(|| who_answers(address));
            assert_eq!(who.unwrap(), "the-laptop");
        }
        desk.kdev(&["leave", service])
            .ok()
            .says(&format!("scaled {said} back"));
        assert_eq!(kinds.replicas(workload), 2);
        let who = desk.cluster.node().inside(|| who_answers(address)).unwrap();
        assert!(who.starts_with(kind.app), "{who}");
        let spec = &kinds.look_at(service)["spec"];
        assert_eq!(*spec, before["spec"]);
    }
}
