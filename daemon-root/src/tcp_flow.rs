//! The task of one TCP flow: opens it over a carrier, then carries bytes between the program's
//! connection and the manager.

use std::pin::pin;
use std::sync::Arc;

use kdev_flow::frame;
use kdev_flow::open::Opened;
use kdev_netstack::FlowKey;
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{FlowFrame, FlowOpen, FlowProtocol};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::carriers::Carriers;
use crate::flow_link::{Down, FromProgram, TaskEnd, ToProgram, Up};
use crate::opening::open_flow;

/// Runs the flow until it is over on both sides.
pub async fn run(key: FlowKey, link: TaskEnd, carriers: Arc<Carriers>) {
    let (mut from_program, to_program) = link.split();
    let request = FlowOpen {
        protocol: FlowProtocol::Tcp.into(),
        target: key.target.to_string(),
        ..FlowOpen::default()
    };
    let opened = tokio::select! {
        opened = open_flow(request, &carriers) => opened,
        // The program gave up waiting. It can't have sent anything before it was answered.
        _ = from_program.next() => return,
    };
    match opened {
        Ok((_place, Opened { outgoing, incoming })) => {
            if to_program.send(Down::Opened).await {
                carry(from_program, to_program, outgoing, incoming).await;
            }
        }
        Err(reason) => {
            to_program.send(Down::Failed(reason)).await;
        }
    }
}

/// Carries until both directions have ended, or one side breaks: then the other is told at once.
async fn carry(
    from_program: FromProgram,
    to_program: ToProgram,
    outgoing: mpsc::Sender<FlowFrame>,
    mut incoming: Streaming<FlowFrame>,
) {
    let ended = both(from_program, &to_program, outgoing, &mut incoming).await;
    // Dropping the stream before the manager has ended it would take back what is still on its way.
    let broken = ended.is_none() || !matches!(incoming.message().await, Ok(None));
    if broken {
        to_program.send(Down::Reset).await;
    }
}

/// `None` when something broke.
async fn both(
    from_program: FromProgram,
    to_program: &ToProgram,
    outgoing: mpsc::Sender<FlowFrame>,
    incoming: &mut Streaming<FlowFrame>,
) -> Option<()> {
    let mut up = pin!(upward(from_program, outgoing));
    let mut down = pin!(downward(to_program, incoming));
    tokio::select! {
        half_closed = &mut up => {
            let (mut from_program, _outgoing) = half_closed?;
            tokio::select! {
                ended = down => ended,
                // After its end, only a reset can come from the program.
                _ = from_program.next() => None,
            }
        }
        ended = &mut down => {
            ended?;
            up.await.map(drop)
        }
    }
}

/// Sends what the program says, until it ends. Gives the sender back after an orderly end: dropping it
/// ends the stream; `None` when the program or the carrier broke.
async fn upward(
    mut from_program: FromProgram,
    outgoing: mpsc::Sender<FlowFrame>,
) -> Option<(FromProgram, mpsc::Sender<FlowFrame>)> {
    loop {
        let frame = match from_program.next().await {
            Up::Data(bytes) => frame::data(bytes),
            Up::End => {
                outgoing.send(frame::end()).await.ok()?;
                return Some((from_program, outgoing));
            }
            Up::Reset => {
                let _ = outgoing.send(frame::reset()).await;
                return None;
            }
        };
        outgoing.send(frame).await.ok()?;
    }
}

/// Hands the program what comes, until its end; `None` when the carrier or the far end broke.
async fn downward(to_program: &ToProgram, incoming: &mut Streaming<FlowFrame>) -> Option<()> {
    loop {
        let item = match incoming.message().await {
            Ok(Some(FlowFrame {
                kind: Some(Kind::Data(bytes)),
            })) => Down::Data(bytes),
            Ok(Some(FlowFrame {
                kind: Some(Kind::End(_)),
            })) => {
                return to_program.send(Down::End).await.then_some(());
            }
            _ => return None,
        };
        if !to_program.send(item).await {
            return None;
        }
    }
}
