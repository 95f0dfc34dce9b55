//! What a stack tells its owner, and what the owner may answer.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::{FlowId, FlowKey};

/// Something that happened to a flow, from [`Stack::poll_event`](crate::Stack::poll_event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client wants to connect. Its SYN is held until the owner calls `accept`, `refuse` or
    /// `unreachable`; retransmissions of it make no further event.
    TcpRequested {
        /// The new flow.
        flow: FlowId,
        /// Its two ends.
        key: FlowKey,
    },
    /// `recv` has something new to say: bytes, the client's FIN, or a reset. Said once, and again
    /// only after `recv` has answered [`Recv::Empty`].
    TcpReadable {
        /// The flow.
        flow: FlowId,
    },
    /// `send` will take bytes again. Said only after a `send` that took less than it was given.
    TcpWritable {
        /// The flow.
        flow: FlowId,
    },
    /// The conversation is over: no packet of it will move again. Said exactly once per accepted
    /// flow, whoever ended it, and for a requested flow whose client gave up before the decision or
    /// that made room for others.
    ///
    /// Bytes the client had sent stay readable: the flow is freed when `recv` has answered
    /// [`Recv::End`] or [`Recv::Reset`], or on `abort`.
    TcpClosed {
        /// The flow.
        flow: FlowId,
        /// Whether it ended by a reset (from either side, or because the client is gone) instead
        /// of by a FIN from each.
        reset: bool,
    },
    /// A TCP segment that came in fragments. Its fragments don't tell to which connection it belongs, so
    /// several stacks may have to be asked: the one that it is for gets it by
    /// [`Stack::handle_packet`](crate::Stack::handle_packet), unverified.
    Reassembled {
        /// The whole packet.
        packet: Bytes,
    },
    /// A UDP datagram, reassembled if it came in fragments.
    Datagram {
        /// Who sent it.
        client: SocketAddr,
        /// Whom it is for.
        target: SocketAddr,
        /// Its payload.
        payload: Bytes,
    },
    /// An echo request (ping), reassembled if it came in fragments. Nobody but the target may answer.
    Echo {
        /// Who sent it.
        client: IpAddr,
        /// Whom it is for.
        target: IpAddr,
        /// What tells one pinging program from another.
        identifier: u16,
        /// The whole ICMP message.
        message: Bytes,
    },
}

/// The answer of [`Stack::recv`](crate::Stack::recv).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recv {
    /// The next bytes, never none.
    Data(Bytes),
    /// Nothing yet; [`Event::TcpReadable`] will follow.
    Empty,
    /// The client has sent everything it will (its FIN was received).
    End,
    /// The flow was reset or never existed: bytes after those already read are lost.
    Reset,
}

/// Why a target cannot be reached, as an ICMP destination-unreachable message says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// No route to the target's network; `connect` fails with `ENETUNREACH`.
    Network,
    /// The target does not answer; `connect` fails with `EHOSTUNREACH`.
    Host,
    /// Nothing listens there; `connect` fails with `ECONNREFUSED`.
    Port,
    /// A policy forbids it; `connect` fails with `EHOSTUNREACH` on IPv4, with `EACCES` on IPv6.
    Prohibited,
}

/// Why [`Stack::accept`](crate::Stack::accept) did not make a connection.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The flow is not waiting for a decision: it was decided before, or the client gave up.
    #[error("accepting a flow failed: it no longer waits for a decision")]
    NotPending,
    /// The system gave no memory for the flow's buffers; the client has been refused.
    #[error(
        "accepting a flow failed: no memory for its buffers; close connections or lower max_flows"
    )]
    Buffers(#[source] io::Error),
}

/// Why [`Stack::send_datagram`](crate::Stack::send_datagram) did not queue a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendDatagramError {
    /// Sender and receiver are of different address families.
    #[error("sending a datagram failed: sender and receiver are of different address families")]
    MixedFamilies,
    /// The payload is longer than a datagram can be.
    #[error("sending a datagram failed: {length} bytes are more than its address family can carry")]
    TooLong {
        /// The payload's length in bytes.
        length: usize,
    },
    /// What should be an echo reply is another message.
    #[error("sending an echo reply failed: the message isn't one")]
    NotAReply,
    /// Too many packets wait to be polled: drop the datagram or send it after polling.
    #[error("sending a datagram failed: the queue of outgoing packets is full")]
    QueueFull,
}
