//! Requests whose end servers see in different places.

use tokio::io::AsyncWriteExt as _;

use super::{Rig, ends, hears, says};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\n\r\n";

/// Each tries to carry `GET /hidden` past the router.
const UNCLEAR: [&str; 26] = [
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /hidden",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: 5, 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: -5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: 0x5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length:\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length : 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\n Content-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nContent-Length:\r\n 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /hidden",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\r\nTransfer-Encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nx-to: ann\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nx-to: ann\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nX: a\nContent-Length: 5\r\n\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nX: a\rContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nx-to: ann\r\nX: a\0\r\n\r\n",
    "CONNECT x:1 HTTP/1.1\r\nx-to: ann\r\nContent-Length: 5\r\n\r\nhello",
];

#[tokio::test]
async fn first_on_a_connection_they_make_it_the_pods() {
    for request in UNCLEAR {
        let mut rig = Rig::new().await;
        says(&mut rig.client, request).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, request).await;
        says(&mut pod, "\x01anything").await;
        hears(&mut rig.client, "\x01anything").await;
        says(&mut rig.client, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
        hears(&mut pod, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
        rig.client.shutdown().await.unwrap();
        ends(&mut pod).await;
    }
}

#[tokio::test]
async fn after_requests_to_the_pods_only_they_stay_the_pods() {
    for request in UNCLEAR {
        let mut rig = Rig::new().await;
        says(&mut rig.client, format!("{GET}{request}")).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, GET).await;
        says(&mut pod, OK).await;
        hears(&mut pod, request).await;
    }
}

#[tokio::test]
async fn after_requests_to_others_they_are_refused_and_nobody_hears_of_them() {
    for request in UNCLEAR {
        let mut rig = Rig::new().await;
        let bob = "GET / HTTP/1.1\r\nx-to: bob\r\n\r\n";
        says(&mut rig.client, format!("{GET}{bob}{request}{GET}")).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, GET).await;
        says(&mut pod, OK).await;
        let mut server = rig.accept("bob").await;
        hears(&mut server, bob).await;
        says(&mut server, OK).await;
        hears(&mut rig.client, OK.repeat(2)).await;
        hears(&mut rig.client, "HTTP/1.1 400 Bad Request\r\n").await;
        ends(&mut pod).await;
        ends(&mut server).await;
    }
}

#[tokio::test]
async fn pods_on_a_second_connection_have_not_seen_all_and_are_not_left_to_it() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, format!("{GET}{GET}{}", UNCLEAR[0])).await;
    let mut first = rig.accept("pods").await;
    hears(&mut first, GET).await;
    says(&mut first, OK).await;
    hears(&mut first, GET).await;
    drop(first);
    let mut second = rig.accept("pods").await;
    hears(&mut second, GET).await;
    says(&mut second, OK).await;
    hears(&mut rig.client, OK.repeat(2)).await;
    hears(&mut rig.client, "HTTP/1.1 400 Bad Request\r\n").await;
    ends(&mut second).await;
}

#[tokio::test]
async fn chunks_without_a_sure_end_are_refused_unless_they_are_the_pods() {
    for chunks in [
        "5\nhello",
        ";x\r\n",
        "5;a\nb\r\nhello",
        "2\r\nokX",
        "10000000000000000\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n";
        let mut rig = Rig::new().await;
        let request = format!("{head}\r\n2\r\nok\r\n{chunks}GET /hidden");
        says(&mut rig.client, &request).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, &request).await;

        let mut rig = Rig::new().await;
        let (before, after) = (
            format!("{head}x-to: ann\r\n\r\n2\r\nok\r\n"),
            format!("{chunks}GET /hidden"),
        );
        says(&mut rig.client, format!("{before}{after}")).await;
        let mut ann = rig.accept("ann").await;
        hears(&mut ann, &before[..before.len() - 7]).await;
        hears(&mut rig.client, "HTTP/1.1 400 Bad Request\r\n").await;
        let mut rest = Vec::new();
        super::soon(tokio::io::AsyncReadExt::read_to_end(&mut ann, &mut rest))
            .await
            .unwrap();
        assert!(
            !String::from_utf8_lossy(&rest).contains("hidden"),
            "{chunks:?}"
        );
    }
}
