use super::*;
use crate::redirect::testing::{self, clear, intercept, service};
use kdev_rules::{Flag, Item};

fn name() -> ServiceName {
    ServiceName::new("shop", "web")
}

fn web() -> Service {
    service(
        "web",
        &[
            ("http", 80, "TCP"),
            ("grpc", 90, "TCP"),
            ("sctp", 91, "SCTP"),
        ],
    )
}

fn wanted(id: &str, port: &str) -> Claim {
    Claim {
        id: id.into(),
        session: "s2".into(),
        owner: "bob@desk".into(),
        manager: "kdev".into(),
        port: port.parse().unwrap(),
        rule: Rule::default(),
        mode: Mode::default(),
        pass_if_down: false,
        take_over: false,
    }
}

fn refusal(service: &Service, claims: &[Intercept], port: &str) -> String {
    check(&name(), service, claims, &wanted("i2", port))
        .unwrap_err()
        .to_string()
}

#[test]
fn a_free_port_can_be_claimed_beside_somebody_elses() {
    let claims = [intercept("i1", ("http", 80))];
    let claim = check(&name(), &web(), &claims, &wanted("i2", "grpc")).unwrap();
    assert_eq!(claim.port.to_string(), "grpc (90/TCP)");
    assert_eq!(claim.owner, "bob@desk");
    assert_eq!(claim.since.subsec_nanosecond(), 0);
}

#[test]
fn a_port_that_is_taken_is_refused_with_its_owner() {
    let claims = [intercept("i1", ("http", 80))];
    assert_eq!(
        refusal(&web(), &claims, "80"),
        "port http (80/TCP) of service shop/web is intercepted by ann@laptop since \
         2023-11-14T22:13:20Z. Ask them to leave it; if they are gone, the traffic manager \
         restores it by itself"
    );
}

#[test]
fn rules_that_no_request_meets_together_share_a_port() {
    let rule = |value: &str| {
        let header = format!("x-user={value}");
        Rule::from_flags([Item::Condition(Flag::Header, &header)]).unwrap()
    };
    let ann = Intercept {
        rule: rule("ann"),
        ..intercept("i1", ("http", 80))
    };
    let ask = |rule| {
        let wanted = Claim {
            rule,
            ..wanted("i2", "http")
        };
        check(&name(), &web(), std::slice::from_ref(&ann), &wanted)
    };
    assert_eq!(ask(rule("bob")).unwrap().rule, rule("bob"));
    assert_eq!(
        ask(rule("ann")).unwrap_err().to_string(),
        "port http (80/TCP) of service shop/web is intercepted by ann@laptop since \
         2023-11-14T22:13:20Z for --header x-user=ann, and both match GET / with x-user: ann. Use \
         conditions that no request of theirs meets, or ask them to leave it"
    );
    assert!(ask(Rule::default()).is_err());
}

#[test]
fn a_copy_is_in_nobodys_way() {
    let claims = [intercept("i1", ("http", 80))];
    let copy = Claim {
        mode: Mode::Wiretap,
        ..wanted("i2", "http")
    };
    let copy = check(&name(), &web(), &claims, &copy).unwrap();
    assert!(check(&name(), &web(), &[copy], &wanted("i3", "http")).is_ok());
}

#[test]
fn who_holds_another_port_doesnt_lose_its_pods_to_a_replacement_unasked() {
    let rule = Rule::from_flags([Item::Condition(Flag::Header, "x-user=ann")]).unwrap();
    let ann = Intercept {
        rule,
        ..intercept("i1", ("grpc", 90))
    };
    let replace = Claim {
        mode: Mode::Replace,
        ..wanted("i2", "http")
    };
    let refused = check(&name(), &web(), std::slice::from_ref(&ann), &replace).unwrap_err();
    assert_eq!(refused.in_the_way(), std::slice::from_ref(&ann));
    assert_eq!(
        refused.to_string(),
        "replacing service shop/web takes the pods from all of its ports, and others need them, or \
         have them scaled to zero already: port grpc (90/TCP) held by ann@laptop for --header x-user=ann since 2023-11-14T22:13:20Z. \
         Ask them to leave, or use `kdev intercept`, which leaves the pods where they are"
    );
    // A whole port misses nothing, whoever has it; rules do, and so does a copy, also one's own.
    let own = |one: Intercept| {
        let one = Intercept {
            session: replace.session.clone(),
            ..one
        };
        check(&name(), &web(), &[one], &replace)
    };
    let whole = intercept("i1", ("grpc", 90));
    assert!(check(&name(), &web(), std::slice::from_ref(&whole), &replace).is_ok());
    assert!(own(whole).is_ok());
    assert!(own(ann).is_err());
    let copy = Intercept {
        mode: Mode::Wiretap,
        ..intercept("i1", ("grpc", 90))
    };
    assert!(own(copy.clone()).is_err());
    // On the port itself it goes on being one.
    let copy = Intercept {
        port: testing::port("http", 80),
        ..copy
    };
    assert!(check(&name(), &web(), &[copy], &replace).is_ok());
}

#[test]
fn what_is_left_to_pods_that_rest_isnt_claimed() {
    let replaced = Intercept {
        mode: Mode::Replace,
        ..intercept("i1", ("grpc", 90))
    };
    let claims = [replaced];
    let whole = wanted("i2", "http");
    assert!(check(&name(), &web(), &claims, &whole).is_ok());
    let passing = Claim {
        pass_if_down: true,
        ..whole
    };
    let refused = check(&name(), &web(), &claims, &passing).unwrap_err();
    assert_eq!(refused.in_the_way(), claims);
    let refused = refused.to_string();
    assert!(refused.contains("replaced by ann@laptop"), "{refused}");
    let copies = |port: &str| Claim {
        mode: Mode::Wiretap,
        ..wanted("i2", port)
    };
    let refused = check(&name(), &web(), &claims, &copies("http")).unwrap_err();
    assert_eq!(refused.in_the_way(), claims);
    // What the machine answers can be copied.
    assert!(check(&name(), &web(), &claims, &copies("grpc")).is_ok());
}

#[test]
fn a_claim_that_is_there_already_is_the_answer() {
    let claims = [intercept("i2", ("http", 80))];
    let claim = check(&name(), &web(), &claims, &wanted("i2", "grpc")).unwrap();
    assert_eq!(claim, claims[0]);
}

#[test]
fn a_missing_port_is_refused_with_those_that_there_are() {
    let all = "http (80/TCP), grpc (90/TCP), sctp (91/SCTP)";
    for (wanted, why) in [
        ("https", format!("no port https, only {all}")),
        ("http/udp", format!("no port http/UDP, only {all}")),
        ("/udp", format!("no UDP port, only {all}")),
        ("", format!("3 ports, and none of them was named: {all}")),
        (
            "/tcp",
            "2 TCP ports, and none of them was named: http (80/TCP), grpc (90/TCP)".to_owned(),
        ),
    ] {
        assert_eq!(
            refusal(&web(), &[], wanted),
            format!(
                "service shop/web has {why}. Name one of them behind the local port: --port LOCAL:PORT, where PORT is \
                 its name or its number"
            )
        );
    }
}

#[test]
fn what_can_not_be_redirected_is_refused_with_what_to_do_instead() {
    let mut headless = web();
    headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    assert_eq!(
        refusal(&headless, &[], "http"),
        "service shop/web can't be intercepted: it is headless, so clients connect to the pods \
         themselves, where only an agent in the pods can intercept them, and kdev has none yet. \
         Intercept a Service with a cluster IP in front of the same pods"
    );
    let mut alias = web();
    let spec = alias.spec.as_mut().unwrap();
    spec.type_ = Some("ExternalName".into());
    spec.external_name = Some("db.other.svc.cluster.local".into());
    assert_eq!(
        refusal(&alias, &[], "http"),
        "service shop/web can't be intercepted: it is of type ExternalName, only another name for \
         db.other.svc.cluster.local, so only an agent in the pods of its clients can intercept them, \
         and kdev has none yet. If that is a Service of this cluster, intercept it: \
         `kdev intercept db -n other`"
    );
    assert!(refusal(&web(), &[], "sctp").contains("is SCTP"));
}

#[test]
fn a_service_of_another_manager_is_refused() {
    let mut other = intercept("i1", ("grpc", 90));
    other.manager = "kdev-two".into();
    assert!(refusal(&web(), &[other], "http").contains(r#"in namespace "kdev-two""#));
}

#[test]
fn a_service_that_is_redirected_already_can_be_claimed_on_another_port() {
    let mut service = web();
    clear(&mut service, &[("app", "web")]);
    assert!(check(&name(), &service, &[], &wanted("i2", "http")).is_ok());
}

#[test]
fn both_protocols_of_a_number_are_claimed_apart_and_conditions_are_about_one_of_them() {
    let dns = service("web", &[("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")]);
    let over_tcp = check(&name(), &dns, &[], &wanted("i1", "53")).unwrap();
    assert_eq!(over_tcp.port.to_string(), "dns-tcp (53/TCP)");
    let claims = [over_tcp];
    let over_udp = check(&name(), &dns, &claims, &wanted("i2", "53/udp")).unwrap();
    assert_eq!(over_udp.port.to_string(), "dns (53/UDP)");
    let ruled = Claim {
        rule: Rule::from_flags([Item::Condition(Flag::Header, "x-user=ann")]).unwrap(),
        ..wanted("i3", "dns")
    };
    let refused = check(&name(), &dns, &[], &ruled).unwrap_err().to_string();
    assert!(
        refused.contains("UDP") && refused.contains("HTTP"),
        "{refused}"
    );
}
