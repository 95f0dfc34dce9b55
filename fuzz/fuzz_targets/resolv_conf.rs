//! What others write into the resolver's file, on the machine and in the manager's pod.
#![no_main]

use kdev_cluster::discovery::ClusterDns;
use kdev_host::resolver::{Place, RESOLV_CONF, ResolverFacts, choose, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    fuzzing::file(&text);
    let facts = ResolverFacts {
        path: RESOLV_CONF.into(),
        place: Place::File,
        text: text.to_string(),
        uplinks: false,
    };
    assert!(!choose(&facts).reason.is_empty());
    let dns = ClusterDns::parse(&text);
    assert!(!dns.domain.is_empty() && !dns.domain.ends_with('.'));
    assert!(!dns.domain.contains(char::is_whitespace));
    assert_eq!(dns.domain, dns.domain.to_ascii_lowercase());
    let server = dns
        .server
        .map_or(String::new(), |server| format!("nameserver {server}\n"));
    let written = format!("{server}search svc.{}\n", dns.domain);
    assert_eq!(ClusterDns::parse(&written), dns);
});
