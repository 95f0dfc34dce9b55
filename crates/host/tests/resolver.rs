//! Real files, in mount namespaces where something is mounted.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use kdev_host::resolver::{Manager, ResolverError, Restored, recover};
use nix::mount::{MsFlags, mount};
use support::in_namespace;
use support::machine::{Machine, apply, bind, make_read_only, server, servers};

const ORIGINAL: &str = "# by hand\nnameserver 10.0.0.1\nsearch corp.example\noptions ndots:2\n";

#[test]
fn a_file_is_replaced_and_comes_back_with_mode_and_owner() {
    let machine = Machine::with_file(ORIGINAL);
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o640)).unwrap();
    chown(machine.path(), Some(7), Some(8)).unwrap();
    let mut settings = machine.settings();

    let applied = apply(&mut settings);
    assert_eq!(applied.choice.manager, Manager::Nobody);
    assert_eq!(servers(&applied), ["10.0.0.1:53"]);
    assert_eq!(applied.former.search, ["corp.example"]);
    assert_eq!(
        machine.lines(),
        [
            "nameserver 100.64.0.53",
            "search corp.example",
            "options ndots:2"
        ]
    );
    assert_eq!(machine.owner_and_mode(), (7, 8, 0o640));

    assert_eq!(settings.restore().unwrap(), Restored::Done);
    assert_eq!(machine.text(), ORIGINAL);
    assert_eq!(machine.owner_and_mode(), (7, 8, 0o640));
    machine.has_nothing_left();
    assert_eq!(settings.restore().unwrap(), Restored::Nothing);
}

#[test]
fn bytes_that_are_no_text_come_back() {
    let machine = Machine::new();
    let original = b"nameserver 10.0.0.1\n# \xff\xfe\r\n\0";
    fs::write(machine.path(), original).unwrap();
    let mut settings = machine.settings();
    apply(&mut settings);
    settings.restore().unwrap();
    assert_eq!(fs::read(machine.path()).unwrap(), original);
}

#[test]
fn a_mounted_file_is_written_in_place() {
    in_namespace(async || {
        let machine = Machine::with_file("covered\n");
        let source = machine.dir.path().join("runtime");
        fs::write(&source, ORIGINAL).unwrap();
        bind(&source, &machine.path());
        let inode = machine.inode();
        let mut settings = machine.settings();

        let applied = apply(&mut settings);
        assert_eq!(applied.choice.manager, Manager::ContainerRuntime);
        assert_eq!(machine.lines()[0], "nameserver 100.64.0.53");
        assert_eq!(machine.inode(), inode);
        assert_eq!(settings.restore().unwrap(), Restored::Done);
        assert_eq!(fs::read_to_string(&source).unwrap(), ORIGINAL);
        machine.has_nothing_left();
    });
}

#[test]
fn a_mounted_file_in_a_read_only_directory_is_written_in_place() {
    in_namespace(async || {
        let machine = Machine::with_file("covered\n");
        let source = machine.state().with_file_name("runtime");
        fs::write(&source, ORIGINAL).unwrap();
        bind(&source, &machine.path());
        make_read_only(&machine.etc());
        // The directory's mount covers the file's, so mount the file again.
        bind(&source, &machine.path());
        let mut settings = machine.settings();
        apply(&mut settings);
        assert_eq!(machine.lines()[0], "nameserver 100.64.0.53");
        assert_eq!(settings.restore().unwrap(), Restored::Done);
        assert_eq!(machine.text(), ORIGINAL);
    });
}

#[test]
fn a_link_makes_way_for_a_file_and_comes_back() {
    let machine = Machine::new();
    let target = machine.etc().join("managed");
    fs::write(&target, ORIGINAL).unwrap();
    symlink("managed", machine.path()).unwrap();
    let mut settings = machine.settings();

    let applied = apply(&mut settings);
    assert_eq!(applied.choice.manager, Manager::Unknown);
    assert_eq!(servers(&applied), ["10.0.0.1:53"]);
    assert!(!machine.path().is_symlink());
    assert_eq!(machine.lines()[0], "nameserver 100.64.0.53");
    assert_eq!(machine.owner_and_mode(), (0, 0, 0o644));
    assert_eq!(
        fs::read_to_string(&target).unwrap(),
        ORIGINAL,
        "whoever keeps it may write to it"
    );

    assert_eq!(settings.restore().unwrap(), Restored::Done);
    assert_eq!(fs::read_link(machine.path()).unwrap(), Path::new("managed"));
    machine.has_nothing_left();
}

#[test]
fn a_link_that_leads_nowhere_comes_back() {
    let machine = Machine::new();
    symlink("../gone/resolv.conf", machine.path()).unwrap();
    let mut settings = machine.settings();
    let applied = apply(&mut settings);
    assert_eq!(servers(&applied), ["127.0.0.1:53"]);
    assert_eq!(settings.restore().unwrap(), Restored::Done);
    assert_eq!(
        fs::read_link(machine.path()).unwrap(),
        Path::new("../gone/resolv.conf")
    );
}

#[test]
fn a_missing_file_is_made_and_goes() {
    let machine = Machine::new();
    let mut settings = machine.settings();
    let applied = apply(&mut settings);
    assert_eq!(servers(&applied), ["127.0.0.1:53"]);
    assert_eq!(machine.lines(), ["nameserver 100.64.0.53"]);
    assert_eq!(settings.restore().unwrap(), Restored::Done);
    assert!(!machine.path().exists());
    machine.has_nothing_left();
}

#[test]
fn behind_systemd_resolved_its_own_servers_are_forwarded_to() {
    in_namespace(async || {
        let none = None::<&str>;
        mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::create_dir_all("/run/systemd/resolve").unwrap();
        let stub = "/run/systemd/resolve/stub-resolv.conf";
        fs::write(
            stub,
            "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n",
        )
        .unwrap();
        let uplinks = "# uplinks\nnameserver 100.64.0.53\nnameserver 192.168.1.1\nsearch lan\n";
        fs::write("/run/systemd/resolve/resolv.conf", uplinks).unwrap();
        let machine = Machine::new();
        symlink(stub, machine.path()).unwrap();
        let mut settings = machine.settings();

        let applied = apply(&mut settings);
        assert_eq!(applied.choice.manager, Manager::SystemdResolved);
        assert_eq!(
            servers(&applied),
            ["192.168.1.1:53"],
            "neither its stub nor kdev itself"
        );
        assert_eq!(
            machine.lines(),
            ["nameserver 100.64.0.53", "options edns0", "search lan"]
        );
        settings.restore().unwrap();
        assert_eq!(fs::read_link(machine.path()).unwrap(), Path::new(stub));
    });
}

#[test]
fn settings_for_another_server_keep_the_original() {
    let machine = Machine::with_file(ORIGINAL);
    let mut settings = machine.settings();
    apply(&mut settings);
    let applied = settings.apply("100.64.0.99".parse().unwrap()).unwrap();
    assert_eq!(servers(&applied), ["10.0.0.1:53"]);
    assert_eq!(machine.lines()[0], "nameserver 100.64.0.99");
    settings.restore().unwrap();
    assert_eq!(machine.text(), ORIGINAL);
}

#[test]
fn settings_that_are_dropped_are_undone() {
    let machine = Machine::with_file(ORIGINAL);
    apply(&mut machine.settings());
    assert_eq!(machine.text(), ORIGINAL);
    machine.has_nothing_left();
}

#[test]
fn what_a_crash_left_is_undone_once() {
    let machine = Machine::with_file(ORIGINAL);
    machine.crash();
    assert_eq!(recover(&machine.state()).unwrap(), Restored::Done);
    assert_eq!(machine.text(), ORIGINAL);
    machine.has_nothing_left();
    assert_eq!(recover(&machine.state()).unwrap(), Restored::Nothing);
}

#[test]
fn what_a_crash_left_is_undone_before_new_settings_are_made() {
    let machine = Machine::with_file(ORIGINAL);
    machine.crash();
    let mut settings = machine.settings();
    let applied = apply(&mut settings);
    assert_eq!(servers(&applied), ["10.0.0.1:53"]);
    settings.restore().unwrap();
    assert_eq!(machine.text(), ORIGINAL);
}

#[test]
fn the_journal_is_readable_by_a_person_and_by_root_alone() {
    let machine = Machine::with_file(ORIGINAL);
    machine.crash();
    let journal = machine.state().join("resolv.conf.json");
    let text = fs::read_to_string(&journal).unwrap();
    assert!(
        text.contains("nameserver 10.0.0.1\\nsearch corp.example"),
        "{text}"
    );
    assert_eq!(fs::metadata(&journal).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(machine.state()).unwrap().mode() & 0o777, 0o700);
    assert!(
        machine.text().contains(journal.to_str().unwrap()),
        "the file says where it is"
    );
}

#[test]
fn what_is_no_file_is_left_alone() {
    let machine = Machine::new();
    fs::create_dir(machine.path()).unwrap();
    let refused = machine.settings().apply(server()).unwrap_err();
    assert!(
        matches!(refused, ResolverError::NotAFile { .. }),
        "{refused:?}"
    );
    machine.has_nothing_left();
}

#[test]
fn what_can_t_be_read_is_left_alone() {
    let machine = Machine::new();
    symlink("resolv.conf", machine.path()).unwrap();
    let refused = machine.settings().apply(server()).unwrap_err();
    let ResolverError::Read { path, source } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (path, source.raw_os_error()),
        (&machine.path(), Some(libc::ELOOP))
    );
    assert!(machine.path().is_symlink());
    machine.has_nothing_left();
}

#[test]
fn on_a_read_only_file_system_the_error_says_what_to_do() {
    in_namespace(async || {
        let machine = Machine::with_file(ORIGINAL);
        make_read_only(&machine.etc());
        let refused = machine.settings().apply(server()).unwrap_err();
        let ResolverError::Write { path, source } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(
            (path, source.kind()),
            (&machine.path(), ErrorKind::ReadOnlyFilesystem)
        );
        assert_eq!(
            refused.to_string(),
            format!("can't write {}", path.display())
        );
        assert!(refused.next_step().contains("writable"));
        assert_eq!(machine.text(), ORIGINAL);
        machine.has_nothing_left();
    });
}

#[test]
fn what_can_t_be_put_back_keeps_its_journal() {
    in_namespace(async || {
        let machine = Machine::with_file(ORIGINAL);
        machine.crash();
        make_read_only(&machine.etc());
        let refused = recover(&machine.state()).unwrap_err();
        let ResolverError::Restore { journal, .. } = refused else {
            panic!("{refused:?}")
        };
        assert!(journal.is_file());
    });
}

#[test]
fn without_a_journal_nothing_is_changed() {
    let machine = Machine::with_file(ORIGINAL);
    fs::write(machine.state(), "a file where the directory should be").unwrap();
    let refused = machine.settings().apply(server()).unwrap_err();
    assert!(
        matches!(refused, ResolverError::Journal { .. }),
        "{refused:?}"
    );
    assert_eq!(machine.text(), ORIGINAL);
}

#[test]
fn a_journal_that_can_t_be_understood_changes_nothing() {
    let machine = Machine::with_file(ORIGINAL);
    machine.crash();
    let ours = machine.text();
    fs::write(machine.state().join("resolv.conf.json"), "{").unwrap();
    let refused = recover(&machine.state()).unwrap_err();
    assert!(
        matches!(
            refused,
            ResolverError::Journal {
                step: "understand",
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(machine.text(), ours);
}
