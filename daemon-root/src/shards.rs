//! A shard for each queue of the device, and what they share.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::available_parallelism;

use kdev_host::device::Device;
use kdev_netstack::Config;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::carriers::Carriers;
use crate::datagram_flows::Budget;
use crate::hand_over::Peers;
use crate::shard::{Parts, Shard};

/// More queues than this carry no more: the carriers do less than one shard can.
const MOST: usize = 4;

/// Flows of a device that may wait for their far end at once. Each costs some 35 KB while it does, most of
/// it gRPC's buffers; so many stay far below what a flood of requests may cost.
const PENDING: usize = 512;

/// How many queues a device of this machine is to have.
pub fn queues() -> NonZeroUsize {
    let cores = available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(MOST).map_or(cores, |most| most.min(cores))
}

/// What all shards of a device need.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Where flows go.
    pub carriers: Arc<Carriers>,
    /// Where flows run.
    pub tasks: TaskTracker,
    /// When they end.
    pub cancelled: CancellationToken,
    /// How many flows there are, for `kdev status`.
    pub flows: Arc<AtomicU32>,
}

/// Makes a shard for each of a device's queues, which are in the order of their numbers. What is bounded
/// is bounded for the device.
pub fn shards(queues: &[Arc<Device>], shared: &Shared) -> Vec<Shard> {
    let (peers, receivers) = Peers::new(queues.len());
    let budget = Budget::default();
    let whole = Config::default();
    let share = |whole: usize| whole.div_ceil(queues.len());
    let each = queues.iter().zip(receivers).enumerate();
    let shards = each.map(|(number, (device, misplaced))| {
        let config = Config {
            mtu: device.mtu(),
            segmentation: device.offload(),
            max_buffered: share(whole.max_buffered),
            max_flows: share(whole.max_flows),
            max_pending: share(PENDING),
            ..whole.clone()
        };
        Shard::new(Parts {
            device: Arc::clone(device),
            number,
            config,
            peers: peers.clone(),
            misplaced,
            budget: budget.clone(),
            shared: shared.clone(),
        })
    });
    shards.collect()
}
