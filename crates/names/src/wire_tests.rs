use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use super::*;
use crate::test_messages::{a, answer_to, any_record, query, soa, with_edns};

#[test]
fn long_times_to_live_are_lowered_and_nothing_else_changes() {
    let query = query("web.", RecordType::A);
    let mut answer = with_edns(answer_to(&query, ResponseCode::NXDomain), 4096);
    answer.add_answer(a("web.", 300, 1));
    answer.add_answer(a("web.", 3, 2));
    answer.add_authority(soa(".", 86400, 86400));
    let mut bytes = answer.to_vec().unwrap();
    cap_ttls(&mut bytes, 5);

    answer.answers[0].ttl = 5;
    answer.authorities[0].ttl = 5;
    assert_eq!(Message::from_vec(&bytes).unwrap(), answer);
}

#[test]
fn an_answer_with_several_questions_keeps_them() {
    let mut answer = answer_to(&query("web.", RecordType::A), ResponseCode::NoError);
    answer.add_query(query("shop.", RecordType::AAAA).queries[0].clone());
    answer.add_answer(a("web.", 300, 1));
    let bytes = answer.to_vec().unwrap();
    let mut capped = bytes.clone();
    cap_ttls(&mut capped, 5);
    let cut = Message::from_vec(&truncated(&bytes).unwrap()).unwrap();
    assert_eq!(cut.queries, answer.queries);
    answer.answers[0].ttl = 5;
    assert_eq!(Message::from_vec(&capped).unwrap(), answer);
}

#[test]
fn a_message_with_a_name_on_a_time_to_live_is_left_as_it_is() {
    let mut answer = answer_to(&query("web.", RecordType::A), ResponseCode::NoError);
    answer.add_answer(a("web.", 0x0161_0000, 1));
    answer.add_answer(a("web.", 300, 1));
    let mut bytes = answer.to_vec().unwrap();
    // The second record's name becomes a pointer to the first one's time to live, which reads as the label "a".
    let question = HEADER + "\x03web\0".len() + 4;
    let (record, pointer) = (2 + 10 + 4, [0xc0, (question + 2 + 4) as u8]);
    bytes[question + record..question + record + 2].copy_from_slice(&pointer);
    let read = Message::from_vec(&bytes).unwrap();
    assert_eq!(read.answers[1].name.to_ascii(), "a.");
    let before = bytes.clone();
    cap_ttls(&mut bytes, 5);
    assert_eq!(bytes, before);
}

#[test]
fn a_question_whose_name_lies_in_the_header_is_none() {
    let mut message = query("web.", RecordType::A).to_vec().unwrap();
    assert!(Head::read(&message).unwrap().question.is_some());
    // The label's end becomes a pointer to the header's third byte, which says what is truncated.
    let end = HEADER + 4;
    message.splice(end..=end, [0xc0, 2]);
    let head = Head::read(&message).unwrap();
    assert!(head.question.is_none());
    assert_eq!(truncated(&message).unwrap().len(), message.len());
}

#[test]
fn a_truncated_answer_has_its_question_and_no_record() {
    let query = query("web.", RecordType::A);
    let mut answer = answer_to(&query, ResponseCode::NoError);
    answer.add_answer(a("web.", 300, 1));
    let cut = truncated(&answer.to_vec().unwrap()).unwrap();

    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation);
    assert_eq!(cut.metadata.id, query.metadata.id);
    assert_eq!(cut.queries, query.queries);
    assert_eq!(cut.all_sections().count(), 0);
}

#[test]
fn a_bare_answer_repeats_id_opcode_and_recursion_desired() {
    let answer = Message::from_vec(&bare_answer(0xbeef, 0x29, 4)).unwrap();
    assert_eq!(answer.metadata.id, 0xbeef);
    assert_eq!(u8::from(answer.metadata.op_code), 5);
    assert!(answer.metadata.recursion_desired);
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let before = bytes.clone();
        cap_ttls(&mut bytes, 5);
        prop_assert_eq!(bytes.len(), before.len());
        let _ = truncated(&bytes);
        let _ = Head::read(&bytes);
        set_id(&mut bytes, 1);
    }

    #[test]
    fn a_damaged_answer_never_panics(
        records in prop::collection::vec(any_record(), 0..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut answer = answer_to(&query("web.", RecordType::ANY), ResponseCode::NoError);
        answer.add_answers(records);
        let mut bytes = answer.to_vec().unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        cap_ttls(&mut bytes, 5);
        let _ = truncated(&bytes);
    }

    #[test]
    fn capped_times_to_live_leave_an_answer_otherwise_as_it_was(
        records in prop::collection::vec(any_record(), 0..8),
        most in any::<u32>(),
    ) {
        let mut answer = answer_to(&query("web.", RecordType::ANY), ResponseCode::NoError);
        answer.add_answers(records);
        let mut bytes = answer.to_vec().unwrap();
        cap_ttls(&mut bytes, most);
        for record in &mut answer.answers {
            record.ttl = record.ttl.min(most);
        }
        prop_assert_eq!(Message::from_vec(&bytes).unwrap(), answer);
    }
}
