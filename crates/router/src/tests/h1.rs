//! HTTP/1 byte for byte.

use tokio::io::AsyncWriteExt as _;

use super::{Rig, ends, hears, says};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Requests and their responses, after which the connection goes on.
const CASES: [(&str, &str); 25] = [
    ("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", OK),
    (
        "GET /a?b#c HTTP/1.1\r\nhOST:shop\r\nZ: 1\r\nA:  \t2 \t\r\nz:3\r\nEmpty:\r\n\r\n",
        OK,
    ),
    (
        "GET http://shop/x HTTP/1.1\r\nHost: y\r\nX: \u{e4}\r\n\r\n",
        OK,
    ),
    ("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", OK),
    (
        "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    ),
    ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /", OK),
    ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", OK),
    (
        "POST / HTTP/1.1\r\nContent-Length: 03\r\ncontent-length: 3\r\n\r\nabc",
        OK,
    ),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK,
    ),
    (
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK,
    ),
    (
        "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n\
         00A;name=\"a b\";c\r\n0123456789\r\n1 \r\n\n\r\n0;last\r\nSum: 1\r\nx:y\r\n\r\n",
        OK,
    ),
    (
        "PATCH / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        OK,
    ),
    (
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 \r\ncontent-LENGTH: 2\r\nX:  y \r\nx : z\r\n\r\nok",
    ),
    (
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 1\r\nFold: a\r\n b\r\n\r\n!",
    ),
    (
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nSum: 1\r\n\r\n",
    ),
    (
        "HEAD / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    ),
    (
        "HEAD / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("HEAD / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
    ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"),
    (
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        OK,
    ),
    (
        "CONNECT shop:443 HTTP/1.1\r\nHost: shop\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    ),
    (
        "x!#$ /~ HTTP/1.1\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    ),
];

/// A request and response that show that the ends of those before were found.
const AFTER: (&str, &str) = (
    "\r\n\r\nGET /after HTTP/1.1\r\nx-to: ann\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nann",
);

#[tokio::test]
async fn requests_and_responses_are_passed_on_as_they_are_and_their_ends_are_found() {
    for (request, response) in CASES {
        let mut rig = Rig::new().await;
        says(&mut rig.client, format!("{request}{}", AFTER.0)).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, request).await;
        says(&mut pod, response).await;
        hears(&mut rig.client, response).await;
        let mut ann = rig.accept("ann").await;
        hears(&mut ann, AFTER.0).await;
        says(&mut ann, AFTER.1).await;
        hears(&mut rig.client, AFTER.1).await;
        rig.client.shutdown().await.unwrap();
        rig.ends().await;
        ends(&mut pod).await;
        ends(&mut ann).await;
    }
}

#[tokio::test]
async fn bytes_that_come_one_by_one_make_no_difference() {
    for (request, response) in CASES {
        let mut rig = Rig::new().await;
        let all = format!("GET /0 HTTP/1.1\r\n\r\n{request}{}", AFTER.0);
        let (mut read, mut write) = rig.client.split();
        let client = async {
            for byte in all.as_bytes() {
                write.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let servers = async {
            let mut pod = Rig::accept_from(&rig.listeners, "pods").await;
            hears(&mut pod, "GET /0 HTTP/1.1\r\n\r\n").await;
            says(&mut pod, OK).await;
            hears(&mut pod, request).await;
            for byte in response.as_bytes() {
                says(&mut pod, [*byte]).await;
                tokio::task::yield_now().await;
            }
            let mut ann = Rig::accept_from(&rig.listeners, "ann").await;
            hears(&mut ann, AFTER.0).await;
            says(&mut ann, AFTER.1).await;
            (pod, ann)
        };
        let (_pods, ()) = tokio::join!(servers, client);
        let expected = format!("{OK}{response}{}", AFTER.1);
        let mut heard = vec![0; expected.len()];
        super::soon(tokio::io::AsyncReadExt::read_exact(&mut read, &mut heard))
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_from_several_destinations() {
    let mut rig = Rig::new().await;
    let to = |name, number| format!("GET /{number} HTTP/1.1\r\nx-to: {name}\r\n\r\n");
    let pods = |number| format!("POST /{number} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
    let requests = [to("ann", 1), pods(2), to("bob", 3), to("ann", 4), pods(5)];
    says(&mut rig.client, requests.concat()).await;
    let answer = |number| format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, &requests[0]).await;
    says(&mut ann, answer(1)).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, &requests[1]).await;
    says(&mut pod, answer(2)).await;
    let mut bob = rig.accept("bob").await;
    hears(&mut bob, &requests[2]).await;
    says(&mut bob, answer(3)).await;
    hears(&mut ann, &requests[3]).await;
    says(&mut ann, answer(4)).await;
    hears(&mut pod, &requests[4]).await;
    says(&mut pod, answer(5)).await;
    hears(&mut rig.client, (1..=5).map(answer).collect::<String>()).await;
}

#[tokio::test]
async fn a_body_waits_until_the_server_asks_for_it() {
    let mut rig = Rig::new().await;
    let head = "POST / HTTP/1.1\r\nx-to: ann\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    says(&mut rig.client, head).await;
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, head).await;
    says(&mut ann, "HTTP/1.1 100 Continue\r\n\r\n").await;
    hears(&mut rig.client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    says(&mut rig.client, "body").await;
    hears(&mut ann, "body").await;
    says(&mut ann, OK).await;
    hears(&mut rig.client, OK).await;
}

#[tokio::test]
async fn an_answer_comes_while_the_body_is_still_sent() {
    let mut rig = Rig::new().await;
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    says(&mut rig.client, format!("{head}1\r\na\r\n")).await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, format!("{head}1\r\na\r\n")).await;
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    says(&mut pod, response).await;
    hears(&mut rig.client, response).await;
    for letter in ["b", "c", "d"] {
        let chunk = format!("1\r\n{letter}\r\n");
        says(&mut rig.client, &chunk).await;
        hears(&mut pod, &chunk).await;
        says(&mut pod, &chunk).await;
        hears(&mut rig.client, &chunk).await;
    }
    // The whole answer first, and the rest of the body after it.
    says(&mut pod, "0\r\n\r\n").await;
    hears(&mut rig.client, "0\r\n\r\n").await;
    says(&mut rig.client, "0\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    hears(&mut pod, "0\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    says(&mut pod, OK).await;
    hears(&mut rig.client, OK).await;
}

#[tokio::test]
async fn after_an_upgrade_all_bytes_pass_both_ways() {
    for (request, response) in [
        (
            "GET /ws HTTP/1.1\r\nx-to: ann\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        ),
        (
            "CONNECT db:1 HTTP/1.1\r\nx-to: ann\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        ),
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, request).await;
        let mut ann = rig.accept("ann").await;
        hears(&mut ann, request).await;
        says(&mut ann, format!("{response}\x01server first")).await;
        hears(&mut rig.client, format!("{response}\x01server first")).await;
        let bytes = "\x02GET / HTTP/1.1\r\n\r\n";
        says(&mut rig.client, bytes).await;
        hears(&mut ann, bytes).await;
        rig.client.shutdown().await.unwrap();
        ends(&mut ann).await;
        says(&mut ann, "bye").await;
        drop(ann);
        hears(&mut rig.client, "bye").await;
        rig.ends().await;
    }
}

#[tokio::test]
async fn the_pods_take_what_is_passed_to_them() {
    let mut rig = Rig::new().await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-to: passing\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    says(&mut rig.client, request).await;
    let mut pod = rig.accept("pods").await;
    for _ in 0..2 {
        hears(&mut pod, request).await;
        says(&mut pod, answer).await;
        hears(&mut rig.client, answer).await;
        says(&mut rig.client, request).await;
    }
}

#[tokio::test]
async fn a_question_for_a_connection_comes_with_the_request_and_nothing_of_the_next_one() {
    let next = "GET / HTTP/1.1\r\nx-to: bob\r\n\r\n";
    for (request, repeatable) in [
        ("GET / HTTP/1.1\r\nx-to: ann\r\n\r\n", true),
        (
            "POST / HTTP/1.1\r\nx-to: ann\r\ncontent-length: 5\r\n\r\norder",
            false,
        ),
        (
            "POST / HTTP/1.1\r\nx-to: ann\r\ntransfer-encoding: chunked\r\n\r\n5\r\norder\r\n0\r\n\r\n",
            false,
        ),
    ] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, format!("{request}{next}")).await;
        let mut ann = rig.accept("ann").await;
        hears(&mut ann, request).await;
        let asked = rig.asked.lock().unwrap().clone();
        assert_eq!(asked, [(request.to_owned(), repeatable)]);
    }
}
