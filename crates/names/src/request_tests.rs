use hickory_proto::op::{Message, Query};
use proptest::prelude::*;

use super::*;
use crate::test_messages::{name, query, request, with_edns};

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn answered(packet: &[u8]) -> Message {
    match Received::read(packet) {
        Received::Answered(answer) => Message::from_vec(&answer).unwrap(),
        other => panic!("not answered at once: {other:?}"),
    }
}

#[test]
fn a_question_is_read_with_its_edns() {
    let read = request(&with_edns(query("Web.shop.", RecordType::SRV), 4096));
    assert!(read.question.name.eq_case(&name("Web.shop.")));
    assert_eq!(read.question.query_type, RecordType::SRV);
    assert_eq!(read.datagram_limit(), 4096);
    assert!(!read.dnssec_ok());
}

#[test]
fn a_client_without_edns_takes_512_bytes_and_one_with_a_smaller_size_as_well() {
    let plain = query("web.", RecordType::A);
    assert_eq!(request(&plain).datagram_limit(), 512);

    let mut small = bytes(&with_edns(plain, 512));
    let class = small.len() - 8;
    small[class..class + 2].copy_from_slice(&100u16.to_be_bytes());
    match Received::read(&small) {
        Received::Request(read) => assert_eq!(read.datagram_limit(), 512),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_never_answered() {
    let mut answer = bytes(&query("web.", RecordType::A));
    answer[2] |= 0x80;
    assert!(matches!(Received::read(&answer), Received::Ignored));
}

#[test]
fn what_has_no_id_is_dropped_and_what_has_one_is_a_format_error() {
    for length in 0..3 {
        assert!(matches!(
            Received::read(&vec![0; length]),
            Received::Ignored
        ));
    }
    for length in 3..12 {
        let answer = answered(&vec![0; length]);
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
    let whole = bytes(&query("web.shop.", RecordType::A));
    let cut = answered(&whole[..whole.len() - 3]);
    assert_eq!(cut.metadata.id, 0x1234);
    assert_eq!(cut.metadata.response_code, ResponseCode::FormErr);
}

#[test]
fn no_question_and_two_questions_are_format_errors() {
    let mut two = query("web.", RecordType::A);
    two.add_query(Query::query(name("web."), RecordType::AAAA));
    let mut none = two.clone();
    none.queries.clear();
    for message in [two, none] {
        let answer = answered(&bytes(&message));
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    }
}

#[test]
fn operations_other_than_queries_are_not_implemented() {
    let mut update = query("web.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let answer = answered(&bytes(&update));
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    assert_eq!(answer.metadata.op_code, OpCode::Update);
}

#[test]
fn zone_transfers_are_refused() {
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        let answer = answered(&bytes(&query("shop.example.", kind)));
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }
}

#[test]
fn a_question_with_rubbish_behind_it_is_still_a_question() {
    let mut packet = bytes(&query("web.", RecordType::A));
    packet[11] = 1;
    packet.extend_from_slice(&[0xff; 5]);
    match Received::read(&packet) {
        Received::Request(read) => assert_eq!(read.edns, Edns::Unreadable),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&packet)?;
    }

    #[test]
    fn a_damaged_query_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut packet = bytes(&with_edns(query("_http._tcp.web.shop.", RecordType::SRV), 1232));
        for (at, value) in damage {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        packet.extend(tail);
        check(&packet)?;
    }
}

fn check(packet: &[u8]) -> Result<(), TestCaseError> {
    match Received::read(packet) {
        Received::Request(read) => prop_assert_eq!(Some(read.metadata.id), wire::id(packet)),
        Received::Answered(answer) => {
            prop_assert_eq!(wire::id(&answer), wire::id(packet));
            prop_assert!(answer[2] & 0x80 != 0);
        }
        Received::Ignored => prop_assert!(packet.len() < 3 || packet[2] & 0x80 != 0),
    }
    Ok(())
}
