use proptest::prelude::*;

use super::*;
use crate::test_messages::{a, any_record, query, request, soa, txt, with_edns};

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap()
}

#[test]
fn an_answer_repeats_what_the_client_said() {
    let mut asked = query("Web.Shop.", RecordType::A);
    asked.metadata.checking_disabled = true;
    let answer = empty(&request(&asked), ResponseCode::ServFail);
    assert_eq!(answer.metadata.id, asked.metadata.id);
    assert!(answer.metadata.recursion_desired);
    assert!(answer.metadata.recursion_available);
    assert!(answer.metadata.checking_disabled);
    assert!(answer.queries[0].name.eq_case(&asked.queries[0].name));
    assert_eq!(answer.edns, None);
}

#[test]
fn edns_is_answered_with_edns_and_the_same_dnssec_bit() {
    let mut asked = with_edns(query("web.", RecordType::A), 4096);
    asked.edns.as_mut().unwrap().set_dnssec_ok(true);
    let edns = empty(&request(&asked), ResponseCode::NoError).edns.unwrap();
    assert_eq!(edns.max_payload(), OUR_PAYLOAD);
    assert!(edns.flags().dnssec_ok);
}

#[test]
fn localhost_has_the_loopback_addresses_and_no_other_data() {
    for (kind, text) in [(RecordType::A, "127.0.0.1"), (RecordType::AAAA, "::1")] {
        let answer = localhost(&request(&query("app.localhost.", kind)));
        assert_eq!(answer.answers[0].data.to_string(), text);
    }
    let answer = localhost(&request(&query("localhost.", RecordType::TXT)));
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
}

#[test]
fn additional_records_that_do_not_fit_are_left_out_silently() {
    let mut answer = empty(
        &request(&query("web.", RecordType::A)),
        ResponseCode::NoError,
    );
    answer.add_answer(a("web.", 30, 1));
    answer.add_additionals((0..60).map(|last| a("other.", 30, last)));
    let told = read(&write(answer, 512));
    assert!(!told.metadata.truncation);
    assert_eq!(told.answers.len(), 1);
    assert!(told.additionals.is_empty());
}

#[test]
fn an_answer_that_does_not_fit_is_truncated_to_the_records_that_do() {
    let asked = with_edns(query("web.", RecordType::A), 600);
    let mut answer = empty(&request(&asked), ResponseCode::NoError);
    answer.add_answers((0..100).map(|last| a("web.", 30, last)));
    answer.add_authority(soa("web.", 30, 30));
    let bytes = write(answer.clone(), 600);
    let told = read(&bytes);
    assert!(told.metadata.truncation);
    assert!(told.edns.is_some());
    assert_eq!(told.answers[..], answer.answers[..told.answers.len()]);
    // A record with a compressed owner has 16 bytes: not one more would have fitted.
    assert!(
        bytes.len() <= 600 && bytes.len() + 16 > 600,
        "{}",
        bytes.len()
    );
}

#[test]
fn over_tcp_even_64_kib_go_whole_and_more_is_truncated() {
    let asked = request(&query("web.", RecordType::TXT));
    let mut answer = empty(&asked, ResponseCode::NoError);
    answer.add_answers((0..300).map(|_| txt("web.", &"x".repeat(200))));
    let whole = write(answer.clone(), wire::MAX_MESSAGE);
    assert!(whole.len() > 60_000);
    assert!(!read(&whole).metadata.truncation);

    answer.add_answers((0..300).map(|_| txt("web.", &"x".repeat(200))));
    let cut = read(&write(answer, wire::MAX_MESSAGE));
    assert!(cut.metadata.truncation);
    assert!(cut.answers.len() > 300);
}

proptest! {
    #[test]
    fn every_answer_fits_and_loses_nothing_in_secret(
        records in prop::collection::vec(any_record(), 0..40),
        limit in 512usize..4000,
    ) {
        let mut answer = empty(&request(&query("web.", RecordType::ANY)), ResponseCode::NoError);
        answer.add_answers(records);
        let bytes = write(answer.clone(), limit);
        prop_assert!(bytes.len() <= limit);
        let told = read(&bytes);
        prop_assert_eq!(told.metadata.truncation, told.answers.len() < answer.answers.len());
        prop_assert_eq!(&told.answers[..], &answer.answers[..told.answers.len()]);
    }
}
