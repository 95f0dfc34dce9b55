//! Ends, stalls and limits of HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, client, server};
use http::{Method, Response, StatusCode};
use tokio::io::AsyncReadExt as _;

use super::h2::{Server, read, reset_of, rig, speak, to, write};
use super::{Rig, patient, says, soon};
use crate::{Limits, RouterError};

fn ok() -> Response<()> {
    Response::new(())
}

/// Sends what never ends, and counts what of it was taken.
fn gush(mut to: h2::SendStream<Bytes>) -> Arc<AtomicUsize> {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![0; 16 << 10]);
        while write(&mut to, piece.clone()).await.is_ok() {
            count.fetch_add(piece.len(), Ordering::Relaxed);
        }
    });
    taken
}

#[tokio::test]
async fn a_stalled_stream_stalls_no_other_and_is_not_heaped_up() {
    // A connection's window is for all its streams: one that nobody reads must not fill it.
    let mut builder = client::Builder::new();
    builder.initial_connection_window_size(16 << 20);
    let (rig, mut client) = speak(Rig::new().await, &builder).await;
    let (stalled, _up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut builder = server::Builder::new();
    builder.initial_connection_window_size(16 << 20);
    let mut ann = Server::with(rig.accept("ann").await, &builder).await;
    let (_unread, mut respond) = ann.asked().await;
    let down = gush(respond.send_response(ok(), false).unwrap());
    // Nobody reads either body of that stream.
    let up = gush(_up);
    let _unread = soon(stalled).await.unwrap();

    let (response, mut body) = client.send_request(to("ann", Method::POST), false).unwrap();
    let (request, mut respond) = ann.asked().await;
    let mut answer = respond.send_response(ok(), false).unwrap();
    let much = Bytes::from(vec![1; 32 << 20]);
    let here = async {
        write(&mut body, much.clone()).await.unwrap();
        body.send_data(Bytes::new(), true).unwrap();
    };
    let there = async {
        write(&mut answer, much.clone()).await.unwrap();
        answer.send_data(Bytes::new(), true).unwrap();
    };
    let back = async { read(soon(response).await.unwrap().into_body()).await };
    let ((), (), (asked, _), (answered, _)) =
        tokio::join!(here, there, read(request.into_body()), back);
    assert!(asked == much && answered == much);
    for taken in [down, up] {
        let taken = taken.load(Ordering::Relaxed);
        assert!(
            taken < 4 << 20,
            "{taken} bytes of a stalled stream were taken"
        );
    }
}

#[tokio::test]
async fn after_goaway_streams_finish_and_new_ones_get_another_connection() {
    let (rig, mut client) = rig().await;
    let (first, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut old = rig.server("ann").await;
    let (_, mut respond) = old.asked().await;
    let mut body = respond.send_response(ok(), false).unwrap();
    let first = soon(first).await.unwrap();
    old.go_away();
    // A stream that the old connection refuses is asked for on the new one.
    let mut seconds = Vec::new();
    let mut new = loop {
        let (second, _) = client.send_request(to("ann", Method::GET), true).unwrap();
        seconds.push(second);
        tokio::select! {
            stream = rig.accept("ann") => break Server::new(stream).await,
            asked = old.requests.recv() => asked.unwrap().1.send_response(ok(), true).unwrap(),
        };
    };
    body.send_data("late".into(), true).unwrap();
    assert_eq!(read(first.into_body()).await.0, b"late");
    tokio::spawn(async move {
        while let Some((_, mut respond)) = new.requests.recv().await {
            respond.send_response(ok(), true).unwrap();
        }
    });
    for second in seconds {
        soon(second).await.unwrap();
    }
    // Nothing keeps the old one any more.
    soon(old.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reset_after_the_answer_reaches_a_destination_that_does_not_read() {
    let (rig, mut client) = rig().await;
    let (response, mut up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, mut respond) = ann.asked().await;
    respond.send_response(ok(), true).unwrap();
    soon(response).await.unwrap();
    let sending = tokio::spawn(async move {
        write(&mut up, vec![0; 200_000].into()).await.unwrap();
        up
    });
    let mut body = request.into_body();
    // All that it lets come.
    let mut count = 0;
    while count < 65_535 {
        count += soon(body.data()).await.unwrap().unwrap().len();
    }
    let mut up = soon(sending).await.unwrap();
    up.send_reset(Reason::ENHANCE_YOUR_CALM);
    let reset = reset_of(&mut body).await;
    assert_eq!(reset, Some(Reason::ENHANCE_YOUR_CALM));
}

/// RFC 9113 section 6.5.
const NO_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// No stream has been looked at; RFC 9113 section 6.8.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[tokio::test]
async fn a_stream_that_was_not_looked_at_before_goaway_is_asked_for_again() {
    let (rig, mut client) = rig().await;
    let (response, _) = client.send_request(to("ann", Method::POST), true).unwrap();
    let mut gone = rig.accept("ann").await;
    says(&mut gone, [NO_SETTINGS, GOAWAY].concat()).await;
    let mut ann = rig.server("ann").await;
    ann.asked().await.1.send_response(ok(), true).unwrap();
    soon(response).await.unwrap();
}

#[tokio::test]
async fn what_has_begun_to_be_sent_is_refused_by_goaway_so_that_the_client_asks_again() {
    let (rig, mut client) = rig().await;
    let (response, _up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let mut gone = rig.accept("ann").await;
    says(&mut gone, [NO_SETTINGS, GOAWAY].concat()).await;
    let error = soon(response).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
}

#[tokio::test]
async fn a_client_that_ends_ends_its_destinations_in_order() {
    let (rig, mut client) = rig().await;
    let asked = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut ann = rig.accept("ann").await;
    says(&mut ann, NO_SETTINGS).await;
    drop((client, asked));
    let mut heard = Vec::new();
    soon(ann.read_to_end(&mut heard)).await.unwrap();
    let last = &heard[heard.len() - GOAWAY.len()..];
    assert_eq!(last, GOAWAY);
    drop(ann);
    soon(rig.router).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_the_router_closes_everything() {
    let (rig, mut client) = rig().await;
    let (response, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut ann = rig.server("ann").await;
    ann.asked().await;
    rig.router.abort();
    soon(response).await.unwrap_err();
    while soon(ann.requests.recv()).await.is_some() {}
    drop(soon(ann.ended).await.unwrap());
}

#[tokio::test]
async fn a_destination_that_breaks_breaks_its_streams_only() {
    let (rig, mut client) = rig().await;
    let (broken, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut ann = rig.server("ann").await;
    ann.asked().await;
    let (whole, _) = client.send_request(to("pods", Method::GET), true).unwrap();
    let mut pods = rig.server("pods").await;
    let (_, mut respond) = pods.asked().await;
    ann.ended.abort();
    soon(broken).await.unwrap_err();
    respond.send_response(ok(), true).unwrap();
    soon(whole).await.unwrap();
    // The next stream dials again.
    let (again, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut ann = rig.server("ann").await;
    ann.asked().await.1.send_response(ok(), true).unwrap();
    soon(again).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_destination_breaks_is_unavailable() {
    let (rig, mut client) = rig().await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut request = to("ann", Method::POST);
        let grpc = "application/grpc".parse().unwrap();
        request.headers_mut().insert("content-type", grpc);
        calls.push(client.send_request(request, true).unwrap().0);
    }
    let mut ann = rig.server("ann").await;
    let (_, mut respond) = ann.asked().await;
    let _waits = ann.asked().await;
    let _down = respond.send_response(ok(), false).unwrap();
    let begun = soon(calls.remove(0)).await.unwrap();
    ann.ended.abort();
    let response = soon(calls.remove(0)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    assert!(response.body().is_end_stream());
    let reset = reset_of(&mut begun.into_body()).await;
    assert_eq!(reset, Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn pods_that_break_break_a_client_that_has_nothing_else() {
    let (rig, mut client) = rig().await;
    let (response, _) = client.send_request(to("pods", Method::GET), true).unwrap();
    let mut pods = rig.server("pods").await;
    let _waits = pods.asked().await;
    pods.ended.abort();
    let error = soon(response).await.unwrap_err();
    assert!(error.is_io(), "{error:?}");
    let ended = soon(rig.router).await.unwrap();
    assert!(matches!(ended, Err(RouterError::Upstream(_))), "{ended:?}");
}

#[tokio::test]
async fn a_destination_at_its_limit_gets_another_connection() {
    let (rig, mut client) = rig().await;
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(1);
    let (first, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut one = Server::with(rig.accept("ann").await, &builder).await;
    let (_, mut respond) = one.asked().await;
    let (second, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut other = Server::with(rig.accept("ann").await, &builder).await;
    other.asked().await.1.send_response(ok(), true).unwrap();
    soon(second).await.unwrap();
    respond.send_response(ok(), true).unwrap();
    soon(first).await.unwrap();
}

#[tokio::test]
async fn a_connection_without_streams_is_given_up() {
    let limits = Limits {
        idle_upstream: Duration::from_millis(20),
        ..patient()
    };
    let rig = Rig::with(limits, &["pods"]).await;
    let (rig, mut client) = speak(rig, &client::Builder::new()).await;
    for _ in 0..2 {
        let (response, _) = client.send_request(to("pods", Method::GET), true).unwrap();
        let mut pods = rig.server("pods").await;
        pods.asked().await.1.send_response(ok(), true).unwrap();
        soon(response).await.unwrap();
        soon(pods.ended).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn without_pods_the_client_breaks_unless_a_machine_serves_it() {
    let rig = Rig::with(patient(), &[]).await;
    let (rig, mut client) = speak(rig, &client::Builder::new()).await;
    let (response, _) = client.send_request(to("pods", Method::GET), true).unwrap();
    soon(response).await.unwrap_err();
    let ended = soon(rig.router).await.unwrap();
    assert!(matches!(ended, Err(RouterError::Pods(_))), "{ended:?}");

    let rig = Rig::with(patient(), &["ann"]).await;
    let (rig, mut client) = speak(rig, &client::Builder::new()).await;
    let (served, _) = client.send_request(to("ann", Method::GET), true).unwrap();
    let mut ann = rig.server("ann").await;
    let (_, mut respond) = ann.asked().await;
    let (response, _) = client.send_request(to("pods", Method::GET), true).unwrap();
    let error = soon(response).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    respond.send_response(ok(), true).unwrap();
    soon(served).await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (_rig, mut client) = rig().await;
    let mut many = to("pods", Method::GET);
    for _ in 0..257 {
        many.headers_mut().append("x", "y".parse().unwrap());
    }
    let mut long = to("pods", Method::GET);
    let value = "y".repeat(70_000).parse().unwrap();
    long.headers_mut().insert("x", value);
    for request in [many, long] {
        let (response, _) = client.send_request(request, true).unwrap();
        let status = soon(response).await.unwrap().status();
        assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
}

#[tokio::test]
async fn a_destination_that_doesnt_speak_http2_is_told_of() {
    // One that takes the preface for HTTP/0.9, and one of TLS, among them.
    let alert = "\x15\x03\x03\0\x02\x02\x32";
    for said in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "<!DOCTYPE HTML>\n",
        alert,
    ] {
        let (mut rig, mut client) = rig().await;
        let ann = rig.listener("ann");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = ann.accept().await.unwrap();
                let preface = soon(stream.read(&mut [0; 3])).await.unwrap();
                assert_eq!(preface, 3);
                // As one that doesn't understand closes it.
                says(&mut stream, said).await;
            }
        });
        let (response, _) = client.send_request(to("ann", Method::GET), true).unwrap();
        let mut call = to("ann", Method::POST);
        let kind = "application/grpc".parse().unwrap();
        call.headers_mut().insert("content-type", kind);
        let (called, _) = client.send_request(call, true).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{said}");
        let body = read(response.into_body()).await.0;
        let body = String::from_utf8(body).unwrap();
        assert!(
            body.starts_with("kdev: ") && body.contains("HTTP/2"),
            "{body}"
        );
        let called = soon(called).await.unwrap();
        assert_eq!(called.headers()["grpc-status"], "14", "{said}");
    }
}
