//! The side that runs in a pod.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::http;
use super::protocol::{CHUNK, DOWN, ECHO, GET, MESSAGE, Meter, UP, Window};

/// As many as may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Begins to listen.
///
/// # Errors
///
/// When it can't.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until SIGTERM; answers to HTTP bear the name.
///
/// # Errors
///
/// When it can't go on accepting.
pub async fn serve(listener: TcpListener, name: &str) -> io::Result<()> {
    let mut ended = signal(SignalKind::terminate())?;
    let source: Arc<[u8]> = vec![0x5a; CHUNK].into();
    let name: Arc<str> = name.into();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let (source, name) = (Arc::clone(&source), Arc::clone(&name));
                connections.spawn(async move {
                    // Whoever goes away in the middle has its reasons.
                    let _ = serve_one(stream, &source, &name).await;
                });
            }
            Some(_) = connections.join_next() => {}
            _ = ended.recv() => return Ok(()),
        }
    }
}

async fn serve_one(mut stream: TcpStream, source: &[u8], name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        ECHO => echo(stream).await,
        UP => take(stream).await,
        DOWN => give(stream, source).await,
        GET => http::serve(stream, source, name).await,
        other => Err(io::Error::other(format!("nobody says {other:#x}"))),
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // No larger than needed: thousands of these are open at once.
    let mut buffer = [0; 4 * MESSAGE];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

async fn take(mut stream: TcpStream) -> io::Result<()> {
    let mut window = [0; Window::BYTES];
    stream.read_exact(&mut window).await?;
    let mut meter = Meter::new(Window::from_bytes(window));
    let mut buffer = vec![0; CHUNK];
    let began = Instant::now();
    let mut told = false;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        // After the answer the rest is read too: closing over it would reset the connection.
        if !told && let Some(arrived) = meter.handle_bytes(count, began.elapsed()) {
            stream.write_all(&arrived.to_bytes()).await?;
            told = true;
        }
    }
}

async fn give(mut stream: TcpStream, source: &[u8]) -> io::Result<()> {
    let (mut from, mut to) = stream.split();
    let mut heard = [0; 1];
    tokio::select! {
        result = async { loop { to.write_all(source).await?; } } => result,
        stop = from.read(&mut heard) => stop.map(drop),
    }?;
    to.shutdown().await?;
    // The other side has the end, and ends in turn.
    from.read(&mut heard).await.map(drop)
}
