//! What programs see of a device with several queues, and of one with a single queue: no difference.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use kdev_flow::datagram::MAX_DATAGRAM;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::far_end::{ECHO, HOSTS, host};
use super::machine::on_a_machine;

#[test]
fn connections_to_one_target_are_shared_by_all_queues() {
    on_a_machine(3, async |machine| {
        assert_eq!(machine.queues, 3);
        let mut all = connections(40).await;
        for connection in &mut all {
            echoes(connection, 100).await;
        }
        let flows = machine.flows();
        assert_eq!(flows.iter().sum::<u32>(), 80);
        assert!(flows.iter().all(|count| *count > 5), "{flows:?}");
        drop(all);
        while machine.flows().iter().sum::<u32>() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_flow_goes_on_after_a_silence_in_which_the_kernel_forgets_flows() {
    for queues in [1, 3] {
        on_a_machine(queues, async |_| {
            let mut silent = connections(30).await;
            let mut sockets = Vec::new();
            for number in 0..HOSTS {
                sockets.push(connected(host(number)[0]).await);
                assert_eq!(
                    answer(&sockets[usize::from(number)], &[1; 100]).await,
                    [1; 100]
                );
            }
            // Linux forgets the queue of a flow after 3 s.
            let end = tokio::time::Instant::now() + Duration::from_secs(4);
            while tokio::time::Instant::now() < end {
                let mut others = connections(10).await;
                for other in &mut others {
                    echoes(other, 1_000).await;
                }
            }
            for connection in &mut silent {
                echoes(connection, 300_000).await;
            }
            for socket in &sockets {
                assert_eq!(answer(socket, &[2; 4_000]).await, [2; 4_000]);
            }
        });
    }
}

#[test]
fn datagrams_of_every_size_come_back_on_one_flow() {
    for queues in [1, 3] {
        on_a_machine(queues, async |machine| {
            for (number, address) in (0..HOSTS).flat_map(host).enumerate() {
                let socket = connected(address).await;
                for size in [0, 1, 1_400, 1_473, 9_000, MAX_DATAGRAM] {
                    let datagram = vec![number as u8; size];
                    assert!(answer(&socket, &datagram).await == datagram, "{size} bytes");
                }
                assert_eq!(machine.flows().iter().sum::<u32>(), number as u32 + 1);
            }
            assert_eq!(
                machine.far.dialled.load(Ordering::Relaxed),
                2 * usize::from(HOSTS)
            );
        });
    }
}

#[test]
fn large_and_small_datagrams_of_a_flow_keep_their_order() {
    for queues in [1, 3] {
        on_a_machine(queues, async |_| {
            for address in host(1) {
                let socket = connected(address).await;
                let (mut sent, mut received) = (0_u32, 0_u32);
                let mut buffer = vec![0; MAX_DATAGRAM];
                while received < 3_000 {
                    // No more under way than any buffer on the way holds.
                    while sent < 3_000 && sent - received < 20 {
                        let size = if sent % 3 == 0 { 7_000 } else { 40 };
                        let mut datagram = sent.to_be_bytes().to_vec();
                        datagram.resize(size, 0);
                        socket.send(&datagram).await.unwrap();
                        sent += 1;
                    }
                    socket.recv(&mut buffer).await.unwrap();
                    assert_eq!(buffer[..4], received.to_be_bytes());
                    received += 1;
                }
            }
        });
    }
}

#[test]
fn a_connection_whose_segments_come_in_fragments_is_found_all_the_same() {
    const CONNECTIONS: u16 = 40;
    on_a_machine(3, async |machine| {
        let raw = Socket::new(
            Domain::IPV4,
            Type::RAW,
            Some(Protocol::from(libc::IPPROTO_RAW)),
        );
        let raw = raw.unwrap();
        for number in 0..CONNECTIONS {
            for fragment in syn_in_two(20_000 + number, number) {
                let target = SocketAddr::new(host(0)[0], 0);
                raw.send_to(&fragment, &target.into()).unwrap();
            }
        }
        while machine.far.dialled.load(Ordering::Relaxed) < usize::from(CONNECTIONS) {
            tokio::task::yield_now().await;
        }
    });
}

/// The fragments of a SYN to the first host's echo: a header of 24 bytes and 8 that are behind it.
fn syn_in_two(port: u16, id: u16) -> [Vec<u8>; 2] {
    let (source, IpAddr::V4(target)) = ([198, 18, 53, 1], host(0)[0]) else {
        unreachable!("a host has an address of version 4 first")
    };
    let mut tcp = vec![0; 32];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&ECHO.to_be_bytes());
    // A header of eight words; a SYN; a window.
    (tcp[12], tcp[13], tcp[14]) = (8 << 4, 0x02, 0xff);
    // An MSS, and what means nothing.
    tcp[20..24].copy_from_slice(&[2, 4, 0x05, 0xb4]);
    tcp[24..32].fill(1);
    let pseudo = [&source[..], &target.octets(), &[0, 6, 0, 32]].concat();
    let sum = [pseudo, tcp.clone()].concat();
    let sum: u32 = sum
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let piece = |payload: &[u8], place: u16| {
        let mut packet = vec![0x45, 0, 0, 20 + payload.len() as u8];
        packet.extend_from_slice(&(id + 1).to_be_bytes());
        packet.extend_from_slice(&place.to_be_bytes());
        // The kernel fills the checksum in.
        packet.extend_from_slice(&[64, 6, 0, 0]);
        packet.extend_from_slice(&source);
        packet.extend_from_slice(&target.octets());
        packet.extend_from_slice(payload);
        packet
    };
    [piece(&tcp[..24], 0x2000), piece(&tcp[24..], 3)]
}

/// So many connections of each family to the first host's echo.
async fn connections(count: usize) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for address in host(0) {
        for _ in 0..count {
            all.push(TcpStream::connect((address, ECHO)).await.unwrap());
        }
    }
    all
}

/// Sends so many bytes and expects them back.
async fn echoes(connection: &mut TcpStream, length: usize) {
    let sent: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8).collect();
    let (mut read, mut write) = connection.split();
    let mut received = vec![0; length];
    let (written, read) = tokio::join!(write.write_all(&sent), read.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert!(received == sent, "{length} bytes");
}

/// A socket for datagrams to a host's echo, with room for those of a test.
async fn connected(address: IpAddr) -> UdpSocket {
    let target = SocketAddr::from((address, ECHO));
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 20).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(&target.into()).unwrap();
    UdpSocket::from_std(socket.into()).unwrap()
}

async fn answer(socket: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    socket.send(datagram).await.unwrap();
    let mut buffer = vec![0; MAX_DATAGRAM];
    let length = socket.recv(&mut buffer).await.unwrap();
    buffer.truncate(length);
    buffer
}
