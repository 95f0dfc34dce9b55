//! A network that takes its time: what comes in on one side goes out on the other half a round trip
//! later. The kernel's own way of doing that (netem) isn't built everywhere.
//!
//! It adds delay and nothing else: no loss, no limit of bandwidth short of [`IN_FLIGHT`] per half a
//! round trip. The connections on both sides are the kernel's and near, so what a distant TCP peer's
//! congestion control would do isn't seen; windows above TCP are.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Bytes that are under way in one direction of one connection, at most: 4 Gbit/s at 100 ms.
const IN_FLIGHT: usize = 32 << 20;
/// Bytes per read.
const CHUNK: usize = 256 << 10;
/// Chunks under way, at most.
const CHUNKS: usize = 32 << 10;

/// Relays until the task is dropped.
///
/// # Errors
///
/// When it can't go on accepting.
pub async fn relay(listener: TcpListener, to: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, _) = accepted?;
                connections.spawn(async move {
                    // Both ends see for themselves that it has ended.
                    let _ = relay_one(near, to, round_trip).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay_one(near: TcpStream, to: SocketAddr, round_trip: Duration) -> io::Result<()> {
    // The kernel has let the near side in without a delay; with one, its first byte would come a
    // whole round trip later, and half of one later the far side would see the SYN.
    let accepted = Instant::now();
    sleep_until(accepted + round_trip / 2).await;
    let far = TcpStream::connect(to).await?;
    let established = accepted + round_trip;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let there = one_way(near_read, far_write, round_trip / 2, established);
    let back = one_way(far_read, near_write, round_trip / 2, accepted);
    tokio::try_join!(there, back).map(drop)
}

/// What is under way; no bytes are the end.
struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
    _room: OwnedSemaphorePermit,
}

async fn one_way(
    from: impl AsyncReadExt + Unpin,
    to: impl AsyncWriteExt + Unpin,
    delay: Duration,
    not_before: Instant,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let taken = take(from, sender, delay, not_before);
    tokio::try_join!(taken, deliver(to, receiver)).map(drop)
}

async fn take(
    mut from: impl AsyncReadExt + Unpin,
    under_way: mpsc::Sender<Chunk>,
    delay: Duration,
    not_before: Instant,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        let size = u32::try_from(count).map_err(io::Error::other)?;
        let taken = Arc::clone(&room).acquire_many_owned(size);
        let chunk = Chunk {
            bytes: buffer[..count].to_vec(),
            due: Instant::now().max(not_before) + delay,
            _room: taken.await.map_err(io::Error::other)?,
        };
        if under_way.send(chunk).await.is_err() || count == 0 {
            return Ok(());
        }
    }
}

async fn deliver(
    mut to: impl AsyncWriteExt + Unpin,
    mut under_way: mpsc::Receiver<Chunk>,
) -> io::Result<()> {
    while let Some(chunk) = under_way.recv().await {
        sleep_until(chunk.due).await;
        if chunk.bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&chunk.bytes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// A connection through a relay, as its two ends have it.
    async fn relayed() -> (TcpStream, TcpStream, JoinSet<io::Result<()>>) {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (far, near) = (bind().await.unwrap(), bind().await.unwrap());
        let at = near.local_addr().unwrap();
        let mut running = JoinSet::new();
        running.spawn(relay(near, far.local_addr().unwrap(), ROUND_TRIP));
        let client = TcpStream::connect(at).await.unwrap();
        (client, far.accept().await.unwrap().0, running)
    }

    #[tokio::test]
    async fn a_message_takes_the_round_trip_there_and_back() {
        let (mut client, mut server, _running) = relayed().await;
        let mut byte = [0];
        for _ in 0..2 {
            client.write_all(&[1]).await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
            let answered = Instant::now();
            server.write_all(&byte).await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
            assert!(answered.elapsed() >= ROUND_TRIP / 2);
        }
        let asked = Instant::now();
        client.write_all(&[1]).await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        assert!(asked.elapsed() >= ROUND_TRIP / 2);
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_then_the_end() {
        let (mut client, mut server, _running) = relayed().await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sender = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        let mut client = sender.await.unwrap();
        server.write_all(b"late").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "late", "one direction's end isn't the other's");
    }
}
