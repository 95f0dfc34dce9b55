//! The probe of a UDP port. A datagram may be lost, and a pod may say nothing to one that it doesn't
//! understand, so that silence says little: what isn't answered is sent again, and nobody waits for long.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kdev_flow::datagram::connected;

use super::{Expected, ProbeError, TOKEN_LENGTH};

/// How long the first answer may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Before the first probe is sent from another socket: one socket's datagrams all go the same way.
const BETWEEN: Duration = Duration::from_millis(100);
/// The least that an answer may take whatever the first one took.
const LEAST: Duration = Duration::from_millis(250);

/// Sends tokens from one socket after the other until one of them is answered; returns how long that one took.
///
/// # Errors
///
/// What the last of them met.
pub async fn first(address: SocketAddr, expected: &Expected) -> Result<Duration, ProbeError> {
    let end = tokio::time::sleep(DEADLINE);
    tokio::pin!(end);
    let mut next = tokio::time::interval(BETWEEN);
    let mut under_way = FuturesUnordered::new();
    let mut last = ProbeError::Lost { address };
    loop {
        tokio::select! {
            () = &mut end => return Err(last),
            _ = next.tick() => under_way.push(attempt(address, expected, DEADLINE)),
            Some(answered) = under_way.next() => match answered {
                Ok(took) => return Ok(took),
                Err(error) => last = error,
            },
        }
    }
}

/// Sends the token of `expected` to `address`, also again, and waits for its answer; `usual` is how long one takes.
///
/// # Errors
///
/// What went wrong.
pub async fn attempt(
    address: SocketAddr,
    expected: &Expected,
    usual: Duration,
) -> Result<Duration, ProbeError> {
    let deadline = (4 * usual).clamp(LEAST, DEADLINE);
    let exchange = async {
        let connect = |source| ProbeError::Connect { address, source };
        let socket = connected(address).await.map_err(connect)?;
        // One byte more than the answer has: what is longer isn't it.
        let mut back = [0; TOKEN_LENGTH + 1];
        loop {
            let sent = Instant::now();
            socket.send(expected.token()).await.map_err(connect)?;
            let answer = tokio::time::timeout(deadline / 3, socket.recv(&mut back)).await;
            match answer {
                Ok(Ok(size)) if back[..size] == *expected.answer() => return Ok(sent.elapsed()),
                Ok(Ok(_)) => return Err(ProbeError::Elsewhere { address }),
                Ok(Err(source)) => return Err(connect(source)),
                // Lost, or late.
                Err(_) => {}
            }
        }
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .unwrap_or(Err(ProbeError::Lost { address }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UdpSocket;

    async fn far() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn what_is_lost_is_sent_again() {
        let (socket, address) = far().await;
        let expected = Expected::new();
        let router = async {
            let mut token = [0; 64];
            for number in 0..2 {
                let (size, from) = socket.recv_from(&mut token).await.unwrap();
                assert_eq!(token[..size], *expected.token());
                if number == 1 {
                    socket.send_to(expected.answer(), from).await.unwrap();
                }
            }
        };
        let (answered, ()) = tokio::join!(attempt(address, &expected, DEADLINE), router);
        answered.unwrap();
    }

    #[tokio::test]
    async fn a_pod_that_echoes_isnt_the_machine() {
        let (socket, address) = far().await;
        let expected = Expected::new();
        let pod = async {
            let mut token = [0; 64];
            let (size, from) = socket.recv_from(&mut token).await.unwrap();
            socket.send_to(&token[..size], from).await.unwrap();
        };
        let (answered, ()) = tokio::join!(attempt(address, &expected, DEADLINE), pod);
        assert!(matches!(answered, Err(ProbeError::Elsewhere { .. })));
    }

    #[tokio::test]
    async fn another_socket_finds_the_machine_where_one_is_bound_to_a_silent_pod() {
        let (socket, address) = far().await;
        let expected = Expected::new();
        let router = async {
            let mut token = [0; 64];
            let (_, pod) = socket.recv_from(&mut token).await.unwrap();
            loop {
                let (_, from) = socket.recv_from(&mut token).await.unwrap();
                if from != pod {
                    socket.send_to(expected.answer(), from).await.unwrap();
                    break;
                }
            }
        };
        let (answered, ()) = tokio::join!(first(address, &expected), router);
        answered.unwrap();
    }

    #[tokio::test]
    async fn nobody_there_and_silence_are_told_apart() {
        let (socket, address) = far().await;
        let expected = Expected::new();
        let silent = attempt(address, &expected, Duration::ZERO).await;
        assert!(matches!(silent, Err(ProbeError::Lost { .. })), "{silent:?}");
        drop(socket);
        let closed = attempt(address, &expected, Duration::ZERO).await;
        assert!(
            matches!(closed, Err(ProbeError::Connect { .. })),
            "{closed:?}"
        );
    }
}
