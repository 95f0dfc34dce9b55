//! `kdev intercept` and `kdev leave`: what the cluster sends to a Service comes to this machine, and
//! afterwards nobody can tell.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kdev_e2e::desk::Desk;
use kdev_e2e::http::{Requests, who_answers};
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::wait;
use kdev_e2e::workload::{Namespace, Workload};
use serde_json::Value;

/// Who answers a request that comes from within the cluster, on a new connection.
fn answers(desk: &Desk, address: SocketAddr) -> String {
    desk.cluster.node().inside(|| who_answers(address)).unwrap()
}

#[test]
fn what_the_cluster_sends_comes_to_the_local_program_until_it_is_left() {
    let desk = Desk::with_manager();
    let web = Workload::up(desk.cluster, "take");
    let (pods, service) = (web.pods(), web.service());
    desk.kdev(&["connect", "-n", web.namespace()]).ok();
    let _program = desk.laptop.serve(9000);

    desk.kdev(&["intercept", "web", "--port", "9000:http"])
        .ok()
        .says("active");
    // The command said "active", so the very next request arrives.
    assert_eq!(web.answers_a_pod(), "the-laptop");
    assert_eq!(answers(&desk, web.address(80)), "the-laptop");
    assert_eq!(
        desk.pod_at("http://web/"),
        "the-laptop",
        "the laptop's own requests go the same way"
    );
    let echo = web.in_pod(&["tcp", "web:7", "still here"]).ok();
    assert_eq!(echo.text(), "still here", "the other port is alive");
    assert_eq!(web.pods(), pods, "no pod was touched");
    let shown = &desk.status()["intercepts"][0];
    assert_eq!(
        (&shown["service"], &shown["state"]),
        (&Value::from("web"), &Value::from("ok"))
    );
    assert_eq!(
        (&shown["port"], &shown["local_port"]),
        (&Value::from(80), &Value::from(9000))
    );
    assert!(shown["connections"].as_u64().unwrap() >= 3, "{shown}");

    desk.kdev(&["leave", "web"]).ok();
    assert!(web.answers_a_pod().starts_with("web-"));
    web.assert_untouched();
    assert_eq!(web.service()["spec"], service["spec"]);
    assert_eq!(web.pods(), pods);
    assert_eq!(desk.status()["intercepts"], Value::Array(Vec::new()));
}

#[test]
fn once_it_is_active_every_new_connection_comes_and_once_it_is_left_none() {
    let (desk, web) = Desk::beside("every");
    let _program = desk.laptop.serve(9000);
    let address = web.address(80);
    for _ in 0..3 {
        desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
        let active: Vec<String> = (0..50).map(|_| answers(&desk, address)).collect();
        assert!(active.iter().all(|name| name == "the-laptop"), "{active:?}");
        desk.kdev(&["leave", "web"]).ok();
        let left: Vec<String> = (0..50).map(|_| answers(&desk, address)).collect();
        assert!(left.iter().all(|name| name.starts_with("web-")), "{left:?}");
    }
}

#[test]
fn no_request_fails_while_a_service_is_switched_there_and_back() {
    let (desk, web) = Desk::beside("switch");
    let pods = web.pods();
    // One whose other ports stay with the pods, and one that has no other.
    let single = web.add_single("single");
    for (service, address) in [("web", web.address(80)), ("single", single)] {
        let program = desk.laptop.serve(9000);
        let requests = Requests::start(desk.cluster.node(), address);
        for _ in 0..10 {
            requests.more(50);
            desk.kdev(&["intercept", service, "--port", "9000:http"])
                .ok();
            requests.more(50);
            desk.kdev(&["leave", service]).ok();
        }
        // Nothing needs the program any more, whatever the nodes still believe.
        drop(program);
        requests.more(400);
        let tally = requests.stop();
        assert!(tally.failed.is_empty(), "{service}: {tally:?}");
        // Fifty each time while it was intercepted, and fifty while it wasn't; the others during the switch.
        let by_pods = tally
            .answered
            .iter()
            .filter(|(who, _)| who.starts_with("web-"));
        let by_pods: usize = by_pods.map(|(_, count)| count).sum();
        assert!(tally.answered["the-laptop"] >= 500, "{service}: {tally:?}");
        assert!(by_pods >= 500 + 400, "{service}: {tally:?}");
        eprintln!("{service}: ten switches there and back: {tally:?}");
    }
    assert_eq!(web.pods(), pods, "no pod was touched");
    web.assert_untouched();
}

#[test]
fn a_warm_session_intercepts_within_a_second() {
    /// Of most attempts.
    const WANTED: Duration = Duration::from_secs(1);
    /// Of each, on a machine that is busy with other things.
    const BUSY: Duration = Duration::from_secs(10);
    /// What kube-proxy waits for after each change (`minSyncPeriod`), and then some. Nothing shows that it is over.
    const SETTLED: Duration = Duration::from_secs(2);
    let (desk, web) = Desk::beside("soon");
    let _program = desk.laptop.serve(9000);
    let address = web.add_single("single");
    let node = desk.cluster.node();
    let (mut took, mut came) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        std::thread::sleep(SETTLED);
        let began = Instant::now();
        let (command, first) = std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                node.inside(|| {
                    wait::until_true("a request comes", BUSY, || {
                        who_answers(address).is_ok_and(|who| who == "the-laptop")
                    });
                    began.elapsed()
                })
            });
            let intercept = ["intercept", "single", "--port", "9000:http"];
            let command = desk.kdev(&intercept).ok();
            (command.says("active").took, first.join().unwrap())
        });
        eprintln!("`kdev intercept` took {command:?}, the first request came after {first:?}");
        assert!(command < BUSY, "{command:?}");
        took.push(command);
        came.push(first);
        std::thread::sleep(SETTLED);
        desk.kdev(&["leave", "single"]).ok();
    }
    for (what, mut all) in [("the command", took), ("the first request", came)] {
        all.sort_unstable();
        assert!(all[all.len() / 2] <= WANTED, "{what}: {all:?}");
    }
    web.assert_untouched();
}

#[test]
fn quitting_gives_back_what_is_intercepted() {
    let (desk, web) = Desk::beside("quit");
    let program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    let requests = Requests::start(desk.cluster.node(), web.address(80));
    requests.more(30);
    desk.kdev(&["quit"]).ok();
    drop(program);
    web.assert_untouched();
    assert!(web.answers_a_pod().starts_with("web-"));
    requests.more(400);
    let tally = requests.stop();
    assert!(tally.failed.is_empty(), "{tally:?}");
}

#[test]
fn two_ports_of_a_service_may_come_to_two_programs() {
    let (desk, web) = Desk::beside("two");
    let (_first, _second) = (desk.laptop.serve(9000), desk.laptop.serve(9001));
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    desk.kdev(&["intercept", "web", "--port", "9001:7"]).ok();
    assert_eq!(answers(&desk, web.address(80)), "the-laptop");
    // Behind the port is the second program, which speaks HTTP where the pods echo.
    assert_eq!(answers(&desk, web.address(7)), "the-laptop");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn one_command_takes_several_ports_and_one_of_them_can_be_left() {
    let (desk, web) = Desk::beside("several");
    let (_first, _second) = (desk.laptop.serve(9000), desk.laptop.serve(9001));
    let both = [
        "intercept",
        "web",
        "--port",
        "9000:http",
        "--port",
        "9001:7",
    ];
    let said = desk.kdev(&both).ok().stderr;
    // One after the other, kube-proxy would let each wait for a second after the one before.
    let (claimed, probing) = (said.rfind("claimed"), said.find("probing"));
    assert!(
        claimed.unwrap() < probing.unwrap(),
        "both are switched together: {said}"
    );
    assert_eq!(answers(&desk, web.address(80)), "the-laptop");
    assert_eq!(answers(&desk, web.address(7)), "the-laptop");
    desk.kdev(&["leave", "web", "--port", "http"])
        .ok()
        .says("the Service still has port echo (7/TCP) held by dev@");
    assert!(answers(&desk, web.address(80)).starts_with("web-"));
    assert_eq!(answers(&desk, web.address(7)), "the-laptop");
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
    // All of them, or none.
    let one_is_wrong = [
        "intercept",
        "web",
        "--port",
        "9000:http",
        "--port",
        "9001:nope",
    ];
    desk.kdev(&one_is_wrong).exits(10);
    web.assert_untouched();
}

#[test]
fn a_program_behind_two_dashes_lives_and_dies_with_the_intercept() {
    let (desk, web) = Desk::beside("program");
    let address = web.address(80);
    // Its exit code is handed on, and what it wrote; the Service is its own meanwhile.
    let line = format!(
        "POD_NAME=the-laptop kdev intercept web --port 9000:http -- \
         bash -c 'workload serve --http 9000 --echo 0 --udp-echo 0 --sink 0 & \
                  until curl -sf http://{address}/ | grep -q the-laptop; do sleep 0.1; done; \
                  kill $!; echo served; exit 7'"
    );
    let run = desk.laptop.shell(User::Dev, &line).exits(7);
    run.says("served").says("active");
    web.assert_untouched();
    let early = ["intercept", "web", "--port", "9000:http", "--", "false"];
    desk.kdev(&early)
        .exits(12)
        .says("it ended before")
        .says("next: ");
    let missing = [
        "intercept",
        "web",
        "--port",
        "9000:http",
        "--",
        "/nowhere/program",
    ];
    desk.kdev(&missing).exits(2).says("/nowhere/program");
    // Interrupted before it listens: the program is ended, and the exit code is a shell's.
    let line = "timeout --preserve-status --signal=INT 2 \
                kdev intercept web --port 9000:http -- sleep 61.5";
    desk.laptop.shell(User::Dev, line).exits(130);
    let left = desk.laptop.run(User::Dev, &["pgrep", "-fx", "sleep 61.5"]);
    assert_eq!(left.stdout, "", "its program lives on");
    web.assert_untouched();
}

#[test]
fn a_command_that_is_killed_takes_its_program_and_its_intercept_with_it() {
    let (desk, web) = Desk::beside("orphan");
    let address = web.address(80);
    let line = format!(
        "POD_NAME=the-laptop kdev intercept web --port 9000:http -- \
             workload serve --http 9000 --echo 0 --udp-echo 0 --sink 0 & \
         until curl -sf http://{address}/ | grep -q the-laptop; do sleep 0.1; done; \
         kill -9 $!; \
         for _ in $(seq 150); do curl -sf http://{address}/ | grep -q '\"pod\": \"web-' && break; sleep 0.1; done; \
         curl -sf http://127.0.0.1:9000/ && exit 4; \
         exec curl -sf http://{address}/"
    );
    let run = desk.laptop.shell(User::Dev, &line).ok();
    assert!(run.stdout.contains(r#""pod": "web-"#), "{run:?}");
    wait::until_true("nothing is held", Duration::from_secs(20), || {
        desk.status()["intercepts"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
    web.assert_untouched();
}

#[test]
fn a_program_ends_when_its_intercept_is_left_elsewhere() {
    let (desk, web) = Desk::beside("elsewhere");
    let address = web.address(80);
    for (end, over) in [("leave web", "it was left"), ("quit", "it was left")] {
        let line = format!(
            "rm -f $HOME/said; \
             POD_NAME=the-laptop kdev intercept web --port 9000:http -- bash -c ' \
                 workload serve --http 9000 --echo 0 --udp-echo 0 --sink 0 & \
                 trap \"kill $!; exit 5\" TERM; wait' > $HOME/said & \
             until grep -qs ^active $HOME/said; do sleep 0.1; done; \
             curl -sf http://{address}/ | grep -q the-laptop && kdev {end} && wait $!"
        );
        let run = desk.laptop.shell(User::Dev, &line).exits(5);
        run.says(over);
        web.assert_untouched();
    }
}

#[test]
fn the_manager_gives_back_what_a_killed_daemon_held_when_its_lease_is_over() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "lease");
    let web = Workload::up(desk.cluster, "killed");
    desk.connect_to_own(&namespace, "3", &web);
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    desk.laptop.kill(Daemon::User);
    wait::until_true("the pods answer again", Duration::from_secs(20), || {
        let answer = desk.cluster.node().inside(|| who_answers(web.address(80)));
        answer.is_ok_and(|pod| pod.starts_with("web-"))
    });
    wait::until_true("the Service is whole", Duration::from_secs(10), || {
        web.slices() == ["endpointslice-controller.k8s.io"]
    });
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", namespace.name()]).ok();
}

#[test]
fn a_session_that_was_away_for_too_long_takes_its_intercept_again() {
    let desk = Desk::clean();
    let namespace = Namespace::only_named(desk.cluster, "away");
    let web = Workload::up(desk.cluster, "lost");
    let manager = namespace.name();
    desk.connect_to_own(&namespace, "1", &web);
    let _program = desk.laptop.serve(9000);
    let intercept = ["intercept", "web", "--port", "9000:http"];
    desk.kdev(&intercept).ok();
    let api = "10.88.0.10";
    // No new connection, and an end that is heard of those that there are.
    let cut = format!(
        "nft -f - <<END\ntable inet e2e {{ chain out {{ type filter hook output priority 0; \
         ip daddr {api} tcp flags & (syn | ack) == syn reject with tcp reset; }}; }}\nEND\n\
         ss -K dst {api}"
    );
    desk.laptop.shell(User::Root, &cut).ok();
    let address = web.address(80);
    wait::until_true("the pods answer again", Duration::from_secs(30), || {
        let answer = desk.cluster.node().inside(|| who_answers(address));
        answer.is_ok_and(|pod| pod.starts_with("web-"))
    });
    desk.laptop
        .shell(User::Root, "nft delete table inet e2e")
        .ok();
    wait::until_true("it is intercepted again", Duration::from_secs(30), || {
        let status = desk.status();
        let one = &status["intercepts"][0];
        status["session"]["state"] == "ok" && one["state"] == "ok"
    });
    assert_eq!(answers(&desk, address), "the-laptop");
    assert_eq!(desk.status()["intercepts"].as_array().unwrap().len(), 1);
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
    desk.kdev(&["uninstall", "-n", manager]).ok();
}

#[test]
fn a_local_program_may_end_and_come_back() {
    let (desk, web) = Desk::beside("restart");
    let mut program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    program.end();
    let address = web.address(80);
    let session = desk.status()["session"].clone();
    for _ in 0..1_000 {
        // Told at once, by each of as many connections as there are streams that wait, and more.
        let answer = desk.cluster.node().inside(|| who_answers(address));
        let answer = answer.unwrap_err().to_string();
        for part in ["502", "kdev", "dev@", "nothing listens on its local port"] {
            assert!(answer.contains(part), "{answer}");
        }
    }
    // Who doesn't speak HTTP learns as much as from a pod whose program has ended.
    let reset = desk.cluster.node().inside(|| {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"\0 a protocol of its own")?;
        connection.read(&mut [0])
    });
    assert_eq!(
        reset.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    let _program = desk.laptop.serve(9000);
    assert_eq!(answers(&desk, address), "the-laptop");
    assert_eq!(desk.pod_at("http://web/"), "the-laptop");
    let status = desk.status();
    let since = |session: &Value| session["since_ms"].clone();
    assert_eq!(status["session"]["state"], "ok", "{status}");
    assert_eq!(since(&status["session"]), since(&session), "{session}");
    desk.kdev(&["quit"]).ok();
}

#[test]
fn a_manager_that_is_replaced_takes_the_intercept_up_again() {
    let (desk, web) = Desk::beside("replaced");
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    let pods = [
        "-n",
        "kdev",
        "delete",
        "pods",
        "-l",
        "app.kubernetes.io/name=kdev-traffic-manager",
    ];
    desk.cluster.kubectl(&pods).ok();
    let address = web.address(80);
    wait::until_true("the laptop answers again", Duration::from_secs(40), || {
        let answer = desk.cluster.node().inside(|| who_answers(address));
        answer.is_ok_and(|pod| pod == "the-laptop")
    });
    desk.kdev(&["leave", "web"]).ok();
    web.assert_untouched();
}

#[test]
fn the_audit_log_names_the_developer_who_intercepts() {
    let (desk, web) = Desk::beside("audit");
    let _program = desk.laptop.serve(9000);
    desk.kdev(&["intercept", "web", "--port", "9000:http"]).ok();
    desk.kdev(&["quit"]).ok();
    let log = desk.cluster.driver("audit", &[]).ok();
    let log = std::fs::read_to_string(log.text()).unwrap();
    let own = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            let object = &event["objectRef"];
            event["verb"] == "patch"
                && object["resource"] == "services"
                && object["namespace"] == web.namespace()
        });
    let users: Vec<String> = own
        .map(|event| event["user"]["username"].to_string())
        .collect();
    assert!(
        users.iter().any(|user| !user.contains("serviceaccount")),
        "{users:?}"
    );
    assert!(
        users
            .iter()
            .any(|user| user.contains("kdev-traffic-manager")),
        "{users:?}"
    );
}
