use proptest::prelude::*;

use super::*;
use crate::testing::{any_rule, rule};

const FLAGS: &str = "--header x-user=ann --header 'x-team~b.*' --path-prefix /cart \
    --any --path /a --method GET --any --path-regex '/b.*' --baggage 'user=Ann Lee'";

#[test]
fn json_is_in_one_line() {
    let json = concat!(
        r#"{"any":[{"all":[{"header":"x-user=ann"},{"header":"x-team~b.*"},{"path-prefix":"/cart"}]},"#,
        r#"{"all":[{"path":"/a"},{"method":"GET"}]},"#,
        r#"{"all":[{"path-regex":"/b.*"},{"baggage":"user=Ann Lee"}]}]}"#
    );
    assert_eq!(rule(FLAGS).to_json().unwrap(), json);
    assert_eq!(Rule::from_json(json).unwrap(), rule(FLAGS));
    assert_eq!(Rule::default().to_json().unwrap(), "{}");
    assert!(Rule::from_json("{}").unwrap().is_everything());
}

#[test]
fn yaml_is_what_one_writes_by_hand() {
    let yaml = "\
any:
- all:
  - header: x-user=ann
  - header: x-team~b.*   # any of blue and black
  - path-prefix: /cart
- all:
  - path: /a
  - method: GET
- all:
  - path-regex: /b.*
  - baggage: user=Ann Lee
";
    assert_eq!(serde_saphyr::from_str::<Rule>(yaml).unwrap(), rule(FLAGS));
    let refused = serde_saphyr::from_str::<Rule>("any:\n- all:\n  - path: a\n").unwrap_err();
    let expected = "path \"a\" has no / at its beginning: write /a";
    assert!(refused.to_string().contains(expected), "{refused}");
}

#[test]
fn what_is_no_rule_is_refused() {
    let syntax = [
        ("", "EOF"),
        ("null", "invalid type: null"),
        (r#"{"all":[]}"#, "unknown field `all`, expected `any`"),
        (
            r#"{"any":[{"any":[]}]}"#,
            "unknown field `any`, expected `all`",
        ),
        (r#"{"any":[{}]}"#, "missing field `all`"),
        (
            r#"{"any":[{"all":[{"headers":"x=1"}]}]}"#,
            "unknown field `headers`",
        ),
        (
            r#"{"any":[{"all":[{"header":"x=1","header":"y=1"}]}]}"#,
            "duplicate field `header`",
        ),
        (
            r#"{"any":[{"all":[{"header":{"x":"1"}}]}]}"#,
            "invalid type: map",
        ),
        (
            r#"{"any":[{"all":[{"path":"/a"}]}]} {}"#,
            "trailing characters",
        ),
    ];
    for (json, why) in syntax {
        match Rule::from_json(json) {
            Err(error @ WrittenError::Syntax(_)) => {
                let error = error.to_string();
                assert!(error.contains(why), "{json}: {error}");
            }
            other => panic!("{json}: {other:?}"),
        }
    }
    let refused = [
        (r#"{"any":[]}"#, RuleError::EmptyGroup),
        (r#"{"any":[{"all":[]}]}"#, RuleError::EmptyGroup),
        (r#"{"any":[{"all":[{}]}]}"#, RuleError::NotOneCondition),
        (
            r#"{"any":[{"all":[{"path":null}]}]}"#,
            RuleError::NotOneCondition,
        ),
        (
            r#"{"any":[{"all":[{"path":"/a","method":"GET"}]}]}"#,
            RuleError::NotOneCondition,
        ),
        (
            r#"{"any":[{"all":[{"method":"GET"},{"method":"PUT"}]}]}"#,
            RuleError::Twice {
                what: "a method".to_owned(),
            },
        ),
    ];
    for (json, why) in refused {
        match Rule::from_json(json) {
            Err(WrittenError::Rule(error)) => assert_eq!(error, why, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn what_is_too_much_is_refused_here_too() {
    let groups = |count: usize| {
        let group = r#"{"all":[{"path":"/a"}]}"#;
        format!(r#"{{"any":[{}]}}"#, vec![group; count].join(","))
    };
    assert!(Rule::from_json(&groups(64)).is_ok());
    assert!(matches!(
        Rule::from_json(&groups(65)),
        Err(WrittenError::Rule(RuleError::TooManyGroups))
    ));
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(rule in any_rule()) {
        let json = rule.to_json().unwrap();
        prop_assert_eq!(&Rule::from_json(&json).unwrap(), &rule);
        let yaml = serde_saphyr::to_string(&rule).unwrap();
        prop_assert_eq!(serde_saphyr::from_str::<Rule>(&yaml).unwrap(), rule, "{}", yaml);
    }

    #[test]
    fn odd_texts_are_refused_or_read_again(text in ".{0,20}") {
        for flag in Flag::ALL {
            let Ok(condition) = Condition::typed(flag, &text) else {
                continue;
            };
            let rule = Rule::new([Group::new([condition]).unwrap()]).unwrap();
            let json = rule.to_json().unwrap();
            prop_assert!(!json.contains('\n'));
            prop_assert_eq!(Rule::from_json(&json).unwrap(), rule);
        }
    }
}
