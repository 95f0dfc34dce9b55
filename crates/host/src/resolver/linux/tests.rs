//! What power loss and kill -9 leave between two steps.

use super::*;

const FORMER: &[u8] = b"nameserver 10.0.0.1\nsearch a.rather.long.example of.many.domains\n";
const WRITTEN: &[u8] = b"nameserver 100.64.0.53\n";

/// Leaves `left` in place of a file with [`FORMER`], for which [`WRITTEN`] was to be written, and
/// recovers.
fn recovered(left: &[u8]) -> (Restored, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, FORMER).unwrap();
    let former = file::look(&path).unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&Journal::new(&path, &former, WRITTEN)).unwrap();
    drop(store);
    fs::write(&path, left).unwrap();
    let temporary = dir.path().join(".resolv.conf.kdev");
    fs::write(&temporary, "half").unwrap();

    let restored = recover(dir.path()).unwrap();
    assert!(!temporary.exists() && !journal::path(dir.path()).exists());
    (restored, fs::read(&path).unwrap())
}

#[test]
fn a_journal_of_a_change_that_was_never_made_is_dropped() {
    assert_eq!(recovered(FORMER), (Restored::Nothing, FORMER.to_vec()));
}

#[test]
fn a_file_that_was_written_halfway_is_undone() {
    let over_former = [WRITTEN, &FORMER[WRITTEN.len()..]].concat();
    for left in [WRITTEN, &WRITTEN[..5], b"", &over_former] {
        assert_eq!(
            recovered(left),
            (Restored::Done, FORMER.to_vec()),
            "{left:?}"
        );
    }
}

#[test]
fn a_file_that_was_put_back_halfway_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    fs::write(&path, "short\n").unwrap();
    let former = file::look(&path).unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&Journal::new(&path, &former, WRITTEN)).unwrap();
    drop(store);
    fs::write(&path, [b"short\n", &WRITTEN[6..]].concat()).unwrap();
    assert_eq!(recover(dir.path()).unwrap(), Restored::Done);
    assert_eq!(fs::read(&path).unwrap(), b"short\n");
}

#[test]
fn a_file_that_somebody_else_wrote_is_not() {
    for left in [
        &b"nameserver 10.9.9.9\n"[..],
        b"nameserver 100.64.0.53\nnameserver 10.9.9.9\n",
    ] {
        assert_eq!(recovered(left), (Restored::LeftToOther, left.to_vec()));
    }
}

#[test]
fn a_file_of_ours_that_was_to_be_replaced_by_another_of_ours_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let former = Present::Symlink("managed".into());
    let store = Store::open(dir.path()).unwrap();
    let journal = Journal::new(&path, &former, WRITTEN).then(b"nameserver 100.64.0.99\n");
    store.save(&journal).unwrap();
    drop(store);
    fs::write(&path, WRITTEN).unwrap();
    assert_eq!(recover(dir.path()).unwrap(), Restored::Done);
    assert_eq!(file::look(&path).unwrap(), former);
}

#[test]
fn recovering_makes_the_directory_that_later_settings_need() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("var/lib/kdev");
    assert_eq!(recover(&state).unwrap(), Restored::Nothing);
    assert!(state.is_dir());
}
