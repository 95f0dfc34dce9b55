//! Queries by UDP: a task for each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::limits::Limits;
use super::places::{Place, Places};
use super::report;
use super::resolve::{Client, Resolver};
use crate::lookup::ClusterLookup;
use crate::wire::MAX_MESSAGE;

/// Errors in a row after which the socket is broken. One alone says nothing: systems report the
/// fate of earlier answers, such as "port unreachable", on the next receive.
const BROKEN: u32 = 1000;

/// Serves until the socket is broken, and gives the last error then. Dropping leaves the tasks to the
/// owner of `tasks`.
pub(super) async fn serve<L: ClusterLookup>(
    socket: Arc<UdpSocket>,
    resolver: &Arc<Resolver<L>>,
    places: &Places,
    limits: Limits,
    tasks: &mut JoinSet<()>,
) -> io::Error {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut errors = 0;
    loop {
        tokio::select! {
            Some(ended) = tasks.join_next() => report(ended),
            // Displaced queries are still telling their clients: bound these, too.
            received = socket.recv_from(&mut buffer), if tasks.len() < 2 * limits.in_flight.max(1) => {
                match received {
                    Ok((length, client)) => {
                        errors = 0;
                        let packet = Bytes::copy_from_slice(&buffer[..length]);
                        let place = places.take();
                        tasks.spawn(answer(socket.clone(), resolver.clone(), packet, client, place));
                    }
                    Err(error) => {
                        errors += 1;
                        if errors >= BROKEN {
                            return error;
                        }
                        tracing::debug!(%error, "receiving a DNS query failed");
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }
}

async fn answer<L: ClusterLookup>(
    socket: Arc<UdpSocket>,
    resolver: Arc<Resolver<L>>,
    packet: Bytes,
    client: SocketAddr,
    mut place: Place,
) {
    let answer = tokio::select! {
        answer = resolver.answer(&packet, Client::Udp) => answer,
        () = place.displaced() => resolver.failure(&packet, Client::Udp),
    };
    if let Some(answer) = answer
        && let Err(error) = socket.send_to(&answer, client).await
    {
        tracing::debug!(%error, %client, "an answer couldn't be sent");
    }
}
