//! Cluster names: the DNS server's questions, asked of the manager over any carrier.

use std::sync::Arc;

use bytes::Bytes;
use kdev_names::{ClusterLookup, LookupError};
use kdev_proto::v1::LookupRequest;

use crate::carriers::Carriers;

/// Carriers that are asked while they break.
const ATTEMPTS: u32 = 3;

/// Asks over the carriers of a session.
#[derive(Debug)]
pub struct OverCarriers(pub Arc<Carriers>);

impl ClusterLookup for OverCarriers {
    async fn lookup(&self, query: Bytes) -> Result<Bytes, LookupError> {
        for attempt in 1.. {
            let mut place = self.0.try_place().ok_or(LookupError::Away)?;
            let query = query.clone();
            match place.client.lookup(LookupRequest { query }).await {
                Ok(answer) => return Ok(answer.into_inner().response),
                Err(status) => {
                    // What the manager itself says has no cause on this side.
                    let broke = std::error::Error::source(&status).is_some();
                    if broke {
                        self.0.doubt(&place);
                    }
                    if !broke || attempt == ATTEMPTS {
                        return Err(LookupError::Failed(Box::new(status)));
                    }
                }
            }
        }
        Err(LookupError::Away)
    }
}
