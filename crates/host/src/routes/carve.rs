//! A prefix without some of its addresses, as prefixes.

use ipnet::IpNet;

/// Returns the fewest prefixes that cover `prefix` without what `exempt` covers, in order.
///
/// Each exempt address costs at most one prefix per bit between the two lengths. Prefixes of
/// another family don't matter.
pub fn carve(prefix: IpNet, exempt: &[IpNet]) -> Vec<IpNet> {
    let prefix = prefix.trunc();
    let mut pieces = Vec::new();
    let exempt: Vec<IpNet> = exempt.iter().map(IpNet::trunc).collect();
    split(prefix, &exempt, &mut pieces);
    pieces
}

fn split(prefix: IpNet, exempt: &[IpNet], pieces: &mut Vec<IpNet>) {
    if exempt.iter().any(|exempt| exempt.contains(&prefix)) {
        return;
    }
    let within: Vec<IpNet> = exempt
        .iter()
        .filter(|exempt| prefix.contains(*exempt))
        .copied()
        .collect();
    // A single address that contains something exempt is that something, so there are halves.
    match prefix.subnets(prefix.prefix_len() + 1) {
        Ok(halves) if !within.is_empty() => halves.for_each(|half| split(half, &within, pieces)),
        _ => pieces.push(prefix),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_prefix_without_one_address_is_one_prefix_per_bit() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (
                "10.0.0.0/30",
                &["10.0.0.1/32"],
                &["10.0.0.0/32", "10.0.0.2/31"],
            ),
            ("10.0.0.0/30", &[], &["10.0.0.0/30"]),
            ("10.0.0.0/30", &["10.0.0.0/8"], &[]),
            ("10.0.0.0/30", &["10.0.0.0/30"], &[]),
            ("10.0.0.1/32", &["10.0.0.1/32"], &[]),
            ("10.0.0.1/32", &["10.0.0.2/32"], &["10.0.0.1/32"]),
            ("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.128/25"], &[]),
            ("10.0.0.7/24", &["10.0.0.200/25"], &["10.0.0.0/25"]),
            ("10.0.0.0/24", &["fd00::1/128"], &["10.0.0.0/24"]),
            (
                "fd00::/126",
                &["fd00::3/128"],
                &["fd00::/127", "fd00::2/128"],
            ),
            ("0.0.0.0/0", &["128.0.0.0/1"], &["0.0.0.0/1"]),
        ];
        for (prefix, exempt, pieces) in table {
            let carved = carve(prefix.parse().unwrap(), &nets(exempt));
            assert_eq!(carved, nets(pieces), "{prefix} without {exempt:?}");
        }
    }

    /// Prefixes and addresses that are close to each other, so that they meet.
    fn near_v4() -> impl Strategy<Value = IpNet> {
        (0_u32..4096, 20_u8..=32).prop_map(|(low, length)| {
            IpNet::new(Ipv4Addr::from(0x0a00_0000 | low).into(), length).unwrap()
        })
    }

    fn near_v6() -> impl Strategy<Value = IpNet> {
        (0_u128..4096, 116_u8..=128).prop_map(|(low, length)| {
            IpNet::new(Ipv6Addr::from((0xfd00 << 112) | low).into(), length).unwrap()
        })
    }

    fn check(
        prefix: IpNet,
        exempt: &[IpNet],
        addresses: impl Iterator<Item = IpAddr>,
    ) -> Result<(), TestCaseError> {
        let pieces = carve(prefix, exempt);
        for address in addresses {
            let wanted =
                prefix.contains(&address) && !exempt.iter().any(|net| net.contains(&address));
            let covering = pieces
                .iter()
                .filter(|piece| piece.contains(&address))
                .count();
            prop_assert_eq!(covering, usize::from(wanted), "{}", address);
        }
        for pair in pieces.windows(2) {
            prop_assert!(pair[0] < pair[1], "in order: {:?}", pieces);
            prop_assert!(
                !pair[0].is_sibling(&pair[1]),
                "no fewer would do: {:?}",
                pieces
            );
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn exactly_the_right_ipv4_addresses_are_covered_once(
            prefix in near_v4(),
            exempt in vec(near_v4(), 0..6),
        ) {
            let all = (0_u32..4096).map(|low| Ipv4Addr::from(0x0a00_0000 | low).into());
            check(prefix, &exempt, all)?;
        }

        #[test]
        fn exactly_the_right_ipv6_addresses_are_covered_once(
            prefix in near_v6(),
            exempt in vec(near_v6(), 0..6),
        ) {
            let all = (0_u128..4096).map(|low| Ipv6Addr::from((0xfd00 << 112) | low).into());
            check(prefix, &exempt, all)?;
        }
    }
}
