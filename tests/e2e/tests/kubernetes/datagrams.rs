//! Datagrams as large as UDP has them, and as many as there are.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use kdev_e2e::desk::{DEMO, Desk};

/// The most that UDP carries over IPv4.
const LARGEST: usize = 65_507;
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn the_largest_datagram_comes_and_goes_among_small_ones_on_one_flow() {
    let desk = Desk::connected();
    let service = desk.cluster.get(&["-n", DEMO, "service", "web"]);
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let echo: SocketAddr = format!("{address}:7").parse().unwrap();
    let socket = desk
        .laptop
        .network()
        .inside(|| UdpSocket::bind("0.0.0.0:0"));
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(echo).unwrap();
    let mut buffer = vec![0; LARGEST + 1];
    let before = flows(&desk);
    for (round, size) in [3, LARGEST, 1_472, 1_473, 20_000]
        .into_iter()
        .cycle()
        .take(50)
        .enumerate()
    {
        let sent: Vec<u8> = (0..size).map(|at| (at * 7 + round) as u8).collect();
        assert_eq!(socket.send(&sent).unwrap(), size);
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes: {error}"));
        assert!(
            buffer[..length] == sent,
            "{size} bytes came back as {length}"
        );
    }
    assert_eq!(flows(&desk), before + 1);
}

/// Flows on all carriers.
fn flows(desk: &Desk) -> u64 {
    let status = desk.status();
    let carriers = status["carriers"].as_array().unwrap().iter();
    carriers
        .filter_map(|carrier| carrier["flows"].as_u64())
        .sum()
}
