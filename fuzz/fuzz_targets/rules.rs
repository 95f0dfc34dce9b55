//! Rules as they stand in annotations, which whoever may patch a Service writes: two of them, and a request.
//! Parts are separated by NUL: both rules, method, target, then names and values of header lines.
#![no_main]

use kdev_rules::{Head, Overlap, Rule, Table, overlap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut rule = || {
        let text = std::str::from_utf8(parts.next()?).ok()?;
        Rule::from_json(text).ok()
    };
    let (Some(one), Some(other)) = (rule(), rule()) else {
        return;
    };
    let again = one.to_json().expect("a rule can be written");
    assert_eq!(Rule::from_json(&again).expect("and read"), one);
    if let Some(Overlap::Example(witness)) = overlap(&one, &other) {
        assert!(one.matches(&witness.head()) && other.matches(&witness.head()));
    }
    let (method, target) = (parts.next().unwrap_or(b"GET"), parts.next().unwrap_or(b"/"));
    let rest: Vec<&[u8]> = parts.collect();
    let lines: Vec<(&[u8], &[u8])> = rest
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    let head = Head::new(method, target, &lines[..]);
    let expected = match (one.matches(&head), other.matches(&head)) {
        (true, _) => Some(&1),
        (false, true) => Some(&2),
        (false, false) => None,
    };
    let table: Table<u8> = [(one, 1), (other, 2)].into_iter().collect();
    assert_eq!(table.route(&head), expected);
});
