//! Carries a TCP flow between its near end and the other side, over one carrier after the other.
//!
//! The [`Ledger`] decides what is said next; this moves bytes, waits, and finds another carrier when
//! one breaks. Nothing here waits for one thing while it could do another: a near end that doesn't
//! read keeps nobody from writing, and acknowledgements pass whatever else is stuck.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use kdev_proto::v1::FlowFrame;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Status, Streaming};

use crate::farewell::farewell;
use crate::frame;
use crate::ledger::{Heard, Ledger, Undelivered, Violation};
use crate::open::Opened;

/// How long what was handed on may stay unacknowledged: the other side keeps it meanwhile.
const ACK_DELAY: Duration = Duration::from_millis(200);
/// How long the last words of a flow that broke may take to get onto its carrier.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a flow may be without a carrier: the programs at both ends must learn the truth some time.
pub const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// One carrier's part of a flow: frames to the other side and from it.
pub struct Stream {
    /// Frames to the other side.
    pub outgoing: mpsc::Sender<FlowFrame>,
    /// Frames from the other side.
    pub incoming: BoxStream<'static, Result<FlowFrame, Status>>,
}

impl Stream {
    /// Makes one from what a gRPC method gives.
    pub fn new(outgoing: mpsc::Sender<FlowFrame>, incoming: Streaming<FlowFrame>) -> Self {
        Self {
            outgoing,
            incoming: incoming.boxed(),
        }
    }
}

impl From<Opened> for Stream {
    fn from(opened: Opened) -> Self {
        Self::new(opened.outgoing, opened.incoming)
    }
}

/// What the near end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The next bytes; at most [`CHUNK`](crate::CHUNK).
    Data(Bytes),
    /// Its side is closed.
    End,
    /// Its connection is gone.
    Reset,
}

/// A near end's connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The half of a near end that speaks.
pub trait NearRead: Send {
    /// Waits for what it says next. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Said> + Send;
    /// Waits, after its end, until its connection is gone; never where only writing can tell. Cancel
    /// safe.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;
}

/// The half of a near end that listens.
pub trait NearWrite: Send {
    /// Hands it some of `bytes` and returns how many. Cancel safe.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<usize, Gone>> + Send;
    /// Tells it that nothing more comes. Cancel safe.
    fn end(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
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

/// Where other carriers come from.
pub trait Resume: Send {
    /// Waits until the other side comes with another carrier though this one seems alive; never, where
    /// this side is the one that comes. Cancel safe.
    fn replaced(&mut self) -> impl Future<Output = Resumed> + Send;
    /// Finds another carrier, on which the other side is told that `received` was received; `None`
    /// when that took too long, or the other side knows nothing of the flow. Cancel safe.
    fn resume(&mut self, received: u64) -> impl Future<Output = Option<Resumed>> + Send;
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions were closed in order.
    Closed,
    /// The other side reset it, broke the protocol, or is out of reach for too long; the near end's
    /// connection has to be reset.
    ResetByFlow,
    /// The near end's connection broke; the flow was reset.
    ResetByNear,
}

enum Turn {
    Over(Outcome),
    Lost,
    Replaced(Resumed),
}

/// Carries until both directions are closed or one side breaks. Dropping the future, at any time,
/// resets the flow; the near end is its owner's to reset.
pub async fn carry<R, W, M>(mut read: R, mut write: W, stream: Stream, mut means: M) -> Outcome
where
    R: NearRead,
    W: NearWrite,
    M: Resume,
{
    let mut ledger = Ledger::default();
    let mut current = stream;
    loop {
        let turn = connected(&mut ledger, &mut current, &mut read, &mut write, &mut means).await;
        let resumed = match turn {
            Turn::Over(outcome) => {
                part(current, outcome).await;
                return outcome;
            }
            Turn::Replaced(resumed) => resumed,
            Turn::Lost => {
                // Nothing comes over it any more, and nothing of it may be taken for the next one's.
                drop(current);
                match apart(&mut ledger, &mut read, &mut means).await {
                    Ok(resumed) => resumed,
                    Err(outcome) => return outcome,
                }
            }
        };
        if ledger.handle_resumed(resumed.received).is_err() {
            part(resumed.stream, Outcome::ResetByNear).await;
            return Outcome::ResetByFlow;
        }
        current = resumed.stream;
        if resumed.answer {
            // There is room: the stream is new.
            let _ = current.outgoing.try_send(frame::resumed(ledger.received()));
        }
    }
}

/// Ends the last carrier's part as the other side has to hear it.
async fn part(stream: Stream, outcome: Outcome) {
    if outcome == Outcome::ResetByNear {
        let _ = timeout(LAST_WORDS, stream.outgoing.send(frame::reset())).await;
    }
    if outcome != Outcome::ResetByFlow {
        farewell(stream.incoming, stream.outgoing).await;
    }
}

/// Carries as long as one carrier does.
async fn connected<R, W, M>(
    ledger: &mut Ledger,
    stream: &mut Stream,
    read: &mut R,
    write: &mut W,
    means: &mut M,
) -> Turn
where
    R: NearRead,
    W: NearWrite,
    M: Resume,
{
    let mut tell_at: Option<Instant> = None;
    while !ledger.is_done() {
        if !ledger.is_in_debt() {
            tell_at = None;
        } else if tell_at.is_none() {
            tell_at = Some(Instant::now() + ACK_DELAY);
        }
        let undelivered = ledger.undelivered();
        tokio::select! {
            permit = stream.outgoing.reserve(), if ledger.has_frame() => match permit {
                Ok(permit) => if let Some(frame) = ledger.poll_frame() {
                    permit.send(frame);
                },
                Err(_) => return Turn::Lost,
            },
            frame = stream.incoming.next() => match heard(ledger, frame) {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Reset) => return Turn::Over(Outcome::ResetByFlow),
                Err(Loss::Carrier) => return Turn::Lost,
                Err(Loss::Protocol(violation)) => {
                    tracing::info!(%violation, "a flow was reset");
                    return Turn::Over(Outcome::ResetByFlow);
                }
            },
            said = say(read, ledger.has_room(), ledger.has_ended()) => match said {
                Said::Data(bytes) => ledger.handle_said(bytes),
                Said::End => ledger.handle_ended(),
                Said::Reset => return Turn::Over(Outcome::ResetByNear),
            },
            delivered = deliver(write, undelivered) => match delivered {
                Ok(Delivered::Bytes(count)) => ledger.handle_delivered(count),
                Ok(Delivered::End) => ledger.handle_end_delivered(),
                Err(Gone) => return Turn::Over(Outcome::ResetByNear),
            },
            resumed = means.replaced() => return Turn::Replaced(resumed),
            () = at(tell_at) => {
                ledger.handle_ack_timeout();
                tell_at = None;
            }
        }
    }
    Turn::Over(Outcome::Closed)
}

/// Between two carriers: the near end may go on speaking as far as there is room.
async fn apart<R, M>(ledger: &mut Ledger, read: &mut R, means: &mut M) -> Result<Resumed, Outcome>
where
    R: NearRead,
    M: Resume,
{
    let resume = means.resume(ledger.received());
    tokio::pin!(resume);
    loop {
        tokio::select! {
            resumed = &mut resume => return resumed.ok_or(Outcome::ResetByFlow),
            said = say(read, ledger.has_room(), ledger.has_ended()) => match said {
                Said::Data(bytes) => ledger.handle_said(bytes),
                Said::End => ledger.handle_ended(),
                Said::Reset => return Err(Outcome::ResetByNear),
            },
        }
    }
}

/// What the near end says, as far as it may.
async fn say<R: NearRead>(read: &mut R, has_room: bool, has_ended: bool) -> Said {
    if has_room {
        return read.next().await;
    }
    if !has_ended {
        std::future::pending::<()>().await;
    }
    read.gone().await;
    Said::Reset
}

enum Delivered {
    Bytes(usize),
    End,
}

async fn deliver<W: NearWrite>(
    write: &mut W,
    undelivered: Option<Undelivered>,
) -> Result<Delivered, Gone> {
    match undelivered {
        Some(Undelivered::Data(bytes)) => write.write(bytes).await.map(Delivered::Bytes),
        Some(Undelivered::End) => write.end().await.map(|()| Delivered::End),
        None => std::future::pending().await,
    }
}

enum Loss {
    Carrier,
    Protocol(Violation),
}

/// What came over a carrier. One that ends before the flow has broken; a stream that was cancelled on
/// a carrier that lives was given up by the other side.
fn heard(ledger: &mut Ledger, frame: Option<Result<FlowFrame, Status>>) -> Result<Heard, Loss> {
    match frame {
        Some(Ok(FlowFrame { kind: Some(kind) })) => {
            ledger.handle_frame(kind).map_err(Loss::Protocol)
        }
        Some(Ok(FlowFrame { kind: None })) => Err(Loss::Protocol(Violation::Misplaced)),
        Some(Err(status)) if was_cancelled(&status) => Ok(Heard::Reset),
        Some(Err(_)) | None => Err(Loss::Carrier),
    }
}

/// Whether the other side has cancelled the stream alone (RFC 9113 section 7, CANCEL).
fn was_cancelled(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_reset() && error.reason() == Some(h2::Reason::CANCEL);
        }
        cause = error.source();
    }
    false
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "carry_tests.rs"]
mod tests;
