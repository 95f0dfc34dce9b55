use super::*;

fn common(regexes: &[&str]) -> Option<String> {
    let value = Work::default().common(regexes.iter().copied()).unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn the_shortest_common_value_is_found_in_readable_characters() {
    let cases: [(&[&str], Option<&str>); 13] = [
        (&["a.*", ".*b"], Some("ab")),
        (&["a.*", "b.*"], None),
        (&["[ab]{3}", "(?:ab)*"], None),
        (&["[ab]{4}", "(?:ab)*"], Some("abab")),
        (&[".*", ".+"], Some("a")),
        (&["[^a]", "."], Some("b")),
        (&["", ".*"], Some("")),
        (&["", ".+"], None),
        (&["a|ab", "ab|b"], Some("ab")),
        (&["(?i)ann", "[A-Z]+"], Some("ANN")),
        (&[r"\d+", r"\w+", "..", "[^0-8]*"], Some("99")),
        (&[r"a\b.*", r"a\B.*"], None),
        (&["(?:a{3})+", "(?:a{5})+", "a+"], Some("aaaaaaaaaaaaaaa")),
    ];
    for (regexes, expected) in cases {
        assert_eq!(common(regexes).as_deref(), expected, "{regexes:?}");
    }
}

#[test]
fn beyond_the_limits_there_is_no_answer() {
    let beyond: [&[&str]; 3] = [
        // An automaton of 2^20 states.
        &["(?:a|b)*a(?:a|b){20}", "b*"],
        // A product of some 10^9 states.
        &["(?:a{997})+", "(?:a{991})+", "(?:a{983})+"],
        // Unicode's words have no automaton of bytes.
        &[r"(?u:\b)a", "a"],
    ];
    for regexes in beyond {
        let answer = Work::default().common(regexes.iter().copied());
        assert_eq!(answer, Err(Beyond), "{regexes:?}");
    }
}

#[test]
fn the_work_on_one_question_is_limited_as_a_whole() {
    let mut work = Work::default();
    for index in 0..AUTOMATA {
        let regex = format!("a{index}");
        assert_eq!(work.common([&*regex]), Ok(Some(regex.clone().into_bytes())));
    }
    assert_eq!(work.common(["b"]), Err(Beyond));
    assert_eq!(work.common(["a1"]), Ok(Some(b"a1".to_vec())));
}
