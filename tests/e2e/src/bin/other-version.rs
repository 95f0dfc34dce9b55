//! A manager of another version, as far as `kdev connect` gets with it: it says who it is.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use kdev_cluster::client::ClusterClient;
use kdev_cluster::vouch::{ManagerKey, OwnPod, publish};
use kdev_identity::Identity;
use kdev_proto::PROTOCOL;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081))).await?;
    let pod = OwnPod {
        namespace: std::env::var("KDEV_NAMESPACE")?,
        name: std::env::var("KDEV_POD_NAME")?,
        uid: std::env::var("KDEV_POD_UID")?,
    };
    let own = ManagerKey {
        key: Identity::generate()?.fingerprint(),
        release: "99.0.0".to_owned(),
        protocol: PROTOCOL + 1,
    };
    publish(ClusterClient::in_cluster()?.kube(), &pod, &own).await?;
    let health = Router::new()
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(|| async { StatusCode::OK }));
    // The first process of a pod doesn't die of a signal that it doesn't handle.
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, health) => served?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
