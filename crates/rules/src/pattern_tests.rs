use super::*;

fn matches(regex: &str, value: &[u8]) -> bool {
    Pattern::new(regex).unwrap().is_match(value)
}

#[test]
fn the_whole_value_has_to_match() {
    let cases: [(&str, &[u8], bool); 21] = [
        ("ann", b"ann", true),
        ("ann", b"anne", false),
        ("ann", b"joann", false),
        ("^ann$", b"ann", true),
        ("^an.*", b"anne", true),
        ("ann|bob", b"bob", true),
        ("ann|bob", b"annbob", false),
        // The longer alternative counts as well.
        ("a|ab", b"ab", true),
        // Case counts, unless it shouldn't.
        ("ann", b"Ann", false),
        ("(?i)ann", b"Ann", true),
        // The end is put after what it means.
        ("(?x) ann # who", b"ann", true),
        ("(?m)^ann$", b"ann\nbob", false),
        ("", b"", true),
        ("", b"a", false),
        (".*", b"", true),
        // Bytes.
        (".*", b"\xff\xfe", true),
        (".", "é".as_bytes(), false),
        (r"\w+", "é".as_bytes(), false),
        (r"\xc3\xa9", "é".as_bytes(), true),
        ("(?u:é)", "é".as_bytes(), true),
        ("(?u:.)", "é".as_bytes(), true),
    ];
    for (regex, value, expected) in cases {
        assert_eq!(matches(regex, value), expected, "{regex} on {value:?}");
    }
}

#[test]
fn what_is_no_regex_is_refused_with_the_place() {
    let cases = [
        ("a(b", "unclosed group, at \"(b\""),
        ("a)|(b", "unopened group, at \")|(b\""),
        ("a[", "unclosed character class, at \"[\""),
        ("*a", "repetition operator missing expression, at \"*a\""),
        (
            "a\\",
            "incomplete escape sequence, reached end of pattern prematurely, at \"\\\\\"",
        ),
        (
            "a{2,1}",
            "invalid repetition count range, the start must be <= the end, at \"{2,1}\"",
        ),
        (
            "[é]",
            "it is about bytes: put what isn't ASCII in (?u:…), at \"é]\"",
        ),
        (
            r"\p{Greek}",
            "it is about bytes: put what isn't ASCII in (?u:…), at \"\\\\p{Greek}\"",
        ),
    ];
    for (regex, why) in cases {
        let refused = Pattern::new(regex).unwrap_err();
        assert_eq!(refused, PatternError::Syntax(why.to_owned()), "{regex}");
    }
}

#[test]
fn what_takes_too_much_memory_is_refused() {
    for regex in ["(?:a{100}){100}", "(?:(?:a{50}){50}){50}", r"(?u:\w{200})"] {
        let refused = Pattern::new(regex).unwrap_err();
        assert_eq!(refused, PatternError::TooBig, "{regex}");
    }
    assert!(matches("[^a]{2000}", &[b'b'; 2000]));
    assert!(!matches("[^a]{2000}", &[b'b'; 2001]));
}

#[test]
fn matching_takes_linear_time() {
    let long = [b'a'; 60_000];
    assert!(!matches("(?:a*)*(?:a*)*b", &long));
}
