//! Making prefixes of addresses, and few prefixes of many.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Drops prefixes that are inside others, and sorts the rest. What is adjacent stays apart: a
/// node's prefix then comes and goes without a change to another's route.
pub(super) fn distinct(prefixes: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    // A wider prefix sorts before those inside it.
    let sorted: BTreeSet<_> = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
    let mut distinct: Vec<IpNet> = Vec::with_capacity(sorted.len());
    for prefix in sorted {
        if !distinct.last().is_some_and(|last| last.contains(&prefix)) {
            distinct.push(prefix);
        }
    }
    distinct
}

/// Merges prefixes that are inside others or that are the two halves of one, and sorts the rest. No
/// address is added.
pub(super) fn merged(prefixes: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let mut merged = IpNet::aggregate(&prefixes.into_iter().collect());
    merged.sort_unstable();
    merged
}

/// Returns the prefix of a length that an address is in.
pub(super) fn around(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length).trunc()
}

/// Returns the narrowest prefix with both in it; both must be of one family.
pub(super) fn covering(a: IpNet, b: IpNet) -> IpNet {
    let mut prefix = a;
    while !prefix.contains(&b)
        && let Some(wider) = prefix.supernet()
    {
        prefix = wider;
    }
    prefix
}

/// Returns what of `prefix` holds none of `outside`, and one of `inside` if that is given: it is
/// halved as often as that takes.
pub(super) fn without(
    prefix: IpNet,
    inside: Option<&BTreeSet<IpAddr>>,
    outside: &BTreeSet<IpAddr>,
) -> Vec<IpNet> {
    let holds = |addresses: &BTreeSet<IpAddr>| {
        addresses
            .range(prefix.network()..=prefix.broadcast())
            .next()
            .is_some()
    };
    if inside.is_some_and(|inside| !holds(inside)) {
        return Vec::new();
    }
    if !holds(outside) {
        return vec![prefix];
    }
    match prefix.subnets(prefix.prefix_len() + 1) {
        Ok(halves) => halves
            .flat_map(|half| without(half, inside, outside))
            .collect(),
        // A single address, which is a node's.
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace()
            .map(|net| net.parse().unwrap())
            .collect()
    }

    pub(crate) fn ips(text: &str) -> BTreeSet<IpAddr> {
        text.split_whitespace()
            .map(|ip| ip.parse().unwrap())
            .collect()
    }

    #[test]
    fn what_is_inside_another_prefix_is_dropped_and_neighbours_stay_apart() {
        let table = [
            ("", ""),
            ("10.244.1.0/24 10.244.0.0/24", "10.244.0.0/24 10.244.1.0/24"),
            ("10.244.1.0/24 10.244.0.0/16 10.244.0.0/24", "10.244.0.0/16"),
            ("10.0.0.0/24 10.0.0.7/24", "10.0.0.0/24"),
            ("fd00::/64 10.0.0.0/8 fd00::/56", "10.0.0.0/8 fd00::/56"),
        ];
        for (given, wanted) in table {
            assert_eq!(distinct(nets(given)), nets(wanted), "{given}");
        }
    }

    #[test]
    fn halves_are_merged_and_nothing_is_added() {
        let table = [
            ("10.0.0.0/25 10.0.0.128/25", "10.0.0.0/24"),
            (
                "10.0.0.0/24 10.0.1.0/24 10.0.2.0/24",
                "10.0.0.0/23 10.0.2.0/24",
            ),
            ("10.0.1.0/24 10.0.2.0/24", "10.0.1.0/24 10.0.2.0/24"),
            ("fd00::/65 fd00:0:0:0:8000::/65", "fd00::/64"),
        ];
        for (given, wanted) in table {
            assert_eq!(merged(nets(given)), nets(wanted), "{given}");
        }
    }

    #[test]
    fn the_narrowest_prefix_covers_both() {
        let table = [
            ("10.96.0.0/24", "10.96.0.0/24", "10.96.0.0/24"),
            ("10.96.0.0/24", "10.96.1.0/24", "10.96.0.0/23"),
            ("10.96.0.0/24", "10.107.0.0/24", "10.96.0.0/12"),
            ("fd00::/120", "fd00::1:0/120", "fd00::/111"),
        ];
        for (a, b, wanted) in table {
            let covered = covering(a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(covered, wanted.parse().unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn a_prefix_is_halved_until_no_node_is_inside() {
        let table = [
            ("10.0.1.0/24", "10.0.1.7", "10.0.2.1", "10.0.1.0/24"),
            ("10.0.1.0/24", "10.0.1.200", "10.0.1.5", "10.0.1.128/25"),
            (
                "10.0.1.0/24",
                "10.0.1.6 10.0.1.200",
                "10.0.1.5",
                "10.0.1.6/31 10.0.1.128/25",
            ),
            ("10.0.1.0/24", "", "10.0.1.5", ""),
            ("10.0.1.0/24", "10.0.1.5", "10.0.1.5", ""),
            ("fd00::/120", "fd00::9", "fd00::1", "fd00::8/125"),
        ];
        for (prefix, inside, outside, wanted) in table {
            let left = without(prefix.parse().unwrap(), Some(&ips(inside)), &ips(outside));
            assert_eq!(left, nets(wanted), "{prefix} {inside} {outside}");
        }
        let all = without("10.0.1.0/29".parse().unwrap(), None, &ips("10.0.1.5"));
        assert_eq!(all, nets("10.0.1.0/30 10.0.1.4/32 10.0.1.6/31"));
    }
}
