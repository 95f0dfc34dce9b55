//! `kdev version`.

use kdev_e2e::desk::Desk;
use serde_json::{Value, json};

#[test]
fn a_session_shows_the_versions_of_all_four_programs() {
    let desk = Desk::connected();
    let versions = desk.kdev(&["version", "-o", "json"]).ok().json();
    let expected = json!({ "version": kdev_proto::RELEASE, "protocol": kdev_proto::PROTOCOL });
    for program in ["client", "userd", "rootd", "manager"] {
        assert_eq!(versions[program], expected, "{program}: {versions:#}");
    }
    desk.kdev(&["version"]).ok().says(kdev_proto::RELEASE);
}

#[test]
fn what_doesnt_run_isnt_started_to_be_asked() {
    let desk = Desk::clean();
    let versions = desk.kdev(&["version", "-o", "json"]).ok().json();
    assert_eq!(versions["client"]["version"], kdev_proto::RELEASE);
    for program in ["userd", "rootd", "manager"] {
        assert_eq!(versions[program], Value::Null, "{program}: {versions:#}");
    }
    assert!(desk.laptop.all_daemons().is_empty());
}
