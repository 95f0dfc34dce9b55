//! A connection is what its far end made of it, on the first try: both ends are looked at, and both
//! directions, from the machine into the cluster and from the cluster to the machine.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, UdpSocket};
use std::time::Duration;

use kdev_e2e::desk::Desk;
use kdev_e2e::ends::{PATIENCE, Way, both_ways, demo_pod, reset};
use kdev_e2e::firewall::Firewall;
use kdev_e2e::wait;

/// "On the first try" is shown by many first tries.
const ROUNDS: usize = 20;
/// A kernel sends no more ICMP messages than these to one host without a pause.
const MESSAGES: usize = 3;
/// Longer than anything but a far end that says nothing takes.
const A_WHILE: Duration = Duration::from_secs(4);

#[test]
fn both_ends_hear_at_once_that_a_session_is_over() {
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let ends: Vec<_> = (0..20)
        .map(|_| Way::outward(&desk.laptop, &pod).connect())
        .collect();
    desk.kdev(&["quit"]).ok();
    for (client, server) in ends {
        for mut end in [client, server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            let error = end.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
    }
}

#[test]
fn an_answer_comes_back_after_the_client_has_closed_its_half() {
    both_ways("client-half", |_, way| {
        for _ in 0..ROUNDS {
            let (mut client, mut server) = way.connect();
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            server.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "question");
            // The other half is open as long as the server likes.
            server.write_all(b"long ").unwrap();
            let mut part = [0; 5];
            client.read_exact(&mut part).unwrap();
            server.write_all(b"answer").unwrap();
            drop(server);
            let mut rest = String::new();
            client.read_to_string(&mut rest).unwrap();
            assert_eq!((&part, &*rest), (b"long ", "answer"));
        }
    });
}

#[test]
fn a_client_may_go_on_after_the_server_has_closed_its_half() {
    both_ways("server-half", |_, way| {
        for _ in 0..ROUNDS {
            let (mut client, mut server) = way.connect();
            server.write_all(b"enough").unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "enough");
            client.write_all(b"one more ").unwrap();
            let mut part = [0; 9];
            server.read_exact(&mut part).unwrap();
            client.write_all(b"thing").unwrap();
            drop(client);
            let mut rest = String::new();
            server.read_to_string(&mut rest).unwrap();
            assert_eq!((&part, &*rest), (b"one more ", "thing"));
        }
    });
}

#[test]
fn a_reset_of_one_end_is_a_reset_at_the_other_and_not_an_orderly_end() {
    both_ways("reset", |_, way| {
        for round in 0..ROUNDS {
            let (mut client, mut server) = way.connect();
            // At any time: before a byte, after some, after the other half was closed.
            match round % 3 {
                0 => {}
                1 => {
                    client.write_all(b"x").unwrap();
                    server.read_exact(&mut [0]).unwrap();
                }
                _ => {
                    client.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(server.read(&mut [0]).unwrap(), 0);
                }
            }
            reset(server);
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "round {round}");

            let (mut client, mut server) = way.connect();
            if round % 2 == 1 {
                server.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
            reset(client);
            let error = server.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "round {round}");
        }
    });
}

#[test]
fn a_connection_is_made_when_the_far_end_has_answered_and_not_before() {
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let way = Way::outward(&desk.laptop, &pod);
    let port = way.address.port();
    let silent = Firewall::put(&pod.network, "input", &format!("tcp dport {port} drop"));
    std::thread::scope(|scope| {
        let dialled = scope.spawn(|| way.dial(PATIENCE));
        let early = wait::within(A_WHILE, || dialled.is_finished().then_some(()));
        assert_eq!(early, None, "the pod has never heard of it");
        drop(silent);
        dialled.join().unwrap().unwrap();
    });
}

#[test]
fn a_far_end_that_never_answers_neither_accepts_nor_refuses() {
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let way = Way::outward(&desk.laptop, &pod);
    let port = way.address.port();
    let _silent = Firewall::put(&pod.network, "input", &format!("tcp dport {port} drop"));
    let error = way.dial(A_WHILE).unwrap_err();
    // Nobody but the client's own clock said so.
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(error.raw_os_error(), None);
}

#[test]
fn what_a_far_ends_network_says_is_what_the_program_hears() {
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let way = Way::outward(&desk.laptop, &pod);
    let port = way.address.port();
    for (says, heard) in [
        ("icmp type port-unreachable", ErrorKind::ConnectionRefused),
        ("icmp type host-unreachable", ErrorKind::HostUnreachable),
        ("icmp type net-unreachable", ErrorKind::NetworkUnreachable),
        ("icmp type admin-prohibited", ErrorKind::HostUnreachable),
    ] {
        let rule = format!("tcp dport {port} reject with {says}");
        let rejecting = Firewall::put(&pod.network, "input", &rule);
        let error = way.dial(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), heard, "{says}: {error}");
        drop(rejecting);
        // What was said before isn't remembered against it.
        drop(way.connect());
    }
}

#[test]
fn a_datagram_to_a_closed_port_is_told_to_its_sender() {
    let desk = Desk::connected();
    let pod = demo_pod(desk.cluster);
    let socket = desk
        .laptop
        .network()
        .inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect((pod.address, 4321)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..MESSAGES {
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}
