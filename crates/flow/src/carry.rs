//! Carries a TCP flow between its near end and the other side, over one carrier after the other.
//!
//! The [`Ledger`] decides what is said next; this moves bytes, waits, and finds another carrier when
//! one breaks. Nothing here waits for one thing while it could do another: a near end that doesn't
//! read keeps nobody from writing, and acknowledgements pass whatever else is stuck.

mod means;
mod near_end;

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, future};
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;
use tokio::time::{Instant, sleep_until, timeout};

use crate::budget::Budget;
use crate::farewell::farewell;
use crate::frame;
use crate::ledger::{Heard, Ledger, Undelivered, Violation};
use crate::rpc::read::{Broken, NoFrame};

pub use means::{Moved, Resume, Resumed, Stream};
pub use near_end::{Allowed, Gone, NearRead, NearWrite, Said};

/// How long what was handed on may stay unacknowledged: the other side keeps it meanwhile.
const ACK_DELAY: Duration = Duration::from_millis(200);
/// How long the last words of a flow that broke may take to get onto its carrier.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all flows of this process may keep for the other side.
static BUDGET: Budget = Budget::new(64 << 20);

/// How long a flow may be without a carrier: the programs at both ends must learn the truth some time.
pub const RESUME_LIMIT: Duration = Duration::from_secs(60);

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
#[expect(
    clippy::manual_async_fn,
    reason = "an async function keeps its arguments twice, and thousands of flows are idle"
)]
pub fn carry<R, W, M>(
    mut read: R,
    mut write: W,
    mut current: Stream,
    mut means: M,
) -> impl Future<Output = Outcome>
where
    R: NearRead,
    W: NearWrite,
    M: Resume,
{
    async move {
        let mut ledger = Ledger::new(&BUDGET, current.carrier.share());
        ledger.handle_said_before(std::mem::take(&mut current.said));
        loop {
            let turn =
                connected(&mut ledger, &mut current, &mut read, &mut write, &mut means).await;
            let resumed = match turn {
                Turn::Over(outcome) => {
                    // From now on the flow isn't to be found any more.
                    drop(means);
                    Box::pin(part(current, outcome)).await;
                    return outcome;
                }
                Turn::Replaced(resumed) => resumed,
                Turn::Lost => {
                    // Nothing comes over it any more, and nothing of it may be taken for the next one's.
                    drop(current);
                    // What is rare has boxes of its own, as thousands of idle flows would keep room for it.
                    match Box::pin(apart(&mut ledger, &mut read, &mut write, &mut means)).await {
                        Ok(resumed) => resumed,
                        Err(outcome) => {
                            return Box::pin(last_of(&mut ledger, &mut write, outcome)).await;
                        }
                    }
                }
            };
            if let Err(violation) = ledger.handle_resumed(resumed.received) {
                resumed.stream.carrier.close_for(&violation);
                Box::pin(part(resumed.stream, Outcome::ResetByFlow)).await;
                return Outcome::ResetByFlow;
            }
            current = resumed.stream;
            if resumed.answer {
                // There is room: the stream is new.
                let _ = current.outgoing.try_send(frame::resumed(ledger.received()));
            }
        }
    }
}

/// Ends the last carrier's part as the other side has to hear it.
async fn part(stream: Stream, outcome: Outcome) {
    match outcome {
        Outcome::Closed => farewell(stream.incoming, stream.outgoing).await,
        Outcome::ResetByNear => give_up(stream).await,
        // The near end has to hear of it now. Where the other side doesn't know yet, this is all it gets.
        Outcome::ResetByFlow => drop(stream.outgoing.try_send(frame::reset())),
    }
}

/// Tells the other side that the flow is reset, and waits until it may have heard: a stream that is
/// only dropped looks like a carrier that broke, after which the other side waits for another one.
pub async fn give_up(stream: Stream) {
    let _ = timeout(LAST_WORDS, stream.outgoing.send(frame::reset())).await;
    farewell(stream.incoming, stream.outgoing).await;
}

/// Hands on what has come before a flow was lost, and says how the flow has ended.
async fn last_of<W: NearWrite>(ledger: &mut Ledger, write: &mut W, outcome: Outcome) -> Outcome {
    let all = async {
        while let Some(undelivered) = ledger.undelivered() {
            match deliver(write, Some(undelivered)).await {
                Ok(near) => near.note(ledger),
                Err(Gone) => return,
            }
        }
    };
    if outcome == Outcome::ResetByFlow {
        let _ = timeout(LAST_WORDS, all).await;
        // Both ends have closed: only who says that they know it is missing.
        if ledger.is_settled() {
            return Outcome::Closed;
        }
    }
    outcome
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
                Ok(Heard::Overrun) => {
                    tracing::warn!("a connection that isn't read is reset: more waits on this side than it can hold; close some");
                    return Turn::Over(Outcome::ResetByFlow);
                }
                Err(Loss::Carrier) => return Turn::Lost,
                Err(Loss::NoFrame(what)) => {
                    stream.carrier.close_for(&what);
                    return Turn::Over(Outcome::ResetByFlow);
                }
                Err(Loss::Protocol(violation)) => {
                    stream.carrier.close_for(&violation);
                    return Turn::Over(Outcome::ResetByFlow);
                }
            },
            near = near_end(read, write, ledger.may()) => match near {
                Ok(near) => near.note(ledger),
                Err(Gone) => return Turn::Over(Outcome::ResetByNear),
            },
            moved = means.moved() => return match moved {
                Moved::Here(resumed) => Turn::Replaced(resumed),
                Moved::Away => Turn::Lost,
            },
            () = at(tell_at) => {
                ledger.handle_ack_timeout();
                tell_at = None;
            }
        }
    }
    Turn::Over(Outcome::Closed)
}

/// Between two carriers: the near end may go on speaking as far as there is room, and hears what has
/// come.
async fn apart<R, W, M>(
    ledger: &mut Ledger,
    read: &mut R,
    write: &mut W,
    means: &mut M,
) -> Result<Resumed, Outcome>
where
    R: NearRead,
    W: NearWrite,
    M: Resume,
{
    let resume = means.resume(ledger.received());
    tokio::pin!(resume);
    loop {
        tokio::select! {
            resumed = &mut resume => return resumed.ok_or(Outcome::ResetByFlow),
            near = near_end(read, write, ledger.may()) => match near {
                Ok(near) => near.note(ledger),
                Err(Gone) => return Err(Outcome::ResetByNear),
            },
        }
    }
}

/// What the near end may do now.
struct May<'a> {
    say: Option<Allowed<'a>>,
    /// It has ended and heard the end: that it goes then is in order.
    go: bool,
    hear: Option<Undelivered>,
}

impl Ledger {
    fn may(&self) -> May<'_> {
        May {
            say: (self.room() > 0).then(|| self.allowed()),
            go: self.is_settled(),
            hear: self.undelivered(),
        }
    }
}

/// What the near end did.
enum Near {
    Said(Bytes),
    Ended,
    Heard(usize),
    HeardEnd,
}

impl Near {
    fn note(self, ledger: &mut Ledger) {
        match self {
            Self::Said(bytes) => ledger.handle_said(bytes),
            Self::Ended => ledger.handle_ended(),
            Self::Heard(count) => ledger.handle_delivered(count),
            Self::HeardEnd => ledger.handle_end_delivered(),
        }
    }
}

/// Waits until the near end has done what it may, or is gone. Cancel safe.
async fn near_end<R, W>(read: &mut R, write: &mut W, may: May<'_>) -> Result<Near, Gone>
where
    R: NearRead,
    W: NearWrite,
{
    tokio::select! {
        said = say(read, &may) => match said {
            Said::Data(bytes) => Ok(Near::Said(bytes)),
            Said::End => Ok(Near::Ended),
            Said::Reset => Err(Gone),
        },
        heard = deliver(write, may.hear.clone()) => heard,
    }
}

/// What the near end says; where it may not, whether it is still there.
async fn say<R: NearRead>(read: &mut R, may: &May<'_>) -> Said {
    match (may.say, may.go) {
        (Some(allowed), _) => read.next(allowed).await,
        (None, false) => {
            read.gone().await;
            Said::Reset
        }
        (None, true) => future::pending().await,
    }
}

async fn deliver<W: NearWrite>(
    write: &mut W,
    undelivered: Option<Undelivered>,
) -> Result<Near, Gone> {
    match undelivered {
        // In boxes, as thousands of idle flows would keep room for them.
        Some(Undelivered::Data(bytes)) => Box::pin(write.write(bytes)).await.map(Near::Heard),
        Some(Undelivered::End) => Box::pin(write.end()).await.map(|()| Near::HeardEnd),
        None => future::pending().await,
    }
}

enum Loss {
    Carrier,
    NoFrame(NoFrame),
    Protocol(Violation),
}

/// What came over a carrier. A stream that ends before the flow does has lost its carrier, whatever it
/// looks like: what a carrier that is given up still says of its streams may arrive late, and who gives
/// a flow up says so by a frame.
fn heard(ledger: &mut Ledger, frame: Option<Result<FlowFrame, Broken>>) -> Result<Heard, Loss> {
    match frame {
        Some(Ok(FlowFrame { kind: Some(kind) })) => {
            ledger.handle_frame(kind).map_err(Loss::Protocol)
        }
        Some(Ok(FlowFrame { kind: None })) => Err(Loss::Protocol(Violation::Misplaced)),
        Some(Err(Broken::NoFrame(what))) => Err(Loss::NoFrame(what)),
        Some(Err(Broken::Carrier(_))) | None => Err(Loss::Carrier),
    }
}

/// Whether what came on a stream, on which nothing but a reset may come, breaks the protocol. Its end, or
/// that of its carrier, doesn't.
pub fn is_no_reset(said: Option<&Result<FlowFrame, Broken>>) -> bool {
    match said {
        Some(Ok(frame)) => !matches!(frame.kind, Some(Kind::Reset(_))),
        Some(Err(Broken::NoFrame(_))) => true,
        Some(Err(Broken::Carrier(_))) | None => false,
    }
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
