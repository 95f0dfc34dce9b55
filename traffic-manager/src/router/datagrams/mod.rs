//! A UDP port of the router: a flow per client's address, whose datagrams go to the machine that claimed the
//! port, or to a pod. Answers leave by the socket by which the client came, so that the node maps them back to
//! the Service's own address.

mod flow;
mod recent;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kdev_flow::budget::Budget;
use kdev_flow::datagram_queue::{Inlet, queue};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::claimants::{Claimant, Snapshot};
use super::machine::Purpose;
use super::{AFTER_ERROR, Way};
use flow::Flow;
use recent::Recent;

/// Most flows that one socket has at once; who was silent for longest makes room for who is new.
const FLOWS: usize = 4096;
/// What the kernel is asked to keep while this process does something else; it gives what it may.
const KERNEL_BUFFER: usize = 4 << 20;
/// Largest payload of a UDP datagram of either family.
const LARGEST: usize = 65_535;

/// One address of the router's port.
pub struct Port {
    socket: UdpSocket,
    way: Arc<Way>,
    flows: Mutex<Recent<SocketAddr, Entry>>,
    held: Arc<Budget>,
}

/// One client.
struct Entry {
    inlet: Inlet,
    /// Copies, by the ids of those who get them.
    copies: Vec<(String, Inlet)>,
    /// Ends what carries them.
    over: CancellationToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Takes the datagrams of a socket until its port is closed; their flows end with it. What waits for them counts
/// among what `held` has.
pub async fn serve(socket: UdpSocket, way: Arc<Way>, held: Arc<Budget>) {
    if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(KERNEL_BUFFER) {
        tracing::debug!(%error, "the kernel keeps as many datagrams as it likes");
    }
    let port = Arc::new(Port {
        socket,
        way: Arc::clone(&way),
        flows: Mutex::new(Recent::new(FLOWS)),
        held,
    });
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            () = way.closed.cancelled() => break,
            received = port.socket.recv_from(&mut buffer) => received,
        };
        match received {
            Ok((size, client)) => port.handle(Bytes::copy_from_slice(&buffer[..size]), client),
            Err(error) => {
                tracing::warn!(%error, "the router didn't receive a datagram");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
    // Its flows know it, and it knows them.
    *port.lock() = Recent::new(FLOWS);
}

impl Port {
    fn lock(&self) -> MutexGuard<'_, Recent<SocketAddr, Entry>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(self: &Arc<Self>, datagram: Bytes, client: SocketAddr) {
        let current = self.way.claimants.current();
        if let Some(claimant) = current.of_probe(&datagram) {
            let (port, claimant) = (Arc::clone(self), Arc::clone(claimant));
            self.way
                .tasks
                .spawn(async move { port.prove(client, &claimant).await });
            return;
        }
        let mut flows = self.lock();
        if let Some(entry) = flows.get(&client)
            && !entry.inlet.is_closed()
        {
            self.hand_out(datagram, client, entry, &current);
            return;
        }
        let over = CancellationToken::new();
        let mut entry = Entry {
            inlet: self.spawn(client, None, &over),
            copies: Vec::new(),
            over,
        };
        self.hand_out(datagram, client, &mut entry, &current);
        if flows.insert(client, entry).is_some() {
            tracing::debug!(service = %self.way.service, "too many clients: the one that was silent for longest is forgotten");
        }
    }

    /// Never waits: what doesn't fit is lost, as on any network.
    fn hand_out(
        self: &Arc<Self>,
        datagram: Bytes,
        client: SocketAddr,
        entry: &mut Entry,
        current: &Snapshot,
    ) {
        entry.copies.retain(|(_, inlet)| !inlet.is_closed());
        for tap in current.copies(None) {
            let id = &tap.claim.id;
            let known = entry.copies.iter().position(|(known, _)| known == id);
            let known = known.unwrap_or_else(|| {
                let inlet = self.spawn(client, Some(Arc::clone(tap)), &entry.over);
                entry.copies.push((id.clone(), inlet));
                entry.copies.len() - 1
            });
            entry.copies[known].1.push(datagram.clone());
        }
        entry.inlet.push(datagram);
    }

    /// Starts what carries a client's datagrams, or copies of them to the one who gets them, until it is over.
    fn spawn(
        self: &Arc<Self>,
        client: SocketAddr,
        copies: Option<Arc<Claimant>>,
        over: &CancellationToken,
    ) -> Inlet {
        let (inlet, outlet) = queue(&self.held);
        let flow = Flow::new(Arc::clone(self), client, outlet);
        let (port, over) = (Arc::clone(self), over.clone());
        self.way.tasks.spawn(async move {
            match copies {
                Some(tap) => tokio::select! {
                    () = over.cancelled() => {}
                    () = flow.run_copies(&tap) => {}
                },
                None => {
                    tokio::select! {
                        () = over.cancelled() => {}
                        () = flow.run() => {}
                    }
                    port.forget(client);
                }
            }
        });
        inlet
    }

    /// A flow is over; one that came after it stays.
    fn forget(&self, client: SocketAddr) {
        let over = self
            .lock()
            .remove_if(&client, |entry| entry.inlet.is_closed());
        drop(over);
    }

    /// Answers the prober once the machine has: its answer is the proof.
    async fn prove(&self, prober: SocketAddr, claimant: &Claimant) {
        let probe = Purpose::Probe(claimant.probe.token());
        if let Err(why) = claimant.ask(probe).await {
            tracing::debug!(service = %self.way.service, %why, "a probe isn't answered");
            return;
        }
        self.answer(claimant.probe.answer(), prober).await;
    }

    /// Sends a client an answer; what the network doesn't take is lost.
    async fn answer(&self, datagram: &[u8], client: SocketAddr) {
        let sent: io::Result<_> = self.socket.send_to(datagram, client).await;
        if let Err(error) = sent {
            tracing::debug!(service = %self.way.service, %client, %error, "an answer is lost");
        }
    }
}
