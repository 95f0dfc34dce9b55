//! How the server asks the cluster: a seam that the daemon fills with a call to the traffic manager.

use std::error::Error;

use bytes::Bytes;

/// Whose a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The cluster's, alone or by all appearances.
    Cluster,
    /// Anybody's: that nobody has it may wait for this one's answer.
    Anybody,
}

/// Asks the cluster's DNS.
pub trait ClusterLookup: Send + Sync + 'static {
    /// Asks for a name that is `whose`: hands a DNS message to the cluster's DNS and gives its answer (RFC 1035 section 4; whole, as
    /// over TCP). Cancelled by dropping: the server waits [`Limits::cluster`](crate::Limits) at
    /// most.
    ///
    /// While there is no way to the cluster it should wait as long as there is hope, and fail at once when there is none.
    fn lookup(
        &self,
        query: Bytes,
        whose: Whose,
    ) -> impl Future<Output = Result<Bytes, LookupError>> + Send;
}

/// Why the cluster gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There is no carrier to the traffic manager now.
    #[error("the traffic manager can't be reached now")]
    Away,
    /// The call failed.
    #[error("the traffic manager couldn't ask the cluster's DNS: {0}")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// The call took too long.
    #[error("the traffic manager didn't answer in time")]
    TimedOut,
    /// What came isn't an answer to the question.
    #[error("the cluster's DNS gave no valid answer: {0}")]
    BadAnswer(#[source] BadAnswer),
}

/// What is wrong with a message that should be an answer.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// Isn't a DNS message.
    #[error("it can't be read: {0}")]
    Unreadable(#[source] hickory_proto::serialize::binary::DecodeError),
    /// Is a query, or has another id or question.
    #[error("it answers another question")]
    Mismatch,
    /// The question can't be written.
    #[error("the question can't be written: {0}")]
    Question(#[source] hickory_proto::ProtoError),
}
