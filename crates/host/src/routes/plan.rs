//! Deciding which routes to install, from what is desired and what others have.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::carve::carve;
use super::{
    Answer, Conflict, DesiredRoutes, LocalRoute, MAIN_TABLE, Problem, RouteKind, RouteState,
};

/// A prefix with more addresses than this would take more of the internet than of a cluster.
const SHORTEST: u8 = 8;

/// Decides what to install for each prefix. `others` are the machine's routes but for those over
/// kdev's device; `ipv6` says whether that device has IPv6.
///
/// A route that another has within a prefix keeps its addresses, the prefix itself included; one
/// that contains a prefix gives way, as the more specific one wins in the kernel.
pub fn plan(desired: &DesiredRoutes, others: &[LocalRoute], ipv6: bool) -> Vec<RouteState> {
    let gateways = others
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast)
        .filter_map(|route| route.via)
        .map(IpNet::from);
    let exempt: Vec<IpNet> = desired
        .exempt
        .iter()
        .map(IpNet::trunc)
        .chain(gateways)
        .collect();
    let exempt = IpNet::aggregate(&exempt);
    let prefixes: BTreeSet<IpNet> = desired.prefixes.iter().map(IpNet::trunc).collect();
    prefixes
        .into_iter()
        .map(|prefix| place(prefix, &exempt, others, ipv6))
        .collect()
}

/// What to add and what to remove, so that `wanted` is there and nothing else.
pub(super) fn difference(
    wanted: &BTreeSet<IpNet>,
    present: &BTreeSet<IpNet>,
) -> (Vec<IpNet>, Vec<IpNet>) {
    let add = wanted.difference(present).copied().collect();
    let remove = present.difference(wanted).copied().collect();
    (add, remove)
}

/// An address that the kernel should send to the cluster: one that is installed, and that nobody
/// has a more specific route for.
pub(super) fn sample(state: &RouteState, others: &[LocalRoute]) -> Option<std::net::IpAddr> {
    let others: Vec<IpNet> = others
        .iter()
        .filter(|route| !route.is_default() && state.prefix.contains(&route.prefix))
        .map(|route| route.prefix)
        .collect();
    let free = |piece: &IpNet| carve(*piece, &others).first().map(IpNet::addr);
    state.installed.iter().find_map(free)
}

fn place(prefix: IpNet, exempt: &[IpNet], others: &[LocalRoute], ipv6: bool) -> RouteState {
    let mut state = RouteState {
        prefix,
        installed: Vec::new(),
        exempted: Vec::new(),
        conflicts: Vec::new(),
        problem: None,
    };
    if prefix.prefix_len() < SHORTEST {
        state.problem = Some(Problem::TooWide(prefix));
        return state;
    }
    if let Some(reserved) = never_routed().into_iter().find(|net| net.contains(&prefix)) {
        state.problem = Some(Problem::NeverRouted(reserved));
        return state;
    }
    if matches!(prefix, IpNet::V6(_)) && !ipv6 {
        state.problem = Some(Problem::NoIpv6);
        return state;
    }
    state.exempted = exempt
        .iter()
        .filter_map(|exempt| overlap(prefix, *exempt))
        .collect();
    let within: Vec<&LocalRoute> = others
        .iter()
        .filter(|route| matters(route) && prefix.contains(&route.prefix))
        .collect();
    let kept_back: Vec<IpNet> = exempt.iter().copied().chain(never_routed()).collect();
    state.installed = carve(prefix, &kept_back);
    // A piece of ours within another's route would be the more specific one, and take its addresses.
    state
        .installed
        .retain(|piece| !within.iter().any(|route| route.prefix.contains(piece)));
    state.conflicts = conflicts(prefix, &within, others, !state.installed.is_empty());
    state
}

fn conflicts(
    prefix: IpNet,
    within: &[&LocalRoute],
    others: &[LocalRoute],
    installed: bool,
) -> Vec<Conflict> {
    let mut conflicts: Vec<Conflict> = Vec::new();
    let mut add = |route: &LocalRoute, answer| {
        let conflict = Conflict {
            with: route.prefix,
            owner: route.owner.clone(),
            via: route.via,
            answer,
        };
        if !conflicts.contains(&conflict) {
            conflicts.push(conflict);
        }
    };
    if let Some(equal) = within
        .iter()
        .find(|route| route.prefix == prefix && route.kind != RouteKind::Local)
    {
        add(equal, Answer::LeftToOwner);
        return conflicts;
    }
    for route in within {
        match route.kind {
            // Its network says it already.
            RouteKind::Local if has_network(route, within) => {}
            RouteKind::Local => add(route, Answer::OwnAddress),
            RouteKind::Unicast | RouteKind::Blocked => add(route, Answer::PartKept),
        }
    }
    let around = |route: &&LocalRoute| {
        matters(route)
            && !route.is_default()
            && route.prefix != prefix
            && route.prefix.contains(&prefix)
    };
    if installed {
        others
            .iter()
            .filter(around)
            .for_each(|route| add(route, Answer::Installed));
    }
    conflicts.sort_by_key(|conflict| conflict.with);
    conflicts
}

/// Whether the address is one of a network that is within the prefix as well.
fn has_network(address: &LocalRoute, within: &[&LocalRoute]) -> bool {
    within.iter().any(|route| {
        route.kind == RouteKind::Unicast
            && route.owner == address.owner
            && route.prefix.contains(&address.prefix)
    })
}

/// Whether the kernel would look at it for a packet that no rule concerns.
fn matters(route: &LocalRoute) -> bool {
    route.table == MAIN_TABLE || route.kind == RouteKind::Local
}

/// The smaller one of two prefixes that have addresses in common.
fn overlap(one: IpNet, other: IpNet) -> Option<IpNet> {
    if one.contains(&other) {
        Some(other)
    } else {
        other.contains(&one).then_some(one)
    }
}

/// What no cluster can have (RFC 6890): this host, loopback, link-local (cloud metadata as well),
/// multicast, broadcast. Class E isn't among them: some clusters number their pods from it.
fn never_routed() -> [IpNet; 8] {
    let v4 =
        |address: [u8; 4], length| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), length));
    let v6 = |first: u16, last: u16, length| {
        IpNet::V6(Ipv6Net::new_assert(
            Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last),
            length,
        ))
    };
    [
        v4([0, 0, 0, 0], 8),
        v4([127, 0, 0, 0], 8),
        v4([169, 254, 0, 0], 16),
        v4([224, 0, 0, 0], 4),
        v4([255, 255, 255, 255], 32),
        v6(0, 0, 127),
        v6(0xfe80, 0, 10),
        v6(0xff00, 0, 8),
    ]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
