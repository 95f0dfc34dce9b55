//! Everything that isn't the cluster's keeps its old way.

use kdev_e2e::desk::Desk;
use kdev_e2e::laptop::User;

/// Pages of the outside; the cluster has Services `wiki` and `intranet` too.
const PAGES: [(&str, &str); 4] = [
    ("http://www.public.test/", "public page"),
    ("http://wiki/", "corporate wiki"),
    ("http://wiki.corp.test/", "corporate wiki"),
    ("http://intranet/", "corporate intranet"),
];

#[test]
fn pages_and_names_of_the_outside_are_the_same_as_before() {
    let desk = Desk::with_manager();
    let text = ["dig", "+short", "+time=5", "www.public.test", "TXT"];
    let look = |when: &str| {
        for (url, page) in PAGES {
            assert_eq!(desk.curl(url).ok().text(), page, "{url} {when}");
        }
        assert_eq!(
            desk.laptop.run(User::Dev, &text).ok().text(),
            "\"public text\"",
            "{when}"
        );
        let unknown = ["dig", "+time=5", "nobody.public.test"];
        desk.laptop
            .run(User::Dev, &unknown)
            .ok()
            .says("status: NXDOMAIN");
    };
    look("before connecting");
    desk.connect();
    look("while connected");
    desk.kdev(&["quit"]).ok();
    look("after quitting");
}

#[test]
fn services_that_bear_corporate_names_are_reached_by_their_full_ones() {
    let desk = Desk::connected();
    for name in [
        "wiki.demo",
        "wiki.demo.svc",
        "intranet.demo.svc.cluster.local",
    ] {
        let pod = desk.pod_at(&format!("http://{name}/"));
        assert!(pod.starts_with("web-"), "{name} led to {pod}");
    }
    assert_eq!(desk.curl("http://wiki/").ok().text(), "corporate wiki");
}

#[test]
fn nobody_outside_is_asked_for_names_of_the_cluster() {
    let desk = Desk::connected();
    let before = desk.cluster.asked_outside().len();
    for name in [
        "web.demo.svc.cluster.local",
        "web.demo.svc",
        "nobody.demo.svc.cluster.local",
    ] {
        desk.curl(&format!("http://{name}/"));
        for kind in ["A", "AAAA", "SRV", "TXT"] {
            desk.laptop.run(User::Dev, &["dig", "+time=5", name, kind]);
        }
    }
    let asked = desk.cluster.asked_outside();
    // Programs whose name isn't known try it once more with the search domain behind it, and that
    // name is the outside's.
    let ours = |name: &&String| name.ends_with(".svc") || name.ends_with("cluster.local");
    let leaked: Vec<_> = asked[before..].iter().filter(ours).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

#[test]
fn the_lan_and_the_api_server_keep_their_routes() {
    let desk = Desk::with_manager();
    let route = |to: &str| {
        desk.laptop
            .run(User::Dev, &["ip", "route", "get", to])
            .ok()
            .lines()
            .remove(0)
    };
    let ways = ["10.88.0.1", "10.88.0.10", "198.51.100.53", "198.51.100.80"];
    let before = ways.map(route);
    desk.connect();
    assert_eq!(ways.map(route), before);
}
