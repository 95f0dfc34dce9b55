//! One question to one server, and its answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::BytesMut;
use hickory_proto::op::{Query, ResponseCode};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Via;
use crate::frame;
use crate::wire::{self, Head, MAX_MESSAGE};

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No socket could be made.
    #[error("no socket could be opened: {0}")]
    Socket(#[source] io::Error),
    /// There is no way to it, or nobody listens there.
    #[error("it can't be reached: {0}")]
    Connect(#[source] io::Error),
    /// The query couldn't be sent.
    #[error("the query couldn't be sent: {0}")]
    Send(#[source] io::Error),
    /// The system reported an error instead of an answer.
    #[error("no answer was received: {0}")]
    Receive(#[source] io::Error),
    /// The server closed the connection.
    #[error("it closed the connection without an answer")]
    Closed,
    /// The server answered something else over TCP.
    #[error("it answered something else")]
    Mismatch,
}

/// What an answer must have besides the id.
#[derive(Debug)]
pub(super) struct Expected {
    question: Query,
}

impl Expected {
    /// `None` when `query` isn't a query with one question.
    pub(super) fn of(query: &[u8]) -> Option<Self> {
        let head = Head::read(query).ok()?;
        if head.is_response() {
            return None;
        }
        head.question.map(|question| Self { question })
    }

    fn is_met_by(&self, answer: &[u8], id: u16) -> bool {
        let Ok(head) = Head::read(answer) else {
            return false;
        };
        if !head.is_response() || head.header.id != id {
            return false;
        }
        match head.question {
            Some(question) => question == self.question,
            // Servers that can't make anything of a query don't repeat it.
            None => {
                head.header.counts.queries == 0
                    && matches!(
                        head.header.response_code,
                        ResponseCode::FormErr
                            | ResponseCode::ServFail
                            | ResponseCode::NotImp
                            | ResponseCode::Refused
                    )
            }
        }
    }
}

/// Asks `server`. Waits without end: the caller has the deadline. Only a truncated answer is held back
/// no longer than `by_tcp`.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &[u8],
    expected: &Expected,
    via: Via,
    by_tcp: Duration,
) -> Result<Vec<u8>, ExchangeError> {
    let mut query = query.to_vec();
    let id = rand::random();
    wire::set_id(&mut query, id);
    match via {
        Via::Udp => udp(server, &query, id, expected).await,
        Via::Tcp => tcp(server, &query, id, expected).await,
        Via::UdpThenTcp => {
            let answer = udp(server, &query, id, expected).await?;
            if !wire::is_truncated(&answer) {
                return Ok(answer);
            }
            match timeout(by_tcp, tcp(server, &query, id, expected)).await {
                Ok(Ok(whole)) => Ok(whole),
                failed => {
                    tracing::debug!(%server, ?failed, "no answer by TCP; the truncated one is given");
                    Ok(answer)
                }
            }
        }
    }
}

async fn udp(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    expected: &Expected,
) -> Result<Vec<u8>, ExchangeError> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A fresh socket has a fresh port, so that an answer is hard to forge (RFC 5452 section 9.2);
    // connected, it takes datagrams of the server only, and hears that nobody listens there.
    let socket = UdpSocket::bind(any).await.map_err(ExchangeError::Socket)?;
    socket
        .connect(server)
        .await
        .map_err(ExchangeError::Connect)?;
    socket.send(query).await.map_err(ExchangeError::Send)?;
    let mut buffer = BytesMut::with_capacity(MAX_MESSAGE);
    loop {
        buffer.clear();
        socket
            .recv_buf(&mut buffer)
            .await
            .map_err(ExchangeError::Receive)?;
        if expected.is_met_by(&buffer, id) {
            return Ok(buffer.to_vec());
        }
        tracing::debug!(%server, "a datagram that isn't the answer was ignored");
    }
}

async fn tcp(
    server: SocketAddr,
    query: &[u8],
    id: u16,
    expected: &Expected,
) -> Result<Vec<u8>, ExchangeError> {
    let mut stream = TcpStream::connect(server)
        .await
        .map_err(ExchangeError::Connect)?;
    frame::write(&mut stream, query)
        .await
        .map_err(ExchangeError::Send)?;
    let answer = frame::read(&mut stream, &mut BytesMut::new())
        .await
        .map_err(ExchangeError::Receive)?
        .ok_or(ExchangeError::Closed)?;
    if expected.is_met_by(&answer, id) {
        Ok(answer.to_vec())
    } else {
        Err(ExchangeError::Mismatch)
    }
}
