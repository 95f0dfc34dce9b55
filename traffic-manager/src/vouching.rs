//! Keeps the sessions true to their Leases: whose Lease appears is expected, whose Lease is deleted is
//! over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::vouch::{SessionLeases, Vouched};
use tokio::sync::watch;

use crate::intercepts::Intercepts;
use crate::sessions::Sessions;

/// How long a session whose Lease is gone may take to hear so before its connections are cut.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Between two attempts at removing a Lease.
const FORGET_AGAIN: Duration = Duration::from_secs(5);

/// Follows the Leases until dropped.
pub async fn follow(
    mut vouched: watch::Receiver<Option<Vouched>>,
    sessions: Arc<Sessions>,
    intercepts: Intercepts,
) {
    let mut known = BTreeSet::new();
    loop {
        let now: BTreeSet<String> = match &*vouched.borrow_and_update() {
            Some(vouched) => vouched.sessions().map(str::to_owned).collect(),
            None => BTreeSet::new(),
        };
        for id in now.difference(&known) {
            sessions.expect(id);
        }
        // One that took leave, or stayed away for too long, isn't there any more.
        let gone = known.difference(&now).filter_map(|id| sessions.revoke(id));
        let gone: Vec<_> = gone.collect();
        if !gone.is_empty() {
            let end = async {
                for session in &gone {
                    tracing::info!(session = session.id, "session over: its Lease was deleted");
                    intercepts.end_session(&session.id).await;
                }
            };
            // Whatever its intercepts wait for.
            let cut = async {
                tokio::time::sleep(LAST_WORDS).await;
                gone.iter().for_each(|session| session.cut.cancel());
            };
            tokio::join!(end, cut);
        }
        known = now;
        if vouched.changed().await.is_err() {
            return;
        }
    }
}

/// Removes the Lease of a session that is over, which its user's daemon may not have done; not of one
/// that has come back meanwhile.
pub async fn forget(leases: &SessionLeases, session: &str, sessions: &Sessions) {
    while !sessions.has(session) {
        match leases.forget(session).await {
            Ok(()) => return,
            Err(error) => tracing::info!(session, %error, "the session's Lease isn't removed yet"),
        }
        tokio::time::sleep(FORGET_AGAIN).await;
    }
}
