//! Programs that listen on this machine.

mod socket_table;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpStream;

/// Finds where a program listens on this machine: `localhost` is either family's.
pub async fn listener(port: u16) -> Option<SocketAddr> {
    let loopbacks = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    for address in loopbacks {
        let address = SocketAddr::new(address, port);
        if TcpStream::connect(address).await.is_ok() {
            return Some(address);
        }
    }
    None
}

/// Connects to the program that listens on a port of this machine: on the address where it was found, or was
/// expected, or else on the other family's, as one that is started later may have chosen that.
///
/// # Errors
///
/// Why the first of them doesn't take the connection.
pub async fn connect(first: SocketAddr) -> io::Result<TcpStream> {
    let refused = match TcpStream::connect(first).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        connected => return connected,
    };
    let other = match first {
        SocketAddr::V4(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        SocketAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
    };
    let connected = TcpStream::connect((other, first.port())).await;
    connected.map_err(|_| refused)
}

/// Finds where a program takes datagrams on this machine. The kernel is asked, as a program may take any datagram for
/// something that was said to it.
pub async fn receiver(port: u16) -> Option<SocketAddr> {
    match bound(["/proc/net/udp", "/proc/net/udp6"]).await {
        Some(bound) => socket_table::reached_over_loopback(&bound, port),
        None => taken(port).await,
    }
}

/// Whether a program listens on this machine, as far as the kernel says: no program is asked, as some note every connection.
pub async fn is_listened_on(port: u16) -> bool {
    let bound = bound(["/proc/net/tcp", "/proc/net/tcp6"]).await;
    bound.is_none_or(|bound| socket_table::reached_over_loopback(&bound, port).is_some())
}

/// What the kernel's tables show; each is there as long as the kernel knows the family, and none on other systems.
async fn bound(tables: [&str; 2]) -> Option<Vec<SocketAddr>> {
    let mut all = None;
    for table in tables {
        if let Ok(table) = tokio::fs::read_to_string(table).await {
            all.get_or_insert_with(Vec::new)
                .extend(socket_table::bound(&table));
        }
    }
    all
}

/// The loopback address whose UDP port nobody else may have: for systems whose kernel shows no table.
async fn taken(port: u16) -> Option<SocketAddr> {
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let address = SocketAddr::new(ip, port);
        let bound = tokio::net::UdpSocket::bind(address).await;
        if bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse) {
            return Some(address);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UdpSocket};

    #[tokio::test]
    async fn a_program_is_reached_on_whichever_family_it_listens() {
        for bound in ["127.0.0.1:0", "[::1]:0"] {
            let program = TcpListener::bind(bound).await.unwrap();
            let port = program.local_addr().unwrap().port();
            for first in ["127.0.0.1", "::1"] {
                let first = SocketAddr::new(first.parse().unwrap(), port);
                let reached = connect(first).await.unwrap().peer_addr().unwrap();
                assert_eq!(reached, program.local_addr().unwrap(), "{first}");
            }
            drop(program);
            let first = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            let refused = connect(first).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[tokio::test]
    async fn a_program_that_takes_datagrams_is_found_and_one_that_only_sends_isnt() {
        for (bound, reached) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[::]:0", "::1"),
        ] {
            let socket = UdpSocket::bind(bound).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let reached = SocketAddr::new(reached.parse().unwrap(), port);
            assert_eq!(receiver(port).await, Some(reached), "{bound}");
            assert!(taken(port).await.is_some(), "{bound}");
            socket.connect(reached).await.unwrap();
            assert_eq!(receiver(port).await, None, "{bound} hears only itself");
        }
    }
}
