//! What has to be true of any Lease: for the fuzzer (`fuzz/`), which has nothing else to hold on to inside
//! this module.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::index::Index;
use super::lease::{MOST_KEYS, keys_of, session_id, session_lease_name};

/// Takes in a Lease as the API server gives it.
pub fn lease(lease: &Lease) {
    let keys = keys_of(lease).unwrap_or_default();
    assert!(keys.len() <= MOST_KEYS);
    let mut index = Index::default();
    index.handle_event(Event::Apply(lease.clone()));
    let vouched = index.vouched();
    let is_own = keys
        .first()
        .is_some_and(|key| session_lease_name(&session_id(key)) == lease.name_any());
    for key in &keys {
        let session = vouched.get(key);
        assert_eq!(
            session.is_some(),
            is_own,
            "a Lease under another name vouches for nobody"
        );
        if let Some(session) = session {
            assert_eq!(session.id, session_id(&keys[0]));
            assert_eq!(session.speaks, *key == keys[0]);
        }
    }
    index.handle_event(Event::Delete(lease.clone()));
    assert_eq!(index.vouched().sessions().count(), 0);
}
