//! Queries by TCP: several on one connection, answered in the order in which the answers come
//! (RFC 7766 section 6.2.1).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::limits::Limits;
use super::places::{Place, Places};
use super::report;
use super::resolve::{Client, Resolver};
use crate::frame;
use crate::lookup::ClusterLookup;

/// Pause after a connection couldn't be accepted: the usual cause is that files are short, and there
/// is nothing to wait on for a free one.
const SHORT_OF_FILES: Duration = Duration::from_millis(50);

/// Serves without end. Dropping leaves the tasks to the owner of `tasks`.
pub(super) async fn serve<L: ClusterLookup>(
    listener: TcpListener,
    resolver: &Arc<Resolver<L>>,
    queries: &Places,
    limits: Limits,
    tasks: &mut JoinSet<()>,
) {
    let connections = Places::new(limits.connections);
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => report(ended),
            accepted = listener.accept(), if tasks.len() < 2 * limits.connections.max(1) => {
                match accepted {
                    Ok((stream, _)) => {
                        let place = connections.take();
                        let (resolver, queries) = (resolver.clone(), queries.clone());
                        tasks.spawn(connection(stream, resolver, queries, limits, place));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accepting a DNS connection failed");
                        sleep(SHORT_OF_FILES).await;
                    }
                }
            }
        }
    }
}

async fn connection<L: ClusterLookup>(
    mut stream: TcpStream,
    resolver: Arc<Resolver<L>>,
    places: Places,
    limits: Limits,
    mut place: Place,
) {
    // Answers are whole messages; to wait for more of them gains nothing.
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.split();
    let mut buffer = BytesMut::new();
    let mut answers = JoinSet::new();
    let mut open = true;
    while open || !answers.is_empty() {
        let readable = open && answers.len() < limits.pipelined.max(1);
        tokio::select! {
            message = frame::read(&mut reader, &mut buffer), if readable => match message {
                Ok(Some(packet)) => {
                    let (resolver, query) = (resolver.clone(), places.take());
                    answers.spawn(answer(resolver, packet, query));
                }
                Ok(None) => open = false,
                Err(_) => return,
            },
            Some(answer) = answers.join_next() => match answer {
                Ok(Some(answer)) => {
                    let written = timeout(limits.idle, frame::write(&mut writer, &answer)).await;
                    if !matches!(written, Ok(Ok(()))) {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    // The client waits for an answer that won't come.
                    report(Err(error));
                    return;
                }
            },
            () = place.displaced() => return,
            () = sleep(limits.idle), if answers.is_empty() => return,
        }
    }
    // The peer has closed its side; nothing is to be done if it doesn't want to hear of ours.
    let _ = writer.shutdown().await;
}

async fn answer<L: ClusterLookup>(
    resolver: Arc<Resolver<L>>,
    packet: Bytes,
    mut place: Place,
) -> Option<Vec<u8>> {
    tokio::select! {
        answer = resolver.answer(&packet, Client::Tcp) => answer,
        () = place.displaced() => resolver.failure(&packet, Client::Tcp),
    }
}
