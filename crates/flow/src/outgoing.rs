//! The way of a flow's frames to its gRPC stream.

use futures::StreamExt as _;
use futures::stream::Map;
use kdev_proto::v1::FlowFrame;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio_stream::wrappers::ReceiverStream;

/// Frames that wait; with the stream's window this bounds what one flow holds in memory.
const QUEUE: usize = 4;

/// Where a flow's task puts its frames. A clone leads to the same stream.
///
/// They are boxed on their way: a queue keeps room for 32 of them from its first one on, and thousands
/// of flows are idle.
#[derive(Debug, Clone)]
pub struct Outgoing(mpsc::Sender<Box<FlowFrame>>);

/// Where the gRPC stream takes them.
pub type Frames = Map<ReceiverStream<Box<FlowFrame>>, fn(Box<FlowFrame>) -> FlowFrame>;

/// Makes both ends.
pub fn outgoing() -> (Outgoing, Frames) {
    with_room(QUEUE)
}

/// The same for so many frames.
pub(crate) fn with_room(frames: usize) -> (Outgoing, Frames) {
    let (sender, receiver) = mpsc::channel(frames);
    let frames = ReceiverStream::new(receiver);
    (Outgoing(sender), frames.map(|frame| *frame))
}

/// The stream is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

/// Room for one frame.
#[derive(Debug)]
pub struct Room<'a>(mpsc::Permit<'a, Box<FlowFrame>>);

impl Room<'_> {
    /// Puts a frame there.
    pub fn send(self, frame: FlowFrame) {
        self.0.send(Box::new(frame));
    }
}

impl Outgoing {
    /// Waits for room and puts a frame there. Cancel safe, the frame is lost then.
    ///
    /// # Errors
    ///
    /// When the stream is gone.
    pub async fn send(&self, frame: FlowFrame) -> Result<(), Ended> {
        let sent = self.0.send(Box::new(frame)).await;
        sent.map_err(|SendError(_)| Ended)
    }

    /// Waits for room. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the stream is gone.
    pub async fn reserve(&self) -> Result<Room<'_>, Ended> {
        let permit = self.0.reserve().await;
        permit.map(Room).map_err(|SendError(())| Ended)
    }

    /// Puts a frame there if there is room; whether it did.
    pub fn try_send(&self, frame: FlowFrame) -> bool {
        let sent = self.0.try_send(Box::new(frame));
        !matches!(sent, Err(TrySendError::Full(_) | TrySendError::Closed(_)))
    }

    /// Whether the stream is gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits until the stream is gone. Cancel safe.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
