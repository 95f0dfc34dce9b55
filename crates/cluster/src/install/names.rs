//! The names, labels and ports by which the traffic manager is found.

use std::fmt;

/// The name of the manager's Deployment, ServiceAccount and container.
pub const MANAGER: &str = "kdev-traffic-manager";

/// The namespace that is used when none is named.
pub const DEFAULT_NAMESPACE: &str = "kdev";

/// Who owns the fields that are applied, and the value of the `managed-by` label.
pub const FIELD_MANAGER: &str = "kdev";

/// The port where the manager takes carriers on its pod's loopback, at the end of port-forwards.
pub const GRPC_PORT: u16 = 8080;

/// The port where the manager takes carriers on its pod's addresses. Who reaches it without a key that
/// the API server vouches for gets nothing.
pub const DIRECT_PORT: u16 = 7443;

/// The port where the manager answers `/readyz` and `/livez`.
pub const HEALTH_PORT: u16 = 8081;

/// The label with the program's name.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";

/// The label with the manager's namespace, which tells several managers in one cluster apart.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";

/// The label with the manager's version.
pub const LABEL_VERSION: &str = "app.kubernetes.io/version";

/// The label with the tool that made the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Returns the selector of the manager's pods, whoever installed them.
pub fn pod_selector() -> String {
    format!("{LABEL_NAME}={MANAGER}")
}

/// Returns the selector of the objects that kdev installed for the manager in `namespace`.
pub fn own_selector(namespace: &str) -> String {
    format!(
        "{LABEL_NAME}={MANAGER},{LABEL_MANAGED_BY}={FIELD_MANAGER},{LABEL_INSTANCE}={namespace}"
    )
}

/// Returns the name of the manager's ClusterRole and ClusterRoleBinding.
pub fn cluster_role_name(namespace: &str) -> String {
    format!("{MANAGER}-{namespace}")
}

/// Makes a label's value of a version: at most 63 characters of `[A-Za-z0-9._-]`, with an
/// alphanumeric one at both ends (`+build` isn't allowed in a label).
pub fn version_label(version: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let value: String = version
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(63)
        .collect();
    value
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// An object in the cluster, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind: `Deployment`, `Pod`, ...
    pub kind: String,
    /// The namespace; `None` for an object of the cluster.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object.
    pub fn new(kind: impl Into<String>, namespace: Option<&str>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            namespace: namespace.map(str::to_owned),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_becomes_a_label_that_the_api_server_takes() {
        let table = [
            ("0.1.0", "0.1.0"),
            ("0.1.0-rc.1+g1234", "0.1.0-rc.1_g1234"),
            ("v1 beta", "v1_beta"),
            ("+x+", "x"),
            ("", ""),
        ];
        for (version, label) in table {
            assert_eq!(version_label(version), label);
        }
        assert_eq!(version_label(&"1".repeat(100)).len(), 63);
    }
}
