//! Reading the API server's refusal, so that the person learns which right is missing.

use std::fmt;

/// One request that the cluster's authorizer refused.
///
/// The API server has no structured form for this: the facts are read from the message that
/// `k8s.io/apiserver/pkg/endpoints/handlers/responsewriters.forbiddenMessage` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The user as the API server authenticated them.
    pub user: String,
    /// The verb, as a Role spells it: `get`, `list`, `create`, ...
    pub verb: String,
    /// The resource with its subresource (`pods/portforward`), or the path of a request that
    /// concerns no resource (`/version`).
    pub resource: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The namespace; `None` at the cluster's scope.
    pub namespace: Option<String>,
}

impl Forbidden {
    /// Reads a refusal out of a `Status` message; `None` if it is of another kind (a quota, a
    /// policy, an admission webhook).
    pub fn parse(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once("forbidden: User ")?;
        let (user, rest) = quoted(rest)?;
        let rest = rest.strip_prefix(" cannot ")?;
        let (verb, rest) = rest.split_once(' ')?;
        if let Some(path) = rest.strip_prefix("path ") {
            let (path, _) = quoted(path)?;
            return Some(Self {
                user,
                verb: verb.to_owned(),
                resource: path,
                group: String::new(),
                namespace: None,
            });
        }
        let (resource, rest) = quoted(rest.strip_prefix("resource ")?)?;
        let (group, rest) = quoted(rest.strip_prefix(" in API group ")?)?;
        let namespace = match rest.strip_prefix(" in the namespace ") {
            Some(rest) => Some(quoted(rest)?.0),
            None => None,
        };
        Some(Self {
            user,
            verb: verb.to_owned(),
            resource,
            group,
            namespace,
        })
    }

    /// Returns whether the API server saw no credentials at all.
    pub fn is_anonymous(&self) -> bool {
        self.user == "system:anonymous"
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "user {:?} may not {} {}",
            self.user, self.verb, self.resource
        )?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace:?}"),
            None if self.resource.starts_with('/') => Ok(()),
            None => write!(f, " in the whole cluster"),
        }
    }
}

/// Splits a leading Go `%q` string off `text`.
fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &body[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(
        user: &str,
        verb: &str,
        resource: &str,
        group: &str,
        ns: Option<&str>,
    ) -> Option<Forbidden> {
        Some(Forbidden {
            user: user.into(),
            verb: verb.into(),
            resource: resource.into(),
            group: group.into(),
            namespace: ns.map(Into::into),
        })
    }

    #[test]
    fn a_refusal_names_user_verb_resource_group_and_namespace() {
        let table = [
            (
                r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "kdev""#,
                forbidden("bob", "list", "pods", "", Some("kdev")),
            ),
            (
                r#"pods "manager-1" is forbidden: User "bob" cannot create resource "pods/portforward" in API group "" in the namespace "kdev""#,
                forbidden("bob", "create", "pods/portforward", "", Some("kdev")),
            ),
            (
                r#"deployments.apps "x" is forbidden: User "oidc:a b@c.d" cannot patch resource "deployments" in API group "apps" in the namespace "n": RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found"#,
                forbidden("oidc:a b@c.d", "patch", "deployments", "apps", Some("n")),
            ),
            (
                r#"nodes is forbidden: User "system:serviceaccount:kdev:m" cannot watch resource "nodes" in API group "" at the cluster scope"#,
                forbidden("system:serviceaccount:kdev:m", "watch", "nodes", "", None),
            ),
            (
                r#"forbidden: User "system:anonymous" cannot get path "/version""#,
                forbidden("system:anonymous", "get", "/version", "", None),
            ),
            (
                r#"pods is forbidden: User "CORP\\bob \"the\" dev" cannot list resource "pods" in API group "" in the namespace "x""#,
                forbidden(r#"CORP\bob "the" dev"#, "list", "pods", "", Some("x")),
            ),
            (
                r#"pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"#,
                None,
            ),
            (
                r#"pods "a" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true"#,
                None,
            ),
            (r#"pods is forbidden: User "bob cannot list"#, None),
            ("", None),
        ];
        for (message, wanted) in table {
            assert_eq!(Forbidden::parse(message), wanted, "{message}");
        }
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let core = forbidden("bob", "create", "pods/portforward", "", Some("kdev")).unwrap();
        assert_eq!(
            core.to_string(),
            r#"user "bob" may not create pods/portforward in namespace "kdev""#
        );
        let cluster = forbidden("bob", "patch", "deployments", "apps", None).unwrap();
        assert_eq!(
            cluster.to_string(),
            r#"user "bob" may not patch deployments.apps in the whole cluster"#
        );
        let path = forbidden("bob", "get", "/version", "", None).unwrap();
        assert_eq!(path.to_string(), r#"user "bob" may not get /version"#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            let _ = Forbidden::parse(&text);
            let _ = Forbidden::parse(&format!("x is forbidden: User {text}"));
        }
    }
}
