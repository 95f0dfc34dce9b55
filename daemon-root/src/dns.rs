//! Cluster names: the DNS server's questions, asked of the manager over any carrier.

use std::sync::Arc;

use bytes::Bytes;
use kdev_common::clock::now_ms;
use kdev_names::{ClusterLookup, LookupError, Whose};
use kdev_proto::v1::LookupRequest;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::carriers::Carriers;
use crate::opening;

/// How long a question waits while carriers are made again; the server doesn't wait longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where another's answer waits for this one: how long, and how long after the last carrier broke.
const SHARED: Duration = Duration::from_secs(3);

/// Asks over the carriers of a session.
#[derive(Debug)]
pub struct OverCarriers(pub Arc<Carriers>);

impl OverCarriers {
    fn patience(&self, whose: Whose) -> Duration {
        let (patience, hope) = match whose {
            // As long as any flow has that waits.
            Whose::Cluster => (PATIENCE, self.0.resume_limit().max(PATIENCE)),
            Whose::Anybody => (SHARED, SHARED),
        };
        let none_for = self
            .0
            .none_since_ms()
            .map(|since| now_ms().saturating_sub(since));
        match none_for {
            // A program that asks should hear so.
            Some(none_for) if u128::from(none_for) > hope.as_millis() => Duration::ZERO,
            _ => patience,
        }
    }
}

impl ClusterLookup for OverCarriers {
    async fn lookup(&self, query: Bytes, whose: Whose) -> Result<Bytes, LookupError> {
        let end = Instant::now() + self.patience(whose);
        loop {
            let place = timeout_at(end, self.0.place())
                .await
                .map_err(|_| LookupError::Away)?;
            let query = query.clone();
            match place.client().lookup(LookupRequest { query }).await {
                Ok(answer) => return Ok(answer.into_inner().response),
                Err(status) => {
                    // What the manager itself says has no cause on this side.
                    let broke = std::error::Error::source(&status).is_some();
                    if !broke || Instant::now() >= end {
                        return Err(LookupError::Failed(Box::new(status)));
                    }
                    let mut changes = self.0.changes();
                    self.0.doubt(&place);
                    let _ = timeout(opening::BETWEEN, changes.changed()).await;
                }
            }
        }
    }
}
