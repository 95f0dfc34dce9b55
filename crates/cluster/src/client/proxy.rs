//! Which proxy leads to the API server.
//!
//! The rules are those of Go's `net/http`, which kubectl follows: `proxy-url` of the kubeconfig's
//! cluster first, else `HTTPS_PROXY` (or `HTTP_PROXY`) unless `NO_PROXY` names the server.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use super::kubeconfig::Environment;

/// The environment's say about proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProxyEnv {
    /// `HTTPS_PROXY`.
    pub(super) https: Option<String>,
    /// `HTTP_PROXY`.
    pub(super) http: Option<String>,
    /// `NO_PROXY`.
    pub(super) bypass: Option<String>,
}

impl ProxyEnv {
    /// Reads an environment.
    pub(super) fn read(environment: &Environment) -> Self {
        let read = |name: &str| {
            [name.to_owned(), name.to_lowercase()]
                .iter()
                .find_map(|name| environment.get(name).filter(|value| !value.is_empty()))
                .cloned()
        };
        Self {
            https: read("HTTPS_PROXY"),
            http: read("HTTP_PROXY"),
            bypass: read("NO_PROXY"),
        }
    }
}

/// Returns the URL of the proxy to use for `server`, if any.
pub(super) fn choose(server: &Uri, kubeconfig: Option<&str>, env: &ProxyEnv) -> Option<String> {
    if let Some(url) = kubeconfig.filter(|url| !url.is_empty()) {
        return Some(url.to_owned());
    }
    let url = if server.scheme_str() == Some("http") {
        &env.http
    } else {
        &env.https
    };
    let url = url.as_ref()?;
    let host = host_of(server)?;
    let port = port_of(server);
    if bypasses(host, port, env.bypass.as_deref().unwrap_or_default()) {
        return None;
    }
    // Go takes a proxy without a scheme for an HTTP proxy.
    Some(if url.contains("://") {
        url.clone()
    } else {
        format!("http://{url}")
    })
}

/// Returns a proxy's URL without the user and the password that it may hold, and without a path, which says nothing.
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    // A password may hold anything, also what ends the host elsewhere.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let end = host.find(['/', '?', '#']).unwrap_or(host.len());
    format!("{scheme}{}", &host[..end])
}

/// Returns a URL's host; an IPv6 address without its brackets.
pub(super) fn host_of(uri: &Uri) -> Option<&str> {
    Some(uri.host()?.trim_start_matches('[').trim_end_matches(']'))
}

/// Returns a URL's port, by its scheme if it names none.
pub(super) fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("http") => 80,
        Some("socks5" | "socks5h") => 1080,
        _ => 443,
    })
}

fn bypasses(host: &str, port: u16, list: &str) -> bool {
    let host = host.to_lowercase();
    let address = host.parse::<IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let entry = entry.to_lowercase();
            if entry == "*" {
                return true;
            }
            if let Ok(network) = entry.parse::<IpNet>() {
                return address.is_some_and(|address| network.contains(&address));
            }
            let (name, wanted_port) = split_port(&entry);
            if wanted_port.is_some_and(|wanted| wanted != port) {
                return false;
            }
            match (name.parse::<IpAddr>(), address) {
                (Ok(wanted), Some(address)) => wanted == address,
                (Ok(_), None) | (Err(_), Some(_)) => false,
                (Err(_), None) => is_in_domain(&host, name),
            }
        })
}

/// Splits `:port` off an entry, if it has one; an IPv6 address is no name with a port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) => (
                name.trim_start_matches('[').trim_end_matches(']'),
                Some(port),
            ),
            Err(_) => (entry, None),
        },
        None => (entry, None),
    }
}

/// `.example.org` and `*.example.org` mean the names below; `example.org` means itself as well.
fn is_in_domain(host: &str, domain: &str) -> bool {
    let domain = domain.strip_prefix('*').unwrap_or(domain);
    match domain.strip_prefix('.') {
        Some(parent) => host
            .strip_suffix(parent)
            .is_some_and(|child| child.ends_with('.')),
        None => {
            host == domain
                || host
                    .strip_suffix(domain)
                    .is_some_and(|child| child.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "http://proxy.corp:3128";

    fn env(bypass: &str) -> ProxyEnv {
        ProxyEnv {
            https: Some(PROXY.into()),
            http: None,
            bypass: (!bypass.is_empty()).then(|| bypass.into()),
        }
    }

    #[test]
    fn the_environments_proxy_is_used_unless_no_proxy_names_the_server() {
        let table = [
            ("https://api.corp.example:6443", "", true),
            ("https://api.corp.example:6443", "other.example", true),
            ("https://api.corp.example:6443", "corp.example", false),
            ("https://api.corp.example:6443", ".corp.example", false),
            ("https://api.corp.example:6443", "*.corp.example", false),
            ("https://corp.example", ".corp.example", true),
            ("https://xcorp.example", "corp.example", true),
            (
                "https://api.corp.example:6443",
                "api.corp.example:6443",
                false,
            ),
            (
                "https://api.corp.example:6443",
                "api.corp.example:443",
                true,
            ),
            (
                "https://API.corp.example:6443",
                "a.b, api.CORP.example ,",
                false,
            ),
            ("https://api.corp.example:6443", "*", false),
            ("https://10.1.2.3:6443", "10.0.0.0/8", false),
            ("https://10.1.2.3:6443", "10.1.2.3", false),
            ("https://10.1.2.3:6443", "10.1.2.4,192.168.0.0/16", true),
            ("https://[fd00::1]:6443", "fd00::/8", false),
            ("https://[fd00::1]:6443", "fd00::1", false),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", false),
            ("https://127.0.0.1:6443", "", false),
            ("https://localhost:6443", "", false),
        ];
        for (server, bypass, proxied) in table {
            let chosen = choose(&server.parse().unwrap(), None, &env(bypass));
            assert_eq!(
                chosen.is_some(),
                proxied,
                "{server} with NO_PROXY={bypass:?}"
            );
        }
    }

    #[test]
    fn the_kubeconfigs_proxy_comes_first_and_knows_no_exceptions() {
        let server = "https://127.0.0.1:6443".parse().unwrap();
        let chosen = choose(&server, Some("socks5://jump:1080"), &env("*"));
        assert_eq!(chosen.as_deref(), Some("socks5://jump:1080"));
    }

    #[test]
    fn a_proxy_without_a_scheme_is_an_http_proxy() {
        let env = ProxyEnv {
            https: Some("proxy:3128".into()),
            ..ProxyEnv::default()
        };
        let chosen = choose(&"https://api.example".parse().unwrap(), None, &env);
        assert_eq!(chosen.as_deref(), Some("http://proxy:3128"));
    }

    #[test]
    fn a_proxys_credentials_are_not_shown() {
        let table = [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://proxy:3128/", "http://proxy:3128"),
            ("http://alice:hunter2@proxy:3128/", "http://proxy:3128"),
            ("socks5://hunter2@[fd00::1]:1080", "socks5://[fd00::1]:1080"),
            ("http://a:hun@ter2@proxy", "http://proxy"),
            ("http://a:hun/ter2@proxy/?x=hunter2", "http://proxy"),
            ("alice:hunter2@proxy:3128", "proxy:3128"),
        ];
        for (url, seen) in table {
            assert_eq!(shown(url), seen, "{url}");
        }
    }

    #[test]
    fn a_plain_server_takes_the_plain_proxy() {
        let chosen = choose(&"http://api.example".parse().unwrap(), None, &env(""));
        assert_eq!(chosen, None);
    }
}
