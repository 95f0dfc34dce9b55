//! Real TUN devices, in namespaces.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use kdev_host::device::{Device, DeviceConfig, DeviceError, VnetHeader};
use support::packet::{ACK, PSH, Packet, SYN};
use support::{in_namespace, ip, is_gone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

const MSS: usize = 1_460;

#[test]
fn a_datagram_comes_out_and_its_answer_goes_in() {
    in_namespace(async || {
        let device = Device::open(&config()).await.unwrap();
        let socket = UdpSocket::bind("10.77.0.1:0").await.unwrap();
        socket.send_to(b"ping", "10.77.0.2:9").await.unwrap();

        let (header, packet) = read(&device).await;
        assert_eq!(header.gso_type, VnetHeader::GSO_NONE);
        let packet = Packet::parse(&packet).unwrap();
        assert_eq!(packet.target, (Ipv4Addr::new(10, 77, 0, 2), 9));
        assert_eq!(packet.payload(), b"ping");

        write(&device, &VnetHeader::default(), &packet.answer(b"pong")).await;
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(
            (&buffer[..length], from),
            (&b"pong"[..], "10.77.0.2:9".parse().unwrap())
        );
    });
}

#[test]
fn a_packet_behind_its_header_goes_in_as_one_piece() {
    in_namespace(async || {
        let device = Device::open(&config()).await.unwrap();
        let socket = UdpSocket::bind("10.77.0.1:0").await.unwrap();
        socket.send_to(b"ping", "10.77.0.2:9").await.unwrap();
        let (_, packet) = read(&device).await;
        let answer = Packet::parse(&packet).unwrap().answer(b"pong");
        let frame = [&VnetHeader::default().emit()[..], &answer].concat();
        while !device.try_write_frame(&frame).unwrap() {
            device.writable().await.unwrap();
        }
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).await.unwrap(), 4);
        assert!(device.try_write_frame(&[0; 3]).is_err());
    });
}

#[test]
fn segments_come_out_uncut_and_go_in_uncut() {
    in_namespace(async || {
        let device = Device::open(&config()).await.unwrap();
        let features = device.features();
        assert!(features.vnet_header && features.checksum && features.tso4 && features.tso6);

        let client = tokio::spawn(TcpStream::connect("10.77.0.2:80"));
        let (_, syn, _) = read_tcp(&device).await;
        assert_eq!(syn.flags() & (SYN | ACK), SYN);
        // MSS and a window scale of 7.
        let options = [2, 4, (MSS >> 8) as u8, MSS as u8, 1, 3, 3, 7];
        let (header, packet) = syn.segment(1_000, syn.sequence() + 1, SYN | ACK, &options, &[]);
        write(&device, &header, &packet).await;
        let mut client = client.await.unwrap().unwrap();

        client.write_all(&vec![7; 10 * MSS]).await.unwrap();
        let (header, segment, length) = loop {
            let (header, segment, length) = read_tcp(&device).await;
            if header.gso_type != VnetHeader::GSO_NONE {
                break (header, segment, length);
            }
        };
        assert!(length > device.mtu(), "{length} bytes in one read");
        assert_eq!(
            header.gso_type & !VnetHeader::GSO_ECN,
            VnetHeader::GSO_TCPV4
        );
        assert_eq!(usize::from(header.gso_size), MSS);
        assert_eq!(header.flags, VnetHeader::NEEDS_CSUM);
        assert_eq!((header.csum_start, header.csum_offset), (20, 16));

        let sent = (length - 40) as u32;
        let answer = vec![9; 4 * MSS];
        let (header, packet) =
            segment.segment(1_001, segment.sequence() + sent, ACK | PSH, &[], &answer);
        let header = VnetHeader {
            gso_type: VnetHeader::GSO_TCPV4,
            gso_size: MSS as u16,
            ..header
        };
        write(&device, &header, &packet).await;
        let mut received = vec![0; answer.len()];
        client.read_exact(&mut received).await.unwrap();
        assert_eq!(received, answer);
    });
}

#[test]
fn what_the_kernel_refuses_is_this_packet_s_fault() {
    in_namespace(async || {
        let device = Device::open(&config()).await.unwrap();
        let socket = UdpSocket::bind("10.77.0.1:0").await.unwrap();
        socket.send_to(b"ping", "10.77.0.2:9").await.unwrap();
        let (_, packet) = read(&device).await;
        let nonsense = VnetHeader {
            gso_type: 77,
            ..VnetHeader::default()
        };
        let error = device.try_write(&nonsense, &packet).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);

        let answer = Packet::parse(&packet).unwrap().answer(b"pong");
        write(&device, &VnetHeader::default(), &answer).await;
        assert_eq!(socket.recv(&mut [0; 16]).await.unwrap(), 4);
    });
}

#[test]
fn a_device_is_as_asked_for_and_silent() {
    in_namespace(async || {
        let addresses = ["10.77.0.1/24", "fd77::1/64"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let config = DeviceConfig {
            mtu: 1_400,
            addresses,
            txqueuelen: 700,
            ..config()
        };
        let device = Device::open(&config).await.unwrap();
        assert!(device.ipv6());
        assert_eq!(device.mtu(), 1_400);

        let link = ip("-o link show dev kdev0");
        assert!(
            link.contains("mtu 1400") && link.contains("qlen 700"),
            "{link}"
        );
        assert!(link.contains("UP") && !link.contains("MULTICAST"), "{link}");
        assert!(link.starts_with(&format!("{}:", device.index())), "{link}");
        let addresses = ip("-o addr show dev kdev0");
        assert!(addresses.contains("inet 10.77.0.1/24"), "{addresses}");
        assert!(addresses.contains("inet6 fd77::1/64"), "{addresses}");
        assert!(
            !addresses.contains("fe80"),
            "no router is solicited: {addresses}"
        );
        // It can be bound to at once.
        assert!(
            addresses.contains("nodad") && !addresses.contains("tentative"),
            "{addresses}"
        );

        let socket = UdpSocket::bind("[fd77::1]:0").await.unwrap();
        socket.send_to(b"first", "[fd77::2]:9").await.unwrap();
        let (_, packet) = read(&device).await;
        assert!(
            packet.ends_with(b"first"),
            "nothing was there before: {packet:02x?}"
        );
    });
}

#[test]
fn a_machine_without_ipv6_gets_a_device_without_it() {
    in_namespace(async || {
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let addresses = ["fd77::1/64", "10.77.0.1/24"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let device = Device::open(&DeviceConfig {
            addresses,
            ..config()
        })
        .await
        .unwrap();
        assert!(!device.ipv6());
        assert!(ip("-o addr show dev kdev0").contains("inet 10.77.0.1/24"));
    });
}

#[test]
fn the_first_free_name_is_taken_and_given_back() {
    in_namespace(async || {
        let first = Device::open(&DeviceConfig::default()).await.unwrap();
        let second = Device::open(&DeviceConfig::default()).await.unwrap();
        assert_eq!((first.name(), second.name()), ("kdev0", "kdev1"));
        drop(first);
        is_gone("kdev0").await;
        let third = Device::open(&DeviceConfig::default()).await.unwrap();
        assert_eq!(third.name(), "kdev0");
    });
}

#[test]
fn a_name_that_somebody_has_is_left_alone() {
    in_namespace(async || {
        ip("tuntap add dev theirs mode tun");
        let named = |name: &str| DeviceConfig {
            name: Some(name.to_owned()),
            ..config()
        };
        let taken = Device::open(&named("theirs")).await;
        assert!(
            matches!(taken, Err(DeviceError::NameTaken { .. })),
            "{taken:?}"
        );
        for name in ["", "a/b", "a b", "kdev%d", "sixteen_bytes_it"] {
            let refused = Device::open(&named(name)).await;
            assert!(
                matches!(refused, Err(DeviceError::Name { .. })),
                "{name:?}: {refused:?}"
            );
        }
        let device = Device::open(&named("fifteen_bytes_0")).await.unwrap();
        assert_eq!(device.name(), "fifteen_bytes_0");
    });
}

#[test]
fn an_address_that_can_t_be_set_leaves_no_device() {
    in_namespace(async || {
        let addresses = vec![
            "10.77.0.1/24".parse().unwrap(),
            "224.0.0.1/24".parse().unwrap(),
        ];
        let refused = Device::open(&DeviceConfig {
            addresses,
            ..config()
        })
        .await;
        let Err(DeviceError::Configure { step, name, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(
            (step.as_str(), name.as_str()),
            ("set the address 224.0.0.1/24", "kdev0")
        );
        is_gone("kdev0").await;
    });
}

#[test]
fn several_queues_share_the_packets() {
    in_namespace(async || {
        let queues = open_queues(2).await;
        assert_eq!(queues.len(), 2);
        assert_eq!(queues[0].index(), queues[1].index());
        let mut seen = Vec::new();
        for host in 2..34 {
            let socket = UdpSocket::bind("10.77.0.1:0").await.unwrap();
            let target = Ipv4Addr::new(10, 77, 0, host);
            socket.send_to(b"ping", (target, 9)).await.unwrap();
            let (queue, packet) = read_any(&queues).await;
            assert_eq!(Packet::parse(&packet).unwrap().target, (target, 9));
            seen.push(queue);
        }
        assert!(seen.contains(&0) && seen.contains(&1), "{seen:?}");

        let one = queues.into_iter().next().unwrap();
        assert_eq!(one.name(), "kdev0");
        assert!(
            ip("-o link show").contains("kdev0"),
            "one queue holds the device"
        );
        drop(one);
        is_gone("kdev0").await;
    });
}

#[test]
fn the_kernel_puts_every_packet_on_the_queue_that_the_rule_says() {
    in_namespace(async || {
        let queues = open_queues(3).await;
        let mut seen = [0; 3];
        let mut came_right = async |what: &str| {
            let (queue, packet) = read_any(&queues).await;
            assert_eq!(queue, queues[0].queue_of(&packet), "{what}: {packet:02x?}");
            seen[queue] += 1;
        };
        for target in ["10.77.0.2:80", "[fd77::2]:80"].map(|text| text.parse().unwrap()) {
            for _ in 0..50 {
                let connecting = tokio::spawn(TcpStream::connect::<SocketAddr>(target));
                came_right("a SYN").await;
                connecting.abort();
            }
        }
        for (from, network) in [("10.77.0.1:0", "10.77.0."), ("[fd77::1]:0", "[fd77::")] {
            let socket = UdpSocket::bind(from).await.unwrap();
            for host in 2..20 {
                let end = if network.starts_with('[') {
                    "]:9"
                } else {
                    ":9"
                };
                let target = format!("{network}{host}{end}");
                socket.send_to(&[7; 100], &target).await.unwrap();
                came_right("a datagram").await;
                socket.send_to(&[7; 4_000], &target).await.unwrap();
                for _ in 0..3 {
                    came_right("a fragment").await;
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 40), "{seen:?}");
    });
}

#[test]
fn a_connection_stays_on_its_queue_whoever_writes_to_it() {
    in_namespace(async || {
        let queues = open_queues(2).await;
        let client = tokio::spawn(TcpStream::connect("10.77.0.2:80"));
        let (queue, packet) = read_any(&queues).await;
        let syn = Packet::parse(&packet).unwrap();
        let options = [2, 4, (MSS >> 8) as u8, MSS as u8, 1, 3, 3, 7];
        let (header, answer) = syn.segment(1_000, syn.sequence() + 1, SYN | ACK, &options, &[]);
        // A kernel that follows who wrote last would go on at the other queue.
        write(&queues[1 - queue], &header, &answer).await;
        let mut client = client.await.unwrap().unwrap();
        // One packet of many segments, and then their repetitions.
        client.write_all(&vec![7; 10 * MSS]).await.unwrap();
        for _ in 0..6 {
            let (came_by, packet) = read_any(&queues).await;
            assert_eq!(came_by, queue, "{} bytes", packet.len());
        }
    });
}

#[test]
fn a_process_that_may_load_no_program_gets_one_queue() {
    in_namespace(async || {
        // Those of the calling thread: enough for a device, but for no program.
        without_capabilities(&[CAP_SYS_ADMIN, CAP_BPF]);
        let queues = open_queues(4).await;
        assert_eq!(queues.len(), 1);
        let socket = UdpSocket::bind("10.77.0.1:0").await.unwrap();
        socket.send_to(b"ping", "10.77.0.2:9").await.unwrap();
        let (_, packet) = read(&queues[0]).await;
        assert_eq!(queues[0].queue_of(&packet), 0);
    });
}

#[test]
fn a_device_that_was_removed_says_so() {
    in_namespace(async || {
        let device = Device::open(&config()).await.unwrap();
        ip("link del kdev0");
        let error = loop {
            device.readable().await.unwrap();
            match device.try_read(&mut [0; 2_000]) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::EBADFD));
    });
}

fn config() -> DeviceConfig {
    DeviceConfig {
        addresses: vec!["10.77.0.1/24".parse().unwrap()],
        ..DeviceConfig::default()
    }
}

/// Numbers of `linux/capability.h`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Takes these capabilities from the calling thread.
fn without_capabilities(capabilities: &[u32]) {
    // `struct __user_cap_header_struct` of version 3, for this thread, and the two halves of the data:
    // effective, permitted, inheritable.
    let mut header = [0x2008_0522_u32, 0];
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: capget writes, and capset reads, as much as version 3 has, which the arrays are.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    assert_eq!(done, 0);
    for capability in capabilities {
        let half = &mut data[*capability as usize / 32];
        half.iter_mut()
            .for_each(|set| *set &= !(1 << (capability % 32)));
    }
    // SAFETY: as above.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_ptr()) };
    assert_eq!(done, 0);
}

async fn open_queues(count: usize) -> Vec<Device> {
    let config = DeviceConfig {
        addresses: ["10.77.0.1/24", "fd77::1/64"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..config()
    };
    Device::open_queues(&config, NonZeroUsize::new(count).unwrap())
        .await
        .unwrap()
}

/// Reads the next packet, and says by which queue it came.
async fn read_any(queues: &[Device]) -> (usize, Vec<u8>) {
    let reads = queues.iter().map(|queue| Box::pin(read(queue)));
    let ((_, packet), queue, _) = futures::future::select_all(reads).await;
    (queue, packet)
}

async fn read(device: &Device) -> (VnetHeader, Vec<u8>) {
    let mut buffer = vec![0; 65_535];
    loop {
        device.readable().await.unwrap();
        if let Some((header, length)) = device.try_read(&mut buffer).unwrap() {
            buffer.truncate(length);
            return (header, buffer);
        }
    }
}

async fn read_tcp(device: &Device) -> (VnetHeader, Packet, usize) {
    let (header, packet) = read(device).await;
    (header, Packet::parse(&packet).unwrap(), packet.len())
}

async fn write(device: &Device, header: &VnetHeader, packet: &[u8]) {
    while !device.try_write(header, packet).unwrap() {
        device.writable().await.unwrap();
    }
}
