use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn policy() -> Policy {
    Policy::new(
        "cluster.local",
        "dev",
        ["default", "dev", "shop", "local", "arpa", "svc", "Test"],
        ["10.96.0.0/12", "fd00:10:96::/112"].map(|net| net.parse().unwrap()),
    )
    .unwrap()
}

fn cluster(text: &str) -> Route {
    Route::Cluster(name(text))
}

fn outside_first(text: &str) -> Route {
    Route::OutsideFirst(name(text))
}

fn outside_then_cluster(text: &str) -> Route {
    Route::OutsideThenCluster(name(text))
}

#[test]
fn every_name_has_its_route() {
    let same = |text: &str| (text.to_owned(), cluster(text));
    let cases = [
        // The cluster's domain and all below it, as it is.
        same("cluster.local."),
        same("web.shop.svc.cluster.local."),
        same("10-244-0-7.shop.pod.cluster.local."),
        same("_http._tcp.web.shop.svc.cluster.local."),
        same("db-0.db.shop.svc.cluster.local."),
        same("dns-version.cluster.local."),
        // .svc is the cluster's, whether there is such a namespace or not.
        (
            "web.shop.svc.".into(),
            cluster("web.shop.svc.cluster.local."),
        ),
        (
            "web.nowhere.svc.".into(),
            cluster("web.nowhere.svc.cluster.local."),
        ),
        (
            "_http._tcp.web.shop.svc.".into(),
            cluster("_http._tcp.web.shop.svc.cluster.local."),
        ),
        ("shop.svc.".into(), cluster("shop.svc.cluster.local.")),
        // One label means a service of the session's namespace.
        ("web.".into(), outside_first("web.dev.svc.cluster.local.")),
        ("svc.".into(), outside_first("svc.dev.svc.cluster.local.")),
        ("shop.".into(), outside_first("shop.dev.svc.cluster.local.")),
        // The last label is a namespace that there is.
        (
            "web.shop.".into(),
            outside_first("web.shop.svc.cluster.local."),
        ),
        (
            "db-0.db.shop.".into(),
            outside_first("db-0.db.shop.svc.cluster.local."),
        ),
        (
            "_http._tcp.web.shop.".into(),
            outside_first("_http._tcp.web.shop.svc.cluster.local."),
        ),
        (
            "web.test.".into(),
            outside_first("web.test.svc.cluster.local."),
        ),
        // Two labels may be a member of a headless service of the session's namespace.
        (
            "sts-0.stsh.".into(),
            outside_then_cluster("sts-0.stsh.dev.svc.cluster.local."),
        ),
        (
            "host.lan.".into(),
            outside_then_cluster("host.lan.dev.svc.cluster.local."),
        ),
        (
            "shop.nowhere.".into(),
            outside_then_cluster("shop.nowhere.dev.svc.cluster.local."),
        ),
        (
            "*.stsh.".into(),
            outside_then_cluster("*.stsh.dev.svc.cluster.local."),
        ),
        // Everything else keeps its old way, names made by the host's search list included.
        (".".into(), Route::Outside),
        ("_http._tcp.web.".into(), Route::Outside),
        ("a.sts-0.stsh.".into(), Route::Outside),
        ("web.corp.example.".into(), Route::Outside),
        ("web.shop.corp.example.".into(), Route::Outside),
        (
            "web.shop.svc.cluster.local.corp.example.".into(),
            Route::Outside,
        ),
        ("shop.example.com.".into(), Route::Outside),
        ("cluster.local.example.".into(), Route::Outside),
        // mDNS, even where there is a namespace of that name.
        ("printer.local.".into(), Route::Outside),
        ("foo.local.".into(), Route::Outside),
        ("local.".into(), Route::Outside),
        ("notcluster.local.".into(), Route::Outside),
        // Reverse names of the cluster's addresses, and of zones within its prefixes.
        same("1.0.96.10.in-addr.arpa."),
        same("255.255.111.10.in-addr.arpa."),
        same("96.10.in-addr.arpa."),
        same("a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa."),
        ("1.0.112.10.in-addr.arpa.".into(), Route::Outside),
        ("1.1.168.192.in-addr.arpa.".into(), Route::Outside),
        ("10.in-addr.arpa.".into(), Route::Outside),
        ("in-addr.arpa.".into(), Route::Outside),
        ("arpa.".into(), Route::Outside),
        ("x.1.0.96.10.in-addr.arpa.".into(), Route::Outside),
        ("home.arpa.".into(), Route::Outside),
        ("web.arpa.".into(), Route::Outside),
        // RFC 6761.
        ("localhost.".into(), Route::Localhost),
        ("app.localhost.".into(), Route::Localhost),
    ];
    for (asked, route) in cases {
        assert_eq!(classify(&policy(), &name(&asked)), route, "{asked}");
        let shouted = asked.to_ascii_uppercase();
        assert_eq!(classify(&policy(), &name(&shouted)), route, "{shouted}");
    }
}

#[test]
fn the_cluster_may_have_another_domain() {
    let policy = Policy::new("k8s.corp.example.", "dev", ["dev"], []).unwrap();
    let route = |text| classify(&policy, &name(text));
    assert_eq!(
        route("web.dev.svc.k8s.corp.example."),
        cluster("web.dev.svc.k8s.corp.example.")
    );
    assert_eq!(
        route("web.dev.svc."),
        cluster("web.dev.svc.k8s.corp.example.")
    );
    assert_eq!(
        route("web."),
        outside_first("web.dev.svc.k8s.corp.example.")
    );
    assert_eq!(route("www.corp.example."), Route::Outside);
    assert_eq!(route("web.dev.svc.cluster.local."), Route::Outside);
}

#[test]
fn without_a_namespace_short_names_stay_outside() {
    let policy = Policy::new("cluster.local", "", ["dev"], []).unwrap();
    assert_eq!(classify(&policy, &name("web.")), Route::Outside);
    assert_eq!(classify(&policy, &name("sts-0.stsh.")), Route::Outside);
    assert_eq!(
        classify(&policy, &name("web.dev.")),
        outside_first("web.dev.svc.cluster.local.")
    );
}

#[test]
fn a_name_too_long_for_the_cluster_is_asked_outside_or_does_not_exist() {
    let long = |last: &str| {
        let label = "a".repeat(60);
        name(&format!(
            "{label}.{label}.{label}.{}.{last}.",
            "b".repeat(58)
        ))
    };
    assert_eq!(classify(&policy(), &long("shop")), Route::Outside);
    assert_eq!(classify(&policy(), &long("svc")), Route::Nonexistent);
    // So is a member's name, in a namespace that is long as well.
    let member = format!("{}.{}.", "p".repeat(63), "s".repeat(63));
    let policy = Policy::new(&"d".repeat(60), &"n".repeat(63), ["dev"], []).unwrap();
    assert_eq!(classify(&policy, &name(&member)), Route::Outside);
}

#[test]
fn a_domain_that_would_make_everything_the_clusters_is_refused() {
    for domain in ["", "."] {
        let refused = Policy::new(domain, "dev", ["dev"], []).unwrap_err();
        assert!(
            matches!(
                refused,
                PolicyError::EverythingIsCluster | PolicyError::Domain { .. }
            ),
            "{domain:?}: {refused}"
        );
    }
    assert!(matches!(
        Policy::new("cluster..local", "dev", ["dev"], []),
        Err(PolicyError::Domain { .. })
    ));
}

proptest::proptest! {
    #[test]
    fn a_name_of_an_unknown_namespace_goes_to_the_cluster_only_as_one_of_two_labels_and_last(
        service in "[a-z][a-z0-9-]{0,20}",
        namespace in "[a-z][a-z0-9-]{0,20}",
    ) {
        proptest::prop_assume!(!policy().namespaces.contains(&namespace));
        proptest::prop_assume!(namespace != "localhost");
        let route = |text: String| classify(&policy(), &name(&text));
        proptest::prop_assert_eq!(route(format!("a.{service}.{namespace}.")), Route::Outside);
        let short = route(format!("{service}.{namespace}."));
        let ask = name(&format!("{service}.{namespace}.dev.svc.cluster.local."));
        proptest::prop_assert_eq!(short, Route::OutsideThenCluster(ask));
    }

    #[test]
    fn what_the_cluster_is_asked_is_always_its_own(text in "([a-z_]{1,8}[.]){1,6}") {
        let policy = policy();
        match classify(&policy, &name(&text)) {
            Route::Cluster(ask) | Route::OutsideFirst(ask) | Route::OutsideThenCluster(ask) => {
                let reverse = policy.has_reverse(&ask);
                proptest::prop_assert!(policy.domain.zone_of(&ask) || reverse);
                proptest::prop_assert!(ask.is_fqdn());
            }
            Route::Outside | Route::Localhost | Route::Nonexistent => {}
        }
    }
}

#[test]
fn the_api_servers_name_is_outside_even_below_the_clusters_domain() {
    let policy = Policy::new("k8s.corp.test", "dev", ["dev"], [])
        .unwrap()
        .with_outside(["API.k8s.corp.test", "10.0.0.1"]);
    let route = |name| classify(&policy, &Name::from_ascii(name).unwrap());
    assert_eq!(route("api.k8s.corp.test."), Route::Outside);
    assert!(matches!(route("web.k8s.corp.test."), Route::Cluster(_)));
}
