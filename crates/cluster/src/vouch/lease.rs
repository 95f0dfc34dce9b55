//! What a Lease of kdev's looks like.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kdev_identity::Fingerprint;
use serde_json::{Value, json};
use thiserror::Error;

use crate::install::{FIELD_MANAGER, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, MANAGER};

/// The label that tells whose Lease it is: [`SESSION`] or [`POD`].
pub(super) const LABEL_OF: &str = "kdev.dev/lease-of";
pub(super) const SESSION: &str = "session";
pub(super) const POD: &str = "traffic-manager";

/// The annotation with the hashes of the owner's keys, separated by commas.
pub(super) const KEYS: &str = "kdev.dev/keys";
/// The annotations with a manager's version.
pub(super) const RELEASE: &str = "kdev.dev/release";
pub(super) const PROTOCOL: &str = "kdev.dev/protocol";

/// Most keys in one Lease: a session has two.
pub(super) const MOST_KEYS: usize = 8;

/// Returns the id of the session whose user's daemon has a key: nobody else can have a session of
/// that name.
pub fn session_id(key: &Fingerprint) -> String {
    key.short()
}

/// Returns the name of a session's Lease.
pub fn session_lease_name(id: &str) -> String {
    format!("kdev-session-{id}")
}

/// The labels of a Lease, by which it is found, and removed with the rest.
pub(super) fn labels(namespace: &str, of: &str) -> Value {
    json!({
        LABEL_NAME: MANAGER,
        LABEL_INSTANCE: namespace,
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_OF: of,
    })
}

/// Writes keys as the annotation has them.
pub(super) fn keys_text(keys: &[Fingerprint]) -> String {
    let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
    texts.join(",")
}

/// A Lease that isn't as kdev writes it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotALease {
    /// The annotation is missing or holds something else.
    #[error("its annotation {KEYS} doesn't hold hashes of keys")]
    Keys,
    /// It names too many.
    #[error("its annotation {KEYS} holds more than {MOST_KEYS} keys")]
    TooMany,
    /// The name isn't that of the session whose key comes first.
    #[error("its name isn't that of the first key's session")]
    Name,
}

/// Reads the keys out of a Lease.
pub(super) fn keys_of(lease: &Lease) -> Result<Vec<Fingerprint>, NotALease> {
    let text = annotation(lease, KEYS).ok_or(NotALease::Keys)?;
    let keys: Vec<Fingerprint> = text
        .split(',')
        .take(MOST_KEYS + 1)
        .map(|key| key.trim().parse().map_err(|_| NotALease::Keys))
        .collect::<Result<_, _>>()?;
    if keys.len() > MOST_KEYS {
        return Err(NotALease::TooMany);
    }
    Ok(keys)
}

pub(super) fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    let annotations: &BTreeMap<String, String> = lease.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}
