//! Clients that offer to go on in HTTP/2 (RFC 7540 section 3.2).

use super::{Rig, hears, says};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const OFFER: &str =
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n";

#[tokio::test]
async fn nobody_hears_the_offer_and_each_request_is_decided() {
    let mut rig = Rig::new().await;
    let (mut pod, mut ann) = (None, None);
    for number in 0..3 {
        for (whose, to, line) in [(&mut pod, "pods", ""), (&mut ann, "ann", "X-To: ann\r\n")] {
            let request = |offer: &str| {
                format!(
                    "PUT /{number} HTTP/1.1\r\nhOST:x\r\n{line}{offer}Content-Length: 2\r\n\r\nhi"
                )
            };
            says(&mut rig.client, request(OFFER)).await;
            if whose.is_none() {
                *whose = Some(rig.accept(to).await);
            }
            let server = whose.as_mut().unwrap();
            hears(server, request("")).await;
            says(server, OK).await;
            hears(&mut rig.client, OK).await;
        }
    }
}

#[tokio::test]
async fn requests_that_were_sent_ahead_and_copies_are_without_it_too() {
    let mut rig = Rig::new().await;
    let copied = |offer: &str| format!("GET /1 HTTP/1.1\r\nx-copy: bob\r\n{offer}\r\n");
    let anns = |offer: &str| format!("GET /2 HTTP/1.1\r\nx-to: ann\r\n{offer}\r\n");
    says(&mut rig.client, copied(OFFER) + &anns(OFFER)).await;
    let (mut pod, mut bob) = (rig.accept("pods").await, rig.accept("bob").await);
    hears(&mut pod, copied("")).await;
    hears(&mut bob, copied("")).await;
    says(&mut pod, OK).await;
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, anns("")).await;
    says(&mut ann, OK).await;
    hears(&mut rig.client, OK.repeat(2)).await;
}

#[tokio::test]
async fn a_kept_connection_that_broke_is_asked_without_it_again() {
    let mut rig = Rig::new().await;
    let request = |offer: &str| format!("GET / HTTP/1.1\r\n{offer}\r\n");
    says(&mut rig.client, request(OFFER) + &request(OFFER)).await;
    let mut first = rig.accept("pods").await;
    hears(&mut first, request("")).await;
    says(&mut first, OK).await;
    hears(&mut first, request("")).await;
    drop(first);
    let mut second = rig.accept("pods").await;
    hears(&mut second, request("")).await;
    says(&mut second, OK).await;
    hears(&mut rig.client, OK.repeat(2)).await;
}

#[tokio::test]
async fn what_is_offered_beside_it_can_be_accepted() {
    let mut rig = Rig::new().await;
    let request = |protocols: &str, settings: &str| {
        format!(
            "GET / HTTP/1.1\r\nx-to: ann\r\nUpgrade: {protocols}\r\nConnection: Upgrade{settings}\r\n\r\n"
        )
    };
    says(
        &mut rig.client,
        request("h2c, websocket", ", HTTP2-Settings"),
    )
    .await;
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, request("websocket", "")).await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    says(&mut ann, switch).await;
    hears(&mut rig.client, switch).await;
    says(&mut rig.client, b"\x81\x02hi").await;
    hears(&mut ann, b"\x81\x02hi").await;
}
