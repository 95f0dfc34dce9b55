use hickory_proto::rr::RecordType;

use super::*;
use crate::test_messages::{a, answer_to, query, soa};

fn key(name: &str, kind: RecordType) -> Key {
    Key {
        question: query(name, kind).queries[0].clone(),
        dnssec_ok: false,
        checking_disabled: false,
    }
}

fn answer(name: &str, ttl: u32) -> Message {
    let mut answer = answer_to(&query(name, RecordType::A), ResponseCode::NoError);
    answer.add_answer(a(name, ttl, 1));
    answer
}

fn negative(code: ResponseCode, ttl: u32, minimum: u32) -> Message {
    let mut answer = answer_to(&query("web.", RecordType::A), code);
    answer.add_authority(soa("cluster.local.", ttl, minimum));
    answer
}

/// A cache that remembers `answer` for "web." now, and the time.
fn with(answer: &Message) -> (Cache, Instant) {
    let mut cache = Cache::new(8, 4096);
    let now = Instant::now();
    let epoch = cache.epoch();
    cache.insert(key("web.", RecordType::A), answer, 100, epoch, now);
    (cache, now)
}

/// Whole seconds that `answer` is remembered.
fn life(answer: &Message) -> u64 {
    let (mut cache, now) = with(answer);
    let known = |second: &u64| {
        let late = Duration::from_millis(second * 1000 - 1);
        cache.get(&key("web.", RecordType::A), now + late).is_some()
    };
    (1..100).take_while(known).count() as u64
}

#[test]
fn an_answer_lives_as_long_as_it_says_but_never_longer_than_five_seconds() {
    assert_eq!(life(&answer("web.", 0)), 0);
    assert_eq!(life(&answer("web.", 3)), 3);
    assert_eq!(life(&answer("web.", 30)), 5);
    let mut two = answer("web.", 30);
    two.add_answer(a("web.", 2, 2));
    assert_eq!(life(&two), 2);
}

#[test]
fn a_negative_answer_lives_as_long_as_its_soa_says() {
    assert_eq!(life(&negative(ResponseCode::NXDomain, 3, 30)), 3);
    assert_eq!(life(&negative(ResponseCode::NXDomain, 30, 2)), 2);
    assert_eq!(life(&negative(ResponseCode::NoError, 30, 30)), 5);
    let without = answer_to(&query("web.", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(life(&without), 0);
}

#[test]
fn failures_and_parts_are_not_remembered() {
    assert_eq!(life(&negative(ResponseCode::ServFail, 30, 30)), 0);
    assert_eq!(life(&negative(ResponseCode::Refused, 30, 30)), 0);
    let mut part = answer("web.", 30);
    part.metadata.truncation = true;
    assert_eq!(life(&part), 0);
}

#[test]
fn times_to_live_go_down_while_it_is_remembered() {
    let (mut cache, now) = with(&answer("web.", 30));
    let later = now + Duration::from_millis(3200);
    let remembered = cache.get(&key("web.", RecordType::A), later).unwrap();
    assert_eq!(remembered.answers[0].ttl, 27);
}

#[test]
fn a_question_is_the_same_in_any_case_but_not_of_another_type_or_with_other_flags() {
    let (mut cache, now) = with(&answer("web.", 30));
    assert!(cache.get(&key("WEB.", RecordType::A), now).is_some());
    assert!(cache.get(&key("web.", RecordType::AAAA), now).is_none());
    let signed = Key {
        dnssec_ok: true,
        ..key("web.", RecordType::A)
    };
    assert!(cache.get(&signed, now).is_none());
}

#[test]
fn a_flush_forgets_what_is_known_and_what_is_being_asked() {
    let (mut cache, now) = with(&answer("web.", 30));
    let before = cache.epoch();
    cache.flush();
    assert!(cache.get(&key("web.", RecordType::A), now).is_none());
    cache.insert(
        key("web.", RecordType::A),
        &answer("web.", 30),
        100,
        before,
        now,
    );
    assert!(cache.get(&key("web.", RecordType::A), now).is_none());
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let mut cache = Cache::new(3, 4096);
    let (now, epoch) = (Instant::now(), cache.epoch());
    for name in ["a.", "b.", "c.", "a.", "d."] {
        cache.insert(key(name, RecordType::A), &answer(name, 30), 10, epoch, now);
    }
    let known =
        ["a.", "b.", "c.", "d."].map(|name| cache.get(&key(name, RecordType::A), now).is_some());
    assert_eq!(known, [true, false, true, true]);
    assert_eq!(cache.bytes, 30);
}

#[test]
fn bytes_are_bounded_as_well() {
    let mut cache = Cache::new(100, 100);
    let (now, epoch) = (Instant::now(), cache.epoch());
    for (name, size) in [("a.", 60), ("b.", 40), ("c.", 50), ("huge.", 101)] {
        cache.insert(
            key(name, RecordType::A),
            &answer(name, 30),
            size,
            epoch,
            now,
        );
    }
    let known =
        ["a.", "b.", "c.", "huge."].map(|name| cache.get(&key(name, RecordType::A), now).is_some());
    assert_eq!(known, [false, true, true, false]);
    assert_eq!(cache.bytes, 90);
    assert_eq!(cache.order.len(), 2);
}

proptest::proptest! {
    #[test]
    fn the_books_always_balance(
        steps in proptest::collection::vec((0..12u8, 1..60usize, 0..8u32, 0..3u64), 1..200),
    ) {
        let mut cache = Cache::new(5, 150);
        let mut now = Instant::now();
        for (name, size, ttl, wait) in steps {
            let name = format!("n{name}.");
            now += Duration::from_secs(wait);
            cache.get(&key(&name, RecordType::A), now);
            let epoch = cache.epoch();
            cache.insert(key(&name, RecordType::A), &answer(&name, ttl), size, epoch, now);
            let bytes: usize = cache.entries.values().map(|entry| entry.size).sum();
            proptest::prop_assert_eq!(cache.bytes, bytes);
            proptest::prop_assert!(bytes <= 150 && cache.entries.len() <= 5);
            proptest::prop_assert_eq!(cache.order.len(), cache.entries.len());
        }
    }
}
