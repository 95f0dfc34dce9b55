//! The side that asks for a flow.

use futures::TryStreamExt as _;
use kdev_proto::v1::FlowOpen;
use kdev_proto::v1::flow_frame::Kind;
use tonic::Status;

use crate::frame::{self, Failed};
use crate::outgoing::{Frames, Outgoing, outgoing};
use crate::rpc::Incoming;
use crate::rpc::read::Broken;

/// A flow whose far end accepted: frames out, frames in. Dropping both resets it.
#[derive(Debug)]
pub struct Opened {
    /// Frames to the far end.
    pub outgoing: Outgoing,
    /// Frames from the far end.
    pub incoming: Incoming,
    /// For a flow that is resumed: what the other side has received.
    pub received: u64,
}

/// Why a flow wasn't opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The far end said no.
    #[error("the far end refused: {0}")]
    Failed(#[source] Failed),
    /// The answer was neither, or no frame at all.
    #[error("the answer to an open was neither opened nor failed")]
    Violation,
    /// The carrier broke before the far end said anything.
    #[error("the carrier broke")]
    Carrier(#[source] Box<Status>),
}

impl From<Broken> for OpenError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::NoFrame(_) => Self::Violation,
            Broken::Carrier(status) => Self::Carrier(status),
        }
    }
}

/// Opens a flow with `call`, a method of a gRPC client, and waits for the far end's answer.
///
/// Cancel safe: dropping the future takes the request back.
///
/// # Errors
///
/// See [`OpenError`].
pub async fn open<C, F>(request: FlowOpen, call: C) -> Result<Opened, OpenError>
where
    C: FnOnce(Frames) -> F,
    F: Future<Output = Result<Incoming, Broken>>,
{
    let (outgoing, frames) = outgoing();
    // There is room: the channel is new.
    let _ = outgoing.try_send(frame::open(request));
    let mut incoming = call(frames).await?;
    match incoming.try_next().await?.and_then(|frame| frame.kind) {
        Some(Kind::Opened(opened)) => Ok(Opened {
            outgoing,
            incoming,
            received: opened.received,
        }),
        Some(Kind::Failed(failed)) => Err(OpenError::Failed(failed.into())),
        Some(_) => Err(OpenError::Violation),
        None => Err(OpenError::Carrier(Box::new(Status::unavailable(
            "the stream ended before the far end said anything",
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stream_of;

    #[tokio::test]
    async fn an_answer_that_is_none_is_told_from_a_refusal_and_from_a_carrier_that_broke() {
        let answered = async |message| {
            let answer = stream_of(message);
            open(FlowOpen::default(), |_| async { Ok(answer) }).await
        };
        let opened = answered("\x12\x02\x08\x07").await.unwrap();
        assert_eq!(opened.received, 7);
        let refused = answered("\x1a\x02\x08\x01").await.unwrap_err();
        assert!(matches!(refused, OpenError::Failed(_)), "{refused:?}");
        for nonsense in ["\x22\x02hi", "\x07"] {
            let broken = answered(nonsense).await.unwrap_err();
            assert!(matches!(broken, OpenError::Violation), "{broken:?}");
        }
        let broken = open(FlowOpen::default(), |_| async {
            Err(Status::unavailable("the connection was given up").into())
        });
        let broken = broken.await.unwrap_err();
        assert!(matches!(broken, OpenError::Carrier(_)), "{broken:?}");
    }
}
