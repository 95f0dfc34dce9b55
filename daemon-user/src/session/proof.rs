//! Whether the manager is behind an address, and carriers could be.

use std::net::SocketAddr;
use std::time::Duration;

use kdev_common::channel::Channel;
use kdev_identity::ClientStream;
use kdev_proto::v1::EchoMessage;
use kdev_proto::v1::manager_client::ManagerClient;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

use super::manager_access::{Known, ManagerAccess};

/// How long each step of a proof may take.
const PROOF: Duration = Duration::from_secs(3);

/// Connects to `address`, and has the manager prove that it is there.
///
/// # Errors
///
/// Why it isn't, for people.
pub async fn prove(
    access: &ManagerAccess,
    address: SocketAddr,
    manager: &Known,
    patience: Duration,
) -> Result<ClientStream<TcpStream>, String> {
    let prove = async {
        let (_, stream) = access.dial(address).await.map_err(|error| error.why)?;
        let connected = access.connector.connect(manager.fingerprint(), stream);
        connected
            .await
            .map_err(|error| format!("what answers isn't the manager: {error}"))
    };
    let proven = timeout(patience, prove).await;
    proven.map_err(|_| silent(patience)).flatten()
}

/// Whether the manager is behind `address`, and full packets pass on the way to it and back.
///
/// # Errors
///
/// Which of these isn't so, for people.
pub async fn try_out(
    access: &ManagerAccess,
    address: SocketAddr,
    manager: &Known,
) -> Result<SocketAddr, String> {
    let stream = prove(access, address, manager, PROOF).await?;
    let channel = Channel::over(stream)
        .await
        .map_err(|error| error.to_string())?;
    let mut client = ManagerClient::new(channel);
    let small = timeout(PROOF, client.echo(EchoMessage::small())).await;
    let said = |status: Status| status.message().to_owned();
    small.map_err(|_| silent(PROOF))?.map_err(said)?;
    // A smaller MTU on the way may not be told of (RFC 2923 section 2.1).
    let full = timeout(PROOF, client.echo(EchoMessage::full())).await;
    full.map_err(|_| "the manager is there, but full packets don't pass".to_owned())?
        .map_err(said)?;
    Ok(address)
}

fn silent(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}
