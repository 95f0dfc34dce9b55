//! One accepted TCP flow: its socket, and what its owner has been told.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smoltcp::iface::Interface;
use smoltcp::socket::tcp::{self, State};
use smoltcp::wire::IpEndpoint;

use crate::clock::{Clock, Micros};
use crate::held::Counted;
use crate::held_syn::HeldSyn;
use crate::ip::{self, IpPacket};
use crate::link::{Outbox, Port, Sent, Shape, Sink};
use crate::memory::Rings;
use crate::offload::{Offload, PacketBuffer};
use crate::reply::Control;
use crate::segment::{Segment, is_after};
use crate::socket::TcpSocket;
use crate::workaround::{self, Workaround};
use crate::{Config, FlowKey, Recv};

/// How long a client may take to finish the handshake (Linux: `tcp_synack_retries` at 5).
const HANDSHAKE: Duration = Duration::from_secs(63);

/// How much room makes it worth telling the owner that there is room.
const WRITABLE: usize = 64 * 1024;

/// When nothing can be sent although smoltcp says it is time, it is asked again after this.
const SPIN_GUARD: Micros = 1_000;

/// A flow.
pub(crate) struct Flow {
    pub(crate) key: FlowKey,
    /// Whether it is queued for egress.
    pub(crate) ready: bool,
    /// The time of its entry among the timers.
    pub(crate) scheduled: Option<Micros>,
    pub(crate) sent: Sent,
    socket: TcpSocket,
    shape: Shape,
    dead_after: Duration,
    /// How many bytes each of its rings may hold for now.
    allowed: usize,
    /// How many bytes its owner has taken, and how many it has given for the client.
    taken: u64,
    given: u64,
    /// What its rings had when they were counted, if they were.
    pub(crate) counted: Option<Counted>,
    /// When the rings are given back unless more is written to them than so many bytes.
    trim_at: Option<(Micros, usize)>,
    workaround: Workaround,
    /// The sequence number behind the last byte the client is known to have sent.
    client_end: u32,
    last_state: State,
    open: bool,
    over: bool,
    fin_seen: bool,
    fin_wanted: bool,
    end_told: bool,
    wants_read: bool,
    wants_write: bool,
}

/// What the owner is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) closed: Option<Closed>,
}

/// How a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Reset,
    /// A FIN from each side; the last acknowledgement may have to be repeated.
    Finished,
}

impl Flow {
    /// Makes a flow of a held SYN, which is then read as if it came in now.
    pub(crate) fn accept(
        syn: &HeldSyn,
        rings: Rings,
        config: &Config,
        iface: &mut Interface,
        clock: &Clock,
        outbox: &mut Outbox,
    ) -> Self {
        let headers = ip::header_len(syn.key.target.ip()) + 20;
        let shape = Shape {
            mtu: config.mtu,
            mss: syn.mss.min(config.mtu - headers),
            offload: config.segmentation,
            room: usize::MAX,
        };
        let mut socket = TcpSocket::new(rings);
        let tcp = socket.get_mut();
        tcp.set_ack_delay(None);
        tcp.set_nagle_enabled(false);
        tcp.set_keep_alive(Some(config.keep_alive.into()));
        tcp.set_timeout(Some(HANDSHAKE.into()));
        // It cannot fail: the socket is new, and a segment without a port is no segment.
        let _ = tcp.listen(IpEndpoint::from(syn.key.target));
        let mut flow = Self {
            key: syn.key,
            ready: false,
            scheduled: None,
            sent: Sent::default(),
            socket,
            shape,
            dead_after: config.dead_after,
            allowed: usize::MAX,
            taken: 0,
            given: 0,
            counted: None,
            trim_at: None,
            workaround: Workaround::default(),
            client_end: syn.segment.end(),
            last_state: State::Listen,
            open: false,
            over: false,
            fin_seen: false,
            fin_wanted: false,
            end_told: false,
            wants_read: true,
            wants_write: false,
        };
        flow.feed(&syn.packet, iface, clock, outbox);
        flow.last_state = flow.socket.get().state();
        flow
    }

    /// Reads one of the client's segments.
    pub(crate) fn handle(
        &mut self,
        packet: &IpPacket<'_>,
        segment: &Segment,
        iface: &mut Interface,
        clock: &Clock,
        outbox: &mut Outbox,
    ) {
        if is_after(segment.end(), self.client_end) {
            self.client_end = segment.end();
        }
        self.socket.note_written(segment.payload_len);
        let nothing_queued = self.socket.get().send_queue() == 0;
        if nothing_queued && workaround::says_nothing_new(segment, &self.sent) {
            return;
        }
        let (mut workaround, sent) = (self.workaround, self.sent);
        workaround.translate(packet, segment, sent, |packet| {
            self.feed(packet, iface, clock, outbox);
        });
        self.workaround = workaround;
        if self.socket.get().state() == State::TimeWait {
            // The last acknowledgement goes out now: were smoltcp asked later, it might find the
            // state expired and clear the receive ring, read or not.
            self.flush(iface, clock, outbox);
        }
    }

    /// Says how many bytes each of its rings may hold from now on.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.allowed = bytes;
    }

    fn shape(&self) -> Shape {
        Shape {
            room: self.allowed.saturating_sub(self.socket.get().recv_queue()),
            ..self.shape
        }
    }

    fn feed(&mut self, packet: &[u8], iface: &mut Interface, clock: &Clock, outbox: &mut Outbox) {
        let mut port = Port {
            packet: Some(packet),
            sink: Sink::Outbox(outbox),
            shape: self.shape(),
            sent: &mut self.sent,
        };
        iface.poll_ingress_single(clock.smoltcp(), &mut port, self.socket.set());
    }

    /// Writes the flow's next packet, if it has one.
    pub(crate) fn egress(
        &mut self,
        iface: &mut Interface,
        clock: &Clock,
        buffer: &mut PacketBuffer,
    ) -> Option<Offload> {
        let mut offload = None;
        let mut port = Port {
            packet: None,
            sink: Sink::Owner(buffer, &mut offload),
            shape: self.shape(),
            sent: &mut self.sent,
        };
        iface.poll_egress(clock.smoltcp(), &mut port, self.socket.set());
        offload
    }

    /// Resets the connection, so far as the client knows of it.
    pub(crate) fn abort(&mut self, iface: &mut Interface, clock: &Clock, outbox: &mut Outbox) {
        self.socket.get_mut().abort();
        self.flush(iface, clock, outbox);
        self.over = true;
    }

    /// Writes the flow's next packet behind those that wait already.
    fn flush(&mut self, iface: &mut Interface, clock: &Clock, outbox: &mut Outbox) {
        let mut port = Port {
            packet: None,
            sink: Sink::Outbox(outbox),
            shape: self.shape(),
            sent: &mut self.sent,
        };
        iface.poll_egress(clock.smoltcp(), &mut port, self.socket.set());
    }

    /// Compares the socket with what the owner knows.
    pub(crate) fn observe(&mut self) -> Changes {
        if self.over {
            return Changes::default();
        }
        let state = self.socket.get().state();
        if !self.open && !matches!(state, State::SynReceived | State::Listen | State::Closed) {
            self.open = true;
            self.socket
                .get_mut()
                .set_timeout(Some(self.dead_after.into()));
        }
        if self.fin_wanted {
            self.close();
        }
        let state = self.socket.get().state();
        self.fin_seen |= matches!(
            state,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        let everything_arrived = self.socket.get().send_queue() == 0;
        let closed = match state {
            // A reset before the handshake was finished makes smoltcp listen again.
            State::Listen => Some(Closed::Reset),
            // A client that resets, or is gone, with nothing missing but its word for our FIN has
            // forgotten a conversation that was complete.
            State::Closed => match self.last_state {
                State::LastAck | State::Closing if everything_arrived => Some(Closed::Finished),
                _ => Some(Closed::Reset),
            },
            State::TimeWait => Some(Closed::Finished),
            _ => None,
        };
        self.last_state = state;
        self.over = closed.is_some();
        let tcp = self.socket.get();
        let readable = tcp.recv_queue() > 0 || self.fin_seen || self.over;
        let capacity = tcp.send_capacity().min(self.allowed);
        let room = capacity.saturating_sub(tcp.send_queue());
        let writable = tcp.may_send() && !self.fin_wanted && room >= WRITABLE.min(capacity / 2);
        // A wish that is not granted stays one.
        Changes {
            readable: readable && std::mem::take(&mut self.wants_read),
            writable: writable && std::mem::take(&mut self.wants_write),
            closed,
        }
    }

    /// Returns whether nothing is left that the owner has not been told.
    pub(crate) fn is_told_everything(&self) -> bool {
        self.socket.get().recv_queue() == 0 && (self.end_told || !self.fin_seen)
    }

    /// Returns whether the conversation is over.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Returns how many bytes wait in both rings.
    pub(crate) fn buffered(&self) -> usize {
        let tcp = self.socket.get();
        tcp.recv_queue() + tcp.send_queue()
    }

    /// Returns how many bytes have gone through both rings.
    pub(crate) fn moved(&self) -> u64 {
        self.taken + self.given - self.socket.get().send_queue() as u64
    }

    /// Returns what its rings have now.
    pub(crate) fn count(&self) -> Counted {
        Counted {
            buffered: self.buffered(),
            resident: self.socket.resident(),
        }
    }

    /// Returns whether the handshake is finished.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes up to `max` received bytes.
    pub(crate) fn recv(&mut self, max: usize) -> Recv {
        let wanted = self.socket.get().recv_queue().min(max);
        if wanted > 0 {
            let bytes = take(self.socket.get_mut(), wanted);
            self.taken += bytes.len() as u64;
            return Recv::Data(bytes);
        }
        if self.socket.get().recv_queue() > 0 {
            // The owner asked for nothing at all.
            return Recv::Empty;
        }
        if self.fin_seen {
            self.end_told = true;
            Recv::End
        } else if self.over {
            Recv::Reset
        } else {
            self.wants_read = true;
            Recv::Empty
        }
    }

    /// Queues bytes for the client and returns how many fitted.
    pub(crate) fn send(&mut self, data: &[u8]) -> usize {
        if self.fin_wanted || self.over {
            return 0;
        }
        let room = self.room().min(data.len());
        let sent = self.socket.get_mut().send_slice(&data[..room]).unwrap_or(0);
        self.socket.note_written(sent);
        self.given += sent as u64;
        self.wants_write |= sent < data.len();
        sent
    }

    /// Returns how many bytes `send` would take now.
    pub(crate) fn room(&self) -> usize {
        let tcp = self.socket.get();
        if self.fin_wanted || !tcp.may_send() {
            0
        } else {
            let capacity = tcp.send_capacity().min(self.allowed);
            capacity.saturating_sub(tcp.send_queue())
        }
    }

    /// Returns what tells the client that there is room again, where smoltcp wouldn't say so: it knows
    /// nothing of a window that was held back.
    pub(crate) fn reopen(&mut self) -> Option<Control> {
        let tcp = self.socket.get();
        let fits = tcp.recv_capacity() - tcp.recv_queue();
        let room = self.shape().room;
        let least = (WRITABLE / 4).min(self.allowed / 2);
        let window = self.sent.told.reopen(self.sent.ack, fits, room, least)?;
        self.sent.window = window;
        Some(self.acknowledgement())
    }

    /// Returns a segment that repeats what the client was told last.
    pub(crate) fn acknowledgement(&self) -> Control {
        Control {
            reset: false,
            seq: self.sent.next,
            ack: Some(self.sent.ack),
            window: self.sent.window,
        }
    }

    /// Sends a FIN after everything queued.
    pub(crate) fn shutdown(&mut self) {
        self.fin_wanted = true;
        self.close();
    }

    /// Closes the socket's sending half as soon as smoltcp can bear it.
    fn close(&mut self) {
        let tcp = self.socket.get_mut();
        let now = match tcp.state() {
            // In SYN-RECEIVED it would send the FIN instead of the SYN-ACK.
            State::Established => true,
            // With the client's FIN received, closing would make it deaf to a window that opens,
            // until everything queued has arrived.
            State::CloseWait => tcp.send_queue() == 0,
            _ => false,
        };
        if now {
            tcp.close();
            self.last_state = tcp.state();
        }
    }

    /// Gives pages that hold nothing back if the flow has been idle for `trim_after`, and returns when it wants to
    /// be looked at again.
    pub(crate) fn deadline(
        &mut self,
        iface: &mut Interface,
        clock: &Clock,
        trim_after: Duration,
    ) -> Option<Micros> {
        self.trim(clock, trim_after);
        let at = iface.poll_at(clock.smoltcp(), self.socket.set());
        let at = at.map(|at| at.total_micros().max(clock.now() + SPIN_GUARD));
        [at, self.trim_at.map(|(at, _)| at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn trim(&mut self, clock: &Clock, trim_after: Duration) {
        if self.trim_at.is_some_and(|(at, _)| at > clock.now()) {
            return;
        }
        let written = self.socket.written();
        let idle = self
            .trim_at
            .take()
            .is_some_and(|(_, before)| before == written);
        // Bytes behind a gap lie in the ring without being queued; with everything the client
        // sent acknowledged there is no gap.
        if idle && !is_after(self.client_end, self.sent.ack) {
            self.socket.trim();
        } else if written > 0 {
            // Of thousands of idle flows, even two pages each are too many.
            self.trim_at = Some((clock.after(trim_after), written));
        }
    }

    pub(crate) fn into_rings(self) -> Rings {
        self.socket.into_rings()
    }
}

/// Takes exactly `wanted` queued bytes, which may lie in two pieces.
fn take(tcp: &mut tcp::Socket<'_>, wanted: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(wanted);
    while bytes.len() < wanted {
        let missing = wanted - bytes.len();
        let taken = tcp.recv(|piece| {
            let piece = &piece[..piece.len().min(missing)];
            bytes.extend_from_slice(piece);
            (piece.len(), piece.len())
        });
        if !matches!(taken, Ok(1..)) {
            break;
        }
    }
    bytes.freeze()
}
