//! Names of Kubernetes' objects, as they are typed: whatever isn't one goes into no request, whose path it would be
//! part of.

use kdev_common::label::is_label;

/// A namespace: a label of DNS names, RFC 1123 section 2.1, as the API server wants it.
///
/// # Errors
///
/// What such a name looks like.
pub fn parse_namespace(text: &str) -> Result<String, String> {
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err("a namespace has lower case letters, digits and inner hyphens, 63 at most".to_owned())
}

/// A Service, alone or behind its kind, as kubectl has it.
///
/// # Errors
///
/// What to write instead.
pub fn parse_service(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        None => text,
        Some((kind, name)) if is_service(kind) => name,
        Some(_) => {
            return Err(
                "kdev intercepts Services: write the name of the Service, alone or as svc/NAME"
                    .to_owned(),
            );
        }
    };
    if is_label(name) {
        return Ok(name.to_owned());
    }
    match name.split_once('.') {
        Some((name, namespace)) if is_label(name) => {
            let namespace = namespace.split('.').next().unwrap_or_default();
            Err(format!(
                "a Service of another namespace is written: {name} -n {namespace}"
            ))
        }
        _ => Err(
            "a Service's name has lower case letters, digits and inner hyphens, 63 at most"
                .to_owned(),
        ),
    }
}

fn is_service(kind: &str) -> bool {
    ["svc", "service", "services"]
        .iter()
        .any(|one| kind.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_label_of_dns() {
        for right in ["kdev", "a", "team-1", "1a"] {
            assert_eq!(parse_namespace(right).as_deref(), Ok(right));
        }
        for wrong in ["", "Bad_NS", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(parse_namespace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_is_named_alone_or_behind_its_kind() {
        for right in [
            "web",
            "svc/web",
            "service/web",
            "services/web",
            "Service/web",
        ] {
            assert_eq!(parse_service(right).as_deref(), Ok("web"), "{right}");
        }
        assert_eq!(parse_service("1-a").as_deref(), Ok("1-a"));
    }

    #[test]
    fn what_cant_be_a_service_is_refused_with_what_to_write() {
        let table = [
            ("", "lower case"),
            ("unnamed ", "lower case"),
            ("unnamed?x=1", "lower case"),
            ("unnamed#a", "lower case"),
            ("Web", "lower case"),
            ("..", "lower case"),
            ("svc/", "lower case"),
            ("svc/a/b", "lower case"),
            ("unnamed/status", "intercepts Services"),
            ("deploy/web", "intercepts Services"),
            ("/web", "intercepts Services"),
            ("web.shop", "web -n shop"),
            ("web.shop.svc.cluster.local", "web -n shop"),
        ];
        for (wrong, said) in table {
            let refused = parse_service(wrong).unwrap_err();
            assert!(refused.contains(said), "{wrong}: {refused}");
        }
    }
}
