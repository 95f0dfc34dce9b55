//! The far end of a forward in memory: a WebSocket server that speaks for the kubelet.

use futures::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::OpenedForward;

/// The port that the tests forward.
pub(super) const PORT: u16 = 8080;

/// How many bytes fit between the forward and its peer.
pub(super) const PIPE: usize = 32 * 1024;

pub(super) struct Peer(pub(super) WebSocketStream<DuplexStream>);

/// Makes a forward and its far end, which has announced its channels.
pub(super) async fn forward() -> (OpenedForward<DuplexStream>, Peer) {
    let (near, far) = tokio::io::duplex(PIPE);
    let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let mut peer = Peer(WebSocketStream::from_raw_socket(far, Role::Server, None).await);
    for channel in [0, 1] {
        let [low, high] = PORT.to_le_bytes();
        peer.send(&[channel, low, high]).await;
    }
    (OpenedForward { socket, port: PORT }, peer)
}

impl Peer {
    pub(super) async fn send(&mut self, message: &[u8]) {
        self.0
            .send(Message::Binary(message.to_vec().into()))
            .await
            .unwrap();
    }

    pub(super) async fn send_data(&mut self, data: &[u8]) {
        self.send(&[&[0], data].concat()).await;
    }

    /// Returns the next message that isn't the machinery's own; `None` for a goodbye.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        match self.0.next().await {
            Some(Ok(Message::Binary(message))) => Some(message.to_vec()),
            Some(Ok(Message::Close(_))) => None,
            other => panic!("the peer got {other:?}"),
        }
    }

    /// Receives data until there are `length` bytes.
    pub(super) async fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            let message = self.next().await.expect("the forward ended early");
            assert_eq!(message[0], 0, "the channel of data");
            assert!(
                message.len() <= 64 * 1024,
                "a message of {} bytes",
                message.len()
            );
            data.extend_from_slice(&message[1..]);
        }
        data
    }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}
