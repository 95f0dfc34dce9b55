//! Copies for those who don't answer.

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncWriteExt as _;

use super::h2::{Server, read, rig, to, write};
use super::{Rig, hears, patient, says, soon};

const POST: &str = "POST /a HTTP/1.1\r\nhost: x\r\nx-copy: ann\r\ncontent-length: 4\r\n\r\nbody";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_request_is_copied_byte_for_byte_and_only_the_pods_answer_it() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, POST).await;
    let (mut pod, mut ann) = (rig.accept("pods").await, rig.accept("ann").await);
    hears(&mut pod, POST).await;
    hears(&mut ann, POST).await;
    says(&mut ann, "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
    // The next one comes on the same connections, and what isn't for ann doesn't.
    let other = "GET /b HTTP/1.1\r\nhost: x\r\n\r\n";
    says(&mut rig.client, other).await;
    hears(&mut pod, other).await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
    says(&mut rig.client, POST).await;
    hears(&mut pod, POST).await;
    hears(&mut ann, POST).await;
}

#[tokio::test]
async fn who_gets_a_copy_and_is_slow_or_away_holds_nobody_back() {
    let mut rig = Rig::new().await;
    // As much as fits nowhere, and ann reads nothing of it.
    let length = 64 << 20;
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\nx-copy: ann\r\ncontent-length: {length}\r\n\r\n");
    says(&mut rig.client, &head).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, &head).await;
    let body = vec![7; 1 << 20];
    for _ in 0..length >> 20 {
        says(&mut rig.client, &body).await;
        hears(&mut pod, &body).await;
    }
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
    let away = POST.replace("ann", "nobody");
    says(&mut rig.client, &away).await;
    hears(&mut pod, &away).await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
}

#[tokio::test]
async fn who_is_overheard_keeps_to_what_the_pods_allow() {
    const BODY: usize = 1 << 20;
    let mut places = std::collections::HashMap::new();
    let mut listeners = Vec::new();
    for name in ["pods", "tap"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        places.insert(name, listener.local_addr().unwrap());
        listeners.push(listener);
    }
    let ways = std::sync::Arc::new(super::Ports {
        to: places,
        reached: Default::default(),
        asked: Default::default(),
    });
    let (client, near) = super::connection().await;
    tokio::spawn(crate::pass(near, ways));
    // Larger frames than are usual, and more at once.
    let mut builder = h2::server::Builder::new();
    builder
        .max_frame_size(1 << 20)
        .initial_window_size(8 << 20)
        .initial_connection_window_size(8 << 20);
    let accept = async |index: usize| soon(listeners[index].accept()).await.unwrap().0;
    let (pods, shaken) = tokio::join!(
        async { Server::with(accept(0).await, &builder).await },
        h2::client::handshake(client)
    );
    let (mut client, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let (mut pods, mut tap) = (pods, None);
    for _ in 0..3 {
        let (_response, mut up) = client
            .send_request(to("pods", Method::POST), false)
            .unwrap();
        let hear = async {
            let (at_pods, _) = pods.asked().await;
            if tap.is_none() {
                tap = Some(Server::new(accept(1).await).await);
            }
            let (at_tap, _) = tap.as_mut().unwrap().asked().await;
            tokio::join!(read(at_pods.into_body()), read(at_tap.into_body()))
        };
        let say = async {
            write(&mut up, vec![7; BODY].into()).await.unwrap();
            up.send_data(Bytes::new(), true).unwrap();
        };
        let ((), (pods, tap)) = tokio::join!(say, hear);
        assert_eq!((pods.0.len(), tap.0.len()), (BODY, BODY));
    }
}

#[tokio::test]
async fn a_stream_is_copied_with_its_data_and_trailers() {
    let (rig, mut client) = rig().await;
    let mut request = to("pods", Method::POST);
    request
        .headers_mut()
        .insert("x-copy", "ann".parse().unwrap());
    let (response, mut send) = client.send_request(request, false).unwrap();
    let (mut pods, mut ann) = (rig.server("pods").await, rig.server("ann").await);
    let ((asked, mut respond), (copied, _silent)) = (pods.asked().await, ann.asked().await);
    assert_eq!(asked.uri().path(), copied.uri().path());
    let all: Bytes = vec![5; 3 << 20].into();
    let trailers: http::HeaderMap = [("x-sum".parse().unwrap(), "1".parse().unwrap())]
        .into_iter()
        .collect();
    let say = async {
        write(&mut send, all.clone()).await.unwrap();
        send.send_trailers(trailers.clone()).unwrap();
    };
    let (_, heard, copy) = tokio::join!(say, read(asked.into_body()), read(copied.into_body()));
    assert!(heard == copy && heard == (all.to_vec(), Some(trailers)));
    respond
        .send_response(http::Response::new(()), true)
        .unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn bytes_that_are_not_http_are_copied_too() {
    let mut rig = Rig::with(patient(), &["pods", "tap"]).await;
    says(&mut rig.client, b"\0one").await;
    let (mut pod, mut tap) = (rig.accept("pods").await, rig.accept("tap").await);
    hears(&mut pod, b"\0one").await;
    hears(&mut tap, b"\0one").await;
    says(&mut tap, b"nobody hears this").await;
    says(&mut pod, b"two").await;
    hears(&mut rig.client, b"two").await;
    says(&mut rig.client, b"three").await;
    hears(&mut tap, b"three").await;
    rig.client.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_follows_an_upgrade_is_copied_too() {
    let mut rig = Rig::new().await;
    let request =
        "GET / HTTP/1.1\r\nhost: x\r\nx-copy: ann\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    says(&mut rig.client, request).await;
    let (mut pod, mut ann) = (rig.accept("pods").await, rig.accept("ann").await);
    hears(&mut pod, request).await;
    hears(&mut ann, request).await;
    says(&mut ann, switch).await;
    says(&mut pod, switch).await;
    hears(&mut rig.client, switch).await;
    says(&mut rig.client, b"\x81\x02hi").await;
    hears(&mut pod, b"\x81\x02hi").await;
    hears(&mut ann, b"\x81\x02hi").await;
}
