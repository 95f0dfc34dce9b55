//! Others who write the file while kdev is connected.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use kdev_host::resolver::{ResolvConf, Restored, Watch};
use nix::mount::{MsFlags, mount};
use support::machine::{Machine, apply, bind, servers};
use support::{in_namespace, within};
use tokio::time::timeout;

const ORIGINAL: &str = "# by hand\nnameserver 10.0.0.1\nsearch corp.example\noptions ndots:2\n";
const THEIRS: &str = "nameserver 10.9.9.9\nsearch cafe.example\n";

#[test]
fn what_somebody_else_wrote_meanwhile_stays() {
    let machine = Machine::with_file(ORIGINAL);
    let mut settings = machine.settings();
    apply(&mut settings);
    fs::write(machine.path(), THEIRS).unwrap();
    assert_eq!(settings.restore().unwrap(), Restored::LeftToOther);
    assert_eq!(machine.text(), THEIRS);
    machine.has_nothing_left();
}

#[test]
fn a_link_that_somebody_else_put_there_meanwhile_stays() {
    let machine = Machine::with_file(ORIGINAL);
    let mut settings = machine.settings();
    apply(&mut settings);
    fs::remove_file(machine.path()).unwrap();
    symlink("theirs", machine.path()).unwrap();
    assert_eq!(settings.restore().unwrap(), Restored::LeftToOther);
    assert_eq!(fs::read_link(machine.path()).unwrap(), Path::new("theirs"));
}

#[test]
fn what_somebody_else_wrote_becomes_what_comes_back() {
    let machine = Machine::with_file(ORIGINAL);
    let mut settings = machine.settings();
    apply(&mut settings);
    assert_eq!(settings.reapply().unwrap(), None, "it is ours still");

    fs::write(machine.path(), THEIRS).unwrap();
    let applied = settings.reapply().unwrap().unwrap();
    assert_eq!(servers(&applied), ["10.9.9.9:53"]);
    assert_eq!(
        machine.lines(),
        ["nameserver 100.64.0.53", "search cafe.example"]
    );
    assert_eq!(settings.reapply().unwrap(), None);
    assert_eq!(settings.restore().unwrap(), Restored::Done);
    assert_eq!(machine.text(), THEIRS);
}

#[test]
fn a_link_that_somebody_else_put_there_becomes_what_comes_back() {
    let machine = Machine::with_file(ORIGINAL);
    fs::write(machine.etc().join("theirs"), THEIRS).unwrap();
    let mut settings = machine.settings();
    apply(&mut settings);
    fs::remove_file(machine.path()).unwrap();
    assert_eq!(settings.reapply().unwrap(), None, "somebody is at work");
    symlink("theirs", machine.path()).unwrap();
    let applied = settings.reapply().unwrap().unwrap();
    assert_eq!(servers(&applied), ["10.9.9.9:53"]);
    settings.restore().unwrap();
    assert_eq!(fs::read_link(machine.path()).unwrap(), Path::new("theirs"));
}

#[test]
fn whoever_rewrites_the_file_is_noticed() {
    in_namespace(async || {
        let machine = Machine::with_file(ORIGINAL);
        let mut settings = machine.settings();
        apply(&mut settings);
        let mut watch = settings.watch().unwrap();

        let new = machine.etc().join("new");
        fs::write(&new, THEIRS).unwrap();
        fs::rename(&new, machine.path()).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.9.9.9:53"]
        );

        fs::write(machine.path(), "nameserver 10.8.8.8\n").unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.8.8.8:53"]
        );

        fs::remove_file(machine.path()).unwrap();
        fs::write(machine.etc().join("theirs"), "nameserver 10.7.7.7\n").unwrap();
        symlink("theirs", machine.path()).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.7.7.7:53"]
        );
    });
}

#[test]
fn a_file_counts_when_it_is_complete() {
    in_namespace(async || {
        let machine = Machine::with_file(ORIGINAL);
        let mut settings = machine.settings();
        apply(&mut settings);
        let mut watch = settings.watch().unwrap();
        let mut file = fs::File::create(machine.path()).unwrap();
        file.write_all(b"nameserver 10.9.9.9\n").unwrap();
        assert!(is_quiet(&mut watch).await, "it is being written");
        file.write_all(b"nameserver 10.8.8.8\n").unwrap();
        drop(file);
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.9.9.9:53", "10.8.8.8:53"]
        );
    });
}

#[test]
fn whoever_rewrites_a_mounted_file_at_its_source_is_noticed() {
    in_namespace(async || {
        let machine = Machine::with_file("covered\n");
        let source = machine.dir.path().join("runtime");
        fs::write(&source, ORIGINAL).unwrap();
        bind(&source, &machine.path());
        let mut settings = machine.settings();
        apply(&mut settings);
        let mut watch = settings.watch().unwrap();
        fs::write(&source, THEIRS).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.9.9.9:53"]
        );
    });
}

#[test]
fn whoever_keeps_the_file_behind_a_link_is_listened_to() {
    in_namespace(async || {
        let machine = Machine::new();
        let managed = machine.dir.path().join("run/managed");
        fs::create_dir(managed.parent().unwrap()).unwrap();
        fs::write(&managed, ORIGINAL).unwrap();
        symlink("../run/managed", machine.path()).unwrap();
        let mut settings = machine.settings();
        apply(&mut settings);
        let mut watch = settings.watch().unwrap();

        let new = managed.with_file_name("new");
        fs::write(&new, THEIRS).unwrap();
        fs::rename(&new, &managed).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.9.9.9:53"]
        );
        assert_eq!(
            machine.lines(),
            ["nameserver 100.64.0.53", "search cafe.example"]
        );

        fs::remove_file(&managed).unwrap();
        assert_eq!(settings.reapply().unwrap(), None, "its keeper is at work");
        assert_eq!(settings.restore().unwrap(), Restored::Done);
        assert_eq!(
            fs::read_link(machine.path()).unwrap(),
            Path::new("../run/managed")
        );
    });
}

#[test]
fn a_watch_begun_before_the_settings_listens_as_well() {
    in_namespace(async || {
        let machine = Machine::new();
        let managed = machine.dir.path().join("managed");
        fs::write(&managed, ORIGINAL).unwrap();
        symlink(&managed, machine.path()).unwrap();
        let mut settings = machine.settings();
        let mut watch = settings.watch().unwrap();
        apply(&mut settings);
        fs::write(&managed, THEIRS).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["10.9.9.9:53"]
        );
    });
}

#[test]
fn another_network_s_servers_are_taken_over_from_systemd_resolved() {
    in_namespace(async || {
        let none = None::<&str>;
        mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let dir = Path::new("/run/systemd/resolve");
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("stub-resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
        fs::write(dir.join("resolv.conf"), "nameserver 192.168.1.1\n").unwrap();
        let machine = Machine::new();
        symlink(dir.join("stub-resolv.conf"), machine.path()).unwrap();
        let mut settings = machine.settings();
        assert_eq!(servers(&apply(&mut settings)), ["192.168.1.1:53"]);
        let written = machine.text();
        let mut watch = settings.watch().unwrap();

        fs::write(dir.join("new"), "nameserver 172.16.0.1\n").unwrap();
        fs::rename(dir.join("new"), dir.join("resolv.conf")).unwrap();
        assert_eq!(
            next_servers(&mut watch, &mut settings).await,
            ["172.16.0.1:53"]
        );
        assert_eq!(
            machine.text(),
            written,
            "that is none of the file's business"
        );

        fs::remove_file(dir.join("resolv.conf")).unwrap();
        assert_eq!(
            settings.reapply().unwrap(),
            None,
            "forwarding to its stub would be a circle"
        );
        settings.restore().unwrap();
        assert!(machine.path().is_symlink());
    });
}

/// Waits until somebody else has rewritten the file, and then until kdev's own writing, which is
/// noticed as well, has been told.
async fn next_servers(watch: &mut Watch, settings: &mut ResolvConf) -> Vec<String> {
    let applied = within(async {
        loop {
            watch.changed().await.unwrap();
            if let Some(applied) = settings.reapply().unwrap() {
                return applied;
            }
        }
    });
    let applied = applied.await;
    while !is_quiet(watch).await {
        assert_eq!(settings.reapply().unwrap(), None);
    }
    servers(&applied)
}

async fn is_quiet(watch: &mut Watch) -> bool {
    timeout(Duration::from_millis(100), watch.changed())
        .await
        .is_err()
}
