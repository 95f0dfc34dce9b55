//! Many requests, and long ones.

use std::sync::LazyLock;

use bytes::Bytes;
use h2::client;
use http::{Method, Response};
use rand::Rng as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::h2::{Server, read, rig, to, write};
use super::{Rig, soon};

const NAMES: [&str; 3] = ["pods", "ann", "bob"];
const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 100;

/// The next head or response of this length's kind, up to its empty line.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = buffer.drain(..end + 4).collect();
            return Some(String::from_utf8(head).unwrap());
        }
        if soon(stream.read_buf(buffer)).await.unwrap() == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn ten_thousand_requests_of_one_connection_are_each_answered_by_the_right_one() {
    let mut rig = Rig::new().await;
    let mut servers = JoinSet::new();
    for name in NAMES {
        let listener = rig.listener(name);
        servers.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut buffer, mut count) = (Vec::new(), 0);
            while let Some(head) = head(&mut stream, &mut buffer).await {
                let path = head.split(' ').nth(1).unwrap();
                let answer =
                    format!("HTTP/1.1 200 OK\r\nX: {name}{path}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let mut buffer = Vec::new();
    for number in 0..REQUESTS {
        let name = NAMES[number % 3];
        let request = format!("GET /{number} HTTP/1.1\r\nHost: shop\r\nx-to: {name}\r\n\r\n");
        let request = request.replace("x-to: pods\r\n", "");
        rig.client.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut rig.client, &mut buffer).await.unwrap();
        assert!(
            answer.contains(&format!("X: {name}/{number}\r\n")),
            "{answer}"
        );
    }
    rig.client.shutdown().await.unwrap();
    rig.ends().await;
    let counts: Vec<usize> = soon(servers.join_all()).await;
    assert_eq!(counts.iter().sum::<usize>(), REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_of_one_connection_are_each_answered_by_the_right_one() {
    let (mut rig, client) = rig().await;
    for name in NAMES {
        let listener = rig.listener(name);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut server = Server::new(stream).await;
            while let Some((request, mut respond)) = server.requests.recv().await {
                let mut response = Response::new(());
                let path = request.uri().path();
                let told = format!("{name}{path}").parse().unwrap();
                response.headers_mut().insert("x", told);
                tokio::spawn(async move {
                    let (data, _) = read(request.into_body()).await;
                    let mut body = respond.send_response(response, false).unwrap();
                    body.send_data(data.into(), true).unwrap();
                });
            }
        });
    }
    let mut clients = JoinSet::new();
    for turn in 0..AT_ONCE {
        let client = client.clone();
        clients.spawn(async move {
            for number in (turn..REQUESTS).step_by(AT_ONCE) {
                let name = NAMES[number % 3];
                let mut request = to(name, Method::POST);
                *request.uri_mut() = format!("http://shop/{number}").parse().unwrap();
                let mut client = client.clone().ready().await.unwrap();
                let (response, mut body) = client.send_request(request, false).unwrap();
                body.send_data(number.to_string().into(), true).unwrap();
                let response = soon(response).await.unwrap();
                assert_eq!(response.headers()["x"], format!("{name}/{number}"));
                let (data, _) = read(response.into_body()).await;
                assert_eq!(data, number.to_string().as_bytes());
            }
        });
    }
    clients.join_all().await;
    drop(client);
    soon(rig.router).await.unwrap().unwrap();
}

const MIB: usize = 1 << 20;
const LONG: usize = 100 * MIB;

/// Noise, twice: each MiB of a long body begins one byte later in it.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut noise = vec![0; MIB];
    rand::rng().fill_bytes(&mut noise);
    noise.extend_from_within(..);
    noise
});

/// At most so many bytes of the long body from here.
fn noise(at: usize, most: usize) -> &'static [u8] {
    let (turn, at) = (at / MIB, at % MIB);
    let length = most.min(MIB - at);
    &NOISE[turn + at..][..length]
}

fn check(mut at: usize, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        let expected = noise(at, bytes.len());
        let (here, rest) = bytes.split_at(expected.len());
        assert!(here == expected, "around byte {at}");
        (at, bytes) = (at + here.len(), rest);
    }
    at
}

async fn send_noise(to: &mut (impl AsyncWrite + Unpin)) {
    let mut at = 0;
    while at < LONG {
        let piece = noise(at, 60_000);
        soon(to.write_all(piece)).await.unwrap();
        at += piece.len();
    }
}

async fn hear_noise(from: &mut (impl AsyncRead + Unpin)) {
    let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
    while at < LONG {
        let most = buffer.len().min(LONG - at);
        let count = soon(from.read(&mut buffer[..most])).await.unwrap();
        assert!(count > 0, "ended at {at}");
        at = check(at, &buffer[..count]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_each_way_at_once_in_http1() {
    let mut rig = Rig::new().await;
    let head = format!("POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: {LONG}\r\n\r\n");
    super::says(&mut rig.client, &head).await;
    let mut ann = rig.accept("ann").await;
    super::hears(&mut ann, head).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n");
    super::says(&mut ann, &head).await;
    super::hears(&mut rig.client, head).await;
    let (mut from_client, mut to_client) = rig.client.split();
    let (mut from_ann, mut to_ann) = ann.split();
    tokio::join!(
        send_noise(&mut to_client),
        hear_noise(&mut from_ann),
        send_noise(&mut to_ann),
        hear_noise(&mut from_client),
    );
}

async fn send_noise_h2(mut to: h2::SendStream<Bytes>) {
    let mut at = 0;
    while at < LONG {
        let piece = noise(at, 60_000);
        soon(write(&mut to, piece.into())).await.unwrap();
        at += piece.len();
    }
    to.send_data(Bytes::new(), true).unwrap();
}

async fn hear_noise_h2(mut from: h2::RecvStream) {
    let mut at = 0;
    while let Some(data) = soon(from.data()).await {
        let data = data.unwrap();
        at = check(at, &data);
        from.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(at, LONG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_each_way_at_once_in_http2() {
    let rig = Rig::new().await;
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20);
    let (rig, mut client) = super::h2::speak(rig, &builder).await;
    let (response, up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    let down = respond.send_response(Response::new(()), false).unwrap();
    let response = soon(response).await.unwrap();
    tokio::join!(
        send_noise_h2(up),
        hear_noise_h2(request.into_body()),
        send_noise_h2(down),
        hear_noise_h2(response.into_body()),
    );
}
