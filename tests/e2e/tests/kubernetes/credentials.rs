//! Whose kubeconfig, and whose environment: the caller's, not that of the daemon's first caller.

use std::time::Duration;

use kdev_e2e::command::Outcome;
use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::{Daemon, User};
use kdev_e2e::snapshot::Machine;
use kdev_e2e::wait;

const KUBECONFIG: i32 = 5;
const CONFLICT: i32 = 11;
const NOT_CONNECTED: i32 = 14;

/// A credential plugin as cloud providers have them: it sleeps, or hands out the developer's own
/// certificate when its environment says who that is.
const PLUGIN: &str = r#"
dir=$(mktemp -d)
cp ~/.kube/config $dir/config
mkdir $dir/bin
cat > $dir/bin/plugin <<'END'
#!/bin/sh
[ -z "$KDEV_E2E_SLEEP" ] || sleep "$KDEV_E2E_SLEEP"
[ "$KDEV_E2E_LOGIN" = yes ] || { echo 'nobody is logged in' >&2; exit 1; }
pem() { sed -n "s/.*$1: //p" ~/.kube/config | base64 -d | awk '{ printf "%s\\n", $0 }'; }
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":'
printf '{"clientCertificateData":"%s","clientKeyData":"%s"}}' \
    "$(pem client-certificate-data)" "$(pem client-key-data)"
END
chmod +x $dir/bin/plugin
kubectl config --kubeconfig $dir/config set-credentials plugin --exec-command=$dir/bin/plugin \
    --exec-api-version=client.authentication.k8s.io/v1 --exec-interactive-mode=Never
kubectl config --kubeconfig $dir/config set-context plugin --cluster="$1" --user=plugin
"#;

/// Runs a line of the shell's as the developer, with the plugin's kubeconfig in `$dir/config`.
fn with_plugin(desk: &Desk, line: &str) -> Outcome {
    let script = format!("{{ {PLUGIN} }} > /dev/null\n{line}\ncode=$?; rm -r $dir; exit $code");
    let words = ["bash", "-c", &script, "plugin", desk.cluster.name()];
    desk.laptop.run(User::Dev, &words)
}

#[test]
fn a_credential_plugin_runs_in_the_environment_of_the_command() {
    let desk = Desk::with_manager();
    // Starts the user's daemon, where nobody is logged in.
    desk.kdev(&["list"]).ok();
    let list = "kdev list -n demo --kubeconfig $dir/config --context plugin";
    with_plugin(&desk, list)
        .exits(KUBECONFIG)
        .says("nobody is logged in");
    with_plugin(&desk, &format!("KDEV_E2E_LOGIN=yes {list}"))
        .ok()
        .says("web");
    desk.kdev(&["quit"]).ok();
}

#[test]
fn the_kubeconfig_of_whoever_started_the_daemon_isnt_the_next_ones() {
    let desk = Desk::with_manager();
    let first = "KUBECONFIG=/nowhere/config kdev list -n demo";
    desk.laptop
        .shell(User::Dev, first)
        .exits(KUBECONFIG)
        .says("/nowhere/config");
    desk.kdev(&["list", "-n", "demo"]).ok().says("web");
    desk.kdev(&["quit"]).ok();
}

#[test]
fn a_connect_that_is_interrupted_leaves_nothing_and_keeps_nobody_waiting() {
    let desk = Desk::with_manager();
    let connect = "KDEV_E2E_SLEEP=30 timeout --signal=INT 3 \
                   kdev connect --kubeconfig $dir/config --context plugin";
    with_plugin(&desk, connect).exits(124);
    desk.kdev(&["status"]).exits(NOT_CONNECTED);
    desk.kdev(&["quit"]).ok().within(Duration::from_secs(10));
    assert_eq!(desk.laptop.all_daemons(), []);
    let now = Machine::of(&desk.laptop);
    assert_eq!(now.devices, desk.before.devices);
    assert_eq!(now.resolver, desk.before.resolver);
}

#[test]
fn connecting_to_another_cluster_is_refused_also_while_the_session_mends_itself() {
    let desk = Desk::connected();
    desk.laptop.kill(Daemon::Root);
    let other = "cp ~/.kube/config /tmp/kdev-e2e-other; \
                 kdev connect --kubeconfig /tmp/kdev-e2e-other; \
                 code=$?; rm /tmp/kdev-e2e-other; exit $code";
    desk.laptop
        .shell(User::Dev, other)
        .exits(CONFLICT)
        .says("another one")
        .says(desk.cluster.name());
    // The root daemon was started for it, which is all that the session needed.
    wait::until_true("the session is whole", Duration::from_secs(20), || {
        desk.status()["session"]["state"] == "ok"
    });
    assert!(desk.pod_at("http://web/").starts_with("web-"));
}
