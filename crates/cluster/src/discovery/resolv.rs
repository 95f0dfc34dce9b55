//! The cluster's DNS, as the manager's own pod is told of it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The domain of a cluster that names none.
const DEFAULT_DOMAIN: &str = "cluster.local";

/// The cluster's domain and its DNS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDns {
    /// The domain below which Services have their names, without a dot at its end.
    pub domain: String,
    /// The server's address; `None` if none is named.
    pub server: Option<IpAddr>,
}

/// The file can't be read.
#[derive(Debug, Error)]
#[error("can't read {}: {source}. It must be the one that the kubelet gives the pod", path.display())]
pub struct ReadResolvConfError {
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Reads a `resolv.conf` as the kubelet writes it for a pod with the DNS policy `ClusterFirst`.
pub async fn read_resolv_conf(path: &Path) -> Result<ClusterDns, ReadResolvConfError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| ReadResolvConfError {
            path: path.to_owned(),
            source,
        })?;
    Ok(ClusterDns::parse(&text))
}

impl ClusterDns {
    /// Reads the text of a `resolv.conf`: the search list holds `svc.<domain>`, and the first name
    /// server is the cluster's (resolv.conf(5)).
    pub fn parse(text: &str) -> Self {
        let mut search = Vec::new();
        let mut server = None;
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                // The last list counts.
                Some("search") => search = words.collect(),
                Some("nameserver") if server.is_none() => {
                    server = words.next().and_then(|word| word.parse().ok());
                }
                _ => {}
            }
        }
        let domain = |name: &str| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let domain = match name.strip_prefix("svc.") {
                Some(domain) => domain,
                None => name.split_once(".svc.")?.1,
            };
            (!domain.is_empty()).then(|| domain.to_owned())
        };
        let domain = search.into_iter().find_map(domain);
        Self {
            domain: domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned()),
            server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_and_server_are_read_as_the_kubelet_writes_them() {
        let table = [
            (
                "search kdev.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
                "cluster.local",
                Some("10.96.0.10"),
            ),
            (
                "nameserver fd00::a\nnameserver 10.0.0.2\nsearch a.svc.corp.example. svc.corp.example. corp.example.",
                "corp.example",
                Some("fd00::a"),
            ),
            (
                "search old.example\nsearch svc.Prod.K8S\n",
                "prod.k8s",
                None,
            ),
            ("# search svc.no\nsearch x.svc.yes ; svc.no\n", "yes", None),
            (
                "search corp.example\nnameserver nonsense",
                "cluster.local",
                None,
            ),
            ("search svc.", "cluster.local", None),
            ("", "cluster.local", None),
        ];
        for (text, domain, server) in table {
            let dns = ClusterDns::parse(text);
            assert_eq!(dns.domain, domain, "{text:?}");
            assert_eq!(dns.server, server.map(|ip| ip.parse().unwrap()), "{text:?}");
        }
    }
}
