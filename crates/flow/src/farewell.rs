//! The end of a stream.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kdev_proto::v1::FlowFrame;

use crate::outgoing::Outgoing;
use crate::rpc::read::Broken;

/// How long the other side may take to end a stream on which all was said.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends this side of a stream and waits until the other one has ended its own. Dropping a stream
/// before cancels it (RFC 9113 section 8.1), and what was sent last is then thrown away unsent.
pub async fn farewell<S>(mut incoming: S, outgoing: Outgoing)
where
    S: Stream<Item = Result<FlowFrame, Broken>> + Unpin,
{
    drop(outgoing);
    let ended = async { while let Some(Ok(_)) = incoming.next().await {} };
    // Who doesn't end it in time has lost interest in what was said.
    let _ = tokio::time::timeout(PATIENCE, ended).await;
}
