//! Prefixes of a cluster as routes of a machine: what is told, beside what the machine has.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use ipnet::IpNet;
use kdev_cluster::discovery::fuzzing;
use kdev_host::routes::carve;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Told {
    declared: Vec<Prefix>,
    used: Vec<Address>,
    nodes: Vec<(Vec<Prefix>, Vec<Address>)>,
    pods: Vec<Address>,
    exempt: Vec<Prefix>,
}

/// Addresses that are near to each other, mostly, so that they meet.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Address {
    Near(u16),
    Near6(u16),
    Any([u8; 4]),
    Any6([u8; 16]),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Prefix(Address, u8);

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::Near(low) => Ipv4Addr::from(0x0a60_0000 | u32::from(low)).into(),
            Address::Near6(low) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low).into(),
            Address::Any(octets) => octets.into(),
            Address::Any6(octets) => octets.into(),
        }
    }
}

impl From<Prefix> for IpNet {
    fn from(Prefix(address, length): Prefix) -> Self {
        let address = IpAddr::from(address);
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new_assert(address, length % (most + 1))
    }
}

fuzz_target!(|told: Told| {
    let nets = |prefixes: &[Prefix]| prefixes.iter().map(|one| IpNet::from(*one)).collect();
    let ips = |all: &[Address]| -> Vec<IpAddr> { all.iter().map(|one| (*one).into()).collect() };
    let declared: Vec<IpNet> = nets(&told.declared);
    let used: BTreeSet<IpAddr> = ips(&told.used).into_iter().collect();
    fuzzing::services(&declared, &used);
    fuzzing::services(&[], &used);
    let nodes: Vec<_> = told
        .nodes
        .iter()
        .take(100)
        .map(|(cidrs, addresses)| (nets(cidrs), ips(addresses)))
        .collect();
    fuzzing::pods(&nodes, &ips(&told.pods).into_iter().collect());
    let exempt: Vec<IpNet> = nets(&told.exempt);
    for prefix in declared {
        carved(prefix, &exempt, &used);
    }
});

/// What is left holds nothing exempt and lacks nothing else.
fn carved(prefix: IpNet, exempt: &[IpNet], samples: &BTreeSet<IpAddr>) {
    let pieces = carve(prefix, exempt);
    assert!(pieces.is_sorted());
    for piece in &pieces {
        assert!(prefix.contains(piece));
        let meets = |one: &IpNet| one.contains(piece) || piece.contains(one);
        assert!(!exempt.iter().any(meets), "{piece} of {prefix} is exempt");
    }
    let mine = [prefix.network(), prefix.broadcast()];
    for address in samples.iter().chain(&mine) {
        let is_left = pieces.iter().any(|piece| piece.contains(address));
        let is_exempt = exempt.iter().any(|one| one.contains(address));
        assert_eq!(
            is_left,
            prefix.contains(address) && !is_exempt,
            "{address} of {prefix}"
        );
    }
}
