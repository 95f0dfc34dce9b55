//! What the tests of this crate share.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;

use crate::rpc::Incoming;

/// Waits for what has to happen, however busy the machine.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("in time")
}

/// Both ends of a connection of the kernel's.
pub(crate) async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    (here.unwrap(), there.unwrap().0)
}

/// Expects that a connection is reset.
pub(crate) async fn is_reset(connection: &mut TcpStream) {
    use tokio::io::AsyncReadExt as _;
    let read = soon(connection.read(&mut [0; 8])).await;
    let error = read.expect_err("no more data");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A stream on which one message with these bytes comes (gRPC over HTTP/2: a byte of flags, four of
/// length).
pub(crate) fn stream_of(message: &str) -> Incoming {
    let length = u8::try_from(message.len()).unwrap();
    Incoming::new(Body::new(format!(
        "\0\0\0\0{}{message}",
        char::from(length)
    )))
}
