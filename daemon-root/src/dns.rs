//! Cluster names: the DNS server's questions, asked of the manager over any carrier.

use std::sync::Arc;

use bytes::Bytes;
use kdev_names::{ClusterLookup, LookupError};
use kdev_proto::v1::LookupRequest;

use crate::carriers::Carriers;

/// Asks over the carriers of a session.
#[derive(Debug)]
pub struct OverCarriers(pub Arc<Carriers>);

impl ClusterLookup for OverCarriers {
    async fn lookup(&self, query: Bytes) -> Result<Bytes, LookupError> {
        let mut place = self.0.try_place().ok_or(LookupError::Away)?;
        let answer = place.client.lookup(LookupRequest { query }).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().response),
            Err(status) => Err(LookupError::Failed(Box::new(status))),
        }
    }
}
