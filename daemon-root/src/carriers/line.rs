//! What flows and lookups use of a carrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kdev_common::channel::Channel;
use kdev_flow::Carrier as FlowCarrier;
use kdev_flow::rpc::client::FlowsClient;
use kdev_proto::v1::manager_client::ManagerClient;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long what was said last may take to get out of a carrier that no flow needs any more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A client of the manager over one carrier.
pub type Client = ManagerClient<Channel>;

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) client: Client,
    pub(super) calls: FlowsClient,
    pub(super) close: FlowCarrier,
    pub(super) flows: AtomicU32,
    /// Once another carrier has taken its place: no flow comes to it, and those that it has move, if they can without a loss.
    pub(super) left: CancellationToken,
    /// Notified when it has no flow any more.
    pub(super) emptied: Notify,
    /// Breaks it.
    pub(super) kill: CancellationToken,
}

impl Line {
    pub(super) fn flows(&self) -> u32 {
        self.flows.load(Ordering::Relaxed)
    }

    /// Waits until another one has taken its place, and nobody needs it any more.
    pub(super) async fn abandoned(&self) {
        self.left.cancelled().await;
        while self.flows() > 0 {
            self.emptied.notified().await;
        }
        // The last of them may still be saying goodbye.
        tokio::time::sleep(LAST_WORDS).await;
    }
}

/// A carrier's place for one flow, given back when dropped.
#[derive(Debug)]
pub struct Place(pub(super) Arc<Line>);

impl Place {
    pub(super) fn on(line: &Arc<Line>) -> Self {
        line.flows.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }

    /// The manager, over the carrier.
    pub fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Its flows.
    pub fn calls(&self) -> FlowsClient {
        self.0.calls.clone()
    }

    /// For flows over which the manager breaks the protocol.
    pub fn carrier(&self) -> &FlowCarrier {
        &self.0.close
    }

    /// Waits until another carrier has taken the place of this one, which goes on for a while. Cancel safe.
    pub async fn left(&self) {
        self.0.left.cancelled().await;
    }

    /// Whether another carrier has taken the place of this one.
    pub fn is_left(&self) -> bool {
        self.0.left.is_cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.0.flows.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_one();
        }
    }
}
