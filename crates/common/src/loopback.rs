//! Programs that listen on this machine.

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
