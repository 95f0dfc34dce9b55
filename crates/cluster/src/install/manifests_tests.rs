use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, PodSpec, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::PullPolicy;
use super::*;

fn options() -> InstallOptions {
    let mut options = InstallOptions::new("registry.example/manager:1", "0.1.0+local");
    options.image_pull_policy = Some(PullPolicy::Never);
    options.image_pull_secrets = vec!["registry".to_owned()];
    options.log = Some("debug".to_owned());
    options
}

fn pod_spec(options: &InstallOptions) -> PodSpec {
    let deployment: Deployment = serde_json::from_value(deployment(options)).unwrap();
    deployment.spec.unwrap().template.spec.unwrap()
}

/// A field that the type doesn't know vanishes on the way through it.
fn assert_known<K: Serialize + DeserializeOwned>(manifest: Value) {
    let typed: K = serde_json::from_value(manifest.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), manifest);
}

#[test]
fn every_field_of_every_manifest_is_one_that_kubernetes_knows() {
    let options = options();
    assert_known::<ClusterRole>(cluster_role(&options));
    assert_known::<ClusterRoleBinding>(cluster_role_binding(&options));
    assert_known::<Namespace>(namespace(&options));
    assert_known::<ServiceAccount>(service_account(&options));
    assert_known::<Role>(role(&options));
    assert_known::<RoleBinding>(role_binding(&options));
    assert_known::<Service>(service(&options));
    assert_known::<Deployment>(deployment(&options));
}

#[test]
fn the_pod_meets_pod_security_restricted() {
    let pod = pod_spec(&options());
    let context = pod.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    let container = pod
        .containers
        .into_iter()
        .next()
        .unwrap()
        .security_context
        .unwrap();
    assert_eq!(container.allow_privilege_escalation, Some(false));
    assert_eq!(container.read_only_root_filesystem, Some(true));
    let capabilities = container.capabilities.unwrap();
    assert_eq!(
        (capabilities.add, capabilities.drop),
        (None, Some(vec!["ALL".to_owned()]))
    );
    assert!(pod.volumes.is_none() && pod.host_network.is_none());
}

#[test]
fn a_token_is_mounted_only_in_the_managers_pod() {
    let account: ServiceAccount = serde_json::from_value(service_account(&options())).unwrap();
    assert_eq!(account.automount_service_account_token, Some(false));
    assert_eq!(
        pod_spec(&options()).automount_service_account_token,
        Some(true)
    );
}

#[test]
fn the_manager_may_read_no_secret_and_give_no_right() {
    let role: ClusterRole = serde_json::from_value(cluster_role(&options())).unwrap();
    for rule in role.rules.unwrap() {
        let resources = rule.resources.unwrap();
        let groups = rule.api_groups.unwrap();
        assert!(
            !resources.iter().any(|r| r == "secrets" || r == "*"),
            "{resources:?}"
        );
        assert!(
            !groups.iter().any(|g| g == "*" || g.starts_with("rbac")),
            "{groups:?}"
        );
        let too_much = ["*", "escalate", "bind", "impersonate"];
        assert!(
            !rule
                .verbs
                .iter()
                .any(|verb| too_much.contains(&verb.as_str()))
        );
    }
}

#[test]
fn two_managers_in_one_cluster_share_no_object_of_the_cluster() {
    let one = options();
    let two = InstallOptions {
        namespace: "team-b".to_owned(),
        ..options()
    };
    for manifest in [cluster_role, cluster_role_binding] {
        assert_ne!(
            manifest(&one)["metadata"]["name"],
            manifest(&two)["metadata"]["name"]
        );
    }
}

#[test]
fn an_upgrade_leaves_the_selector_as_it_is() {
    let old = deployment(&InstallOptions {
        version: "0.1.0".to_owned(),
        ..options()
    });
    let new = deployment(&InstallOptions {
        version: "0.2.0".to_owned(),
        ..options()
    });
    assert_eq!(old["spec"]["selector"], new["spec"]["selector"]);
    assert_ne!(old["spec"]["template"], new["spec"]["template"]);
}

#[test]
fn what_is_not_asked_for_is_left_to_the_cluster() {
    let mut options = InstallOptions::new("manager:1", "0.1.0");
    options.run_as_user = None;
    let pod = pod_spec(&options);
    assert_eq!(pod.security_context.unwrap().run_as_user, None);
    assert_eq!(pod.image_pull_secrets, None);
    assert_eq!(pod.containers[0].image_pull_policy, None);
}
