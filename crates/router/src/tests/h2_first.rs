//! What travels with the question for an HTTP/2 connection, and what becomes of it.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::Rig;
use super::h2::{read, rig, to, write};

/// The beginning of every connection, RFC 9113 section 3.4.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What each question came with, and whether that is repeatable.
fn asked(rig: &Rig) -> Vec<(String, bool)> {
    rig.asked.lock().unwrap().clone()
}

#[tokio::test]
async fn the_first_request_travels_with_the_question_and_no_later_one() {
    let (rig, mut client) = rig().await;
    let (_response, mut up) = client.send_request(to("ann", Method::POST), false).unwrap();
    up.send_data("order".into(), true).unwrap();
    let mut ann = rig.server("ann").await;
    let (request, _) = ann.asked().await;
    assert_eq!(read(request.into_body()).await, (b"order".to_vec(), None));
    let _kept = client.send_request(to("bob", Method::GET), true).unwrap();
    let mut bob = rig.server("bob").await;
    bob.asked().await;
    let _kept = client.send_request(to("bob", Method::POST), true).unwrap();
    bob.asked().await;
    let [(to_ann, once), (to_bob, twice)] = &asked(&rig)[..] else {
        panic!("{:?}", asked(&rig));
    };
    assert!(to_ann.starts_with(PREFACE) && to_ann.ends_with("order"));
    assert!(to_bob.starts_with(PREFACE) && to_bob.len() > PREFACE.len());
    assert_eq!((*once, *twice), (false, true));
}

#[tokio::test]
async fn a_body_that_goes_on_comes_whole_and_in_order() {
    let (rig, mut client) = rig().await;
    let (_response, mut up) = client.send_request(to("ann", Method::POST), false).unwrap();
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
    let (early, late) = body.split_at(40_000);
    write(&mut up, Bytes::copy_from_slice(early)).await.unwrap();
    let mut ann = rig.server("ann").await;
    let (request, _) = ann.asked().await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let rest = async {
        write(&mut up, Bytes::copy_from_slice(late)).await.unwrap();
        up.send_trailers(trailers.clone()).unwrap();
    };
    let ((), heard) = tokio::join!(rest, read(request.into_body()));
    assert!(heard == (body, Some(trailers)));
}

#[tokio::test]
async fn what_a_machine_refused_goes_to_the_pods_as_it_came() {
    let (rig, mut client) = rig().await;
    let mut request = to("passing", Method::POST);
    request
        .headers_mut()
        .insert("x-copy", "bob".parse().unwrap());
    let (_response, mut up) = client.send_request(request, false).unwrap();
    up.send_data("or".into(), false).unwrap();
    up.send_data("der".into(), true).unwrap();
    for name in ["pods", "bob"] {
        let mut server = rig.server(name).await;
        let (request, _) = server.asked().await;
        assert_eq!(read(request.into_body()).await, (b"order".to_vec(), None));
    }
    // Both times, of the two that it was asked of.
    let asked = asked(&rig);
    assert_eq!(asked.iter().filter(|it| it.0.ends_with("der")).count(), 2);
}
