use super::super::manifests;
use super::super::options::RouterLimits;
use super::*;

fn plain(release: &str) -> InstallOptions {
    InstallOptions::new("", release)
}

/// What a plain installation becomes after one with these options.
fn after(before: &InstallOptions, given: &InstallOptions) -> InstallOptions {
    let deployment = serde_json::from_value(manifests::deployment(before)).unwrap();
    let service = serde_json::from_value(manifests::service(before)).unwrap();
    completed(given, Some(&deployment), Some(&service))
}

#[test]
fn a_first_installation_has_the_defaults() {
    let options = completed(&plain("0.1.0"), None, None);
    assert_eq!(options.image, "docker.io/kdev/traffic-manager:0.1.0");
    let expected = InstallOptions::new("docker.io/kdev/traffic-manager:0.1.0", "0.1.0");
    assert_eq!(options, expected);
    assert_eq!(manifests::service(&options)["spec"]["type"], "NodePort");
}

#[test]
fn what_was_chosen_before_stays_when_nothing_is_said() {
    for direct in [Direct::None, Direct::NodePort, Direct::LoadBalancer] {
        let mut before = InstallOptions::new("registry.example:5000/manager:dev", "0.1.0");
        before.direct = direct;
        before.image_pull_policy = Some(PullPolicy::Never);
        before.session_grace_seconds = Some(60);
        before.router = RouterLimits {
            head_bytes: Some(2048),
            headers: Some(32),
            first_byte_ms: Some(20),
            head_ms: Some(200),
            connections: Some(7),
        };
        assert_eq!(after(&before, &plain("0.1.0")), before);
    }
}

#[test]
fn what_is_said_counts_and_changes_nothing_else() {
    let mut before = InstallOptions::new("manager:1", "0.1.0");
    before.direct = Direct::None;
    before.session_grace_seconds = Some(60);
    before.router.headers = Some(32);

    let mut given = InstallOptions::new("manager:2", "0.1.0");
    given.direct = Direct::LoadBalancer;
    given.router.head_ms = Some(200);
    given.image_pull_policy = Some(PullPolicy::Always);

    let options = after(&before, &given);
    assert_eq!(options.image, "manager:2");
    assert_eq!(options.direct, Direct::LoadBalancer);
    assert_eq!(options.image_pull_policy, Some(PullPolicy::Always));
    assert_eq!(options.session_grace_seconds, Some(60));
    assert_eq!(options.router.headers, Some(32));
    assert_eq!(options.router.head_ms, Some(200));
}

#[test]
fn a_new_release_comes_from_where_the_old_one_did() {
    let table = [
        // The same release: whatever was chosen.
        ("manager:dev", "0.1.0", "manager:dev"),
        ("manager@sha256:12", "0.1.0", "manager@sha256:12"),
        // Another one, from the same repository.
        (
            "docker.io/kdev/traffic-manager:0.1.0",
            "0.2.0",
            "docker.io/kdev/traffic-manager:0.2.0",
        ),
        (
            "registry.example:5000/manager:0.1.0",
            "0.2.0",
            "registry.example:5000/manager:0.2.0",
        ),
        // Another one, after an image that doesn't say its release.
        (
            "manager:dev",
            "0.2.0",
            "docker.io/kdev/traffic-manager:0.2.0",
        ),
        (
            "registry.example:5000/manager",
            "0.2.0",
            "docker.io/kdev/traffic-manager:0.2.0",
        ),
    ];
    for (installed, release, image) in table {
        let before = InstallOptions::new(installed, "0.1.0");
        let options = after(&before, &plain(release));
        assert_eq!(options.image, image, "{installed}, then {release}");
    }
}

#[test]
fn a_pull_policy_that_the_cluster_filled_in_is_left_to_it() {
    use PullPolicy::{Always, IfNotPresent, Never};
    let table = [
        ("manager:1", IfNotPresent, None),
        ("manager:1", Always, Some(Always)),
        ("manager:1", Never, Some(Never)),
        ("manager:latest", Always, None),
        ("manager", Always, None),
        ("registry.example:5000/manager", Always, None),
        (
            "registry.example:5000/manager",
            IfNotPresent,
            Some(IfNotPresent),
        ),
        ("registry.example:5000/manager:1", IfNotPresent, None),
        ("manager@sha256:12", IfNotPresent, None),
    ];
    for (image, installed, kept) in table {
        let mut before = InstallOptions::new(image, "0.1.0");
        before.image_pull_policy = Some(installed);
        let options = after(&before, &InstallOptions::new("manager:2", "0.1.0"));
        assert_eq!(options.image_pull_policy, kept, "{image} {installed:?}");
    }
}

#[test]
fn what_others_made_of_the_objects_is_no_reason_to_fail() {
    let mut service: Service =
        serde_json::from_value(manifests::service(&InstallOptions::new("m:1", "0.1.0"))).unwrap();
    service.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned());
    let options = completed(
        &plain("0.1.0"),
        Some(&Deployment::default()),
        Some(&service),
    );
    assert_eq!(options, completed(&plain("0.1.0"), None, None));
}
