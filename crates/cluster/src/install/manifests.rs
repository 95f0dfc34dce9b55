//! The objects that make up an installation.
//!
//! They are written as the manifests they are: what the cluster gets can be read here.

use serde_json::{Value, json};

use super::names::{
    DIRECT_PORT, FIELD_MANAGER, HEALTH_PORT, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME,
    LABEL_VERSION, MANAGER, cluster_role_name, version_label,
};
use super::options::SESSION_GRACE_SECONDS;
use super::{Direct, InstallOptions};

/// What the manager may do: (API group, resources, verbs). No Secrets, no roles, no `escalate`.
const RULES: &[(&str, &[&str], &[&str])] = &[
    // What it deletes are the Services that sessions made for previews, and left.
    (
        "",
        &["services"],
        &["get", "list", "watch", "patch", "delete"],
    ),
    // What it patches are the workloads that sessions scaled to zero, and left so.
    (
        "apps",
        &["deployments", "statefulsets", "replicasets"],
        &["get", "list", "patch"],
    ),
    (
        "discovery.k8s.io",
        &["endpointslices"],
        &[
            "get", "list", "watch", "create", "update", "patch", "delete",
        ],
    ),
    ("", &["endpoints"], &["get", "patch"]),
    (
        "",
        &["pods", "nodes", "namespaces"],
        &["get", "list", "watch"],
    ),
    (
        "networking.k8s.io",
        &["servicecidrs"],
        &["get", "list", "watch"],
    ),
];

/// What it may do in its own namespace: see who is vouched for, vouch for itself, and remove what
/// sessions left.
const OWN_RULES: &[(&str, &[&str], &[&str])] = &[(
    "coordination.k8s.io",
    &["leases"],
    &["get", "list", "watch", "create", "patch", "delete"],
)];

fn labels(options: &InstallOptions) -> Value {
    json!({
        LABEL_NAME: MANAGER,
        LABEL_INSTANCE: options.namespace,
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_VERSION: version_label(&options.version),
    })
}

/// The manager's rights, in the whole cluster: Services and pods of any namespace may be asked for.
pub(super) fn cluster_role(options: &InstallOptions) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": cluster_role_name(&options.namespace), "labels": labels(options) },
        "rules": rules(RULES),
    })
}

fn rules(rules: &[(&str, &[&str], &[&str])]) -> Vec<Value> {
    rules
        .iter()
        .map(|(group, resources, verbs)| {
            json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
        })
        .collect()
}

fn metadata(options: &InstallOptions) -> Value {
    json!({ "name": MANAGER, "namespace": options.namespace, "labels": labels(options) })
}

/// The manager's rights in its own namespace.
pub(super) fn role(options: &InstallOptions) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(options),
        "rules": rules(OWN_RULES),
    })
}

/// Gives the manager its rights in its own namespace.
pub(super) fn role_binding(options: &InstallOptions) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(options),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": MANAGER },
        "subjects": [
            { "kind": "ServiceAccount", "name": MANAGER, "namespace": options.namespace },
        ],
    })
}

/// Where machines reach the manager without the API server between them.
pub(super) fn service(options: &InstallOptions) -> Value {
    let kind = match options.direct {
        Direct::None => "ClusterIP",
        // Nothing was installed, or nothing that kdev makes.
        Direct::NodePort | Direct::AsInstalled => "NodePort",
        Direct::LoadBalancer => "LoadBalancer",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(options),
        "spec": {
            "type": kind,
            // Where the cluster has both, machines may have either.
            "ipFamilyPolicy": "PreferDualStack",
            "selector": { LABEL_NAME: MANAGER, LABEL_INSTANCE: options.namespace },
            "ports": [{
                "name": "direct",
                "port": DIRECT_PORT,
                "targetPort": "direct",
                "protocol": "TCP",
            }],
        },
    })
}

/// Gives the manager its rights.
pub(super) fn cluster_role_binding(options: &InstallOptions) -> Value {
    let name = cluster_role_name(&options.namespace);
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name, "labels": labels(options) },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [
            { "kind": "ServiceAccount", "name": MANAGER, "namespace": options.namespace },
        ],
    })
}

/// The manager's namespace, which lets no less restricted pod in.
pub(super) fn namespace(options: &InstallOptions) -> Value {
    let mut labels = labels(options);
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": options.namespace, "labels": labels },
    })
}

/// The manager's identity; its token is mounted only where a pod asks for it.
pub(super) fn service_account(options: &InstallOptions) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(options),
        "automountServiceAccountToken": false,
    })
}

/// The manager itself.
pub(super) fn deployment(options: &InstallOptions) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(options),
        "spec": {
            "replicas": 1,
            "selector": {
                "matchLabels": { LABEL_NAME: MANAGER, LABEL_INSTANCE: options.namespace },
            },
            // The old pod stays until the new one is ready: carriers move over, none is cut off.
            // Two managers at once would undo each other's routes.
            "strategy": { "type": "Recreate" },
            "template": {
                "metadata": { "labels": labels(options) },
                "spec": pod(options),
            },
        },
    })
}

fn pod(options: &InstallOptions) -> Value {
    let mut pod = json!({
        "serviceAccountName": MANAGER,
        "automountServiceAccountToken": true,
        "securityContext": {
            "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
            // Among the sysctls that Pod Security calls safe: who may ping without a privilege.
            "sysctls": [{ "name": "net.ipv4.ping_group_range", "value": "0 2147483647" }],
        },
        "containers": [container(options)],
    });
    if let Some(user) = options.run_as_user {
        pod["securityContext"]["runAsUser"] = json!(user);
        pod["securityContext"]["runAsGroup"] = json!(user);
    }
    if !options.image_pull_secrets.is_empty() {
        let secrets: Vec<_> = options
            .image_pull_secrets
            .iter()
            .map(|name| json!({ "name": name }))
            .collect();
        pod["imagePullSecrets"] = json!(secrets);
    }
    pod
}

fn container(options: &InstallOptions) -> Value {
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": "health" },
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let mut env = vec![
        field("KDEV_NAMESPACE", "metadata.namespace"),
        field("KDEV_POD_NAME", "metadata.name"),
        field("KDEV_POD_UID", "metadata.uid"),
        // One per address family.
        field("KDEV_POD_IPS", "status.podIPs"),
        field("KDEV_NODE_NAME", "spec.nodeName"),
    ];
    if let Some(log) = &options.log {
        env.push(json!({ "name": "KDEV_LOG", "value": log }));
    }
    if let Some(seconds) = options.session_grace_seconds {
        env.push(json!({ "name": SESSION_GRACE_SECONDS, "value": seconds.to_string() }));
    }
    for (name, value) in options.router.variables() {
        env.push(json!({ "name": name, "value": value.to_string() }));
    }
    let mut container = json!({
        "name": MANAGER,
        "image": options.image,
        "env": env,
        "ports": [
            { "name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP" },
            { "name": "direct", "containerPort": DIRECT_PORT, "protocol": "TCP" },
        ],
        "readinessProbe": probe("/readyz", 1, 3),
        "livenessProbe": probe("/livez", 10, 3),
        "resources": {
            "requests": { "cpu": "20m", "memory": "32Mi" },
            "limits": { "memory": "1Gi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
    });
    if let Some(policy) = options.image_pull_policy {
        container["imagePullPolicy"] = json!(policy.as_str());
    }
    container
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
