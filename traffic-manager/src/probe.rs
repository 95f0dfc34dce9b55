//! The probe: a connection through a Service's own address that proves where its connections go.
//!
//! The manager dials the Service, as a client would, and sends a token. The router recognises the
//! token, asks the machine, and sends another one back once the machine has answered: a pod that
//! echoes what it gets must not be taken for the machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a token: a fixed half that is no start of a known protocol, and a random one.
pub const TOKEN_LENGTH: usize = 32;
const FIXED: [u8; 16] = *b"\0kdev-probe-v1\r\n";

/// A token; as good as a secret, as only the prober and the router of one manager know it.
pub type Token = [u8; TOKEN_LENGTH];

/// Makes a token that nobody can guess.
fn token() -> Token {
    let mut token = [0; TOKEN_LENGTH];
    token[..FIXED.len()].copy_from_slice(&FIXED);
    token[FIXED.len()..].copy_from_slice(&rand::random::<[u8; TOKEN_LENGTH - FIXED.len()]>());
    token
}

/// How one attempt of a probe went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The Service's address can't be connected to.
    #[error("{address} can't be connected to from the manager's pod: {source}")]
    Connect {
        /// The Service's address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The connection arrived somewhere else, as a pod of the workload's.
    #[error("{address} still leads elsewhere than to the machine")]
    Elsewhere {
        /// The Service's address.
        address: SocketAddr,
    },
    /// Nobody answered.
    #[error("{address} accepts, but nothing comes back")]
    Silent {
        /// The Service's address.
        address: SocketAddr,
    },
}

/// Sends the token of `expected` to `address` and waits for its answer to come back.
///
/// # Errors
///
/// What went wrong; while the cluster's nodes still learn of a redirection, the next attempt may work.
pub async fn attempt(
    address: SocketAddr,
    expected: &Expected,
    deadline: Duration,
) -> Result<Duration, ProbeError> {
    let started = Instant::now();
    let connect = async {
        let dial = tokio::time::timeout(deadline, TcpStream::connect(address));
        dial.await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| ProbeError::Connect { address, source })
    };
    let mut connection = connect.await?;
    let exchange = async {
        let elsewhere = |_| ProbeError::Elsewhere { address };
        connection
            .write_all(&expected.token)
            .await
            .map_err(elsewhere)?;
        let mut back = [0; TOKEN_LENGTH];
        connection.read_exact(&mut back).await.map_err(elsewhere)?;
        if back == expected.answer {
            Ok(started.elapsed())
        } else {
            Err(ProbeError::Elsewhere { address })
        }
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .unwrap_or(Err(ProbeError::Silent { address }))
}

/// What a router's port knows of the probe that may arrive.
#[derive(Debug)]
pub struct Expected {
    token: Token,
    answer: Token,
    outstanding: AtomicUsize,
}

impl Expected {
    /// A port's own token.
    pub fn new() -> Self {
        Self {
            token: token(),
            answer: token(),
            outstanding: AtomicUsize::new(0),
        }
    }

    /// What the prober sends.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What the router sends back.
    pub fn answer(&self) -> &Token {
        &self.answer
    }

    /// From now until the guard is dropped a probe may arrive.
    pub fn announce(&self) -> Announced<'_> {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        Announced(self)
    }

    /// Whether a probe may arrive.
    pub fn is_announced(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) > 0
    }

    /// Whether this is its token.
    pub fn is(&self, token: &Token) -> bool {
        *token == self.token
    }
}

/// The first bytes of a connection, if they may be a token; none of them is taken.
pub async fn peek(connection: &TcpStream) -> Option<Token> {
    /// A client that speaks first does so at once; one that waits for the server must not wait long.
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut first = [0; TOKEN_LENGTH];
    let peeked = tokio::time::timeout(PATIENCE, async {
        // The token is one segment; a first segment that is shorter isn't it.
        connection.peek(&mut first).await
    });
    matches!(peeked.await, Ok(Ok(TOKEN_LENGTH))).then_some(first)
}

/// See [`Expected::announce`].
#[derive(Debug)]
pub struct Announced<'a>(&'a Expected);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::net::TcpListener;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_probe_is_known_by_its_token_and_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let expected = Arc::new(Expected::new());
        let router = tokio::spawn({
            let expected = Arc::clone(&expected);
            async move {
                let _announced = expected.announce();
                let (mut connection, _) = listener.accept().await.unwrap();
                assert!(expected.is_announced());
                assert!(expected.is(&peek(&connection).await.unwrap()));
                connection.write_all(expected.answer()).await.unwrap();
            }
        });
        attempt(address, &expected, DEADLINE).await.unwrap();
        router.await.unwrap();
    }

    #[tokio::test]
    async fn a_pod_that_echoes_isnt_the_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pod = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut token = [0; TOKEN_LENGTH];
            connection.read_exact(&mut token).await.unwrap();
            connection.write_all(&token).await.unwrap();
        });
        let result = attempt(address, &Expected::new(), DEADLINE).await;
        assert!(matches!(result, Err(ProbeError::Elsewhere { .. })));
        pod.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_of_the_service_isnt_taken_for_the_probe_and_loses_no_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut connection, _) = listener.accept().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(peek(&connection).await, None);
        let mut first = [0; 3];
        connection.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"GET");
    }
}
