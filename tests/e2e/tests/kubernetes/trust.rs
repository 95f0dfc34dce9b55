//! Who reaches the manager's port gets nothing, unless the API server vouches for his key.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kdev_cluster::vouch::{session_id, session_lease_name};
use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::ends::{Way, demo_pod};
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::namespace::Network;
use kdev_e2e::snapshot::Machine;
use kdev_e2e::wait;
use kdev_identity::{Connector, Fingerprint, Identity};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SECONDS: Duration = Duration::from_secs(20);
/// How HTTP/2 begins, RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MANAGER: &str = "app.kubernetes.io/name=kdev-traffic-manager";

fn manager(desk: &Desk) -> Value {
    let pods = desk.cluster.get(&["-n", "kdev", "pods", "-l", MANAGER]);
    let pods = pods["items"].as_array().cloned().unwrap_or_default();
    let stays = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    pods.into_iter().find(stays).expect("a manager")
}

fn manager_address(desk: &Desk) -> SocketAddr {
    let ip = manager(desk)["status"]["podIP"].as_str().map(str::to_owned);
    SocketAddr::new(ip.unwrap().parse().unwrap(), 7443)
}

/// The hash that the manager has published, which everyone may know.
fn manager_key(desk: &Desk) -> Fingerprint {
    let pod = manager(desk)["metadata"]["name"]
        .as_str()
        .map(str::to_owned);
    let lease = desk.cluster.get(&["-n", "kdev", "lease", &pod.unwrap()]);
    let keys = lease["metadata"]["annotations"]["kdev.dev/keys"].as_str();
    keys.unwrap().parse().unwrap()
}

fn session_leases(desk: &Desk) -> Vec<Value> {
    let leases = desk
        .cluster
        .get(&["-n", "kdev", "leases", "-l", "kdev.dev/lease-of=session"]);
    leases["items"].as_array().cloned().unwrap_or_default()
}

/// Makes the Lease of another session, beside the one that there is; its name. The session is that of the first key.
fn vouch(desk: &Desk, first: &Fingerprint, keys: &str, holder: &str) -> String {
    let name = session_lease_name(&session_id(first));
    desk.cluster.apply(&json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "namespace": "kdev",
            "labels": session_leases(desk)[0]["metadata"]["labels"],
            "annotations": { "kdev.dev/keys": keys },
        },
        "spec": { "holderIdentity": holder },
    }));
    name
}

/// The network of a pod of the test workload: one without any right.
fn pod_network(desk: &Desk) -> Network {
    let pods = desk.cluster.get(&["-n", DEMO, "pods", "-l", "app=web"]);
    let container = pods["items"][0]["status"]["containerStatuses"][0]["containerID"].as_str();
    let id = container.and_then(|id| id.strip_prefix("containerd://"));
    let id = id.expect("a container that runs").to_owned();
    let tasks = desk
        .cluster
        .on_node(&["ctr", "-n", "k8s.io", "tasks", "ls"])
        .ok();
    // "ID PID STATUS" in columns.
    let lines = tasks.lines();
    let mut words = lines.iter().map(|line| line.split_whitespace());
    let pid = words.find_map(|mut words| (words.next()? == id).then(|| words.next())?);
    let pid = pid.and_then(|pid| pid.parse().ok());
    Network::of(pid.expect("a process of the pod")).unwrap()
}

/// What comes back for `said` until the other side ends.
fn answer(to: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&to, SECONDS).unwrap();
    stream.set_read_timeout(Some(SECONDS)).unwrap();
    stream.write_all(said).unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// At most an alert, RFC 8446 section 6.
fn is_nothing_but_an_alert(answer: &[u8]) -> bool {
    answer.is_empty() || (answer[0] == 21 && answer.len() == 7)
}

/// Proves a key that nobody vouches for, and speaks; what comes back inside of TLS.
fn answer_to_a_stranger(to: SocketAddr, manager: Fingerprint) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(to).await.unwrap();
        let connector = Connector::new(Identity::generate().unwrap());
        let mut stream = connector.connect(manager, stream).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.write_all(PREFACE).await;
        let _ = tokio::time::timeout(SECONDS, stream.read_to_end(&mut answer))
            .await
            .expect("the manager ends it");
        answer
    })
}

#[test]
fn a_pod_without_rights_gets_a_closed_connection_before_a_byte_of_the_protocol() {
    let desk = Desk::connected();
    let (to, key) = (manager_address(&desk), manager_key(&desk));
    let pod = pod_network(&desk);
    pod.inside(|| {
        for said in [
            PREFACE,
            &[0; 4096],
            b"GET / HTTP/1.1\r\n\r\n",
            &[22, 3, 1, 0xff, 0xff],
        ] {
            let answer = answer(to, said);
            assert!(is_nothing_but_an_alert(&answer), "{answer:?}");
        }
        assert_eq!(answer_to_a_stranger(to, key), b"");
    });
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

#[test]
fn twenty_thousand_strangers_dont_disturb_a_session() {
    const EACH: usize = 5_000;
    let desk = Desk::connected();
    let (to, key, before) = (manager_address(&desk), manager_key(&desk), manager(&desk));
    let pod = pod_network(&desk);
    let (over, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Strangers speak nonsense, prove a key of their own, stop half way, or never say a word.
        pod.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            // Threads of the runtime's are made within the pod's network, as this one is in it.
            runtime.block_on(async {
                let mut strangers = tokio::task::JoinSet::new();
                for number in 0..4 * EACH {
                    while strangers.len() >= 1_000 {
                        strangers.join_next().await;
                    }
                    strangers.spawn(stranger(number, to, key));
                }
                while strangers.join_next().await.is_some() {}
            });
        });
        over.store(true, Ordering::Relaxed);
        user.join().unwrap();
    });
    assert!(requests.load(Ordering::Relaxed) > 10, "{requests:?}");
    let after = manager(&desk);
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].clone();
    assert_eq!(restarts(&before), restarts(&after));
}

async fn stranger(number: usize, to: SocketAddr, key: Fingerprint) {
    let Ok(mut stream) = tokio::net::TcpStream::connect(to).await else {
        return;
    };
    match number % 4 {
        0 => drop(stream.write_all(&[number.to_le_bytes()[0]; 300]).await),
        1 => {
            let connector = Connector::new(Identity::generate().unwrap());
            let _ =
                tokio::time::timeout(Duration::from_secs(2), connector.connect(key, stream)).await;
            return;
        }
        // The head of a record that never comes, RFC 8446 section 5.1.
        2 => drop(stream.write_all(&[22, 3, 1, 2, 0]).await),
        _ => {}
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
    assert!(is_nothing_but_an_alert(&answer), "{answer:?}");
}

#[test]
fn a_session_is_a_lease_that_goes_with_it() {
    let desk = Desk::connected();
    let leases = session_leases(&desk);
    assert_eq!(leases.len(), 1, "{leases:#?}");
    let keys = leases[0]["metadata"]["annotations"]["kdev.dev/keys"]
        .as_str()
        .unwrap();
    let keys: Vec<Fingerprint> = keys.split(',').map(|key| key.parse().unwrap()).collect();
    assert_eq!(keys.len(), 2, "of both daemons");
    let name = session_lease_name(&session_id(&keys[0]));
    assert_eq!(leases[0]["metadata"]["name"], name.as_str());
    let holder = leases[0]["spec"]["holderIdentity"].as_str().unwrap();
    assert!(holder.starts_with("dev@"), "{holder}");
    desk.kdev(&["quit"]).ok();
    assert_eq!(session_leases(&desk), [] as [Value; 0]);

    desk.connect();
    desk.laptop.kill(Daemon::User);
    // By the manager, some time after it has gone.
    wait::until_true("the Lease is gone", 2 * SECONDS, || {
        session_leases(&desk).is_empty()
    });
}

#[test]
fn a_session_whose_lease_is_deleted_is_over_within_seconds() {
    let desk = Desk::connected();
    // One whose daemon was killed may still be there.
    wait::until_true("there is one session", 2 * SECONDS, || {
        session_leases(&desk).len() == 1
    });
    let name = session_leases(&desk)[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let (client, server) = Way::outward(&desk.laptop, &demo_pod(desk.cluster)).connect();
    let began = Instant::now();
    desk.cluster
        .kubectl(&["-n", "kdev", "delete", "lease", &name])
        .ok();
    for mut end in [client, server] {
        end.set_read_timeout(Some(SECONDS)).unwrap();
        let error = end.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    wait::until_true("the machine's network is given back", SECONDS, || {
        Machine::of(&desk.laptop).devices == desk.before.devices
    });
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let status = desk.status();
    let detail = status["session"]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("Lease was deleted"), "{status:#}");
    let again = desk.status();
    for part in ["session", "manager", "dns", "routing"] {
        assert_eq!(status[part]["since_ms"], again[part]["since_ms"], "{part}");
    }
    // It doesn't come back by itself, but for whom asks again.
    assert_eq!(session_leases(&desk), [] as [Value; 0]);
    desk.connect();
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

#[test]
fn a_stolen_hash_takes_nothing_over() {
    let desk = Desk::connected();
    let lease = session_leases(&desk)[0].clone();
    let keys = lease["metadata"]["annotations"]["kdev.dev/keys"]
        .as_str()
        .unwrap()
        .to_owned();
    let thief = Identity::generate().unwrap().fingerprint();
    let name = vouch(&desk, &thief, &format!("{thief},{keys}"), "thief");
    // All connections are made anew, and are still the old session's.
    let node: IpAddr = "10.88.0.10".parse().unwrap();
    for _ in 0..3 {
        desk.laptop
            .run(User::Root, &["ss", "-K", "dst", &node.to_string()])
            .ok();
        assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
    }
    wait::until_true("the session is well", SECONDS, || {
        desk.status()["session"]["state"] == "ok"
    });
    desk.cluster
        .kubectl(&["-n", "kdev", "delete", "lease", &name])
        .ok();
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
}

/// What a manager takes for no frame of its protocol, as gRPC's messages.
const NO_FRAMES: [(&str, &[u8]); 4] = [
    ("data before the flow was opened", b"\0\0\0\0\x03\x22\x01x"),
    ("what isn't protobuf", b"\0\0\0\0\x04\xff\xff\xff\xff"),
    ("a message that is compressed", b"\x01\0\0\0\x01x"),
    ("a message of 4 GB", b"\0\xff\xff\xff\xff"),
];

/// Proves a key that somebody vouched for, makes a call of a flow, and says in it what nobody may. Returns when
/// the manager has closed the connection.
async fn break_the_protocol(to: SocketAddr, manager: Fingerprint, own: Identity, said: &[u8]) {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let stream = Connector::new(own).connect(manager, stream).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post("http://kdev.invalid/kdev.v1.Flows/Flow")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut requests = requests.ready().await.unwrap();
    let (_answer, mut body) = requests.send_request(request, false).unwrap();
    let said = bytes::Bytes::copy_from_slice(said);
    body.send_data(said, false).unwrap();
    // With an error or without one: what counts is that nothing more can be said over it.
    let _ = tokio::time::timeout(SECONDS, connection)
        .await
        .expect("the manager closes it");
}

#[test]
fn who_breaks_the_protocol_loses_the_connection_with_a_reason_in_the_log_and_nobody_else_does() {
    let desk = Desk::connected();
    let (to, key) = (manager_address(&desk), manager_key(&desk));
    let (mut client, mut server) = Way::outward(&desk.laptop, &demo_pod(desk.cluster)).connect();
    let mut talks = || {
        client.write_all(b"still there?").unwrap();
        let mut heard = [0; 12];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still there?");
    };
    let reasons = || {
        let log = ["-n", "kdev", "logs", "deploy/kdev-traffic-manager"];
        let log = desk.cluster.kubectl(&log).ok();
        log.text().matches("breaks the flow protocol").count()
    };
    let pod = pod_network(&desk);
    for (what, said) in NO_FRAMES {
        let (own, before) = (Identity::generate().unwrap(), reasons());
        let vandal = own.fingerprint();
        let name = vouch(&desk, &vandal, &vandal.to_string(), "vandal");
        talks();
        pod.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(break_the_protocol(to, key, own, said));
        });
        wait::until_true("the log says why", SECONDS, || reasons() > before);
        talks();
        desk.cluster
            .kubectl(&["-n", "kdev", "delete", "lease", &name])
            .ok();
        eprintln!("closed for {what}");
    }
    assert!(desk.pod_at("http://web.demo/").starts_with("web-"));
    let parts = desk.status();
    assert_eq!(parts["session"]["state"], "ok", "{parts:#}");
}
