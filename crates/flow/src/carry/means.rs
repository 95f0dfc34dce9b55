//! A carrier's part of a flow, and where the next one comes from.

use std::future;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use kdev_proto::v1::FlowFrame;
use tonic::Status;

use crate::carrier::Carrier;
use crate::open::Opened;
use crate::outgoing::{Outgoing, outgoing};
use crate::rpc::Incoming;
use crate::rpc::read::Broken;

/// One carrier's part of a flow: frames to the other side and from it.
pub struct Stream {
    /// Frames to the other side.
    pub outgoing: Outgoing,
    /// Frames from the other side.
    pub incoming: BoxStream<'static, Result<FlowFrame, Broken>>,
    /// The carrier itself.
    pub carrier: Carrier,
    /// What this side has said over it already; its near end is taken to have said it.
    pub said: Bytes,
}

impl Stream {
    /// Makes one from both ends of a call.
    pub fn new(outgoing: Outgoing, incoming: Incoming, carrier: Carrier) -> Self {
        Self {
            outgoing,
            incoming: incoming.boxed(),
            carrier,
            said: Bytes::new(),
        }
    }

    /// The stream of a flow that was opened over `carrier`.
    pub fn over(opened: Opened, carrier: Carrier) -> Self {
        Self::new(opened.outgoing, opened.incoming, carrier)
    }

    /// One that broke after `said` was said over it: its flow goes on as soon as it is resumed over `carrier`.
    pub fn broken(carrier: Carrier, said: Bytes) -> Self {
        Self {
            outgoing: outgoing().0,
            incoming: stream::empty().boxed(),
            carrier,
            said,
        }
    }

    /// The same stream, which breaks when `lost` is done.
    #[must_use]
    pub fn until(self, lost: impl Future<Output = ()> + Send + 'static) -> Self {
        let broken = async {
            lost.await;
            Some(Err(
                Status::unavailable("the connection was given up").into()
            ))
        };
        let frames = self.incoming.map(Some).chain(stream::iter([None]));
        let both = stream::select(frames, stream::once(broken));
        let incoming = both
            .take_while(|item| future::ready(item.is_some()))
            .filter_map(future::ready);
        Self {
            incoming: incoming.boxed(),
            ..self
        }
    }
}

/// Another carrier's part of the same flow.
pub struct Resumed {
    /// The stream.
    pub stream: Stream,
    /// What the other side has received.
    pub received: u64,
    /// Whether the other side waits to hear what this side has received.
    pub answer: bool,
}

/// Why a flow moves to another carrier though the one that it has seems alive.
pub enum Moved {
    /// The other side has come with another one.
    Here(Resumed),
    /// This side is to find another one, as there is a better.
    Away,
}

/// Where other carriers come from.
pub trait Resume: Send {
    /// Waits until the flow is to move though its carrier seems alive. Cancel safe.
    fn moved(&mut self) -> impl Future<Output = Moved> + Send {
        future::pending()
    }
    /// Finds another carrier, on which the other side is told that `received` was received; `None`
    /// when that took too long, or the other side knows nothing of the flow. Cancel safe.
    fn resume(&mut self, received: u64) -> impl Future<Output = Option<Resumed>> + Send;
}

/// Without means, a flow ends with its carrier.
impl<M: Resume> Resume for Option<M> {
    async fn moved(&mut self) -> Moved {
        match self {
            Some(means) => means.moved().await,
            None => future::pending().await,
        }
    }

    async fn resume(&mut self, received: u64) -> Option<Resumed> {
        self.as_mut()?.resume(received).await
    }
}
