//! The manager's service for flows: each method in a few lines, the work elsewhere.

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use kdev_flow::outgoing::outgoing;
use kdev_flow::rpc::server::{Call, Flows};
use kdev_proto::v1::FlowFrame;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::flows;
use crate::peer::Peer;
use crate::resumable::ResumableFlows;
use crate::waiting::Waiting;

/// See the module.
pub struct Calls {
    /// The flows that outlive their carriers.
    pub flows: ResumableFlows,
    /// Where flows run.
    pub tasks: TaskTracker,
}

impl Flows for Calls {
    type Answer = BoxStream<'static, FlowFrame>;

    async fn flow(&self, call: Call) -> Result<Self::Answer, Status> {
        let peer = Peer::of(&call.extensions)?;
        let mut frames = flows::serve(&self.tasks, self.flows.clone(), peer, call.incoming);
        // The answer's head and its first frame leave together.
        let first = frames.next().await;
        Ok(stream::iter(first).chain(frames).boxed())
    }

    async fn accept(&self, call: Call) -> Result<Self::Answer, Status> {
        let peer = Peer::of(&call.extensions)?;
        let carrier = peer.carrier.clone();
        let session = peer.speaker()?;
        let (outgoing, frames) = outgoing();
        let waiting = Waiting {
            outgoing,
            incoming: call.incoming.boxed(),
            carrier,
        };
        session.streams.add(waiting, &self.tasks);
        Ok(frames.boxed())
    }
}
