//! The kernel's tables of sockets, as `/proc/net/udp` and its like show them (proc(5)). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The local addresses of sockets that take datagrams from anybody, or listen.
pub fn bound(table: &str) -> Vec<SocketAddr> {
    table.lines().skip(1).filter_map(bound_on).collect()
}

fn bound_on(line: &str) -> Option<SocketAddr> {
    // "sl local_address rem_address st ..."
    let mut words = line.split_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    // One that is connected hears only its peer.
    (remote.port() == 0).then_some(local)
}

/// Reads "0100007F:1F90": the address as it is in memory, in words of this machine's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = ip.get(at * 8..(at + 1) * 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..(at + 1) * 4].copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Where a datagram has to be sent to reach one of them on a port, over IPv4 if it can be.
pub fn reached_over_loopback(bound: &[SocketAddr], port: u16) -> Option<SocketAddr> {
    let (v4, v6) = (
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    );
    let here = bound.iter().filter(|one| one.port() == port);
    let reached: Vec<IpAddr> = here
        .filter_map(|one| match one.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Some(v4),
            ip @ IpAddr::V4(own) if own.is_loopback() => Some(ip),
            // Whether it hears IPv4 as well isn't shown.
            IpAddr::V6(ip) if ip.is_unspecified() => Some(v6),
            ip @ IpAddr::V6(own) if own.is_loopback() => Some(ip),
            _ => None,
        })
        .collect();
    let first = reached.iter().find(|ip| ip.is_ipv4());
    first
        .or_else(|| reached.first())
        .map(|ip| SocketAddr::new(*ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";

    fn table(lines: &[(&str, &str)]) -> Vec<SocketAddr> {
        let lines = lines.iter().enumerate().map(|(number, (local, remote))| {
            format!("{number:5}: {local} {remote} 07 00000000:00000000 00:00000000 00000000\n")
        });
        bound(&(HEAD.to_owned() + &lines.collect::<String>()))
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let v6 = "000080FE00000000FF005450B5A2F3FE:0223";
        let found = table(&[
            ("0100007F:1F90", "00000000:0000"),
            ("0100007F:2328", "0100007F:0035"),
            (v6, "00000000000000000000000000000000:0000"),
            ("7F:1", "0:0"),
            ("", ""),
        ]);
        let wanted = ["127.0.0.1:8080", "[fe80::5054:ff:fef3:a2b5]:547"];
        assert_eq!(found, wanted.map(|one| one.parse().unwrap()));
    }

    #[test]
    fn a_program_is_reached_over_the_loopback_that_it_hears() {
        let table = [
            (&["127.0.0.1:53"][..], Some("127.0.0.1:53")),
            (&["127.0.0.53:53"], Some("127.0.0.53:53")),
            (&["0.0.0.0:53"], Some("127.0.0.1:53")),
            (&["[::]:53"], Some("[::1]:53")),
            (&["[::1]:53", "0.0.0.0:53"], Some("127.0.0.1:53")),
            (&["[::ffff:127.0.0.1]:53"], Some("127.0.0.1:53")),
            (&["10.0.0.7:53", "127.0.0.1:54", "[fe80::1]:53"], None),
        ];
        for (bound, wanted) in table {
            let all: Vec<SocketAddr> = bound.iter().map(|one| one.parse().unwrap()).collect();
            let wanted = wanted.map(|one| one.parse().unwrap());
            assert_eq!(reached_over_loopback(&all, 53), wanted, "{bound:?}");
        }
    }
}
