//! Connections outlive the ways that they are carried over.

use std::net::SocketAddr;
use std::time::Duration;

use kdev_e2e::command::Outcome;
use kdev_e2e::desk::{DEMO, Desk};
use kdev_e2e::laptop::User;
use kdev_e2e::wait;
use kdev_e2e::workload::Workload;

/// Most time for a transfer, however busy the machine.
const TRANSFER: Duration = Duration::from_secs(180);
/// Ends every connection to the node, and with them all carriers and the control stream, of whatever kind.
const CUT: &str = "ss -K state established dst 10.88.0.10";

/// Runs a line of the shell's on the laptop while all carriers are cut again and again; fails when
/// not a single one was there to be cut each time.
fn while_cutting(desk: &Desk, times: u32, line: &str) -> Outcome {
    let script = format!(
        "(for n in $(seq {times}); do sleep 0.4; {CUT} | grep -c 10.88.0.10 || exit 1; done > /tmp/e2e-cuts) &
         cutting=$!
         {line}
         code=$?
         kill $cutting 2> /dev/null && echo 'it was over before the last cut' >&2 && exit 1
         wait $cutting || exit 2
         exit $code"
    );
    let words = ["bash", "-o", "pipefail", "-c", &script];
    desk.laptop.run_for(User::Root, &words, TRANSFER)
}

#[test]
fn a_gigabyte_each_way_arrives_unchanged_though_every_carrier_is_cut_twenty_times() {
    const BYTES: u64 = 1 << 30;
    let desk = Desk::connected();
    let url = format!("http://web.demo/big?bytes={BYTES}");
    let down = format!("curl -sS --limit-rate 90M '{url}' | sha256sum");
    let down = while_cutting(&desk, 20, &down).ok();
    let address = desk.cluster.get(&["-n", DEMO, "service", "web"])["spec"]["clusterIP"].clone();
    let address = address.as_str().unwrap().to_owned();
    let direct = format!("curl -sS 'http://{address}/big?bytes={BYTES}' | sha256sum");
    let direct = desk.cluster.on_node(&["sh", "-c", &direct]).ok();
    assert_eq!(down.text(), direct.text());

    let up = format!(
        "curl -sS '{url}' > /tmp/e2e-gigabyte
         curl -sS --limit-rate 90M -X POST -T /tmp/e2e-gigabyte http://web.demo/sum"
    );
    let up = while_cutting(&desk, 20, &up).ok();
    desk.laptop
        .run(User::Root, &["rm", "/tmp/e2e-gigabyte"])
        .ok();
    let sum = direct.text().split(' ').next().unwrap().to_owned();
    assert_eq!(up.text(), format!("{sum} {BYTES}"));
}

#[test]
fn a_connection_lives_on_while_the_api_server_is_restarted() {
    let desk = Desk::connected();
    let talk = "exec 3<>/dev/tcp/web.demo/7
         echo before >&3; read -t 10 line <&3; echo $line
         touch /tmp/e2e-restart; while [ -e /tmp/e2e-restart ]; do sleep 0.1; done
         echo after >&3; read -t 60 line <&3; echo $line";
    let words = ["timeout", "150", "bash", "-c", talk];
    let said = std::thread::scope(|scope| {
        let talking = scope.spawn(|| desk.laptop.run_for(User::Root, &words, TRANSFER));
        let there = || {
            desk.laptop
                .run(User::Root, &["test", "-e", "/tmp/e2e-restart"])
        };
        wait::until_true("they talk", Duration::from_secs(20), || there().code == 0);
        desk.cluster.driver("restart-apiserver", &[]).ok();
        desk.laptop
            .run(User::Root, &["rm", "/tmp/e2e-restart"])
            .ok();
        talking.join().unwrap()
    });
    assert_eq!(said.ok().lines(), ["before", "after"]);
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
    let (cut, whole) = std::thread::scope(|scope| {
        let (sum, address) = (&sum, web.address(80));
        let download = scope.spawn(move || sum(address, "40M"));
        let cutting = while_cutting(&desk, 10, "sleep 5");
        (download.join().unwrap(), cutting)
    });
    whole.ok();
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

#[test]
fn after_the_resume_limit_a_connection_is_reset_so_that_programs_learn_the_truth() {
    let desk = Desk::connected_by(&["--resume-limit", "3"]);
    let talk = "exec 3<>/dev/tcp/web.demo/7
         echo before >&3; read -t 10 line <&3; echo $line
         touch /tmp/e2e-limit; read -t 100 line <&3";
    let words = ["timeout", "150", "bash", "-c", talk];
    let said = std::thread::scope(|scope| {
        let talking = scope.spawn(|| desk.laptop.run_for(User::Root, &words, TRANSFER));
        let there = ["test", "-e", "/tmp/e2e-limit"];
        wait::until_true("they talk", Duration::from_secs(20), || {
            desk.laptop.run(User::Root, &there).code == 0
        });
        let swallow = "nft -f - <<END\ntable inet e2e { chain out { type filter hook output priority 0; \
                       ip daddr 10.88.0.10 drop; }; }\nEND";
        desk.laptop.shell(User::Root, swallow).ok();
        let said = talking.join().unwrap();
        desk.laptop
            .shell(User::Root, "nft delete table inet e2e; rm /tmp/e2e-limit")
            .ok();
        said
    });
    said.exits(1).says("before").says("reset");
}
