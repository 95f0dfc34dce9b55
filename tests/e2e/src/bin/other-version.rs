//! A manager of another version, as far as `kdev connect` gets with it: it says who it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use kdev_proto::v1::manager_server::{Manager, ManagerServer};
use kdev_proto::v1::{
    FlowFrame, LookupRequest, LookupResponse, SessionEvent, SessionRequest, Version, VersionRequest,
};
use kdev_proto::{PROTOCOL, version_of};
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

struct Newer;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unknown<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "nobody of another version gets this far",
    ))
}

#[tonic::async_trait]
impl Manager for Newer {
    type SessionStream = Answers<SessionEvent>;
    type FlowStream = Answers<FlowFrame>;
    type AcceptStream = Answers<FlowFrame>;

    async fn get_version(&self, _: Request<VersionRequest>) -> Result<Response<Version>, Status> {
        let own = version_of("kdev-traffic-manager");
        Ok(Response::new(Version {
            version: "99.0.0".to_owned(),
            protocol: PROTOCOL + 1,
            ..own
        }))
    }

    async fn session(
        &self,
        _: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        unknown()
    }

    async fn lookup(&self, _: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        unknown()
    }

    async fn flow(
        &self,
        _: Request<Streaming<FlowFrame>>,
    ) -> Result<Response<Self::FlowStream>, Status> {
        unknown()
    }

    async fn accept(
        &self,
        _: Request<Streaming<FlowFrame>>,
    ) -> Result<Response<Self::AcceptStream>, Status> {
        unknown()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let health = Router::new()
        .route("/livez", get(|| async { StatusCode::OK }))
        .route("/readyz", get(|| async { StatusCode::OK }));
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081))).await?;
    let sessions = tonic::transport::Server::builder()
        .add_service(ManagerServer::new(Newer))
        .serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    tokio::select! {
        ended = axum::serve(listener, health) => ended?,
        ended = sessions => ended?,
    }
    Ok(())
}
