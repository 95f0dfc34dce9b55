//! What isn't HTTP.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{Rig, ends, hears, is_reset, patient, says};
use crate::{Limit, Limits, RouterError};

#[tokio::test]
async fn seven_bytes_that_are_not_http_reach_the_pods_at_once() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, b"\x01\x02\x03\x00\xff\n\r").await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, b"\x01\x02\x03\x00\xff\n\r").await;
    says(&mut pod, b"\x00yes").await;
    hears(&mut rig.client, b"\x00yes").await;
    rig.client.shutdown().await.unwrap();
    ends(&mut pod).await;
    says(&mut pod, b"bye").await;
    drop(pod);
    hears(&mut rig.client, b"bye").await;
    rig.ends().await;
}

#[tokio::test]
async fn what_begins_like_a_request_and_is_none_loses_no_byte() {
    for said in [
        "PING\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        "set k 0 0 5\r\nhello\r\n",
        "GET / HTTP/3.0\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let mut rig = Rig::new().await;
        for byte in said.as_bytes() {
            says(&mut rig.client, [*byte]).await;
        }
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, said).await;
    }
}

#[tokio::test]
async fn a_silent_client_hears_what_the_server_says_first() {
    let limits = Limits {
        first_byte: Duration::from_millis(20),
        ..patient()
    };
    let mut rig = Rig::with(limits, &["pods"]).await;
    let mut pod = rig.accept("pods").await;
    says(&mut pod, "220 mail").await;
    hears(&mut rig.client, "220 mail").await;
    assert_eq!(*rig.reached.lock().unwrap(), [Limit::FirstByte]);
    says(&mut rig.client, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
    hears(&mut pod, "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_speaks_late_is_told_apart_unless_the_server_spoke_first() {
    let limits = Limits {
        first_byte: Duration::from_millis(20),
        ..patient()
    };
    let request = "GET / HTTP/1.1\r\nx-to: ann\r\n\r\n";
    let mut rig = Rig::with(limits.clone(), &["pods", "ann"]).await;
    let mut pod = rig.accept("pods").await;
    says(&mut rig.client, request).await;
    let mut ann = rig.accept("ann").await;
    hears(&mut ann, request).await;
    ends(&mut pod).await;
    // What isn't HTTP goes over the connection that there is.
    let mut rig = Rig::with(limits, &["pods", "ann"]).await;
    let mut pod = rig.accept("pods").await;
    says(&mut rig.client, "PING\r\n").await;
    hears(&mut pod, "PING\r\n").await;
    says(&mut pod, "+PONG\r\n").await;
    hears(&mut rig.client, "+PONG\r\n").await;
}

#[tokio::test]
async fn a_client_that_stops_within_a_head_is_passed_on() {
    for said in [
        "G",
        "GET / HT",
        "GET / HTTP/1.1\r\nx-to: ann\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM",
    ] {
        let limits = Limits {
            head_time: Duration::from_millis(20),
            ..patient()
        };
        let mut rig = Rig::with(limits, &["pods"]).await;
        says(&mut rig.client, said).await;
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, said).await;
        says(&mut pod, "what?").await;
        hears(&mut rig.client, "what?").await;
        assert_eq!(*rig.reached.lock().unwrap(), [Limit::HeadTime]);
    }
}

#[tokio::test]
async fn a_client_that_only_closes_does_so_at_the_pods() {
    for said in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut rig = Rig::new().await;
        says(&mut rig.client, said).await;
        rig.client.shutdown().await.unwrap();
        let mut pod = rig.accept("pods").await;
        hears(&mut pod, said).await;
        ends(&mut pod).await;
        drop(pod);
        rig.ends().await;
    }
}

#[tokio::test]
async fn resets_pass_through() {
    let mut rig = Rig::new().await;
    says(&mut rig.client, b"\0").await;
    let mut pod = rig.accept("pods").await;
    hears(&mut pod, b"\0").await;
    pod.set_zero_linger().unwrap();
    drop(pod);
    is_reset(&mut rig.client).await;
    let ended = rig.router.await.unwrap();
    assert!(matches!(ended, Err(RouterError::Raw(_))), "{ended:?}");
}

#[tokio::test]
async fn without_pods_the_client_is_reset() {
    for said in ["\0", "GET / HTTP/1.1\r\n\r\n"] {
        let mut rig = Rig::with(patient(), &[]).await;
        says(&mut rig.client, said).await;
        is_reset(&mut rig.client).await;
        let ended = rig.router.await.unwrap();
        assert!(matches!(ended, Err(RouterError::Pods(_))), "{ended:?}");
    }
}
