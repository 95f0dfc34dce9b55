//! From Leases to the keys that are vouched for. Pure.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::coordination::v1::Lease;
use kdev_identity::Fingerprint;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;

use super::lease::{NotALease, keys_of, session_id, session_lease_name};

/// Most sessions at once; the Leases beyond are passed over.
const MOST_SESSIONS: usize = 1024;

/// Whose key it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The session.
    pub id: String,
    /// Whether it is the key of the user's daemon itself, which alone speaks for the session.
    pub speaks: bool,
}

/// All keys that are vouched for now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouched {
    keys: HashMap<Fingerprint, Session>,
}

impl Vouched {
    /// Finds out whose key it is.
    pub fn get(&self, key: &Fingerprint) -> Option<&Session> {
        self.keys.get(key)
    }

    /// The ids of all sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        let speakers = self.keys.values().filter(|session| session.speaks);
        speakers.map(|session| session.id.as_str())
    }
}

/// What one Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    /// When it was made, in whole seconds: what is older counts more.
    created: i64,
    session: String,
    keys: Vec<Fingerprint>,
}

/// What all Leases say.
#[derive(Debug, Default)]
pub(super) struct Index {
    leases: BTreeMap<String, Said>,
    /// A list under way, which replaces all at its end.
    staged: BTreeMap<String, Said>,
}

impl Index {
    /// Takes in what the watch tells.
    pub(super) fn handle_event(&mut self, event: Event<Lease>) {
        match event {
            Event::Init => self.staged.clear(),
            Event::InitApply(lease) => add(&mut self.staged, &lease),
            Event::InitDone => self.leases = std::mem::take(&mut self.staged),
            Event::Apply(lease) => {
                self.leases.remove(&lease.name_any());
                add(&mut self.leases, &lease);
            }
            Event::Delete(lease) => drop(self.leases.remove(&lease.name_any())),
        }
    }

    /// Returns the keys that are vouched for. A key that two Leases name is the older one's: the
    /// other has copied it.
    pub(super) fn vouched(&self) -> Vouched {
        let mut all: Vec<(&String, &Said)> = self.leases.iter().collect();
        all.sort_by_key(|(name, said)| (said.created, *name));
        if all.len() > MOST_SESSIONS {
            tracing::warn!(
                leases = all.len(),
                "too many sessions; the youngest are passed over"
            );
            all.truncate(MOST_SESSIONS);
        }
        let mut vouched = Vouched::default();
        // A session's own key can't be taken by another one's Lease, whatever its age.
        for (_, said) in &all {
            if let Some(first) = said.keys.first() {
                vouched.keys.insert(*first, session(said, true));
            }
        }
        for (_, said) in &all {
            for key in said.keys.iter().skip(1) {
                vouched
                    .keys
                    .entry(*key)
                    .or_insert_with(|| session(said, false));
            }
        }
        vouched
    }
}

fn session(said: &Said, speaks: bool) -> Session {
    Session {
        id: said.session.clone(),
        speaks,
    }
}

fn add(leases: &mut BTreeMap<String, Said>, lease: &Lease) {
    let name = lease.name_any();
    match said(&name, lease) {
        Ok(said) => drop(leases.insert(name, said)),
        Err(why) => tracing::warn!(lease = name, %why, "the Lease vouches for nobody"),
    }
}

fn said(name: &str, lease: &Lease) -> Result<Said, NotALease> {
    let keys = keys_of(lease)?;
    let session = keys.first().map(session_id).ok_or(NotALease::Keys)?;
    if session_lease_name(&session) != name {
        return Err(NotALease::Name);
    }
    let created = lease.metadata.creation_timestamp.as_ref();
    Ok(Said {
        created: created.map_or(i64::MAX, |time| time.0.as_second()),
        session,
        keys,
    })
}

#[cfg(test)]
mod tests {
    use super::super::lease::{KEYS, keys_text};
    use super::*;
    use serde_json::json;

    fn key(number: u8) -> Fingerprint {
        Fingerprint::from([number; Fingerprint::LENGTH])
    }

    fn lease(created: &str, keys: &[Fingerprint]) -> Lease {
        let name = session_lease_name(&session_id(&keys[0]));
        named(&name, created, &keys_text(keys))
    }

    fn named(name: &str, created: &str, keys: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "creationTimestamp": created, "annotations": { KEYS: keys },
            },
        }))
        .unwrap()
    }

    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATE: &str = "2026-01-01T00:00:05Z";

    #[test]
    fn both_keys_of_a_lease_are_the_sessions_and_the_first_speaks_for_it() {
        let mut index = Index::default();
        index.handle_event(Event::Apply(lease(EARLY, &[key(1), key(2)])));
        let vouched = index.vouched();
        let id = session_id(&key(1));
        let whose = |number| vouched.get(&key(number)).cloned();
        assert_eq!(
            whose(1),
            Some(Session {
                id: id.clone(),
                speaks: true
            })
        );
        assert_eq!(
            whose(2),
            Some(Session {
                id: id.clone(),
                speaks: false
            })
        );
        assert_eq!(whose(3), None);
        assert_eq!(vouched.sessions().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn a_lease_that_is_gone_vouches_for_nobody() {
        let mut index = Index::default();
        index.handle_event(Event::Apply(lease(EARLY, &[key(1)])));
        index.handle_event(Event::Delete(lease(EARLY, &[key(1)])));
        assert_eq!(index.vouched(), Vouched::default());
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_its_end() {
        let mut index = Index::default();
        index.handle_event(Event::Apply(lease(EARLY, &[key(1)])));
        index.handle_event(Event::Init);
        index.handle_event(Event::InitApply(lease(EARLY, &[key(2)])));
        assert!(
            index.vouched().get(&key(1)).is_some(),
            "the API server is merely slow"
        );
        index.handle_event(Event::InitDone);
        assert!(index.vouched().get(&key(1)).is_none());
        assert!(index.vouched().get(&key(2)).is_some());
    }

    #[test]
    fn nobody_takes_over_a_key_by_copying_its_hash() {
        let mut index = Index::default();
        index.handle_event(Event::Apply(lease(LATE, &[key(1), key(2)])));
        // An older one that names the first key, and a younger one that names the second.
        index.handle_event(Event::Apply(lease(EARLY, &[key(3), key(1)])));
        index.handle_event(Event::Apply(lease(
            "2026-01-01T00:00:09Z",
            &[key(4), key(2)],
        )));
        let vouched = index.vouched();
        assert_eq!(vouched.get(&key(1)).unwrap().id, session_id(&key(1)));
        assert_eq!(vouched.get(&key(2)).unwrap().id, session_id(&key(1)));
    }

    #[test]
    fn what_isnt_as_kdev_writes_it_vouches_for_nobody() {
        let right = session_lease_name(&session_id(&key(1)));
        let many = keys_text(&[key(1); 9]);
        for (name, keys) in [
            ("kdev-session-x", keys_text(&[key(1)]).as_str()),
            (&right, ""),
            (&right, "nonsense"),
            (&right, &many),
        ] {
            let mut index = Index::default();
            index.handle_event(Event::Apply(named(name, EARLY, keys)));
            assert_eq!(index.vouched(), Vouched::default(), "{name} {keys}");
        }
    }

    #[test]
    fn there_is_a_most_of_sessions() {
        let mut index = Index::default();
        for number in 0..=MOST_SESSIONS {
            let mut bytes = [0; Fingerprint::LENGTH];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            index.handle_event(Event::Apply(lease(EARLY, &[Fingerprint::from(bytes)])));
        }
        assert_eq!(index.vouched().sessions().count(), MOST_SESSIONS);
    }
}
