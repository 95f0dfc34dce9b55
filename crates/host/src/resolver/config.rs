//! Reading a `resolv.conf`, and writing the one that leads to kdev (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// How many servers the system's resolver asks (`MAXNS`); it doesn't see any more.
pub const MAX_SERVERS: usize = 3;

const PORT: u16 = 53;

/// What a `resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Whom to ask, in order, at most [`MAX_SERVERS`], without kdev's own server. A file that names
    /// nobody means this machine.
    pub servers: Vec<SocketAddr>,
    /// What to append to short names, in order.
    pub search: Vec<String>,
    /// The options as they are written, such as `ndots:5`.
    pub options: Vec<String>,
}

impl ResolverConfig {
    /// Reads the text of a file as the system's resolver does: what it doesn't understand, it skips.
    /// `own` is kdev's own server, and `scope` gives the number of a network device by its name.
    pub fn parse(text: &str, own: Option<IpAddr>, scope: impl Fn(&str) -> Option<u32>) -> Self {
        let mut config = Self::default();
        let mut named = false;
        for line in text.lines() {
            let Some((keyword, rest)) = split(line) else {
                continue;
            };
            match keyword {
                "nameserver" => {
                    let server = rest.split_ascii_whitespace().next();
                    let Some(server) = server.and_then(|text| address(text, &scope)) else {
                        continue;
                    };
                    named = true;
                    if Some(server.ip()) != own && config.servers.len() < MAX_SERVERS {
                        config.servers.push(server);
                    }
                }
                "domain" => {
                    config.search = rest
                        .split_ascii_whitespace()
                        .take(1)
                        .map(str::to_owned)
                        .collect();
                }
                "search" => {
                    config.search = rest.split_ascii_whitespace().map(str::to_owned).collect();
                }
                "options" => {
                    config
                        .options
                        .extend(rest.split_ascii_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
        if !named {
            config.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        config
    }
}

/// Writes the file that makes programs ask `server`, and keep to everything else that `former` says.
pub(super) fn compose(former: &str, server: IpAddr, journal: &Path) -> Vec<u8> {
    let mut text = format!(
        "# Written by kdev, which is connected to a cluster; `kdev quit` puts the former file back.\n\
         # If kdev has died: the former content is in {}\n\
         # and comes back when kdev is started the next time.\n\
         nameserver {server}\n",
        journal.display(),
    );
    for line in former.lines() {
        match split(line) {
            Some(("options", rest)) => {
                let kept: Vec<&str> = rest
                    .split_ascii_whitespace()
                    .filter(|option| keeps(option))
                    .collect();
                if !kept.is_empty() {
                    text.push_str(&format!("options {}\n", kept.join(" ")));
                }
            }
            Some(("nameserver", _)) | None => {}
            Some(_) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text.into_bytes()
}

/// There is nothing to rotate through; and that answers were verified was true of the former
/// servers, not of the cluster's.
fn keeps(option: &str) -> bool {
    !matches!(option, "rotate" | "trust-ad")
}

/// The keyword, which begins the line, and what follows it.
fn split(line: &str) -> Option<(&str, &str)> {
    if line.starts_with(['#', ';', ' ', '\t']) {
        return None;
    }
    line.split_once([' ', '\t'])
}

fn address(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, PORT).into());
    }
    let (address, device) = text.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = device.parse().ok().or_else(|| scope(device))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "100.64.0.53";

    fn parse(text: &str) -> ResolverConfig {
        let scope = |device: &str| (device == "wlan0").then_some(3);
        ResolverConfig::parse(text, Some(OWN.parse().unwrap()), scope)
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text)
            .servers
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn servers_are_read_as_the_system_s_resolver_reads_them() {
        let table: &[(&str, &[&str])] = &[
            ("nameserver 10.0.0.1\n", &["10.0.0.1:53"]),
            ("nameserver\t10.0.0.1 # the router\n", &["10.0.0.1:53"]),
            ("nameserver 10.0.0.1", &["10.0.0.1:53"]),
            ("nameserver 10.0.0.1\r\n", &["10.0.0.1:53"]),
            (
                "nameserver fd00::1\nnameserver 10.0.0.1\n",
                &["[fd00::1]:53", "10.0.0.1:53"],
            ),
            ("nameserver fe80::1%wlan0\n", &["[fe80::1%3]:53"]),
            ("nameserver fe80::1%7\n", &["[fe80::1%7]:53"]),
            (
                "nameserver fe80::1%gone0\nnameserver 10.0.0.1\n",
                &["10.0.0.1:53"],
            ),
            (
                "nameserver dns.example\nnameserver 10.0.0.1\n",
                &["10.0.0.1:53"],
            ),
            (
                "#nameserver 10.0.0.1\n;nameserver 10.0.0.2\n",
                &["127.0.0.1:53"],
            ),
            (" nameserver 10.0.0.1\n", &["127.0.0.1:53"]),
            ("nameservers 10.0.0.1\n", &["127.0.0.1:53"]),
            ("", &["127.0.0.1:53"]),
            (
                "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n",
                &["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(servers(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn kdev_s_own_server_is_never_one_to_forward_to() {
        assert_eq!(servers("nameserver 100.64.0.53\n"), Vec::<String>::new());
        assert_eq!(
            servers("nameserver 100.64.0.53\nnameserver 10.0.0.1\n"),
            ["10.0.0.1:53"]
        );
    }

    #[test]
    fn the_last_search_list_counts_and_options_add_up() {
        let config = parse(
            "domain old.example\nsearch a.example b.example\noptions ndots:2 rotate\noptions edns0\n",
        );
        assert_eq!(config.search, ["a.example", "b.example"]);
        assert_eq!(config.options, ["ndots:2", "rotate", "edns0"]);
        assert_eq!(
            parse("search a.example\ndomain b.example c\n").search,
            ["b.example"]
        );
    }

    fn composed(former: &str) -> String {
        let written = compose(
            former,
            OWN.parse().unwrap(),
            Path::new("/var/lib/kdev/j.json"),
        );
        String::from_utf8(written).unwrap()
    }

    fn lines(former: &str) -> Vec<String> {
        composed(former)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn only_kdev_is_asked_and_the_rest_stays() {
        let former = "; DHCP\nnameserver 10.0.0.1\nsearch a.example b.example\n\
                      options ndots:2 rotate trust-ad edns0\nsortlist 10.0.0.0/8\nnameserver fd00::1\n";
        assert_eq!(
            lines(former),
            [
                "nameserver 100.64.0.53",
                "search a.example b.example",
                "options ndots:2 edns0",
                "sortlist 10.0.0.0/8",
            ]
        );
    }

    #[test]
    fn options_of_which_none_is_kept_are_no_line() {
        assert_eq!(lines("options rotate\n"), ["nameserver 100.64.0.53"]);
    }

    #[test]
    fn what_is_written_leads_to_kdev_alone() {
        let text = composed("nameserver 10.0.0.1\nnameserver 10.0.0.2\n");
        let config = ResolverConfig::parse(&text, None, |_| None);
        assert_eq!(
            config.servers,
            [SocketAddr::from((OWN.parse::<IpAddr>().unwrap(), 53))]
        );
    }

    #[test]
    fn the_file_says_who_wrote_it_and_what_brings_the_former_back() {
        let text = composed("");
        assert!(text.starts_with("# Written by kdev"), "{text}");
        assert!(
            text.contains("kdev quit") && text.contains("/var/lib/kdev/j.json"),
            "{text}"
        );
    }
}
