//! The probe of a TCP port.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Expected, ProbeError, TOKEN_LENGTH, Token};

/// How long connecting may take, and the answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sends the token of `expected` to `address` and waits for its answer to come back.
///
/// # Errors
///
/// What went wrong; while the cluster's nodes still learn of a redirection, the next attempt may work.
pub async fn attempt(address: SocketAddr, expected: &Expected) -> Result<Duration, ProbeError> {
    let started = Instant::now();
    let connect = async {
        let dial = tokio::time::timeout(DEADLINE, TcpStream::connect(address));
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
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .unwrap_or(Err(ProbeError::Silent { address }))
}

/// The first bytes of a connection, if they may be a token; none of them is taken.
///
/// # Errors
///
/// When the connection broke: the kernel says so once, and from then on that it has ended.
pub async fn peek(connection: &TcpStream) -> io::Result<Option<Token>> {
    /// A client that speaks first does so at once; one that waits for the server must not wait long.
    const PATIENCE: Duration = Duration::from_millis(500);
    let mut first = [0; TOKEN_LENGTH];
    let peeked = tokio::time::timeout(PATIENCE, async {
        // The token is one segment; a first segment that is shorter isn't it.
        connection.peek(&mut first).await
    });
    match peeked.await {
        Ok(Ok(TOKEN_LENGTH)) => Ok(Some(first)),
        Ok(Ok(_)) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::net::TcpListener;

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
                let token = peek(&connection).await.unwrap();
                assert!(expected.is(&token.unwrap()));
                connection.write_all(expected.answer()).await.unwrap();
            }
        });
        attempt(address, &expected).await.unwrap();
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
        let result = attempt(address, &Expected::new()).await;
        assert!(matches!(result, Err(ProbeError::Elsewhere { .. })));
        pod.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_resets_its_connection_is_said_to_have() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (connection, _) = listener.accept().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let error = peek(&connection).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_client_of_the_service_isnt_taken_for_the_probe_and_loses_no_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut connection, _) = listener.accept().await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(peek(&connection).await.unwrap(), None);
        let mut first = [0; 3];
        connection.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"GET");
    }
}
