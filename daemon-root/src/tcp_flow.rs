//! The task of one TCP flow: opens it over a carrier, then carries bytes between the program's
//! connection and the manager, over one carrier after the other.

use std::sync::Arc;

use bytes::Bytes;
use kdev_flow::carry::{
    self, Allowed, Gone, Moved, NearRead, NearWrite, Outcome, Resumed, Said, Stream,
};
use kdev_netstack::FlowKey;
use kdev_proto::v1::{FlowOpen, FlowProtocol, FlowResume};

use crate::carriers::{Carriers, Place};
use crate::flow_link::{Down, FromProgram, TaskEnd, ToProgram, Up};
use crate::opening::{self, open_flow};

/// Runs the flow until it is over on both sides.
///
/// Thousands of idle flows would keep room for how they began: so that has a box of its own, which has what it needs before
/// this is a future, and what it leaves is taken apart at once.
pub fn run(key: FlowKey, link: TaskEnd, carriers: Arc<Carriers>) -> impl Future<Output = ()> {
    let begun = Box::pin(begin(key, link, carriers));
    async move {
        let Some((from_program, to_program, stream, means)) = begun.await else {
            return;
        };
        let outcome = carry::carry(from_program, &to_program, stream, means).await;
        if outcome == Outcome::ResetByFlow {
            Box::pin(to_program.send(Down::Reset)).await;
        }
    }
}

/// Opens the flow and lets the program in; `None` when it is over already.
async fn begin(
    key: FlowKey,
    link: TaskEnd,
    carriers: Arc<Carriers>,
) -> Option<(FromProgram, ToProgram, Stream, OtherCarriers)> {
    let (mut from_program, to_program) = link.split();
    let mut flow = Bytes::new();
    // Each attempt is a flow of its own: an earlier one may have been dialled as well.
    let request = || {
        flow = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
        FlowOpen {
            protocol: FlowProtocol::Tcp.into(),
            target: key.target.to_string(),
            flow: flow.clone(),
            ..FlowOpen::default()
        }
    };
    // Whoever knocks while there is no carrier waits as long as who has come in before.
    let patience = opening::PATIENCE.max(carriers.resume_limit());
    let opened = tokio::select! {
        opened = open_flow(request, &carriers, patience) => opened,
        // The program gave up waiting. It can't have sent anything before it was answered.
        _ = from_program.next() => return None,
    };
    let (place, opened) = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            to_program.send(Down::Failed(reason)).await;
            return None;
        }
    };
    let stream = Stream::over(opened, place.carrier().clone());
    if !to_program.send(Down::Opened).await {
        carry::give_up(stream).await;
        return None;
    }
    let means = OtherCarriers {
        carriers,
        flow,
        attempts: 0,
        place: Some(place),
    };
    Some((from_program, to_program, stream, means))
}

impl NearRead for FromProgram {
    async fn next(&mut self, allowed: Allowed<'_>) -> Said {
        match FromProgram::next(self).await {
            Up::Data(bytes) => {
                let (now, later) = allowed.part(bytes);
                if !later.is_empty() {
                    self.put_back(later);
                }
                if now.is_empty() {
                    return std::future::pending().await;
                }
                Said::Data(now)
            }
            Up::End => Said::End,
            Up::Reset => Said::Reset,
        }
    }

    async fn gone(&mut self) {
        FromProgram::gone(self).await;
    }
}

impl NearWrite for &ToProgram {
    async fn write(&mut self, bytes: Bytes) -> Result<usize, Gone> {
        ToProgram::write(self, bytes).await.ok_or(Gone)
    }

    async fn end(&mut self) -> Result<(), Gone> {
        if self.send(Down::End).await {
            Ok(())
        } else {
            Err(Gone)
        }
    }
}

/// Resumes a flow over whichever carrier works next.
struct OtherCarriers {
    carriers: Arc<Carriers>,
    flow: Bytes,
    attempts: u64,
    /// On the carrier that carries it now.
    place: Option<Place>,
}

impl carry::Resume for OtherCarriers {
    async fn moved(&mut self) -> Moved {
        match &self.place {
            Some(place) => place.left().await,
            None => std::future::pending().await,
        }
        Moved::Away
    }

    async fn resume(&mut self, received: u64) -> Option<Resumed> {
        if let Some(place) = self.place.take().filter(|place| !place.is_left()) {
            self.carriers.doubt(&place);
        }
        let (flow, attempts) = (self.flow.clone(), &mut self.attempts);
        let request = || {
            *attempts += 1;
            let attempt = *attempts;
            FlowOpen {
                protocol: FlowProtocol::Tcp.into(),
                flow: flow.clone(),
                resume: Some(FlowResume { received, attempt }),
                ..FlowOpen::default()
            }
        };
        let resumed = open_flow(request, &self.carriers, self.carriers.resume_limit()).await;
        let (place, opened) = resumed.ok()?;
        let carrier = place.carrier().clone();
        self.place = Some(place);
        Some(Resumed {
            received: opened.received,
            stream: Stream::over(opened, carrier),
            answer: false,
        })
    }
}
