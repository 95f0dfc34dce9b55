//! The manager's view of all sessions' Leases.

use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use super::index::{Index, Vouched};
use super::lease::{LABEL_OF, SESSION, session_lease_name};
use crate::backoff::{ApiBackoff, WATCH_SECONDS};
use crate::client::{ApiError, call, classify_watch};

/// The sessions' Leases in the manager's namespace.
#[derive(Clone)]
pub struct SessionLeases(Api<Lease>);

impl SessionLeases {
    /// Those in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// Keeps `vouched` up to date with them until dropped; `None` until they are known for the first time.
    /// An API server that is away changes nothing.
    pub async fn watch(self, vouched: watch::Sender<Option<Vouched>>) {
        let config = watcher::Config::default()
            .labels(&format!("{LABEL_OF}={SESSION}"))
            .timeout(WATCH_SECONDS);
        let mut events = watcher(self.0, config).backoff(ApiBackoff::new()).boxed();
        let mut index = Index::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let settles =
                        !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_));
                    index.handle_event(event);
                    if settles {
                        let now = Some(index.vouched());
                        vouched.send_if_modified(|before| {
                            let is_new = *before != now;
                            *before = now;
                            is_new
                        });
                    }
                }
                Err(error) => {
                    let failure = classify_watch(&error);
                    tracing::debug!(%failure, "can't watch the sessions' Leases; trying until it works");
                }
            }
        }
    }

    /// Removes the Lease of a session that is over, whose user's daemon didn't.
    ///
    /// # Errors
    ///
    /// When the API server doesn't.
    pub async fn forget(&self, session: &str) -> Result<(), ApiError> {
        let name = session_lease_name(session);
        let what = format!("delete Lease {name}");
        match call(what, self.0.delete(&name, &DeleteParams::default())).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
