//! Keeps the session's Lease true to its keys: the API server vouches for them by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kdev_cluster::vouch::SessionLease;
use kdev_common::outage::Outage;
use kdev_identity::Fingerprint;
use kdev_proto::Failure;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, Nudge};
use super::root_link::Shown;
use crate::failures;

/// How long the root daemon's key is waited for, so that the Lease is written once and not twice.
const TOGETHER: Duration = Duration::from_millis(300);
/// How long the API server may take to remove the Lease; the manager removes it some time later.
const REMOVAL: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub struct Voucher {
    lease: SessionLease,
    /// What the root daemon told, while there is a lease on the machine's network.
    shown: watch::Receiver<Option<Shown>>,
    /// The root daemon's key that the Lease has.
    vouched: watch::Sender<Option<Fingerprint>>,
    writing: Mutex<()>,
}

impl Voucher {
    /// Nothing is written yet.
    pub fn new(lease: SessionLease, shown: watch::Receiver<Option<Shown>>) -> Self {
        Self {
            lease,
            shown,
            vouched: watch::Sender::new(None),
            writing: Mutex::new(()),
        }
    }

    /// Waits until `key` is vouched for. Cancel safe.
    pub async fn vouched(&self, key: Fingerprint) {
        let mut vouched = self.vouched.subscribe();
        // The sender is this one's own.
        let _ = vouched.wait_for(|vouched| *vouched == Some(key)).await;
    }

    /// Writes the Lease, whether it is there or not.
    ///
    /// # Errors
    ///
    /// When the user may not, or the API server is away.
    pub async fn vouch(&self) -> Result<(), Failure> {
        let mut shown = self.shown.clone();
        let _ = tokio::time::timeout(TOGETHER, shown.wait_for(Option::is_some)).await;
        self.write().await
    }

    async fn write(&self) -> Result<(), Failure> {
        let _one = self.writing.lock().await;
        let key = self.shown.borrow().as_ref().map(|shown| shown.key);
        self.lease
            .vouch(key.as_slice())
            .await
            .map_err(|error| failures::vouch(&error))?;
        self.vouched.send_replace(key);
        Ok(())
    }

    /// Follows the root daemon's key until cancelled.
    pub async fn follow(self: Arc<Self>, nudge: Nudge, cancelled: CancellationToken) {
        let mut shown = self.shown.clone();
        let mut backoff = Backoff::new(nudge);
        let mut outage = Outage::default();
        let follow = async {
            loop {
                let known = shown.borrow_and_update().as_ref().map(|shown| shown.key);
                if known.is_none() || *self.vouched.borrow() == known {
                    if shown.changed().await.is_err() {
                        return;
                    }
                    continue;
                }
                match self.write().await {
                    Ok(()) => {
                        backoff.reset();
                        if let Some(away) = outage.handle_back(Instant::now()) {
                            tracing::info!(?away, "the session's Lease is written");
                        }
                    }
                    Err(failure) => {
                        let why = failure.why;
                        if outage.handle_lost(Instant::now()) {
                            tracing::info!(%why, "the session's Lease isn't written");
                        } else {
                            tracing::debug!(%why, "the session's Lease still isn't written");
                        }
                        backoff.wait().await;
                    }
                }
            }
        };
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = follow => {}
        }
    }

    /// Removes the Lease: the session is over.
    pub async fn remove(&self) {
        let _one = self.writing.lock().await;
        let removed = tokio::time::timeout(REMOVAL, self.lease.remove()).await;
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%error, "the session's Lease isn't removed"),
            Err(_) => tracing::info!("the API server takes long to remove the session's Lease"),
        }
    }
}
