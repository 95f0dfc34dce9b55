//! TLS goes where the server's name says that the client asks for, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Rig, patient};
use crate::Limits;

/// A client's first message that asks for this server; an address is no name that is sent.
fn hello(server: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let server = ServerName::try_from(server.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Says `pieces`, and expects them at `name`, and an answer at the client.
async fn arrives_at(name: &'static str, limits: Limits, pieces: &[&[u8]]) {
    let mut rig = Rig::with(limits, &["pods", "ann"]).await;
    let all = pieces.concat();
    let said = async {
        for piece in pieces {
            rig.client.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    said.await;
    let mut destination = rig.accept(name).await;
    let mut seen = vec![0; all.len()];
    destination.read_exact(&mut seen).await.unwrap();
    assert!(seen == all, "other bytes");
    destination.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    rig.client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn a_connection_goes_where_its_servers_name_says() {
    let hello = hello("ann");
    arrives_at("ann", patient(), &[&hello]).await;
    // In as many pieces as there may be.
    let pieces: Vec<&[u8]> = hello.chunks(100).collect();
    arrives_at("ann", patient(), &pieces).await;
    arrives_at("ann", patient(), &[&hello, b"and what follows"]).await;
}

#[tokio::test]
async fn what_names_no_server_is_the_pods() {
    arrives_at("pods", patient(), &[&hello("192.0.2.1")]).await;
    // No handshake at all.
    arrives_at("pods", patient(), &[&[22, 3, 1, 0, 4, 9, 9, 9, 9]]).await;
}

#[tokio::test]
async fn who_doesnt_end_a_first_message_waits_no_longer_than_who_says_nothing() {
    let limits = Limits {
        first_byte: Duration::from_millis(50),
        ..patient()
    };
    arrives_at("pods", limits, &[&hello("ann")[..40]]).await;
}
