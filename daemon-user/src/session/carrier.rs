//! Carriers: port-forwards to the manager that this daemon opens, with the user's credentials, and
//! hands to the root daemon as a connected local socket.

use kdev_common::paths;
use kdev_common::socket::LocalStream;
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Nudge};
use super::manager_link::{ManagerAddress, forward_to_manager};

/// Carriers of a session. Flows are spread over them: a port-forward's limit is the CPU that the API
/// server and the kubelet give to one WebSocket.
pub const COUNT: u32 = 3;

/// What the root daemon wants to see first on a carrier's socket.
pub type Token = Vec<u8>;

/// Keeps carrier number `id` alive until cancelled: whenever it breaks, the next one is opened.
pub async fn keep(
    id: u32,
    address: ManagerAddress,
    mut token: watch::Receiver<Option<Token>>,
    nudge: Nudge,
    cancelled: CancellationToken,
) {
    let mut backoff = Backoff::new(nudge);
    loop {
        let attempt = async {
            let shown = token
                .wait_for(Option::is_some)
                .await
                .map(|token| token.clone());
            let Ok(Some(token)) = shown else {
                // The root link is gone, and the session with it.
                return std::future::pending().await;
            };
            carry(id, &address, &token, &cancelled, &mut backoff).await
        };
        let ended = tokio::select! {
            () = cancelled.cancelled() => return,
            ended = attempt => ended,
        };
        if let Err(failure) = ended {
            tracing::info!(carrier = id, reason = %failure.why, "carrier ended");
        }
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = backoff.wait() => {}
        }
    }
}

async fn carry(
    id: u32,
    address: &ManagerAddress,
    token: &[u8],
    cancelled: &CancellationToken,
    backoff: &mut Backoff,
) -> Result<(), Failure> {
    let (_, forward) = forward_to_manager(&address.cluster, &address.namespace).await?;
    let local = |error: std::io::Error| {
        Failure::new(
            ErrorKind::Daemon,
            "the root daemon doesn't take a carrier",
            error.to_string(),
            "`kdev status` says whether it runs",
        )
    };
    let mut socket = LocalStream::connect(&paths::carrier_socket())
        .await
        .map_err(local)?;
    socket.write_all(token).await.map_err(local)?;
    socket.write_u32(id).await.map_err(local)?;
    let started = tokio::time::Instant::now();
    let ended = forward.pump(socket, cancelled).await;
    // One that lived is no reason to wait; one that broke at once is.
    if started.elapsed() > std::time::Duration::from_secs(5) {
        backoff.reset();
    }
    ended
        .map(drop)
        .map_err(|error| Failure::new(ErrorKind::Manager, "a carrier broke", error.to_string(), ""))
}
