//! Random sequences of valid requests, cut anywhere.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Ports, ends, hears, patient, soon};
use crate::serve;

const NAMES: [&str; 3] = ["pods", "ann", "bob"];

/// A request, its response, and where they belong.
#[derive(Debug, Clone)]
struct Exchange {
    to: &'static str,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn of(words: &[&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(words.to_vec())
}

/// A framing line or none, and the body that follows it.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let bytes = || {
        prop_oneof![
            9 => vec(any::<u8>(), 0..60),
            3 => of(&["GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "0\r\n\r\n"]).prop_map(Vec::from),
            1 => vec(any::<u8>(), 60_000..90_000),
        ]
    };
    let length = (
        of(&["Content-Length: ", "content-length:\t", "CONTENT-LENGTH:"]),
        bytes(),
    )
        .prop_map(|(name, body)| (format!("{name}{}\r\n", body.len()), body));
    let extension = of(&["", ";a", " ; a=\"b c\"", ";a=b;c"]);
    let chunk = (extension, bytes());
    let name = of(&[
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked",
        "TE: x\r\nTransfer-Encoding: gzip,chunked ",
    ]);
    let trailers = of(&["", "Sum: 1\r\n", "a:b\r\nC: d\r\n"]);
    let chunked = (name, vec(chunk, 0..4), trailers).prop_map(|(name, chunks, trailers)| {
        let mut body = Vec::new();
        for (extension, bytes) in chunks.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            body.extend(format!("{:X}{extension}\r\n", bytes.len()).bytes());
            body.extend(bytes);
            body.extend(b"\r\n");
        }
        body.extend(format!("00;last\r\n{trailers}\r\n").bytes());
        (format!("{name}\r\n"), body)
    });
    prop_oneof![length, chunked]
}

fn lines() -> impl Strategy<Value = String> {
    let line = of(&[
        "A: b\r\n",
        "a:\r\n",
        "X-Y:  z \t\r\n",
        "x-tonic: ann\r\n",
        "Cookie: to=bob\r\n",
    ]);
    vec(line, 0..4).prop_map(|lines| lines.concat())
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let method = of(&["GET", "HEAD", "POST", "PUT", "M-SEARCH"]);
    let target = of(&["/", "/a/b?c=d", "*", "http://shop/", "/%20;x"]);
    let status = of(&[
        "200 OK",
        "404 Not Found",
        "204 No Content",
        "304 ",
        "103 Hints",
    ]);
    let sent = proptest::option::weighted(0.5, body());
    (
        of(&NAMES),
        method,
        target,
        (lines(), lines(), lines()),
        sent,
        status,
        body(),
    )
        .prop_map(
            |(to, method, target, (before, after, answered), sent, status, answer)| {
                let whose = match to {
                    "pods" => String::new(),
                    name => format!("X-To:\t{name} \r\n"),
                };
                let (framing, body) = sent.unwrap_or_default();
                let head =
                    format!("{method} {target} HTTP/1.1\r\n{before}{framing}{whose}{after}\r\n");
                let request = [head.as_bytes(), &body].concat();
                let (framing, body) = answer;
                let (interim, status) = match status {
                    "103 Hints" => ("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", "200 OK"),
                    status => ("", status),
                };
                let head = format!("{interim}HTTP/1.1 {status}\r\n{answered}{framing}\r\n");
                let bodyless =
                    method == "HEAD" || status.starts_with("204") || status.starts_with("304");
                let body = if bodyless { &[][..] } else { &body };
                let response = [head.as_bytes(), body].concat();
                Exchange {
                    to,
                    request,
                    response,
                }
            },
        )
}

async fn passes(exchanges: Vec<Exchange>, room: usize, pieces: Vec<usize>) {
    let mut ports = HashMap::new();
    let mut servers = Vec::new();
    for name in NAMES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        ports.insert(name, listener.local_addr().unwrap());
        let mine: Vec<_> = exchanges
            .iter()
            .filter(|it| it.to == name)
            .cloned()
            .collect();
        if mine.is_empty() {
            continue;
        }
        let pieces = pieces.clone();
        servers.push(tokio::spawn(async move {
            let (mut stream, _) = soon(listener.accept()).await.unwrap();
            let mut pieces = pieces.iter().cycle();
            for Exchange {
                request, response, ..
            } in mine
            {
                hears(&mut stream, request).await;
                let mut rest = &response[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                    soon(stream.write_all(piece)).await.unwrap();
                    rest = after;
                }
            }
            ends(&mut stream).await;
        }));
    }
    // What the client says is cut by the room that there is for it.
    let (client, near) = tokio::io::duplex(room);
    let ways = Arc::new(Ports {
        to: ports,
        asked: Arc::default(),
        reached: Arc::default(),
    });
    let router = tokio::spawn(async move { serve(near, ways, &patient()).await });
    let (mut read, mut write) = tokio::io::split(client);
    let say = async {
        for exchange in &exchanges {
            soon(write.write_all(&exchange.request)).await.unwrap();
        }
        soon(write.shutdown()).await.unwrap();
    };
    let mut heard = Vec::new();
    let hear = async { soon(read.read_to_end(&mut heard)).await.unwrap() };
    tokio::join!(say, hear);
    let expected: Vec<_> = exchanges.iter().map(|it| &it.response[..]).collect();
    assert!(heard == expected.concat());
    for server in servers {
        soon(server).await.unwrap();
    }
    soon(router).await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn requests_arrive_as_they_were_sent_where_they_belong(
        exchanges in vec(exchange(), 1..12),
        room in prop_oneof![1..40usize, 40..5000usize],
        pieces in vec(prop_oneof![1..40usize, 1000..60_000usize], 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(passes(exchanges, room, pieces));
    }
}
