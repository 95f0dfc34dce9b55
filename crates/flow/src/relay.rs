//! Joins an opened flow with a TCP connection of the kernel's: half-closes and resets pass both ways.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures::{Stream, StreamExt as _};
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tonic::Status;

use crate::reset::ResetUnlessClosed;
use crate::{CHUNK, frame};

/// How long the other side may take to end a stream on which all was said.
const FAREWELL: Duration = Duration::from_secs(10);

/// How a relayed flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions were closed in order.
    Closed,
    /// The flow's other side reset it, or its carrier is gone; the kernel's connection was reset.
    ResetByFlow,
    /// The kernel's connection broke; the flow was reset.
    ResetByConnection,
}

enum Broken {
    Flow,
    Connection,
}

/// Carries bytes until both directions are closed or one side breaks. Dropping the future, at any
/// time, resets both.
pub fn relay<S>(
    connection: TcpStream,
    incoming: S,
    outgoing: mpsc::Sender<FlowFrame>,
) -> impl Future<Output = Outcome>
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    run(ResetUnlessClosed::new(connection), incoming, outgoing)
}

async fn run<S>(
    mut guard: ResetUnlessClosed,
    mut incoming: S,
    outgoing: mpsc::Sender<FlowFrame>,
) -> Outcome
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    let (read, write) = guard.connection.split();
    match both(read, write, &mut incoming, &outgoing).await {
        Ok(()) => {
            guard.handle_closed();
            drop(guard);
            farewell(incoming, outgoing).await;
            Outcome::Closed
        }
        Err(Broken::Flow) => Outcome::ResetByFlow,
        Err(Broken::Connection) => {
            // The other side may be gone as well; then there is nobody to tell.
            let _ = outgoing.send(frame::reset()).await;
            Outcome::ResetByConnection
        }
    }
}

async fn both<S>(
    read: ReadHalf<'_>,
    write: WriteHalf<'_>,
    incoming: &mut S,
    outgoing: &mpsc::Sender<FlowFrame>,
) -> Result<(), Broken>
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    let mut from_connection = pin!(to_flow(read, outgoing));
    {
        let mut from_flow = pin!(to_connection(write, incoming));
        tokio::select! {
            sent = &mut from_connection => {
                sent?;
                return from_flow.await;
            }
            written = &mut from_flow => written?,
        }
    }
    tokio::select! {
        sent = from_connection => sent,
        broken = reset_after_end(incoming) => Err(broken),
    }
}

/// Ends this side of a stream and waits until the other one has ended its own. Dropping a stream
/// before cancels it (RFC 9113 section 8.1), and what was sent last is then thrown away unsent.
pub async fn farewell<S>(mut incoming: S, outgoing: mpsc::Sender<FlowFrame>)
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    drop(outgoing);
    let ended = async { while let Some(Ok(_)) = incoming.next().await {} };
    // Who doesn't end it in time has lost interest in what was said.
    let _ = tokio::time::timeout(FAREWELL, ended).await;
}

/// Reads the connection into data frames until its end.
async fn to_flow(mut read: ReadHalf<'_>, outgoing: &mpsc::Sender<FlowFrame>) -> Result<(), Broken> {
    let mut buffer = BytesMut::new();
    loop {
        // A frame takes its part of the buffer with it, so this allocates once per CHUNK read.
        buffer.reserve(CHUNK);
        let mut window = (&mut read).take(CHUNK as u64);
        match window.read_buf(&mut buffer).await {
            Ok(0) => return outgoing.send(frame::end()).await.map_err(|_| Broken::Flow),
            Ok(_) => {
                let bytes = buffer.split().freeze();
                outgoing
                    .send(frame::data(bytes))
                    .await
                    .map_err(|_| Broken::Flow)?;
            }
            Err(_) => return Err(Broken::Connection),
        }
    }
}

/// Writes data frames to the connection until the flow's end.
async fn to_connection<S>(mut write: WriteHalf<'_>, incoming: &mut S) -> Result<(), Broken>
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    loop {
        match incoming.next().await {
            Some(Ok(FlowFrame {
                kind: Some(Kind::Data(bytes)),
            })) => {
                write
                    .write_all(&bytes)
                    .await
                    .map_err(|_| Broken::Connection)?;
            }
            Some(Ok(FlowFrame {
                kind: Some(Kind::End(_)),
            })) => {
                return write.shutdown().await.map_err(|_| Broken::Connection);
            }
            // A stream that ends without an end frame is a carrier that broke.
            _ => return Err(Broken::Flow),
        }
    }
}

/// Waits for a reset on a direction that has ended; never returns for a flow that is closed in order.
async fn reset_after_end<S>(incoming: &mut S) -> Broken
where
    S: Stream<Item = Result<FlowFrame, Status>> + Unpin,
{
    match incoming.next().await {
        Some(
            Ok(FlowFrame {
                kind: Some(Kind::Reset(_)),
            })
            | Err(_),
        ) => Broken::Flow,
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::ReceiverStream;

    struct Rig {
        peer: TcpStream,
        to_relay: mpsc::Sender<Result<FlowFrame, Status>>,
        from_relay: mpsc::Receiver<FlowFrame>,
        relay: tokio::task::JoinHandle<Outcome>,
    }

    async fn rig() -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (to_relay, incoming) = mpsc::channel(crate::QUEUE);
        let (outgoing, from_relay) = mpsc::channel(crate::QUEUE);
        let connection = accepted.unwrap().0;
        let relay = tokio::spawn(relay(connection, ReceiverStream::new(incoming), outgoing));
        Rig {
            peer: peer.unwrap(),
            to_relay,
            from_relay,
            relay,
        }
    }

    async fn soon<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), future)
            .await
            .expect("in time")
    }

    #[tokio::test]
    async fn data_goes_on_in_one_direction_after_the_other_has_ended() {
        let mut rig = rig().await;
        rig.to_relay.send(Ok(frame::end())).await.unwrap();
        let mut got = Vec::new();
        soon(rig.peer.read_to_end(&mut got)).await.unwrap();
        rig.peer.write_all(b"late").await.unwrap();
        assert_eq!(
            soon(rig.from_relay.recv()).await,
            Some(frame::data(Bytes::from("late")))
        );
        rig.peer.shutdown().await.unwrap();
        assert_eq!(soon(rig.from_relay.recv()).await, Some(frame::end()));
        assert_eq!(soon(rig.from_relay.recv()).await, None, "its stream ends");
        assert!(!rig.relay.is_finished(), "the other side's stream doesn't");
        drop(rig.to_relay);
        assert_eq!(soon(rig.relay).await.unwrap(), Outcome::Closed);
    }

    #[tokio::test]
    async fn a_reset_of_the_flow_resets_the_connection() {
        let mut rig = rig().await;
        rig.to_relay.send(Ok(frame::reset())).await.unwrap();
        let error = soon(rig.peer.read(&mut [0; 8])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(soon(rig.relay).await.unwrap(), Outcome::ResetByFlow);
    }

    #[tokio::test]
    async fn a_reset_passes_even_after_an_end() {
        let mut rig = rig().await;
        rig.to_relay.send(Ok(frame::end())).await.unwrap();
        rig.to_relay.send(Ok(frame::reset())).await.unwrap();
        assert_eq!(soon(rig.relay).await.unwrap(), Outcome::ResetByFlow);
        let mut got = Vec::new();
        // The end may be read before the reset overtakes it; writing then meets the reset.
        let read = soon(rig.peer.read_to_end(&mut got)).await;
        assert!(
            read.is_err() || rig.peer.take_error().is_ok_and(|e| e.is_some()) || {
                let _ = rig.peer.write_all(b"x").await;
                soon(rig.peer.ready(tokio::io::Interest::ERROR))
                    .await
                    .is_ok()
            }
        );
    }

    #[tokio::test]
    async fn a_carrier_that_breaks_is_never_taken_for_an_end() {
        let mut rig = rig().await;
        drop(rig.to_relay);
        assert!(soon(rig.peer.read(&mut [0; 8])).await.is_err());
        assert_eq!(soon(rig.relay).await.unwrap(), Outcome::ResetByFlow);
    }

    #[tokio::test]
    async fn a_reset_of_the_connection_resets_the_flow() {
        let mut rig = rig().await;
        rig.peer.set_zero_linger().unwrap();
        drop(rig.peer);
        assert_eq!(soon(rig.from_relay.recv()).await, Some(frame::reset()));
        assert_eq!(soon(rig.relay).await.unwrap(), Outcome::ResetByConnection);
    }

    #[tokio::test]
    async fn a_cancelled_relay_resets_its_connection() {
        let mut rig = rig().await;
        rig.relay.abort();
        assert!(soon(rig.peer.read(&mut [0; 8])).await.is_err());
    }

    #[tokio::test]
    async fn ten_megabytes_pass_unchanged_both_ways_at_once() {
        let Rig {
            mut peer,
            to_relay,
            mut from_relay,
            relay,
        } = rig().await;
        let sent: Vec<u8> = (0..10_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let (mut read, mut write) = peer.split();
        let upload = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let collect = async {
            let mut got = Vec::new();
            while let Some(FlowFrame {
                kind: Some(Kind::Data(bytes)),
            }) = from_relay.recv().await
            {
                assert!(bytes.len() <= CHUNK);
                got.extend_from_slice(&bytes);
            }
            got
        };
        let download = async {
            for chunk in sent.chunks(CHUNK) {
                to_relay
                    .send(Ok(frame::data(Bytes::copy_from_slice(chunk))))
                    .await
                    .unwrap();
            }
            to_relay.send(Ok(frame::end())).await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            got
        };
        let ((), up, (), down) =
            soon(async { tokio::join!(upload, collect, download, receive) }).await;
        assert!(up == sent && down == sent);
        drop(to_relay);
        assert_eq!(soon(relay).await.unwrap(), Outcome::Closed);
    }
}
