//! Which rights the user lacks, asked before something fails half way.
//!
//! The API server itself answers (`SelfSubjectAccessReview`, which every authenticated user may
//! create), so roles, groups and webhooks all count.

use std::fmt;

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::client::{ApiError, call};

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// Where a permission is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the traffic manager's namespace.
    Manager,
    /// In the namespace of the Service or workload concerned.
    Target,
    /// In the whole cluster.
    Cluster,
}

/// One verb on one resource, as a Role spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The verb: `get`, `create`, ...
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The resource in the plural.
    pub resource: &'static str,
    /// The subresource; empty for the resource itself.
    pub subresource: &'static str,
    /// Where it is needed.
    pub place: Place,
}

/// The namespaces that a permission's [`Place`] stands for.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces<'a> {
    /// The traffic manager's.
    pub manager: &'a str,
    /// That of the Service or workload concerned.
    pub target: &'a str,
}

/// A right that the user lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What isn't allowed.
    pub permission: Permission,
    /// The namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
    /// Why, in the authorizer's words; often empty.
    pub reason: String,
}

impl Missing {
    /// Returns what the verb may not be used on, and where.
    fn object(&self) -> String {
        let Permission {
            group,
            resource,
            subresource,
            ..
        } = self.permission;
        let mut text = resource.to_owned();
        for (separator, part) in [(".", group), ("/", subresource)] {
            if !part.is_empty() {
                text = text + separator + part;
            }
        }
        match &self.namespace {
            Some(namespace) => format!("{text} in namespace {namespace:?}"),
            None => format!("{text} in the whole cluster"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.permission.verb, self.object())
    }
}

/// Tells missing rights in one line, the verbs on the same resource together.
pub fn summarize(missing: &[Missing]) -> String {
    let same = |a: &Missing, b: &Missing| {
        let (p, q) = (&a.permission, &b.permission);
        (p.group, p.resource, p.subresource) == (q.group, q.resource, q.subresource)
            && a.namespace == b.namespace
    };
    let groups = missing.chunk_by(same).map(|group| {
        let verbs: Vec<_> = group
            .iter()
            .map(|missing| missing.permission.verb)
            .collect();
        format!("{} {}", verbs.join(", "), group[0].object())
    });
    groups.collect::<Vec<_>>().join("; ")
}

const RBAC: &str = "rbac.authorization.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";

const fn need(
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    place: Place,
) -> Permission {
    Permission {
        verb,
        group,
        resource,
        subresource,
        place,
    }
}

/// What connecting needs: finding the manager's pod, its key, and a way to it, and vouching for one's
/// own keys.
///
/// A WebSocket begins with a GET, hence `get` on `pods/portforward`; from Kubernetes 1.35 on the
/// API server asks for `create` as well.
pub const CONNECT: &[Permission] = &[
    need("get", "", "pods", "", Place::Manager),
    need("list", "", "pods", "", Place::Manager),
    need("get", "", "pods", "portforward", Place::Manager),
    need("create", "", "pods", "portforward", Place::Manager),
    need("get", "coordination.k8s.io", "leases", "", Place::Manager),
    need("create", COORDINATION, "leases", "", Place::Manager),
    need("patch", "coordination.k8s.io", "leases", "", Place::Manager),
    need("delete", COORDINATION, "leases", "", Place::Manager),
];

/// What an intercept needs: writing it on the Service.
pub const INTERCEPT: &[Permission] = &[
    need("get", "", "services", "", Place::Target),
    need("patch", "", "services", "", Place::Target),
];

/// What installing needs, apart from the rights that are granted to the manager: those the user
/// must hold as well, or be allowed to `escalate`, which the API server checks with the
/// ClusterRole.
pub const INSTALL: &[Permission] = &[
    need("get", "", "namespaces", "", Place::Cluster),
    need("create", "", "namespaces", "", Place::Cluster),
    need("patch", "", "namespaces", "", Place::Cluster),
    need("get", RBAC, "clusterroles", "", Place::Cluster),
    need("create", RBAC, "clusterroles", "", Place::Cluster),
    need("patch", RBAC, "clusterroles", "", Place::Cluster),
    need("get", RBAC, "clusterrolebindings", "", Place::Cluster),
    need("create", RBAC, "clusterrolebindings", "", Place::Cluster),
    need("patch", RBAC, "clusterrolebindings", "", Place::Cluster),
    need("get", "", "serviceaccounts", "", Place::Manager),
    need("create", "", "serviceaccounts", "", Place::Manager),
    need("patch", "", "serviceaccounts", "", Place::Manager),
    need("get", RBAC, "roles", "", Place::Manager),
    need("create", RBAC, "roles", "", Place::Manager),
    need("patch", RBAC, "roles", "", Place::Manager),
    need("get", RBAC, "rolebindings", "", Place::Manager),
    need("create", RBAC, "rolebindings", "", Place::Manager),
    need("patch", RBAC, "rolebindings", "", Place::Manager),
    need("get", "", "services", "", Place::Manager),
    need("create", "", "services", "", Place::Manager),
    need("patch", "", "services", "", Place::Manager),
    need("get", "apps", "deployments", "", Place::Manager),
    need("list", "apps", "deployments", "", Place::Manager),
    need("watch", "apps", "deployments", "", Place::Manager),
    need("create", "apps", "deployments", "", Place::Manager),
    need("patch", "apps", "deployments", "", Place::Manager),
    need("list", "apps", "replicasets", "", Place::Manager),
    need("watch", "apps", "replicasets", "", Place::Manager),
    need("list", "", "pods", "", Place::Manager),
    need("watch", "", "pods", "", Place::Manager),
];

/// What uninstalling needs, also to see that nobody else uses the namespace.
pub const UNINSTALL: &[Permission] = &[
    need("get", "apps", "deployments", "", Place::Manager),
    need("list", "apps", "deployments", "", Place::Manager),
    need("delete", "apps", "deployments", "", Place::Manager),
    need("list", "apps", "replicasets", "", Place::Manager),
    need("delete", "apps", "replicasets", "", Place::Manager),
    need("list", "", "pods", "", Place::Manager),
    need("watch", "", "pods", "", Place::Manager),
    need("list", "", "serviceaccounts", "", Place::Manager),
    need("delete", "", "serviceaccounts", "", Place::Manager),
    need("list", "", "configmaps", "", Place::Manager),
    need("delete", "", "configmaps", "", Place::Manager),
    need("list", RBAC, "roles", "", Place::Manager),
    need("delete", RBAC, "roles", "", Place::Manager),
    need("list", RBAC, "rolebindings", "", Place::Manager),
    need("delete", RBAC, "rolebindings", "", Place::Manager),
    need("list", "coordination.k8s.io", "leases", "", Place::Manager),
    need("delete", COORDINATION, "leases", "", Place::Manager),
    need("list", "", "services", "", Place::Manager),
    need("delete", "", "services", "", Place::Manager),
    need("list", "", "persistentvolumeclaims", "", Place::Manager),
    need("list", "apps", "statefulsets", "", Place::Manager),
    need("list", RBAC, "clusterroles", "", Place::Cluster),
    need("delete", RBAC, "clusterroles", "", Place::Cluster),
    need("list", RBAC, "clusterrolebindings", "", Place::Cluster),
    need("delete", RBAC, "clusterrolebindings", "", Place::Cluster),
    need("get", "", "namespaces", "", Place::Cluster),
    need("list", "", "namespaces", "", Place::Cluster),
    need("watch", "", "namespaces", "", Place::Cluster),
    need("delete", "", "namespaces", "", Place::Cluster),
];

/// Asks the API server which of `permissions` the user lacks, in their order.
pub async fn missing(
    client: &Client,
    permissions: &[Permission],
    namespaces: Namespaces<'_>,
) -> Result<Vec<Missing>, ApiError> {
    let mut questions = Vec::with_capacity(permissions.len());
    for permission in permissions {
        let namespace = match permission.place {
            Place::Manager => Some(namespaces.manager.to_owned()),
            Place::Target => Some(namespaces.target.to_owned()),
            Place::Cluster => None,
        };
        questions.push(ask(client.clone(), *permission, namespace));
    }
    let answers: Vec<_> = stream::iter(questions)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn ask(
    client: Client,
    permission: Permission,
    namespace: Option<String>,
) -> Result<Option<Missing>, ApiError> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: some(permission.verb),
                group: some(permission.group),
                resource: some(permission.resource),
                subresource: some(permission.subresource),
                namespace: namespace.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    let params = PostParams::default();
    let answer = call(
        "ask which rights you have",
        reviews.create(&params, &review),
    );
    let status = answer.await?.status.unwrap_or_default();
    Ok((!status.allowed).then(|| Missing {
        permission,
        namespace,
        reason: status.reason.unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_reads_as_kubectl_would_ask_for_it() {
        let table = [
            (
                CONNECT[3],
                Some("kdev"),
                r#"create pods/portforward in namespace "kdev""#,
            ),
            (
                INTERCEPT[1],
                Some("shop"),
                r#"patch services in namespace "shop""#,
            ),
            (
                INSTALL[4],
                None,
                "create clusterroles.rbac.authorization.k8s.io in the whole cluster",
            ),
        ];
        for (permission, namespace, text) in table {
            let missing = Missing {
                permission,
                namespace: namespace.map(str::to_owned),
                reason: String::new(),
            };
            assert_eq!(missing.to_string(), text);
        }
    }

    #[test]
    fn missing_verbs_on_one_resource_are_told_together() {
        let namespace = Some("kdev".to_owned());
        let missing: Vec<_> = [CONNECT[0], CONNECT[1], CONNECT[3]]
            .map(|permission| Missing {
                permission,
                namespace: namespace.clone(),
                reason: String::new(),
            })
            .into();
        assert_eq!(
            summarize(&missing),
            r#"get, list pods in namespace "kdev"; create pods/portforward in namespace "kdev""#
        );
    }

    #[test]
    fn no_permission_is_listed_twice() {
        for list in [CONNECT, INTERCEPT, INSTALL, UNINSTALL] {
            for (at, permission) in list.iter().enumerate() {
                assert!(!list[..at].contains(permission), "{permission:?}");
            }
        }
    }
}
