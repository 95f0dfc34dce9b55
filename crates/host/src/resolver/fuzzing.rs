//! What has to be true of any text that somebody leaves in the resolver's file: for the fuzzer
//! (`fuzz/`), which has nothing else to hold on to inside this module.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::config::compose;
use super::{MAX_SERVERS, ResolverConfig};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 53));

/// Reads a file, and writes and reads the one that takes its place.
pub fn file(text: &str) {
    let scope = |device: &str| (device == "wlan0").then_some(3);
    let former = ResolverConfig::parse(text, Some(OWN), scope);
    assert!(former.servers.len() <= MAX_SERVERS);
    assert!(former.servers.iter().all(|server| server.ip() != OWN));

    let written = compose(text, OWN, Path::new("/var/lib/kdev/journal"));
    let written = String::from_utf8(written).expect("text stays text");
    let read = ResolverConfig::parse(&written, None, scope);
    assert_eq!(read.servers, [(OWN, 53).into()], "programs ask kdev alone");
    assert_eq!(read.search, former.search);
    let kept = |option: &&String| !matches!(option.as_str(), "rotate" | "trust-ad");
    assert!(read.options.iter().eq(former.options.iter().filter(kept)));
    let again = compose(&written, OWN, Path::new("/var/lib/kdev/journal"));
    let again = String::from_utf8(again).expect("text stays text");
    assert_eq!(ResolverConfig::parse(&again, None, scope), read);
    // Who may be asked is left out of nothing when the file is kdev's own.
    let own = ResolverConfig::parse(&written, Some(OWN), scope);
    assert!(own.servers.is_empty());
}
