//! HTTP/2 stream by stream.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{DOWN, Rig, soon};

/// A request that a destination has.
pub(super) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// A destination's end of a connection.
pub(super) struct Server {
    pub(super) requests: mpsc::UnboundedReceiver<Asked>,
    go_away: Option<oneshot::Sender<()>>,
    pub(super) ended: JoinHandle<Result<(), h2::Error>>,
}

impl Server {
    pub(super) async fn new(stream: TcpStream) -> Self {
        Self::with(stream, server::Builder::new().enable_connect_protocol()).await
    }

    pub(super) async fn with(stream: TcpStream, builder: &server::Builder) -> Self {
        let mut connection = soon(builder.handshake(stream)).await.unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let (go_away, mut going) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let mut gone = false;
            loop {
                tokio::select! {
                    stream = connection.accept() => match stream {
                        Some(stream) => drop(sender.send(stream?)),
                        None => return Ok(()),
                    },
                    going = &mut going, if !gone => {
                        gone = true;
                        if going.is_ok() {
                            connection.graceful_shutdown();
                        }
                    }
                }
            }
        });
        Self {
            requests,
            go_away: Some(go_away),
            ended,
        }
    }

    pub(super) async fn asked(&mut self) -> Asked {
        soon(self.requests.recv()).await.unwrap()
    }

    /// Takes no more streams.
    pub(super) fn go_away(&mut self) {
        self.go_away.take().unwrap().send(()).unwrap();
    }
}

impl Rig {
    pub(super) async fn server(&self, name: &str) -> Server {
        Server::new(self.accept(name).await).await
    }
}

/// The rig with its client speaking HTTP/2.
pub(super) async fn rig() -> (Rig, SendRequest<Bytes>) {
    speak(Rig::new().await, client::Builder::new().enable_push(false)).await
}

pub(super) async fn speak(rig: Rig, builder: &client::Builder) -> (Rig, SendRequest<Bytes>) {
    let Rig {
        client,
        router,
        reached,
        asked,
        listeners,
    } = rig;
    let (sender, connection) = soon(builder.handshake(client)).await.unwrap();
    tokio::spawn(connection);
    // What is left of the rig has another, unused client.
    let (client, _) = super::connection().await;
    let rig = Rig {
        client,
        router,
        reached,
        asked,
        listeners,
    };
    (rig, sender)
}

pub(super) fn to(name: &str, method: Method) -> Request<()> {
    let request = Request::builder().method(method).uri("http://shop/a?b");
    let request = request.version(Version::HTTP_2);
    match name {
        "pods" => request.body(()).unwrap(),
        name => request.header("x-to", name).body(()).unwrap(),
    }
}

pub(super) async fn read(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, soon(body.trailers()).await.unwrap())
}

pub(super) async fn write(to: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        let room = match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        to.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}

fn ok() -> Response<()> {
    Response::new(())
}

/// How a stream's response, or the rest of it, was reset.
pub(super) async fn reset_of(body: &mut RecvStream) -> Option<Reason> {
    loop {
        match soon(body.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.reason(),
            None => return None,
        }
    }
}

#[tokio::test]
async fn heads_data_and_trailers_pass_both_ways() {
    let (rig, mut client) = rig().await;
    let mut request = to("ann", Method::POST);
    let headers = request.headers_mut();
    for (name, value) in [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("te", "trailers"),
        ("x", "\u{e4}"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    let sent = request.clone();
    let (mut response, mut body) = client.send_request(request, false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    assert_eq!(request.method(), sent.method());
    assert_eq!(request.uri(), sent.uri());
    assert_eq!(request.headers(), sent.headers());

    let mut hints = ok();
    *hints.status_mut() = StatusCode::EARLY_HINTS;
    hints.headers_mut().insert("link", "x".parse().unwrap());
    respond.send_informational(hints.clone()).unwrap();
    let heard = soon(poll_fn(|cx| response.poll_informational(cx))).await;
    let heard = heard.unwrap().unwrap();
    assert_eq!(
        (heard.status(), heard.headers()),
        (hints.status(), hints.headers())
    );

    let mut trailers = HeaderMap::new();
    trailers.insert("sum", "1".parse().unwrap());
    body.send_data("question".into(), false).unwrap();
    body.send_trailers(trailers.clone()).unwrap();
    let (data, heard) = read(request.into_body()).await;
    assert_eq!(
        (&data[..], heard),
        (&b"question"[..], Some(trailers.clone()))
    );

    let mut head = ok();
    *head.status_mut() = StatusCode::IM_A_TEAPOT;
    head.headers_mut()
        .insert("set-cookie", "c".parse().unwrap());
    let mut answer = respond.send_response(head, false).unwrap();
    answer.send_data("answer".into(), false).unwrap();
    answer.send_trailers(trailers.clone()).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()["set-cookie"], "c");
    let (data, heard) = read(response.into_body()).await;
    assert_eq!((&data[..], heard), (&b"answer"[..], Some(trailers)));
}

#[tokio::test]
async fn a_head_may_be_all() {
    let (rig, mut client) = rig().await;
    let (response, _) = client.send_request(to("pods", Method::GET), true).unwrap();
    let mut pods = rig.server("pods").await;
    let (request, mut respond) = pods.asked().await;
    assert!(request.body().is_end_stream());
    let mut head = ok();
    head.headers_mut()
        .insert("grpc-status", "5".parse().unwrap());
    respond.send_response(head, true).unwrap();
    let response = soon(response).await.unwrap();
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["grpc-status"], "5");
}

#[tokio::test]
async fn streams_of_one_connection_go_to_several_destinations() {
    let (rig, mut client) = rig().await;
    let mut responses = Vec::new();
    for name in ["ann", "pods", "bob", "pods", "ann"] {
        let (response, _) = client.send_request(to(name, Method::GET), true).unwrap();
        responses.push((name, response));
    }
    for (name, streams) in [("ann", 2), ("pods", 2), ("bob", 1)] {
        let mut server = rig.server(name).await;
        for _ in 0..streams {
            let (_, mut respond) = server.asked().await;
            let mut body = respond.send_response(ok(), false).unwrap();
            body.send_data(name.into(), true).unwrap();
        }
    }
    for (name, response) in responses {
        let (data, _) = read(soon(response).await.unwrap().into_body()).await;
        assert_eq!(data, name.as_bytes());
    }
}

#[tokio::test]
async fn a_request_without_authority_stays_without() {
    let (rig, mut client) = rig().await;
    let request = Request::get("/only/path")
        .header("host", "shop")
        .header("x-to", "ann");
    let request = request.body(()).unwrap();
    let _kept = client.send_request(request, true).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, _) = ann.asked().await;
    assert_eq!(request.uri(), "/only/path");
    assert_eq!(request.headers()["host"], "shop");
}

#[tokio::test]
async fn an_extended_connect_passes() {
    let (rig, mut client) = rig().await;
    let mut request = to("ann", Method::CONNECT);
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let (response, mut up) = client.send_request(request, false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    assert_eq!(
        request.extensions().get::<Protocol>().unwrap().as_str(),
        "websocket"
    );
    let mut down = respond.send_response(ok(), false).unwrap();
    down.send_data("hello".into(), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "hello");
    up.send_data("world".into(), false).unwrap();
    let mut body = request.into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "world");
}

#[tokio::test]
async fn a_clients_reset_reaches_the_destination_with_its_code() {
    for answered in [false, true] {
        for sent in [false, true] {
            let (rig, mut client) = rig().await;
            let (response, mut up) = client.send_request(to("ann", Method::POST), sent).unwrap();
            let mut ann = rig.server("ann").await;
            let (mut request, mut respond) = ann.asked().await;
            let reset = if answered {
                let mut down = respond.send_response(ok(), false).unwrap();
                down.send_data("x".into(), false).unwrap();
                let mut body = soon(response).await.unwrap().into_body();
                soon(body.data()).await.unwrap().unwrap();
                up.send_reset(Reason::ENHANCE_YOUR_CALM);
                soon(poll_fn(|cx| down.poll_reset(cx))).await.unwrap()
            } else {
                up.send_reset(Reason::ENHANCE_YOUR_CALM);
                soon(poll_fn(|cx| respond.poll_reset(cx))).await.unwrap()
            };
            assert_eq!(reset, Reason::ENHANCE_YOUR_CALM, "{answered} {sent}");
            if !sent {
                let reset = reset_of(request.body_mut()).await;
                assert_eq!(reset, Some(Reason::ENHANCE_YOUR_CALM), "{answered}");
            }
        }
    }
}

#[tokio::test]
async fn a_destinations_reset_reaches_the_client_with_its_code() {
    for sent in [false, true] {
        let (rig, mut client) = rig().await;
        let mut ask = || client.send_request(to("ann", Method::POST), sent).unwrap();
        let (before, _up) = ask();
        let (within, _also) = ask();
        let mut ann = rig.server("ann").await;
        let (_request, mut respond) = ann.asked().await;
        respond.send_reset(Reason::REFUSED_STREAM);
        let error = soon(before).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "{sent}");

        let (_request, mut respond) = ann.asked().await;
        let mut down = respond.send_response(ok(), false).unwrap();
        down.send_data("x".into(), false).unwrap();
        let mut body = soon(within).await.unwrap().into_body();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), "x");
        down.send_reset(Reason::ENHANCE_YOUR_CALM);
        let reset = reset_of(&mut body).await;
        assert_eq!(reset, Some(Reason::ENHANCE_YOUR_CALM), "{sent}");
    }
}

#[tokio::test]
async fn an_early_answer_is_whole_though_the_rest_of_the_body_is_not_wanted() {
    let (rig, mut client) = rig().await;
    let (response, mut up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    let mut down = respond.send_response(ok(), false).unwrap();
    let answer = Bytes::from(vec![7; 60_000]);
    down.send_data(answer.clone(), true).unwrap();
    // The destination's library says NO_ERROR for a request of which it drops the rest.
    drop((request, respond, down));
    let (data, _) = read(soon(response).await.unwrap().into_body()).await;
    assert!(data == answer);
    let reset = soon(poll_fn(|cx| up.poll_reset(cx))).await.unwrap();
    assert_eq!(reset, Reason::NO_ERROR);
}

#[tokio::test]
async fn a_body_goes_on_after_the_whole_answer() {
    let (rig, mut client) = rig().await;
    let (response, mut up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    respond.send_response(ok(), true).unwrap();
    assert!(soon(response).await.unwrap().body().is_end_stream());
    up.send_data("late".into(), true).unwrap();
    assert_eq!(read(request.into_body()).await.0, b"late");
}

#[tokio::test]
async fn a_machine_out_of_reach_is_told_of() {
    let (_rig, mut client) = rig().await;
    for (method, body) in [
        (Method::GET, DOWN),
        (Method::HEAD, ""),
        (Method::POST, DOWN),
    ] {
        let ends = method != Method::POST;
        let (response, _up) = client.send_request(to("down", method), ends).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers()["content-length"], DOWN.len().to_string());
        let (data, _) = read(response.into_body()).await;
        assert_eq!(String::from_utf8_lossy(&data), body);
    }
    let mut request = to("down", Method::POST);
    let grpc = "application/grpc+proto".parse().unwrap();
    request.headers_mut().insert("content-type", grpc);
    let (response, _up) = client.send_request(request, false).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.body().is_end_stream());
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = &response.headers()["grpc-message"];
    assert_eq!(
        message,
        "kdev: the machine of ann@laptop is away, 100%25%0A"
    );
}
