use proptest::prelude::*;

use super::*;

fn found(name: &str, line: &str) -> Vec<(String, String)> {
    let lines = [(name.as_bytes(), line.as_bytes())];
    let mut found = Vec::new();
    any_member(&Head::new(b"GET", b"/", &lines[..]), |key, value| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        found.push((text(key), text(value)));
        false
    });
    found
}

#[test]
fn members_of_baggage_are_found_and_decoded() {
    let cases: [(&str, &[(&str, &str)]); 15] = [
        ("user=ann", &[("user", "ann")]),
        ("user=ann,team=blue", &[("user", "ann"), ("team", "blue")]),
        // Optional whitespace, properties.
        (
            " user\t= ann ; ttl=1 ;x , team = blue",
            &[("user", "ann"), ("team", "blue")],
        ),
        ("user=ann;team=blue", &[("user", "ann")]),
        // Percent-encoded values; keys aren't.
        ("user=Ann%20Lee", &[("user", "Ann Lee")]),
        ("user=a%2Cb%3Bc%3Dd%25e", &[("user", "a,b;c=d%e")]),
        ("user=%c3%A9", &[("user", "é")]),
        ("us%65r=ann", &[("us%65r", "ann")]),
        // As the recommendation has it for what isn't UTF-8.
        ("user=%ff", &[("user", "\u{fffd}")]),
        ("user=100%", &[("user", "100%")]),
        // The first = separates.
        ("user=a=b", &[("user", "a=b")]),
        ("user=", &[("user", "")]),
        ("user=ann,user=bob", &[("user", "ann"), ("user", "bob")]),
        // What isn't a member doesn't hide the others.
        ("nothing,,;=,user=ann", &[("user", "ann")]),
        ("", &[]),
    ];
    for (line, members) in cases {
        let expected = members
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(
            found("baggage", line),
            expected.collect::<Vec<_>>(),
            "{line}"
        );
    }
}

#[test]
fn members_of_tracestate_are_found_as_they_are() {
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("user=ann", &[("user", "ann")]),
        (
            "user=ann , acme@shop=1",
            &[("user", "ann"), ("acme@shop", "1")],
        ),
        ("user=Ann%20Lee", &[("user", "Ann%20Lee")]),
        ("user=a;b", &[("user", "a;b")]),
        // Spaces before a value are part of it.
        ("user=  Ann Lee \t", &[("user", "  Ann Lee")]),
        ("nothing,,user=ann", &[("user", "ann")]),
    ];
    for (line, members) in cases {
        let expected = members
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(
            found("tracestate", line),
            expected.collect::<Vec<_>>(),
            "{line}"
        );
    }
}

#[test]
fn other_headers_have_no_members() {
    assert!(found("cookie", "user=ann").is_empty());
}

#[test]
fn keys_and_values_are_those_of_the_recommendations() {
    for key in ["user", "User-1", "a.b!c"] {
        assert!(is_baggage_key(key), "{key}");
    }
    for key in ["", "a b", "a@b", "a/b", "a,b", "é"] {
        assert!(!is_baggage_key(key), "{key}");
    }
    for key in ["user", "1a", "acme@shop", "a_b-c*d/e"] {
        assert!(is_tracestate_key(key), "{key}");
    }
    for key in ["", "User", "@a", "a@b@c", "a.b", "é", &"a".repeat(257)] {
        assert!(!is_tracestate_key(key), "{key}");
    }
    for value in ["a", " a", "a b", &"a".repeat(256)] {
        assert!(is_tracestate_value(value), "{value}");
    }
    for value in ["", "a ", "a,b", "a=b", "é", "a\tb", &"a".repeat(257)] {
        assert!(!is_tracestate_value(value), "{value}");
    }
}

#[test]
fn a_member_is_written_encoded() {
    assert_eq!(member("k", "a,b;c d"), "k=a%2Cb%3Bc%20d");
    assert_eq!(member("k", "100%25"), "k=100%2525");
    assert_eq!(member("k", "é=\"\\"), "k=%C3%A9=%22%5C");
}

proptest! {
    #[test]
    fn an_encoded_member_is_found_again(key in "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,8}", value in any::<String>()) {
        let line = member(&key, &value);
        prop_assert!(line.bytes().all(|byte| (b'!'..=b'~').contains(&byte)), "{}", line);
        let line = format!("other=1,{line};property");
        let expected = [("other".to_owned(), "1".to_owned()), (key, value)];
        prop_assert_eq!(found("baggage", &line), expected);
    }
}
