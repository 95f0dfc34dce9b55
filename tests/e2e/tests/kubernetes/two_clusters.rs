//! Two clusters with the same networks, each with its own laptop, side by side.

use kdev_e2e::cluster::Cluster;
use kdev_e2e::desk::{self, DEMO, Desk};
use kdev_e2e::laptop::User;

#[test]
fn two_clusters_with_identical_networks_work_side_by_side() {
    let desk = Desk::connected();
    let other = Cluster::up(&format!("{}-b", desk.cluster.name()), &[]);
    desk::furnish(&other);
    let there = other.laptop();
    let run = |args: &[&str]| there.run(User::Dev, &[&["kdev"], args].concat());
    run(&["install"]).ok();
    run(&["connect", "-n", DEMO]).ok().says(other.name());
    let pods = |cluster: &Cluster| {
        cluster
            .kubectl(&["-n", DEMO, "get", "pods", "-l", "app=web", "-o", "name"])
            .ok()
            .stdout
    };
    let page =
        |page: kdev_e2e::command::Outcome| page.ok().json()["pod"].as_str().unwrap().to_owned();
    let mine = desk.pod_at("http://web/");
    let theirs = page(there.run(User::Dev, &["curl", "-sS", "http://web/"]));
    assert!(
        pods(desk.cluster).contains(&mine) && !pods(&other).contains(&mine),
        "{mine}"
    );
    assert!(
        pods(&other).contains(&theirs) && !pods(desk.cluster).contains(&theirs),
        "{theirs}"
    );
    run(&["quit"]).ok();
    assert_eq!(
        desk.pod_at("http://web/").split('-').next(),
        Some("web"),
        "the first goes on"
    );
}
