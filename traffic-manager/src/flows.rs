//! Flows from the machine: dials in the cluster on behalf of a session.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt as _;
use kdev_flow::carry::{self, Resumed, Stream};
use kdev_flow::frame::{self, Failed};
use kdev_flow::outgoing::{Frames, Outgoing, outgoing};
use kdev_flow::rpc::Incoming;
use kdev_flow::rpc::read::Broken;
use kdev_flow::socket::carry_socket;
use kdev_flow::{Carrier, datagram};
use kdev_proto::v1::flow_failed::Reason;
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol, FlowResume};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::task::TaskTracker;

use crate::peer::Peer;
use crate::resumable::{Registered, ResumableFlows};
use crate::sessions::Session;

/// Where clouds have their instances' metadata over IPv6; over IPv4 it is link-local.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A far end that says nothing for this long has timed out. Linux itself gives up after two minutes;
/// a program that waits longer than this waits for nothing.
const DIAL_DEADLINE: Duration = Duration::from_secs(60);

/// How long nobody pings the same target until its socket goes: a sweep of a network leaves many.
const ECHO_IDLE: Duration = Duration::from_secs(10);

/// How long a stream may be silent before its first frame.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// A far end that answered.
enum Far {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Echo(UdpSocket),
}

/// Serves one flow on a task of `tasks`; the frames to the machine come out of the receiver.
pub fn serve(
    tasks: &TaskTracker,
    flows: ResumableFlows,
    peer: Peer,
    mut incoming: Incoming,
) -> Frames {
    // No more of it: a flow outlives the connection that it came over, whose place is another's then.
    let Peer {
        session, carrier, ..
    } = peer;
    let (outgoing, frames) = outgoing();
    tasks.spawn(async move {
        let too_many = || {
            tracing::debug!(session = session.id, "too many flows");
            Failed::new(Reason::Prohibited, "the session has too many flows")
        };
        let Some(arrival) = session.arrival() else {
            let _ = outgoing.send(frame::failed(&too_many())).await;
            return;
        };
        let first = first(&mut incoming, &carrier).await;
        let mut place = None;
        let opened = match first {
            Ok(FlowOpen {
                flow,
                resume: Some(resume),
                ..
            }) => {
                // Its own task goes on, and answers.
                let stream = Stream::new(outgoing, incoming, carrier);
                return go_on(&flows, &session, &flow, stream, resume).await;
            }
            Ok(open) => {
                drop(arrival);
                place = session.flow();
                match place {
                    Some(_) => dial(&open, &mut incoming, &carrier)
                        .await
                        .map(|far| (open, far)),
                    None => Err(too_many()),
                }
            }
            Err(failed) => Err(failed),
        };
        match opened {
            Ok((open, Some(far))) => {
                // Before the machine hears of it, as it may lose the stream at once.
                let registered = flows.register(&open.flow, &session);
                if outgoing.send(frame::opened()).await.is_ok() {
                    carry(far, registered, incoming, outgoing, carrier).await;
                }
            }
            Ok((_, None)) => {}
            Err(failed) => {
                tracing::debug!(reason = %failed, "flow not opened");
                let _ = outgoing.send(frame::failed(&failed)).await;
            }
        }
        drop(place);
    });
    frames
}

async fn go_on(
    flows: &ResumableFlows,
    session: &Session,
    id: &[u8],
    stream: Stream,
    resume: FlowResume,
) {
    let FlowResume { received, attempt } = resume;
    let resumed = Resumed {
        stream,
        received,
        answer: true,
    };
    if let Err(Resumed { stream, .. }) = flows.resume(session, id, attempt, resumed) {
        let unknown = Failed::new(Reason::Unspecified, "there is no such flow (any more)");
        let _ = stream.outgoing.send(frame::failed(&unknown)).await;
    }
}

async fn first(incoming: &mut Incoming, carrier: &Carrier) -> Result<FlowOpen, Failed> {
    const RULE: &str = "the first frame of a flow must open it";
    match tokio::time::timeout(OPEN_DEADLINE, incoming.next()).await {
        Ok(Some(Ok(FlowFrame {
            kind: Some(Kind::Open(open)),
        }))) => return Ok(*open),
        Ok(Some(Ok(_))) => carrier.close_for(&RULE),
        Ok(Some(Err(Broken::NoFrame(what)))) => carrier.close_for(&what),
        Ok(Some(Err(Broken::Carrier(_))) | None) | Err(_) => {}
    }
    Err(Failed::new(Reason::Prohibited, RULE))
}

/// Dials what the flow is to lead to; `None` when the machine lost interest.
async fn dial(
    open: &FlowOpen,
    incoming: &mut Incoming,
    carrier: &Carrier,
) -> Result<Option<Far>, Failed> {
    let target = target(open)?;
    match open.protocol() {
        FlowProtocol::Tcp => {
            let dial = tokio::time::timeout(DIAL_DEADLINE, TcpStream::connect(target));
            tokio::select! {
                dialled = dial => dialled
                    .map_err(|_| Failed::new(Reason::TimedOut, "no answer"))?
                    .map(|connection| Some(Far::Tcp(connection)))
                    .map_err(|error| Failed::from(&error)),
                // The machine lost interest, or breaks the protocol; either way nobody waits.
                said = incoming.next() => {
                    if carry::is_no_reset(said.as_ref()) {
                        carrier.close_for(&"a frame before the flow was opened");
                    }
                    Ok(None)
                }
            }
        }
        FlowProtocol::Udp => datagram::connected(target)
            .await
            .and_then(|socket| datagram::hear_all(&socket, target).map(|()| Some(Far::Udp(socket))))
            .map_err(|error| Failed::from(&error)),
        FlowProtocol::Echo => echo_socket(target)
            .and_then(|socket| {
                datagram::hear_all(&socket, target).map(|()| Some(Far::Echo(socket)))
            })
            .map_err(|error| Failed::from(&error)),
        FlowProtocol::Unspecified => Err(Failed::new(
            Reason::Prohibited,
            "a flow is TCP, UDP or echoes",
        )),
    }
}

async fn carry(
    far: Far,
    registered: Option<Registered>,
    incoming: Incoming,
    outgoing: Outgoing,
    carrier: Carrier,
) {
    match far {
        Far::Tcp(connection) => {
            let stream = Stream::new(outgoing, incoming, carrier);
            let outcome = carry_socket(connection, stream, registered).await;
            tracing::debug!(?outcome, "flow ended");
        }
        Far::Udp(socket) => {
            datagram::relay(socket, incoming, outgoing, &carrier, datagram::IDLE).await;
        }
        Far::Echo(socket) => {
            datagram::relay(socket, incoming, outgoing, &carrier, ECHO_IDLE).await;
        }
    }
}

/// Loopback is refused: it would be the manager's own, and with it the interface for sessions. So is
/// what is the node's and no service's: a cloud's metadata, with the node's credentials.
fn target(open: &FlowOpen) -> Result<SocketAddr, Failed> {
    let target: SocketAddr = open.target.parse().map_err(|_| {
        Failed::new(
            Reason::Prohibited,
            "the target isn't an address with a port",
        )
    })?;
    let ip = target.ip().to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip == METADATA_V6,
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local {
        return Err(Failed::new(
            Reason::Prohibited,
            format!("{ip} isn't an address of the cluster"),
        ));
    }
    Ok(target)
}

/// A socket for echo requests, which needs no privilege where the pod's `ping_group_range` says so
/// (icmp(7)); a datagram is a message.
fn echo_socket(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let (domain, protocol) = match target {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.connect(&target.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_managers_own_loopback_and_what_is_the_nodes_are_no_targets() {
        for own in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:80",
            "0.0.0.0:8080",
            "169.254.169.254:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
        ] {
            let open = FlowOpen {
                target: own.to_owned(),
                ..FlowOpen::default()
            };
            assert!(
                target(&open).is_err_and(|failed| failed.reason == Reason::Prohibited),
                "{own}"
            );
        }
    }
}
