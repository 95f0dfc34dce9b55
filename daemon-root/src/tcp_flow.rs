//! The task of one TCP flow: opens it over a carrier, then carries bytes between the program's
//! connection and the manager, over one carrier after the other.

use std::sync::Arc;

use bytes::Bytes;
use kdev_flow::carry::{self, Gone, NearRead, NearWrite, Outcome, Resumed, Said, Stream};
use kdev_netstack::FlowKey;
use kdev_proto::v1::{FlowOpen, FlowProtocol, FlowResume};

use crate::carriers::{Carriers, Place};
use crate::flow_link::{Down, FromProgram, TaskEnd, ToProgram, Up};
use crate::opening::{self, open_flow};

/// Runs the flow until it is over on both sides.
pub async fn run(key: FlowKey, session: &str, link: TaskEnd, carriers: Arc<Carriers>) {
    let (mut from_program, to_program) = link.split();
    let flow: [u8; 16] = rand::random();
    let request = FlowOpen {
        protocol: FlowProtocol::Tcp.into(),
        target: key.target.to_string(),
        session: session.to_owned(),
        flow: Bytes::copy_from_slice(&flow),
        ..FlowOpen::default()
    };
    let opened = tokio::select! {
        opened = open_flow(request.clone(), &carriers, opening::PATIENCE) => opened,
        // The program gave up waiting. It can't have sent anything before it was answered.
        _ = from_program.next() => return,
    };
    let (place, opened) = match opened {
        Ok(opened) => opened,
        Err(reason) => {
            to_program.send(Down::Failed(reason)).await;
            return;
        }
    };
    if !to_program.send(Down::Opened).await {
        return;
    }
    let means = OtherCarriers {
        carriers,
        request,
        place: Some(place),
    };
    let stream = Stream::from(opened);
    let outcome = carry::carry(from_program, &to_program, stream, means).await;
    if outcome == Outcome::ResetByFlow {
        to_program.send(Down::Reset).await;
    }
}

impl NearRead for FromProgram {
    async fn next(&mut self) -> Said {
        match FromProgram::next(self).await {
            Up::Data(bytes) => Said::Data(bytes),
            Up::End => Said::End,
            Up::Reset => Said::Reset,
        }
    }

    async fn gone(&mut self) {
        while FromProgram::next(self).await != Up::Reset {}
    }
}

impl NearWrite for &ToProgram {
    async fn write(&mut self, bytes: Bytes) -> Result<usize, Gone> {
        let count = bytes.len();
        if self.send(Down::Data(bytes)).await {
            Ok(count)
        } else {
            Err(Gone)
        }
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
    request: FlowOpen,
    /// On the carrier that carries it now.
    place: Option<Place>,
}

impl carry::Resume for OtherCarriers {
    async fn replaced(&mut self) -> Resumed {
        // This is the side that comes with another one.
        std::future::pending().await
    }

    async fn resume(&mut self, received: u64) -> Option<Resumed> {
        if let Some(place) = self.place.take() {
            self.carriers.doubt(&place);
        }
        let request = FlowOpen {
            resume: Some(FlowResume { received }),
            ..self.request.clone()
        };
        let resumed = open_flow(request, &self.carriers, carry::RESUME_LIMIT).await;
        let (place, opened) = resumed.ok()?;
        self.place = Some(place);
        Some(Resumed {
            received: opened.received,
            stream: opened.into(),
            answer: false,
        })
    }
}
