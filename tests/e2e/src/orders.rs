//! Orders: requests that may be heard once, each on a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::kept::read_all;
use crate::namespace::Network;

/// How long one order may take: longer than connections may be without a way.
const PATIENCE: Duration = Duration::from_secs(90);
/// What is ordered, and what is answered.
const ORDER: &str = "order";
const ANSWER: &str = "ok";

/// What an order is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// The paths of the orders that were heard.
type Heard = Arc<Mutex<Vec<String>>>;

fn lock(heard: &Heard) -> MutexGuard<'_, Vec<String>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that takes orders, as long as it lives.
#[derive(Debug)]
pub struct Taker {
    port: u16,
    heard: Heard,
    _runtime: Runtime,
}

impl Taker {
    /// Listens on a port of the loopback's.
    ///
    /// # Panics
    ///
    /// If that can't be done.
    pub fn listen(network: &Network, version: Version) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let listener = network.inside(|| std::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("an address").port();
        let heard = Heard::default();
        runtime.spawn(take_all(listener, version, Arc::clone(&heard)));
        Self {
            port,
            heard,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it has heard, in order of the alphabet; nothing is known of it then.
    pub fn heard(&self) -> Vec<String> {
        let mut heard = std::mem::take(&mut *lock(&self.heard));
        heard.sort_unstable();
        heard
    }
}

async fn take_all(listener: std::net::TcpListener, version: Version, heard: Heard) {
    let listener = TcpListener::from_std(listener).expect("within a runtime");
    while let Ok((connection, _)) = listener.accept().await {
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            // Where the connection is lost nobody hears the answer.
            let _ = match version {
                Version::Http1 => take_http1(connection, &heard).await.is_ok(),
                Version::Http2 => take_http2(connection, &heard).await.is_ok(),
            };
        });
    }
}

async fn take_http1(mut connection: TcpStream, heard: &Heard) -> io::Result<()> {
    let said = read_until(&mut connection, ORDER).await?;
    // An order without all of it isn't one.
    let path = said.split(' ').nth(1).filter(|_| said.ends_with(ORDER));
    lock(heard).push(path.ok_or(io::ErrorKind::UnexpectedEof)?.to_owned());
    let length = ANSWER.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{ANSWER}");
    connection.write_all(answer.as_bytes()).await?;
    // The client ends it.
    connection.read_to_end(&mut Vec::new()).await.map(drop)
}

async fn take_http2(connection: TcpStream, heard: &Heard) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(connection).await?;
    while let Some(asked) = connection.accept().await {
        let (request, mut respond) = asked?;
        let heard = Arc::clone(heard);
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            if read_all(request.into_body()).await? == ORDER.as_bytes() {
                lock(&heard).push(path);
            }
            let mut body = respond.send_response(http::Response::new(()), false)?;
            body.send_data(ANSWER.into(), true)
        });
    }
    Ok(())
}

/// Orders something over a connection of its own; whether the [`Taker`] has answered, or somebody else with 200.
///
/// # Errors
///
/// What went wrong with the connection, or what was answered instead.
pub fn order(to: SocketAddr, path: &str, version: Version) -> io::Result<bool> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(answered(to, path, version))
}

async fn answered(to: SocketAddr, path: &str, version: Version) -> io::Result<bool> {
    let ordered = async {
        let connection = TcpStream::connect(to).await?;
        match version {
            Version::Http1 => order_http1(connection, path).await,
            Version::Http2 => order_http2(connection, path)
                .await
                .map_err(io::Error::other),
        }
    };
    match timeout(PATIENCE, ordered).await?? {
        (200, answer) => Ok(answer == ANSWER),
        (status, answer) => Err(io::Error::other(format!("{status}: {answer}"))),
    }
}

async fn order_http1(mut connection: TcpStream, path: &str) -> io::Result<(u16, String)> {
    let length = ORDER.len();
    let order = format!(
        "POST {path} HTTP/1.1\r\nHost: web\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{ORDER}"
    );
    connection.write_all(order.as_bytes()).await?;
    let answer = read_until(&mut connection, &format!("\r\n\r\n{ANSWER}")).await?;
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    let (Some(status), Some((_, body))) = (status, answer.split_once("\r\n\r\n")) else {
        return Err(io::Error::other(format!("not an answer: {answer:?}")));
    };
    Ok((status, body.to_owned()))
}

async fn order_http2(connection: TcpStream, path: &str) -> Result<(u16, String), h2::Error> {
    let (requests, connection) = h2::client::handshake(connection).await?;
    let connection = tokio::spawn(connection);
    let uri = format!("http://web{path}");
    let request = http::Request::post(uri).body(()).expect("a request");
    let (answer, mut say) = requests.ready().await?.send_request(request, false)?;
    say.send_data(ORDER.into(), true)?;
    let answer = answer.await?;
    let status = answer.status().as_u16();
    let body = read_all(answer.into_body()).await?;
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Reads to the end, or to where this comes last.
async fn read_until(from: &mut (impl AsyncRead + Unpin), last: &str) -> io::Result<String> {
    let mut all = Vec::new();
    while !all.ends_with(last.as_bytes()) && from.read_buf(&mut all).await? > 0 {}
    Ok(String::from_utf8_lossy(&all).into_owned())
}
