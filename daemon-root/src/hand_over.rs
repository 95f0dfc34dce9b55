//! Packets that came by another queue than their flow's: the shard that read one hands it to the shard
//! that knows the flow. It is the exception; see `Device::queue_of`.

use kdev_netstack::Checksum;
use tokio::sync::mpsc;

/// Packets that wait for one shard. What doesn't fit is lost, and sent again by its sender.
const QUEUE: usize = 64;

/// A packet for another shard.
#[derive(Debug)]
pub struct Misplaced {
    /// From the IP header on.
    pub packet: Vec<u8>,
    /// As the device said.
    pub checksum: Checksum,
}

/// A shard's way to the others.
#[derive(Debug, Clone)]
pub struct Peers(Vec<mpsc::Sender<Misplaced>>);

impl Peers {
    /// Makes the ways between so many shards, and where each of them receives.
    pub fn new(shards: usize) -> (Self, Vec<mpsc::Receiver<Misplaced>>) {
        let (senders, receivers) = (0..shards).map(|_| mpsc::channel(QUEUE)).unzip();
        (Self(senders), receivers)
    }

    /// Hands a packet to the shard of a queue. Never waits.
    pub fn hand_over(&self, queue: usize, misplaced: Misplaced) {
        let taken = self
            .0
            .get(queue)
            .is_some_and(|shard| shard.try_send(misplaced).is_ok());
        if !taken {
            tracing::debug!(queue, "a misplaced packet is lost");
        }
    }
}
