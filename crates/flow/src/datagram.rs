//! Joins an opened flow with a connected UDP socket: a frame is a datagram.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{MsgFlags, recv, recvmsg, setsockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::Carrier;
use crate::backlog::Backlog;
use crate::frame::{self, Failed};
use crate::ledger::Violation;
use crate::outgoing::Outgoing;
use crate::rpc::read::Broken;

/// A flow of datagrams that were silent for this long is over; RFC 4787 asks for two minutes at least.
pub const IDLE: Duration = Duration::from_secs(120);

/// Largest payload of a UDP datagram over IPv4: RFC 768 less the headers.
pub const MAX_DATAGRAM: usize = 65_507;

/// Largest message of any kind: an echo over IPv6, whose own header isn't counted (RFC 8200 3).
const MAX_MESSAGE: usize = 65_535;

/// How long the last datagrams may take to get onto their carrier.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// More errors than a socket's buffer has room for.
const MOST_ERRORS: usize = 4096;

thread_local! {
    /// Where a datagram is until its size is known: one for all flows, as thousands of them are idle.
    static BUFFER: RefCell<Box<[u8; MAX_MESSAGE]>> = RefCell::new(Box::new([0; MAX_MESSAGE]));
}

/// A socket that only `to` answers.
///
/// # Errors
///
/// As the kernel has it: there may be no way to its family.
pub async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Lets a socket hear of all that ICMP says of its datagrams to `from`, which it is connected to, also that there is
/// nobody at the address (ip(7), `IP_RECVERR`): by itself the kernel tells of closed ports only.
///
/// # Errors
///
/// As the kernel has it.
pub fn hear_all(socket: &UdpSocket, from: SocketAddr) -> io::Result<()> {
    match from {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// Carries datagrams until either side ends or both were silent for `idle`. Order is kept each way; where
/// the near end takes less than the far end sends, the oldest are lost. What the network says of a port
/// that is closed at the far end, or of nobody at its address who never answered, becomes a failed frame and ends the flow, as
/// the near end's program has to hear of it.
pub async fn relay<S>(
    socket: UdpSocket,
    mut incoming: S,
    outgoing: Outgoing,
    carrier: &Carrier,
    idle: Duration,
) where
    S: Stream<Item = Result<FlowFrame, Broken>> + Unpin,
{
    let mut deadline = Instant::now() + idle;
    let mut backlog = Backlog::new(carrier.datagrams());
    let mut is_answered = false;
    let last = loop {
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => break frame::end(),
            received = receive(&socket) => match received {
                Ok(datagram) => {
                    deadline = Instant::now() + idle;
                    is_answered = true;
                    backlog.push(datagram);
                }
                Err(error) if is_passing(&error, is_answered) => forget_errors(&socket),
                Err(error) => break frame::failed(&Failed::from(&error)),
            },
            permit = outgoing.reserve(), if !backlog.is_empty() => {
                let Ok(permit) = permit else { return };
                if let Some(datagram) = backlog.pop() {
                    permit.send(frame::data(datagram));
                }
            }
            asked = incoming.next() => {
                let datagram = match asked {
                    Some(Ok(FlowFrame { kind: Some(Kind::Data(datagram)) })) => datagram,
                    Some(Ok(_)) => return carrier.close_for(&Violation::Misplaced),
                    Some(Err(Broken::NoFrame(what))) => return carrier.close_for(&what),
                    Some(Err(Broken::Carrier(_))) | None => return,
                };
                deadline = Instant::now() + idle;
                match socket.send(&datagram).await {
                    Ok(_) => {}
                    Err(error) if is_passing(&error, is_answered) => forget_errors(&socket),
                    Err(error) => break frame::failed(&Failed::from(&error)),
                }
            }
        }
    };
    let rest = async {
        while let Some(datagram) = backlog.pop() {
            outgoing.send(frame::data(datagram)).await?;
        }
        outgoing.send(last).await
    };
    // Who takes nothing for so long has lost interest.
    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
}

/// Whether what was said of one datagram is of no use to whoever sends the next one. One that is larger than the way
/// allows is lost, as on any network; and who has answered is there, and knows the socket by its port.
fn is_passing(error: &io::Error, is_answered: bool) -> bool {
    let is_too_large = error.raw_os_error() == Some(Errno::EMSGSIZE as i32);
    let is_of_the_way = matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
    );
    is_too_large || (is_answered && is_of_the_way)
}

/// Throws away what a socket remembers of errors, as what comes has to share its buffer with that.
fn forget_errors(socket: &UdpSocket) {
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    for _ in 0..MOST_ERRORS {
        if recvmsg::<()>(socket.as_raw_fd(), &mut [], None, flags).is_err() {
            return;
        }
    }
}

/// Waits for a datagram, or for what an ICMP message said of the last one that was sent. Cancel safe.
///
/// # Errors
///
/// What the message, or the kernel, says.
pub async fn receive(socket: &UdpSocket) -> io::Result<Bytes> {
    // An error without data makes the socket ready for ERROR only, which `recv` doesn't wait for.
    let interest = Interest::READABLE | Interest::ERROR;
    let receive = |buffer: &mut [u8; MAX_MESSAGE]| -> io::Result<Bytes> {
        let size = recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
        Ok(Bytes::copy_from_slice(&buffer[..size]))
    };
    socket
        .async_io(interest, || {
            BUFFER.with_borrow_mut(|buffer| receive(buffer))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::{outgoing, with_room};
    use crate::testing::soon;
    use kdev_proto::v1::flow_failed::Reason;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    async fn on_its_own(
        socket: UdpSocket,
        incoming: impl Stream<Item = Result<FlowFrame, Broken>> + Unpin,
        outgoing: Outgoing,
        idle: Duration,
    ) {
        relay(socket, incoming, outgoing, &Carrier::default(), idle).await;
    }

    #[tokio::test]
    async fn datagrams_keep_their_borders_and_the_largest_passes() {
        for (loopback, largest) in [("127.0.0.1:0", MAX_DATAGRAM), ("[::1]:0", MAX_MESSAGE - 8)] {
            let far = UdpSocket::bind(loopback).await.unwrap();
            let near = UdpSocket::bind(loopback).await.unwrap();
            near.connect(far.local_addr().unwrap()).await.unwrap();
            let near_address = near.local_addr().unwrap();
            let (to_relay, incoming) = mpsc::channel(4);
            let (outgoing, mut from_relay) = outgoing();
            let task = tokio::spawn(on_its_own(
                near,
                ReceiverStream::new(incoming),
                outgoing,
                IDLE,
            ));
            let mut buffer = vec![0; 70_000];
            for size in [0, 1, 1400, largest] {
                let sent = Bytes::from(vec![7; size]);
                to_relay.send(Ok(frame::data(sent.clone()))).await.unwrap();
                assert_eq!(soon(far.recv(&mut buffer)).await.unwrap(), size);
                far.send_to(&sent, near_address).await.unwrap();
                assert_eq!(soon(from_relay.next()).await, Some(frame::data(sent)));
            }
            drop(to_relay);
            soon(task).await.unwrap();
        }
    }

    #[test]
    fn what_happens_on_the_way_ends_no_flow_that_was_answered() {
        let passing = |errno: Errno, is_answered| is_passing(&errno.into(), is_answered);
        for (errno, before, after) in [
            (Errno::EMSGSIZE, true, true),
            (Errno::EHOSTUNREACH, false, true),
            (Errno::ENETUNREACH, false, true),
            (Errno::ECONNREFUSED, false, false),
            (Errno::ENOTCONN, false, false),
        ] {
            let both = (passing(errno, false), passing(errno, true));
            assert_eq!(both, (before, after), "{errno}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_told_to_the_near_end() {
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        near.connect(far.local_addr().unwrap()).await.unwrap();
        drop(far);
        let (to_relay, incoming) = mpsc::channel(4);
        let (outgoing, mut from_relay) = outgoing();
        let task = tokio::spawn(on_its_own(
            near,
            ReceiverStream::new(incoming),
            outgoing,
            IDLE,
        ));
        to_relay
            .send(Ok(frame::data(Bytes::from("x"))))
            .await
            .unwrap();
        let Some(FlowFrame {
            kind: Some(Kind::Failed(failed)),
        }) = soon(from_relay.next()).await
        else {
            panic!("a failed frame")
        };
        assert_eq!(failed.reason(), Reason::Refused);
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn who_takes_nothing_for_a_while_then_gets_the_newest_in_their_order() {
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        near.connect(far.local_addr().unwrap()).await.unwrap();
        let near_address = near.local_addr().unwrap();
        let (to_relay, incoming) = mpsc::channel(4);
        let (outgoing, mut from_relay) = with_room(1);
        let task = tokio::spawn(on_its_own(
            near,
            ReceiverStream::new(incoming),
            outgoing,
            IDLE,
        ));
        const LAST: u32 = 20_000;
        for number in 0..=LAST {
            far.send_to(&number.to_be_bytes(), near_address)
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
        let mut numbers = Vec::new();
        while numbers.last() != Some(&LAST) {
            let Some(FlowFrame {
                kind: Some(Kind::Data(datagram)),
            }) = soon(from_relay.next()).await
            else {
                panic!("datagrams until the last")
            };
            numbers.push(u32::from_be_bytes(datagram[..].try_into().unwrap()));
        }
        assert!(
            numbers.is_sorted() && numbers.len() < 10_000,
            "{}",
            numbers.len()
        );
        drop(to_relay);
        soon(task).await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_flow_ends() {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (_to_relay, incoming) = mpsc::channel(4);
        let (outgoing, mut from_relay) = outgoing();
        let idle = Duration::from_millis(50);
        let task = tokio::spawn(on_its_own(
            near,
            ReceiverStream::new(incoming),
            outgoing,
            idle,
        ));
        assert_eq!(soon(from_relay.next()).await, Some(frame::end()));
        soon(task).await.unwrap();
    }
}
