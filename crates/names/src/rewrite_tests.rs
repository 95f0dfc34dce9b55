use hickory_proto::rr::rdata::{CNAME, SRV};
use hickory_proto::rr::{RData, Record};
use proptest::prelude::*;

use super::*;
use crate::test_messages::{a, answer_to, any_record, name, query, request, soa, with_edns};

const ASK: &str = "web.dev.svc.cluster.local.";

fn asked(kind: RecordType) -> Request {
    request(&query("WEB.", kind))
}

/// What the client of `asked` is told when the cluster's answer has what `fill` puts in.
fn told(kind: RecordType, fill: impl FnOnce(&mut Message)) -> Message {
    let query = cluster_query(&asked(kind), &name(ASK), 7);
    let mut answer = answer_to(&query, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    fill(&mut answer);
    let answer = read_answer(&answer.to_vec().unwrap(), &query).unwrap();
    client_answer(answer, &asked(kind), &name(ASK))
}

#[test]
fn the_cluster_is_asked_by_its_name_with_our_own_edns() {
    let mut client = with_edns(query("web.", RecordType::TXT), 4096);
    client.edns.as_mut().unwrap().set_dnssec_ok(true);
    client.metadata.checking_disabled = true;
    client.metadata.recursion_desired = false;

    let query = cluster_query(&request(&client), &name(ASK), 7);
    assert_eq!(query.metadata.id, 7);
    assert!(query.metadata.recursion_desired);
    assert!(query.metadata.checking_disabled);
    assert_eq!(query.queries, [Query::query(name(ASK), RecordType::TXT)]);
    let edns = query.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!(edns.max_payload(), 1232);
}

#[test]
fn the_client_gets_an_answer_to_its_own_question_in_its_own_letters() {
    let told = told(RecordType::A, |answer| {
        answer.add_answer(a(ASK, 30, 1));
    });
    assert_eq!(told.metadata.id, 0x1234);
    assert!(told.metadata.authoritative);
    assert!(told.queries[0].name.eq_case(&name("WEB.")));
    assert!(told.answers[0].name.eq_case(&name("WEB.")));
    assert_eq!(told.answers[0].ttl, 30);
}

#[test]
fn a_chain_of_aliases_stays_a_chain() {
    let alias =
        |from: &str, to: &str| Record::from_rdata(name(from), 30, RData::CNAME(CNAME(name(to))));
    let told = told(RecordType::A, |answer| {
        answer.add_answer(alias(ASK, "db.example."));
        answer.add_answer(alias("db.example.", "eu.db.example."));
        answer.add_answer(a("eu.db.example.", 30, 1));
    });
    assert_eq!(
        told.answers,
        [
            alias("web.", "db.example."),
            alias("db.example.", "eu.db.example."),
            a("eu.db.example.", 30, 1)
        ]
    );
}

#[test]
fn names_inside_records_and_additional_records_keep_their_full_names() {
    let target = || RData::SRV(SRV::new(0, 100, 80, name(ASK)));
    let told = told(RecordType::SRV, |answer| {
        answer.add_answer(Record::from_rdata(name(ASK), 30, target()));
        answer.add_additional(a(ASK, 30, 1));
    });
    assert_eq!(
        told.answers,
        [Record::from_rdata(name("web."), 30, target())]
    );
    assert_eq!(told.additionals, [a(ASK, 30, 1)]);
}

#[test]
fn no_data_stays_no_data_and_its_soa_is_one_for_the_asked_name() {
    let told = told(RecordType::AAAA, |answer| {
        answer.add_authority(soa("cluster.local.", 30, 5));
    });
    assert_eq!(told.metadata.response_code, ResponseCode::NoError);
    assert!(told.answers.is_empty());
    assert_eq!(told.authorities, [soa("web.", 30, 5)]);
}

#[test]
fn an_extended_code_is_a_server_failure_to_the_client() {
    let told = told(RecordType::A, |answer| {
        answer.set_edns(Opt::new());
        answer.metadata.response_code = ResponseCode::BADVERS;
    });
    assert_eq!(told.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn an_answer_to_something_else_is_none() {
    let query = cluster_query(&asked(RecordType::A), &name(ASK), 7);
    let answer = || answer_to(&query, ResponseCode::NoError);
    let refused = |change: &dyn Fn(&mut Message)| {
        let mut changed = answer();
        change(&mut changed);
        read_answer(&changed.to_vec().unwrap(), &query).is_err()
    };
    assert!(read_answer(&answer().to_vec().unwrap(), &query).is_ok());
    assert!(refused(&|answer| answer.metadata.id = 8));
    assert!(refused(
        &|answer| answer.metadata.message_type = MessageType::Query
    ));
    assert!(refused(&|answer| answer.queries[0].name = name("other.")));
    assert!(refused(
        &|answer| answer.queries[0].query_type = RecordType::AAAA
    ));
    assert!(refused(&|answer| answer.queries.clear()));
    assert!(read_answer(&[0; 7], &query).is_err());
}

proptest! {
    #[test]
    fn only_owners_that_were_asked_for_are_renamed(
        answers in prop::collection::vec(any_record(), 0..10),
        additionals in prop::collection::vec(any_record(), 0..10),
    ) {
        let told = told(RecordType::ANY, |answer| {
            answer.add_answers(answers.clone());
            answer.add_additionals(additionals.clone());
        });
        // Also when it is written and read again.
        let told = Message::from_vec(&told.to_vec().unwrap()).unwrap();
        let renamed: Vec<Record> = answers
            .into_iter()
            .map(|mut record| {
                if record.name == name(ASK) {
                    record.name = name("WEB.");
                }
                record
            })
            .collect();
        prop_assert_eq!(told.answers, renamed);
        prop_assert_eq!(told.additionals, additionals);
    }

    #[test]
    fn a_damaged_answer_never_panics(
        records in prop::collection::vec(any_record(), 0..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let query = cluster_query(&asked(RecordType::ANY), &name(ASK), 7);
        let mut answer = answer_to(&query, ResponseCode::NoError);
        answer.add_answers(records);
        let mut bytes = answer.to_vec().unwrap();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(answer) = read_answer(&bytes, &query) {
            let told = client_answer(answer, &asked(RecordType::ANY), &name(ASK));
            let _ = reply::write(told, 512);
        }
    }
}
