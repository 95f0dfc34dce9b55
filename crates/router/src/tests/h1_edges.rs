//! Ends, failures and limits of HTTP/1.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{DOWN, Rig, ends, hears, is_reset, patient, says};
use crate::{Limit, Limits};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\n\r\n";

#[tokio::test]
async fn a_response_that_ends_by_close_closes_the_client() {
    for response in [
        "HTTP/1.1 200 OK\r\n\r\nall of it",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n\x01",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nX\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "no HTTP at all",
        "HTTP/1.1 200 OK\r\nhead",
        "",
    ] {
        for to in ["pods", "ann"] {
            let mut rig = Rig::new().await;
            let request = format!(
                "GET / HTTP/1.1\r\nx{}-to: ann\r\n\r\n",
                if to == "ann" { "" } else { "x" }
            );
            says(&mut rig.client, &request).await;
            let mut server = rig.accept(to).await;
            hears(&mut server, &request).await;
            says(&mut server, response).await;
            drop(server);
            hears(&mut rig.client, response).await;
            rig.ends().await;
        }
    }
}

#[tokio::test]
async fn a_response_without_a_sure_end_does_not_keep_the_destination_waiting() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
    says(&mut ann, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok").await;
    ends(&mut ann).await;
    drop(ann);
    hears(
        &mut rig.client,
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
    )
    .await;
    rig.ends().await;
}

#[tokio::test]
async fn a_response_of_the_pods_without_a_sure_end_is_the_clients_business() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nX",
        "ICY 200 OK\r\n\r\n",
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, GET).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, GET).await;
        says(&mut pod, response).await;
        hears(&mut rig.client, response).await;
        says(&mut rig.client, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
        hears(&mut pod, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_client_that_is_told_to_close_is_closed() {
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, request).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, request).await;
        says(&mut pod, OK).await;
        hears(&mut rig.client, OK).await;
        rig.ends().await;
        ends(&mut pod).await;
    }
}

#[tokio::test]
async fn a_client_is_closed_as_its_response_says_though_the_destination_stays() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    let response = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    says(&mut pod, response).await;
    hears(&mut rig.client, response).await;
    rig.ends().await;
    ends(&mut pod).await;
}

#[tokio::test]
async fn a_client_that_still_sends_is_not_reset_before_it_has_the_answer() {
    let mut rig = Rig::new().await;
    let head = "POST / HTTP/1.1\r\nx-to: down\r\nContent-Length: 100000000\r\n\r\n";
    says(&mut rig.client, format!("{head}{}", "x".repeat(200_000))).await;
    hears(&mut rig.client, bad_gateway("Connection: close\r\n", DOWN)).await;
    rig.ends().await;
}

#[tokio::test]
async fn a_client_that_ends_after_its_request_has_its_answer() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    rig.client.shutdown().await.unwrap();
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    ends(&mut pod).await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
    rig.ends().await;
}

#[tokio::test]
async fn a_client_that_resets_takes_the_destination_with_it() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    rig.client.set_zero_linger().unwrap();
    drop(rig.client);
    ends(&mut pod).await;
    rig.router.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_destination_that_resets_resets_the_client() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    pod.set_zero_linger().unwrap();
    drop(pod);
    is_reset(&mut rig.client).await;
}

#[tokio::test]
async fn a_refused_body_does_not_keep_the_answer_back() {
    let mut rig = Rig::new().await;
    let head = "POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n";
    says(&mut rig.client, head).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, head).await;
    let response = "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
    says(&mut pod, response).await;
    drop(pod);
    hears(&mut rig.client, response).await;
    rig.ends().await;
}

#[tokio::test]
async fn a_kept_connection_that_broke_is_dialled_again_where_that_is_harmless() {
    let mut rig = Rig::new().await;
    let ann = "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n";
    says(&mut rig.client, format!("{ann}{GET}{ann}")).await;
    let mut first = rig.accept("ann").await;
    hears(&mut first, ann).await;
    says(&mut first, OK).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    says(&mut pod, OK).await;
    // It ends when the request is already on its way.
    hears(&mut first, ann).await;
    drop(first);
    let mut second = rig.accept("ann").await;
    hears(&mut second, ann).await;
    says(&mut second, OK).await;
    hears(&mut rig.client, OK.repeat(3)).await;
}

#[tokio::test]
async fn a_request_that_may_have_had_effects_is_not_sent_twice() {
    let mut rig = Rig::new().await;
    let post = "POST / HTTP/1.1\r\n\r\n";
    says(&mut rig.client, format!("{GET}{post}")).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    says(&mut pod, OK).await;
    hears(&mut pod, post).await;
    drop(pod);
    hears(&mut rig.client, OK).await;
    rig.ends().await;
}

#[tokio::test]
async fn an_idle_client_ends_when_its_only_destination_does() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
    drop(pod);
    rig.ends().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_given_up_and_dialled_anew() {
    let limits = Limits {
        idle_upstream: Duration::from_millis(20),
        ..patient()
    };
    let mut rig = Rig::with(limits, &["pods"]).await;
    for _ in 0..2 {
        says(&mut rig.client, GET).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, GET).await;
        says(&mut pod, OK).await;
        hears(&mut rig.client, OK).await;
        ends(&mut pod).await;
    }
}

#[tokio::test]
async fn the_upstream_longest_unused_makes_room() {
    let limits = Limits {
        upstreams: 1,
        ..patient()
    };
    let mut rig = Rig::with(limits, &["pods", "ann"]).await;
    says(
        &mut rig.client,
        format!("{GET}GET / HTTP/1.1\r\nx-to: ann\r\n\r\n"),
    )
    .await;
    let mut pod = rig.accept("pods").await;
    says(&mut pod, OK).await;
    hears(&mut pod, GET).await;
    let mut ann = rig.accept("ann").await;
    says(&mut ann, OK).await;
    ends(&mut pod).await;
    hears(&mut rig.client, OK.repeat(2)).await;
}

fn bad_gateway(extra: &str, body: &str) -> String {
    let length = DOWN.len();
    format!(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{extra}\r\n{body}"
    )
}

#[tokio::test]
async fn a_machine_out_of_reach_is_told_of_and_the_connection_goes_on() {
    for (request, head) in [
        ("GET / HTTP/1.1\r\nx-to: down\r\n\r\n", false),
        ("HEAD / HTTP/1.1\r\nx-to: down\r\n\r\n", true),
        (
            "POST / HTTP/1.1\r\nx-to: down\r\nContent-Length: 4\r\n\r\nGET ",
            false,
        ),
        (
            "POST / HTTP/1.1\r\nx-to: down\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            false,
        ),
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, format!("{request}{GET}")).await;
        hears(
            &mut rig.client,
            bad_gateway("", if head { "" } else { DOWN }),
        )
        .await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, GET).await;
        says(&mut pod, OK).await;
        hears(&mut rig.client, OK).await;
    }
}

#[tokio::test]
async fn a_machine_out_of_reach_closes_a_client_with_a_long_body() {
    for request in [
        "POST / HTTP/1.1\r\nx-to: down\r\nContent-Length: 100000000\r\n\r\n",
        "POST / HTTP/1.1\r\nx-to: down\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.0\r\nx-to: down\r\n\r\n",
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, request).await;
        hears(&mut rig.client, bad_gateway("Connection: close\r\n", DOWN)).await;
        rig.ends().await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(70_000));
    let target = format!("GET /{}", "y".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(257));
    for head in [long, target, many] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, head).await;
        hears(
            &mut rig.client,
            "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        )
        .await;
        assert_eq!(*rig.reached.lock().unwrap(), [Limit::HeadSize]);
    }
    let most = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(256));
    let mut rig = Rig::new().await;
    says(&mut rig.client, &most).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, &most).await;
}

#[tokio::test]
async fn stopping_the_router_closes_everything() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, GET).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, GET).await;
    rig.router.abort();
    ends(&mut pod).await;
    ends(&mut rig.client).await;
}
