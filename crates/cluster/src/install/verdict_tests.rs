use serde_json::{Value, json};

use super::*;

/// What the cluster shows, written as its API writes it.
struct Cluster {
    deployment: Value,
    replica_sets: Vec<Value>,
    pods: Vec<Value>,
    events: Vec<Value>,
}

/// An installation whose one pod was created and has told nothing yet.
fn cluster() -> Cluster {
    Cluster {
        deployment: json!({
            "metadata": {
                "name": "kdev-traffic-manager", "namespace": "kdev", "uid": "d", "generation": 2,
                "annotations": { REVISION: "2" },
            },
            "spec": { "replicas": 1, "selector": {}, "template": {} },
            "status": { "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1 },
        }),
        replica_sets: vec![
            replica_set("old", "rs-old", "1", "d"),
            replica_set("new", "rs-new", "2", "d"),
            replica_set("foreign", "rs-foreign", "2", "other"),
        ],
        pods: vec![pod("m-1", "p", "rs-new", json!({ "phase": "Pending" }))],
        events: Vec::new(),
    }
}

fn replica_set(name: &str, uid: &str, revision: &str, owner: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "kdev", "uid": uid,
            "annotations": { REVISION: revision },
            "ownerReferences": [owner_reference("Deployment", owner)],
        },
        "spec": { "selector": {} },
        "status": { "replicas": 0 },
    })
}

fn pod(name: &str, uid: &str, owner: &str, status: Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "kdev", "uid": uid,
            "ownerReferences": [owner_reference("ReplicaSet", owner)],
        },
        "spec": { "containers": [] },
        "status": status,
    })
}

fn owner_reference(kind: &str, uid: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": kind, "name": "n", "uid": uid, "controller": true })
}

fn event(about: &str, reason: &str, message: &str, at: &str) -> Value {
    json!({
        "metadata": { "name": "e", "namespace": "kdev" },
        "involvedObject": { "uid": about },
        "reason": reason, "message": message, "lastTimestamp": at,
    })
}

/// The status of a pod with one container in the given state.
fn container(state: Value, more: Value) -> Value {
    let mut container = json!({
        "name": "m", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    });
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    json!({ "phase": "Pending", "containerStatuses": [container] })
}

fn waiting(reason: &str, message: &str) -> Value {
    container(
        json!({ "waiting": { "reason": reason, "message": message } }),
        json!({}),
    )
}

impl Cluster {
    fn with_pod(mut self, status: Value) -> Self {
        self.pods[0]["status"] = status;
        self
    }

    fn with_event(mut self, event: Value) -> Self {
        self.events.push(event);
        self
    }

    fn judge(&self) -> Verdict {
        fn all<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<T> {
            values
                .iter()
                .map(|value| serde_json::from_value(value.clone()).unwrap())
                .collect()
        }
        judge(Scene {
            deployment: &serde_json::from_value(self.deployment.clone()).unwrap(),
            replica_sets: &all(&self.replica_sets),
            pods: &all(&self.pods),
            events: &all(&self.events),
        })
    }

    #[track_caller]
    fn assert_stuck(&self, reason: Reason, message: &str, object: &str) {
        match self.judge() {
            Verdict::Stuck(trouble) => {
                assert_eq!(trouble.reason, reason, "{trouble}");
                assert!(trouble.message.contains(message), "{trouble}");
                assert_eq!(trouble.object.to_string(), object);
            }
            verdict => panic!("{verdict:?}"),
        }
    }

    #[track_caller]
    fn assert_progressing(&self, part: &str) {
        match self.judge() {
            Verdict::Progressing { what } => assert!(what.contains(part), "{what}"),
            verdict => panic!("{verdict:?}"),
        }
    }
}

const POD: &str = "Pod kdev/m-1";

#[test]
fn it_is_available_when_every_updated_pod_is_and_no_old_one_is_left() {
    let mut cluster = cluster();
    cluster.deployment["status"] = json!({
        "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    });
    assert_eq!(cluster.judge(), Verdict::Available);

    cluster.deployment["status"]["replicas"] = json!(2);
    assert!(
        matches!(cluster.judge(), Verdict::Progressing { .. }),
        "an old pod is left"
    );
}

#[test]
fn an_available_old_pod_does_not_hide_a_new_one_that_fails() {
    let mut cluster = cluster().with_pod(waiting("InvalidImageName", "couldn't parse image name"));
    cluster.deployment["status"] = json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
    });
    let running = container(json!({ "running": {} }), json!({ "ready": true }));
    cluster.pods.push(pod("m-old", "p-old", "rs-old", running));
    cluster.assert_stuck(Reason::ImageName, "couldn't parse", POD);
}

#[test]
fn a_status_from_before_the_change_says_nothing() {
    let mut cluster = cluster();
    cluster.deployment["status"] = json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    });
    cluster.assert_progressing("to see the change");
    cluster.deployment["status"] = json!({});
    cluster.assert_progressing("to see the change");
}

#[test]
fn a_replica_set_that_is_not_there_yet_is_awaited() {
    let mut cluster = cluster();
    cluster
        .replica_sets
        .retain(|set| set["metadata"]["uid"] != "rs-new");
    cluster.assert_progressing("ReplicaSet");
}

#[test]
fn a_replica_set_that_cannot_be_created_is_told_by_the_deployment() {
    let mut cluster = cluster();
    cluster.replica_sets.clear();
    cluster.deployment["status"]["conditions"] = json!([{
        "type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError",
        "message": "replicasets.apps is forbidden: exceeded quota: q",
    }]);
    cluster.assert_stuck(
        Reason::Quota,
        "exceeded quota",
        "Deployment kdev/kdev-traffic-manager",
    );
}

#[test]
fn a_pod_that_may_not_be_created_is_told_by_the_replica_set() {
    let table = [
        (
            r#"pods "m" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"#,
            Reason::Quota,
        ),
        (
            r#"pods "m" is forbidden: failed quota: q: must specify limits.cpu for: m"#,
            Reason::Quota,
        ),
        (
            r#"pods "m" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation"#,
            Reason::PodSecurity,
        ),
        (
            r#"admission webhook "validate.kyverno.svc-fail" denied the request: no"#,
            Reason::Admission,
        ),
        (
            r#"Internal error occurred: failed calling webhook "x": failed to call webhook: dial tcp"#,
            Reason::Create,
        ),
        (
            r#"pods "m" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#,
            Reason::Admission,
        ),
        (
            r#"pods "m" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi"#,
            Reason::Create,
        ),
        (
            r#"pods "m" is forbidden: error looking up service account kdev/x: serviceaccount "x" not found"#,
            Reason::Create,
        ),
    ];
    for (message, reason) in table {
        let mut by_condition = cluster();
        by_condition.pods.clear();
        by_condition.replica_sets[1]["status"]["conditions"] = json!([{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message,
        }]);
        by_condition.assert_stuck(reason, message, "ReplicaSet kdev/new");

        let mut by_event = cluster();
        by_event.pods.clear();
        let text = format!("Error creating: {message}");
        by_event
            .with_event(event(
                "rs-new",
                "FailedCreate",
                &text,
                "2025-01-01T00:00:00Z",
            ))
            .assert_stuck(reason, message, "ReplicaSet kdev/new");
    }
}

#[test]
fn the_last_refusal_counts_not_the_first() {
    let mut cluster = cluster();
    cluster.pods.clear();
    cluster.replica_sets[1]["status"]["conditions"] = json!([{
        "type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q",
    }]);
    let last = "(combined from similar events): Error creating: pods \"m\" is forbidden: violates \
                PodSecurity";
    cluster
        .with_event(event(
            "rs-new",
            "FailedCreate",
            "exceeded quota: r",
            "2025-01-01T00:00:01Z",
        ))
        .with_event(event(
            "rs-new",
            "FailedCreate",
            last,
            "2025-01-01T00:00:02Z",
        ))
        .assert_stuck(
            Reason::PodSecurity,
            "pods \"m\" is forbidden: vi",
            "ReplicaSet kdev/new",
        );
}

#[test]
fn an_old_pod_that_fails_says_nothing_about_the_new_form() {
    let mut cluster = cluster();
    cluster.pods = vec![pod(
        "m-old",
        "p-old",
        "rs-old",
        waiting("ErrImagePull", "no"),
    )];
    cluster.assert_progressing("the pod to be created");
}

#[test]
fn a_pod_that_is_going_says_nothing() {
    let mut cluster = cluster().with_pod(waiting("ErrImagePull", "no"));
    cluster.pods[0]["metadata"]["deletionTimestamp"] = json!("2025-01-01T00:00:00Z");
    cluster.assert_progressing("the pod to be created");
}

#[test]
fn a_container_that_waits_tells_why() {
    let table = [
        (
            "ErrImagePull",
            "rpc error: code = NotFound",
            Reason::ImagePull,
        ),
        (
            "ErrImageNeverPull",
            "Container image \"i:1\" is not present",
            Reason::ImageNeverPull,
        ),
        (
            "InvalidImageName",
            "Failed to apply default image tag",
            Reason::ImageName,
        ),
        (
            "CreateContainerConfigError",
            "image will run as root",
            Reason::ContainerStart,
        ),
        (
            "RunContainerError",
            "exec: \"/x\": no such file",
            Reason::ContainerStart,
        ),
    ];
    for (waits, message, reason) in table {
        cluster()
            .with_pod(waiting(waits, message))
            .assert_stuck(reason, message, POD);
    }
    cluster()
        .with_pod(waiting("ContainerCreating", ""))
        .assert_progressing("i:1");
}

#[test]
fn the_back_off_of_a_pull_is_told_by_the_pull_itself() {
    let backing_off = cluster().with_pod(waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"i:1\"",
    ));
    backing_off.assert_stuck(Reason::ImagePull, "Back-off", POD);
    let why = "Failed to pull image \"i:1\": rpc error: not found";
    backing_off
        .with_event(event(
            "p",
            "Failed",
            "Error: ErrImagePull",
            "2025-01-01T00:00:03Z",
        ))
        .with_event(event("p", "Failed", why, "2025-01-01T00:00:02Z"))
        .with_event(event(
            "p",
            "Failed",
            "Failed to pull image \"i:1\": old",
            "2025-01-01T00:00:01Z",
        ))
        .with_event(event(
            "other",
            "Failed",
            "Failed to pull image \"o\"",
            "2025-01-01T00:00:09Z",
        ))
        .assert_stuck(Reason::ImagePull, why, POD);

    let told = "Back-off pulling image \"i:1\": ErrImagePull: rpc error: code = NotFound";
    cluster()
        .with_pod(waiting("ImagePullBackOff", told))
        .assert_stuck(Reason::ImagePull, told, POD);
}

#[test]
fn a_program_that_ends_is_told_with_how_it_ended() {
    let ended = |code: i32, reason: &str, message: &str| json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } });
    let back_off =
        json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } });
    let looping = json!({ "restartCount": 2, "lastState": ended(1, "Error", "") });
    cluster()
        .with_pod(container(back_off.clone(), looping))
        .assert_stuck(Reason::Crash, "exit code 1, started 3 times", POD);

    let killed = json!({ "restartCount": 1, "lastState": ended(137, "OOMKilled", "") });
    cluster()
        .with_pod(container(back_off, killed))
        .assert_stuck(Reason::Crash, "OOMKilled, exit code 137", POD);

    cluster()
        .with_pod(container(ended(2, "Error", "no config"), json!({})))
        .assert_stuck(Reason::Crash, "exit code 2: no config", POD);

    let started_again = json!({ "restartCount": 1, "lastState": ended(1, "Error", "") });
    cluster()
        .with_pod(container(json!({ "running": {} }), started_again))
        .assert_stuck(Reason::Crash, "exit code 1", POD);

    cluster()
        .with_pod(container(
            ended(128, "StartError", "exec: \"/m\": permission denied"),
            json!({}),
        ))
        .assert_stuck(Reason::ContainerStart, "permission denied", POD);
}

#[test]
fn a_pod_that_no_node_takes_is_told_by_the_scheduler() {
    let status = json!({ "phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
    }]});
    let cluster = cluster().with_pod(status);
    cluster.assert_stuck(Reason::Unschedulable, "Insufficient memory", POD);
    cluster
        .with_event(event(
            "p",
            "TriggeredScaleUp",
            "pod triggered scale-up",
            "2025-01-01T00:00:00Z",
        ))
        .assert_progressing("autoscaler");
}

#[test]
fn a_node_that_cannot_prepare_the_pod_is_told_by_its_events() {
    cluster()
        .with_pod(waiting("ContainerCreating", ""))
        .with_event(event(
            "p",
            "FailedCreatePodSandBox",
            "no CNI",
            "2025-01-01T00:00:00Z",
        ))
        .assert_stuck(Reason::Sandbox, "no CNI", POD);
}

#[test]
fn a_running_pod_that_is_not_ready_is_told_by_its_probe() {
    let running = container(json!({ "running": {} }), json!({}));
    let cluster = cluster().with_pod(running);
    cluster.assert_progressing("ready");
    cluster
        .with_event(event(
            "p",
            "Unhealthy",
            "Readiness probe failed: 503",
            "2025-01-01T00:00:00Z",
        ))
        .assert_stuck(Reason::NotReady, "503", POD);
}

#[test]
fn a_pod_that_the_node_ended_is_told_with_its_reason() {
    let status = json!({ "phase": "Failed", "reason": "Evicted", "message": "low on memory" });
    cluster()
        .with_pod(status)
        .assert_stuck(Reason::PodFailed, "Evicted: low on memory", POD);
}

#[test]
fn what_may_pass_by_itself_is_never_final_before_the_time_out() {
    for reason in [Reason::Sandbox, Reason::NotReady, Reason::NoProgress] {
        assert_eq!(reason.grace(), None);
    }
    for reason in [
        Reason::ImageName,
        Reason::Quota,
        Reason::ImagePull,
        Reason::Crash,
    ] {
        assert!(reason.grace().is_some_and(|grace| grace.as_secs() <= 10));
    }
}

#[test]
fn trouble_reads_as_what_why_and_what_next() {
    let trouble = Trouble {
        reason: Reason::Quota,
        message: "exceeded quota: q".to_owned(),
        object: ObjectRef::new("ReplicaSet", Some("kdev"), "new"),
    };
    assert_eq!(
        trouble.to_string(),
        "a resource quota leaves no room for the pod: exceeded quota: q (ReplicaSet kdev/new). \
         Raise the quota, or install into another namespace"
    );
}

#[test]
fn a_crash_reads_with_the_programs_last_words_and_where_the_rest_is() {
    let crash = Trouble {
        reason: Reason::Crash,
        message: "exit code 1, started 3 times".to_owned(),
        object: ObjectRef::new("Pod", Some("kdev"), "p"),
    };
    let how = "`kubectl -n kdev logs p --previous` shows what it said, and `kubectl -n kdev describe pod p` how it ended";
    assert_eq!(
        crash.clone().with_log(&[]).to_string(),
        format!(
            "the program ends soon after it starts: exit code 1, started 3 times (Pod kdev/p). {how}"
        )
    );
    let log = [
        "one",
        "two",
        "",
        " three ",
        "Error: no config. Give one",
        "",
    ]
    .map(str::to_owned);
    assert_eq!(
        crash.with_log(&log).to_string(),
        format!(
            "the program ends soon after it starts: exit code 1, started 3 times; its last words: \
             two / three / Error: no config. Give one (Pod kdev/p). {how}"
        )
    );
}
