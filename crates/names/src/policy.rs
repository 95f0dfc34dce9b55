//! Which name goes to which resolver: a pure function of the name and of what the cluster is.

use std::collections::BTreeSet;

use hickory_proto::ProtoError;
use hickory_proto::rr::Name;
use ipnet::IpNet;

/// What decides where a name goes, as the session pushed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    domain: Name,
    /// `svc.<domain>`, below which the services of all namespaces are.
    services: Name,
    namespace: String,
    namespaces: BTreeSet<String>,
    prefixes: Vec<IpNet>,
    outside: BTreeSet<Name>,
}

/// Why a policy was refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The cluster's domain isn't a DNS name.
    #[error("the cluster's domain {domain:?} isn't a DNS name")]
    Domain {
        /// What was given.
        domain: String,
        /// What is wrong with it.
        source: ProtoError,
    },
    /// The cluster's domain is empty or the root: every name would be the cluster's.
    #[error("the cluster's domain is empty, so that every name would be the cluster's")]
    EverythingIsCluster,
}

/// Where a name goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the cluster only, asked by this name.
    Cluster(Name),
    /// To the machine's own name servers, and to the cluster by this name when they don't know it.
    OutsideFirst(Name),
    /// To the machine's own name servers, and only once these don't know it to the cluster, by this name:
    /// it is hardly ever the cluster's, and nothing that exists outside is told there.
    OutsideThenCluster(Name),
    /// To the machine's own name servers only.
    Outside,
    /// Answered with the loopback addresses, RFC 6761 section 6.3.
    Localhost,
    /// The cluster's, but too long to be asked: there is no such name.
    Nonexistent,
}

impl Policy {
    /// Makes a policy: the cluster's DNS domain (`cluster.local` as a rule), the namespace that short
    /// names mean (none when empty), the namespaces that there are, and the prefixes of the
    /// cluster's addresses, whose reverse names are the cluster's.
    ///
    /// # Errors
    ///
    /// When the domain isn't a name, or is the root.
    pub fn new(
        domain: &str,
        namespace: &str,
        namespaces: impl IntoIterator<Item = impl AsRef<str>>,
        prefixes: impl IntoIterator<Item = IpNet>,
    ) -> Result<Self, PolicyError> {
        let refused = |source| PolicyError::Domain {
            domain: domain.to_owned(),
            source,
        };
        let mut zone = Name::from_ascii(domain).map_err(refused)?;
        if zone.iter().len() == 0 {
            return Err(PolicyError::EverythingIsCluster);
        }
        zone.set_fqdn(true);
        let services = zone.prepend_label("svc").map_err(refused)?;
        Ok(Self {
            domain: zone,
            services,
            namespace: namespace.to_ascii_lowercase(),
            namespaces: namespaces
                .into_iter()
                .map(|name| name.as_ref().to_ascii_lowercase())
                .collect(),
            prefixes: prefixes.into_iter().collect(),
            outside: BTreeSet::new(),
        })
    }

    /// The same policy with names that are the machine's own even below the cluster's domain, as that
    /// of the API server may be: asked of the cluster, it would cut the way to the cluster. What isn't
    /// a name is passed over, as addresses are.
    #[must_use]
    pub fn with_outside(self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let read = |name: &str| {
            let mut name = Name::from_ascii(name).ok()?;
            name.set_fqdn(true);
            Some(name.to_lowercase())
        };
        let outside = names
            .into_iter()
            .filter_map(|name| read(name.as_ref()))
            .collect();
        Self { outside, ..self }
    }

    fn has_namespace(&self, label: &[u8]) -> bool {
        std::str::from_utf8(label)
            .is_ok_and(|label| self.namespaces.contains(&label.to_ascii_lowercase()))
    }

    fn has_reverse(&self, name: &Name) -> bool {
        // A reverse zone, such as 96.10.in-addr.arpa, parses as the prefix that it stands for.
        name.parse_arpa_name()
            .is_ok_and(|net| self.prefixes.iter().any(|prefix| prefix.contains(&net)))
    }

    /// `web` as `web.<namespace>.svc.<domain>`, and `db-0.db` likewise.
    fn short(&self, name: &Name) -> Option<Name> {
        if self.namespace.is_empty() {
            return None;
        }
        name.clone()
            .append_label(self.namespace.as_bytes())
            .ok()
            .and_then(|name| below(name, &self.services))
    }
}

/// Decides where a fully qualified name goes.
///
/// | name | route |
/// |---|---|
/// | what [`Policy::with_outside`] names | outside |
/// | the cluster's domain and all below | cluster, as it is |
/// | `….svc` | cluster, with the domain |
/// | one label | outside, else cluster as a service of the session's namespace |
/// | `….<known namespace>` | outside, else cluster as a service of that namespace |
/// | two labels | outside, then cluster as a member of a headless service of the session's namespace |
/// | reverse name of an address of the cluster | cluster |
/// | `localhost` and all below | answered here |
/// | everything else, `….local` (mDNS, RFC 6762) included | outside |
///
/// A pod's resolver tries the session's namespace for names of more labels, too. Here they aren't, since
/// hardly any of them is the cluster's, and every one that is mistyped would be told to it.
///
/// ```
/// use kdev_names::{Name, Policy, Route, classify};
///
/// let policy = Policy::new("cluster.local", "dev", ["dev", "shop"], [])?;
/// let name = |name| Name::from_ascii(name);
/// assert_eq!(
///     classify(&policy, &name("web.shop.")?),
///     Route::OutsideFirst(name("web.shop.svc.cluster.local.")?)
/// );
/// assert_eq!(
///     classify(&policy, &name("db-0.db.")?),
///     Route::OutsideThenCluster(name("db-0.db.dev.svc.cluster.local.")?)
/// );
/// assert_eq!(classify(&policy, &name("web.corp.test.")?), Route::Outside);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn classify(policy: &Policy, name: &Name) -> Route {
    let mut labels = name.iter();
    let Some(last) = labels.next_back() else {
        return Route::Outside;
    };
    let before = labels.count();
    let is = |word: &str| last.eq_ignore_ascii_case(word.as_bytes());

    if is("localhost") {
        return Route::Localhost;
    }
    if policy.outside.contains(&name.to_lowercase()) {
        return Route::Outside;
    }
    if policy.domain.zone_of(name) {
        return Route::Cluster(name.clone());
    }
    if is("local") {
        return Route::Outside;
    }
    if is("arpa") {
        return if policy.has_reverse(name) {
            Route::Cluster(name.clone())
        } else {
            Route::Outside
        };
    }
    if before == 0 {
        return policy
            .short(name)
            .map_or(Route::Outside, Route::OutsideFirst);
    }
    if is("svc") {
        return below(name.clone(), &policy.domain).map_or(Route::Nonexistent, Route::Cluster);
    }
    if policy.has_namespace(last) {
        return below(name.clone(), &policy.services).map_or(Route::Outside, Route::OutsideFirst);
    }
    if before == 1 {
        return policy
            .short(name)
            .map_or(Route::Outside, Route::OutsideThenCluster);
    }
    Route::Outside
}

/// `name.zone`, unless that is longer than names may be (255 octets, RFC 1035 section 2.3.4).
fn below(name: Name, zone: &Name) -> Option<Name> {
    let name = name.append_domain(zone).ok()?;
    (wire_length(&name) <= 255).then_some(name)
}

fn wire_length(name: &Name) -> usize {
    name.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
