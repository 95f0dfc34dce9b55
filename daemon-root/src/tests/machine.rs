//! A machine in a network namespace: a device with a shard per queue, and carriers to a far end.

use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kdev_common::carrier::CarrierKind;
use kdev_flow::carry::RESUME_LIMIT;
use kdev_host::device::{Device, DeviceConfig};
use kdev_identity::{Connector, Identity};
use nix::sched::{CloneFlags, unshare};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::far_end::{FarEnd, NETWORKS};
use crate::carriers::{Carriers, Route};
use crate::shards::{Shared, shards};

/// After so long a test has failed, whatever it waits for.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a test sees of it.
pub struct Machine {
    /// The queues of the device that there are.
    pub queues: usize,
    /// How many flows each shard has.
    pub flows: Vec<Arc<AtomicU32>>,
    /// The far end.
    pub far: FarEnd,
}

impl Machine {
    /// How many flows each shard has now.
    pub fn flows(&self) -> Vec<u32> {
        let flows = self.flows.iter();
        flows.map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Runs a test on a machine whose device has so many queues.
pub fn on_a_machine<F>(queues: usize, test: impl FnOnce(Arc<Machine>) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let far = FarEnd::new(2);
    let thread = std::thread::spawn(move || {
        own_network();
        runtime().block_on(async {
            let ended = CancellationToken::new();
            let tasks = TaskTracker::new();
            let all = async { test(start(queues, far, &ended, &tasks).await).await };
            tokio::time::timeout(DEADLINE, all)
                .await
                .expect("done until the deadline");
            ended.cancel();
            tasks.close();
            tasks.wait().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn start(
    queues: usize,
    mut far: FarEnd,
    ended: &CancellationToken,
    tasks: &TaskTracker,
) -> Arc<Machine> {
    let config = DeviceConfig {
        addresses: ["198.18.53.1/32", "fd6b::1/128"]
            .map(|text| text.parse().unwrap())
            .to_vec(),
        ..DeviceConfig::default()
    };
    let queues = Device::open_queues(&config, NonZeroUsize::new(queues).unwrap())
        .await
        .unwrap();
    for network in NETWORKS {
        ip(&format!("route add {network} dev {}", queues[0].name()));
    }
    let queues: Vec<_> = queues.into_iter().map(Arc::new).collect();
    let carriers = Arc::new(Carriers::new(RESUME_LIMIT));
    for (id, stream) in (1..).zip(far.carriers.drain(..)) {
        stream.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(stream).unwrap();
        let (carriers, ended) = (Arc::clone(&carriers), ended.clone());
        let route = Route {
            connector: Connector::new(Identity::generate().unwrap()),
            manager: far.key,
            kind: CarrierKind::PortForward,
            arrival: id.into(),
        };
        tasks.spawn(async move { carriers.run(id, stream, route, ended).await });
    }
    // Until the first is up.
    drop(carriers.place().await);
    let shared = Shared {
        carriers,
        tasks: tasks.clone(),
        cancelled: ended.clone(),
        flows: Arc::default(),
    };
    let shards = shards(&queues, &shared);
    let flows = shards.iter().map(|_| Arc::default()).collect::<Vec<_>>();
    for (mut shard, flows) in shards.into_iter().zip(&flows) {
        shard.count_in(Arc::clone(flows));
        tasks.spawn(async move { shard.run().await.expect("the device works") });
    }
    Arc::new(Machine {
        queues: queues.len(),
        flows,
        far,
    })
}

/// Takes the calling thread, and those it starts from now on, into a network of its own.
pub fn own_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("tests need root");
    ip("link set lo up");
}

/// A runtime whose threads are where the calling thread is.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs `ip` with these arguments in the calling thread's network.
pub fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {error}");
}
