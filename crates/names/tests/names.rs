//! Whose answer a client gets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers are tests"
)]

mod support;

use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use kdev_names::Limits;
use support::*;

const NO_STRINGS: [String; 0] = [];

#[tokio::test]
async fn a_short_name_that_both_know_is_the_outsides() {
    let split = Split::of(
        Zone::new().a("web.", [192, 0, 2, 1]),
        Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]),
    )
    .await;
    assert_eq!(data(&split.ask("web.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_name_that_only_the_cluster_knows_is_answered_under_the_name_that_was_asked() {
    let split = Split::of(
        Zone::new(),
        Zone::new()
            .a("web.dev.svc.cluster.local.", [10, 96, 0, 1])
            .a("api.shop.svc.cluster.local.", [10, 96, 0, 2])
            .a("db-0.db.shop.svc.cluster.local.", [10, 96, 0, 3])
            .a("sts-0.stsh.dev.svc.cluster.local.", [10, 244, 0, 7]),
    )
    .await;
    for (asked, address) in [
        ("Web.", "10.96.0.1"),
        ("web.dev.", "10.96.0.1"),
        ("web.dev.svc.", "10.96.0.1"),
        ("Web.dev.svc.cluster.local.", "10.96.0.1"),
        ("api.shop.", "10.96.0.2"),
        ("db-0.db.shop.", "10.96.0.3"),
        ("DB-0.db.shop.svc.", "10.96.0.3"),
        ("Sts-0.stsh.", "10.244.0.7"),
    ] {
        let answer = split.ask(asked, RecordType::A).await;
        assert_eq!(data(&answer), [address], "{asked}");
        assert!(answer.answers[0].name.eq_case(&name(asked)), "{asked}");
        assert_eq!(answer.answers[0].ttl, 30, "{asked}");
    }
}

#[tokio::test]
async fn no_data_outside_wins_because_the_name_exists_there() {
    let split = Split::of(
        Zone::new().a("web.", [192, 0, 2, 1]),
        Zone::new().txt("web.dev.svc.cluster.local.", "cluster"),
    )
    .await;
    let answer = split.ask("web.", RecordType::TXT).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(data(&answer), NO_STRINGS);
}

#[tokio::test]
async fn a_service_that_is_called_like_a_top_level_domain_is_the_clusters() {
    let split = Split::of(
        // The domain exists, without an address.
        Zone::new()
            .txt("shop.", "registry")
            .a("nas.", [192, 0, 2, 1]),
        Zone::new()
            .a("shop.dev.svc.cluster.local.", [10, 96, 0, 1])
            .a("nas.dev.svc.cluster.local.", [10, 96, 0, 2]),
    )
    .await;
    assert_eq!(
        data(&split.ask("shop.", RecordType::A).await),
        ["10.96.0.1"]
    );
    // What has an address of the other family outside stays the outside's for both.
    let answer = split.ask("nas.", RecordType::AAAA).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(data(&answer), NO_STRINGS);
    assert_eq!(data(&split.ask("nas.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn an_outside_that_fails_in_any_way_leaves_the_name_to_the_cluster() {
    for failing in [
        ResponseCode::NXDomain,
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotImp,
        ResponseCode::FormErr,
    ] {
        let split = Split::of(
            Zone::failing(failing),
            Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]),
        )
        .await;
        let answer = split.ask("web.", RecordType::A).await;
        assert_eq!(data(&answer), ["10.96.0.1"], "{failing}");
        // An IPv4-only service has no other address, which is no error.
        let answer = split.ask("web.", RecordType::AAAA).await;
        assert_eq!(code(&answer), ResponseCode::NoError, "{failing}");
        assert_eq!(data(&answer), NO_STRINGS, "{failing}");
    }
}

#[tokio::test]
async fn a_dead_outside_delays_the_clusters_names_by_less_than_two_seconds() {
    let cluster = Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]);
    let split = Split::new(
        NameServer::silent().await,
        Cluster::Zone(cluster),
        Limits::default(),
    )
    .await;
    let start = Instant::now();
    assert_eq!(
        data(&split.ask("web.dev.", RecordType::A).await),
        ["10.96.0.1"]
    );
    assert!(start.elapsed().as_millis() < 2000, "{:?}", start.elapsed());

    // Names that are the cluster's alone don't wait at all.
    let start = Instant::now();
    assert_eq!(
        data(&split.ask("web.dev.svc.", RecordType::A).await),
        ["10.96.0.1"]
    );
    assert!(
        start.elapsed() < Limits::default().patience,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn when_neither_knows_the_name_the_outsides_answer_is_given_for_a_short_time() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    let answer = split.ask("nobody.shop.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::NXDomain);
    // The Service may be there in a minute.
    assert_eq!(answer.authorities[0].ttl, 5);
    assert_eq!(split.handle.stats().outside, 1);

    // What kdev would never fill in is as it was.
    let answer = split.ask("nobody.corp.example.", RecordType::A).await;
    assert_eq!(answer.authorities[0].ttl, 86400);
}

#[tokio::test]
async fn names_of_unknown_namespaces_never_reach_the_cluster() {
    let split = Split::of(
        Zone::new().a("www.corp.example.", [192, 0, 2, 1]),
        Zone::new(),
    )
    .await;
    for asked in [
        "a.web.nowhere.",
        "www.corp.example.",
        "web.shop.corp.example.",
        "printer.local.",
        "1.2.0.192.in-addr.arpa.",
        ".",
    ] {
        split.ask(asked, RecordType::A).await;
    }
    assert_eq!(split.cluster.names(), NO_STRINGS);
    assert_eq!(split.outside.names().len(), 6);
}

#[tokio::test]
async fn a_name_of_two_labels_that_exists_outside_never_reaches_the_cluster() {
    let cluster = Zone::new().a("nas.lan.dev.svc.cluster.local.", [10, 96, 0, 1]);
    let split = Split::of(Zone::new().a("nas.lan.", [192, 0, 2, 1]), cluster).await;
    let answer = split.ask("nas.lan.", RecordType::A).await;
    assert_eq!(data(&answer), ["192.0.2.1"]);
    // It exists, without an address of that family.
    let answer = split.ask("nas.lan.", RecordType::AAAA).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(data(&answer), NO_STRINGS);
    assert_eq!(split.cluster.names(), NO_STRINGS);
}

#[tokio::test]
async fn a_member_of_a_headless_service_without_the_other_family_exists_still() {
    let cluster = Zone::new().a("sts-0.stsh.dev.svc.cluster.local.", [10, 244, 0, 7]);
    let split = Split::of(Zone::new(), cluster).await;
    let answer = split.ask("sts-0.stsh.", RecordType::AAAA).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(data(&answer), NO_STRINGS);
}

#[tokio::test]
async fn nobody_answers_for_a_name_of_two_labels_while_the_outside_cannot_tell() {
    let cluster = Zone::new().a("github.com.dev.svc.cluster.local.", [10, 244, 0, 7]);
    for code_outside in [ResponseCode::ServFail, ResponseCode::Refused] {
        let outside = NameServer::of(Zone::failing(code_outside)).await;
        let cluster = Cluster::Zone(cluster.clone());
        let split = Split::new(outside, cluster, Limits::default()).await;
        let answer = split.ask("github.com.", RecordType::A).await;
        assert_eq!(data(&answer), [""; 0]);
        assert_eq!(split.cluster.names(), [""; 0]);
    }
}

#[tokio::test]
async fn a_name_of_two_labels_that_nobody_knows_is_the_outsides_negative_answer_for_a_short_time() {
    for cluster in [
        Cluster::Zone(Zone::new()),
        Cluster::Zone(Zone::failing(ResponseCode::ServFail)),
        Cluster::Away,
        Cluster::Rubbish,
    ] {
        let outside = NameServer::of(Zone::new()).await;
        let split = Split::new(outside, cluster, Limits::default()).await;
        let answer = split.ask("host.lan.", RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NXDomain);
        let [soa] = &answer.authorities[..] else {
            panic!("{answer:?}")
        };
        // A member may be there in a moment.
        assert_eq!((soa.record_type(), soa.ttl), (RecordType::SOA, 5));
    }
}

#[tokio::test]
async fn while_the_cluster_does_not_answer_names_of_two_labels_wait_for_it_once() {
    let limits = Limits {
        unlikely: Duration::from_millis(200),
        respite: Duration::from_secs(3600),
        ..Limits::default()
    };
    let outside = NameServer::of(Zone::new()).await;
    let split = Split::new(outside, Cluster::Hanging, limits).await;
    for asked in ["a.lan.", "b.lan.", "c.lan."] {
        let answer = split.ask(asked, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NXDomain, "{asked}");
    }
    assert_eq!(split.cluster.names(), ["a.lan.dev.svc.cluster.local."]);

    // Any answer of the cluster ends that.
    let zone = Zone::new().a("sts-0.stsh.dev.svc.cluster.local.", [10, 244, 0, 7]);
    split.cluster.becomes(Cluster::Zone(zone));
    split.ask("web.dev.svc.", RecordType::A).await;
    let answer = split.ask("sts-0.stsh.", RecordType::A).await;
    assert_eq!(data(&answer), ["10.244.0.7"]);
}

#[tokio::test]
async fn a_cluster_that_answers_again_is_found_out_by_the_names_of_two_labels_alone() {
    let limits = Limits {
        respite: Duration::ZERO,
        ..Limits::default()
    };
    let outside = NameServer::of(Zone::new()).await;
    let split = Split::new(outside, Cluster::Away, limits).await;
    split.ask("sts-0.stsh.", RecordType::A).await;
    let zone = Zone::new().a("sts-0.stsh.dev.svc.cluster.local.", [10, 244, 0, 7]);
    split.cluster.becomes(Cluster::Zone(zone));
    let answer = split.ask("sts-0.stsh.", RecordType::A).await;
    assert_eq!(data(&answer), ["10.244.0.7"]);
}

#[tokio::test]
async fn the_clusters_names_never_reach_the_outside() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    for asked in [
        "web.dev.svc.",
        "web.nowhere.svc.",
        "api.dev.svc.cluster.local.",
        "cluster.local.",
        "x.cluster.local.",
        "1.0.96.10.in-addr.arpa.",
    ] {
        let answer = split.ask(asked, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NXDomain, "{asked}");
    }
    assert_eq!(split.outside.names(), NO_STRINGS);
    assert_eq!(split.cluster.names().len(), 6);
}

#[tokio::test]
async fn every_type_of_record_comes_from_the_cluster() {
    let full = "web.dev.svc.cluster.local.";
    let split = Split::of(
        Zone::new(),
        Zone::new()
            .txt(full, "hello")
            .mx(full, "mail.dev.svc.cluster.local.")
            .srv("_http._tcp.web.dev.svc.cluster.local.", 8080, full)
            .ptr("1.0.96.10.in-addr.arpa.", full)
            .cname("db.dev.svc.cluster.local.", "db.example."),
    )
    .await;
    for (asked, kind, expected) in [
        ("web.", RecordType::TXT, "hello"),
        ("web.dev.", RecordType::MX, "10 mail.dev.svc.cluster.local."),
        (
            "_http._tcp.web.dev.",
            RecordType::SRV,
            "0 100 8080 web.dev.svc.cluster.local.",
        ),
        ("1.0.96.10.in-addr.arpa.", RecordType::PTR, full),
        ("db.", RecordType::A, "db.example."),
    ] {
        let answer = split.ask(asked, kind).await;
        assert_eq!(data(&answer), [expected], "{asked} {kind}");
        assert_eq!(answer.answers[0].name, name(asked), "{asked} {kind}");
    }
}

#[tokio::test]
async fn every_type_of_record_comes_from_the_outside() {
    let split = Split::of(
        Zone::new()
            .txt("corp.example.", "hello")
            .mx("corp.example.", "mail.corp.example.")
            .srv("_ldap._tcp.corp.example.", 389, "dc.corp.example.")
            .ptr("1.2.0.192.in-addr.arpa.", "www.corp.example."),
        Zone::new(),
    )
    .await;
    for (asked, kind, expected) in [
        ("corp.example.", RecordType::TXT, "hello"),
        ("corp.example.", RecordType::MX, "10 mail.corp.example."),
        (
            "_ldap._tcp.corp.example.",
            RecordType::SRV,
            "0 100 389 dc.corp.example.",
        ),
        (
            "1.2.0.192.in-addr.arpa.",
            RecordType::PTR,
            "www.corp.example.",
        ),
    ] {
        let answer = split.ask(asked, kind).await;
        assert_eq!(data(&answer), [expected], "{asked} {kind}");
    }
}

#[tokio::test]
async fn localhost_is_answered_without_asking_anybody() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    assert_eq!(
        data(&split.ask("localhost.", RecordType::A).await),
        ["127.0.0.1"]
    );
    assert_eq!(
        data(&split.ask("app.localhost.", RecordType::AAAA).await),
        ["::1"]
    );
    assert_eq!(split.outside.names(), NO_STRINGS);
    assert_eq!(split.cluster.names(), NO_STRINGS);
}

#[tokio::test]
async fn another_class_of_a_short_name_is_the_outsides_alone() {
    let split = Split::of(
        Zone::new(),
        Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]),
    )
    .await;
    let mut chaos = query("web.", RecordType::TXT);
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&split.send(&chaos).await), ResponseCode::NXDomain);
    assert_eq!(split.cluster.names(), NO_STRINGS);
}

#[tokio::test]
async fn while_the_manager_is_away_the_clusters_names_fail_at_once_and_the_others_work() {
    for cluster in [Cluster::Away, Cluster::Rubbish] {
        let zone = Zone::new()
            .a("www.example.", [192, 0, 2, 1])
            .a("web.", [192, 0, 2, 2]);
        let split = Split::new(NameServer::of(zone).await, cluster, Limits::default()).await;

        let start = Instant::now();
        let answer = split.ask("web.dev.svc.", RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::ServFail);
        assert!(
            start.elapsed() < Limits::default().patience,
            "{:?}",
            start.elapsed()
        );

        assert_eq!(
            data(&split.ask("www.example.", RecordType::A).await),
            ["192.0.2.1"]
        );
        assert_eq!(data(&split.ask("web.", RecordType::A).await), ["192.0.2.2"]);
        let answer = split.ask("nobody.shop.", RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::NXDomain);
    }
}

#[tokio::test]
async fn a_manager_that_hangs_fails_the_clusters_names_in_time() {
    let limits = Limits {
        cluster: Duration::from_millis(200),
        ..Limits::default()
    };
    let split = Split::new(NameServer::of(Zone::new()).await, Cluster::Hanging, limits).await;
    let answer = split.ask("web.dev.svc.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    let trouble = split.handle.stats().cluster_trouble.unwrap();
    assert_eq!(trouble.error, "the traffic manager didn't answer in time");
}

#[tokio::test]
async fn when_nobody_can_be_asked_the_answer_is_a_server_failure() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    split.handle.set_upstreams([]);
    split.cluster.becomes(Cluster::Away);
    for asked in ["www.example.", "web.", "web.shop.", "web.shop.svc."] {
        let answer = split.ask(asked, RecordType::A).await;
        assert_eq!(code(&answer), ResponseCode::ServFail, "{asked}");
    }
    assert_eq!(split.handle.stats().failures, 4);
}

#[tokio::test]
async fn without_a_policy_everything_is_outside() {
    let split = Split::of(Zone::new().a("web.", [192, 0, 2, 1]), Zone::new()).await;
    split.handle.set_policy(None);
    assert_eq!(data(&split.ask("web.", RecordType::A).await), ["192.0.2.1"]);
    split.ask("web.dev.svc.cluster.local.", RecordType::A).await;
    assert_eq!(split.cluster.names(), NO_STRINGS);
}

#[tokio::test]
async fn a_new_namespace_is_known_from_the_moment_it_is_pushed() {
    let split = Split::of(
        Zone::new(),
        Zone::new().a("web.new.svc.cluster.local.", [10, 96, 0, 1]),
    )
    .await;
    let answer = split.ask("web.new.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::NXDomain);

    let policy = kdev_names::Policy::new("cluster.local", "new", ["new"], []).unwrap();
    split.handle.set_policy(Some(policy));
    assert_eq!(
        data(&split.ask("web.new.", RecordType::A).await),
        ["10.96.0.1"]
    );
    assert_eq!(data(&split.ask("web.", RecordType::A).await), ["10.96.0.1"]);
}

#[tokio::test]
async fn the_cluster_is_asked_once_for_a_burst_and_again_after_a_flush() {
    let zone = Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]);
    let split = Split::of(Zone::new(), zone.clone()).await;
    for asked in ["web.dev.svc.", "WEB.dev.svc.cluster.local.", "web.dev.svc."] {
        let answer = split.ask(asked, RecordType::A).await;
        assert_eq!(data(&answer), ["10.96.0.1"]);
        assert!(answer.answers[0].name.eq_case(&name(asked)));
    }
    assert_eq!(split.cluster.names().len(), 1);

    split.handle.flush();
    split.ask("web.dev.svc.", RecordType::A).await;
    assert_eq!(split.cluster.names().len(), 2);

    split.handle.set_policy(Some(policy("shop")));
    split.ask("web.dev.svc.", RecordType::A).await;
    assert_eq!(split.cluster.names().len(), 3);
}

#[tokio::test]
async fn a_failure_of_the_cluster_is_not_remembered() {
    let zone = Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]);
    let split = Split::of(Zone::new(), Zone::failing(ResponseCode::ServFail)).await;
    let answer = split.ask("web.dev.svc.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert!(split.handle.stats().cluster_trouble.is_some());

    split.cluster.becomes(Cluster::Zone(zone));
    assert_eq!(
        data(&split.ask("web.dev.svc.", RecordType::A).await),
        ["10.96.0.1"]
    );
    assert_eq!(split.handle.stats().cluster_trouble, None);
}

#[tokio::test]
async fn what_was_done_is_counted() {
    let split = Split::of(
        Zone::new().a("www.example.", [192, 0, 2, 1]),
        Zone::new().a("web.dev.svc.cluster.local.", [10, 96, 0, 1]),
    )
    .await;
    split.ask("www.example.", RecordType::A).await;
    split.ask("web.", RecordType::A).await;
    split.ask("web.dev.svc.", RecordType::A).await;
    split.cluster.becomes(Cluster::Away);
    split.ask("api.dev.svc.", RecordType::A).await;

    let stats = split.handle.stats();
    assert_eq!(
        (stats.queries, stats.cluster, stats.outside, stats.failures),
        (4, 2, 1, 1)
    );
    let trouble = stats.cluster_trouble.unwrap();
    assert_eq!(trouble.error, "the traffic manager can't be reached now");
    assert!(trouble.at.elapsed().unwrap() < DEADLINE);
}

#[tokio::test]
async fn the_cluster_is_asked_as_by_a_resolver_whatever_the_client_says_to_us() {
    let split = Split::of(Zone::new(), Zone::new()).await;
    let mut asked = query_with_edns("web.dev.svc.", RecordType::A, 4096);
    asked.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = split.send(&asked).await;
    assert!(answer.edns.unwrap().flags().dnssec_ok);

    let seen: Message = split.cluster.seen().remove(0);
    assert!(seen.metadata.recursion_desired);
    let edns = seen.edns.unwrap();
    assert!(edns.flags().dnssec_ok);
    assert_eq!(edns.max_payload(), 1232);
}
