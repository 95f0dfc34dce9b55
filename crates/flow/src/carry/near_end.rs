//! What the end of a flow has to be that is on this side.

use bytes::Bytes;

use crate::ledger::Ledger;

/// How much a near end may say. To be asked when there is something to be said: meanwhile others may have
/// used up what all may keep.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'a>(&'a Ledger);

impl Allowed<'_> {
    /// So many bytes now, at most [`CHUNK`](crate::CHUNK). With none the near end has to wait; its flow
    /// asks again when it may say something.
    pub fn bytes(&self) -> usize {
        self.0.room()
    }

    /// How much of what it said was handed on at the other side, in bytes.
    pub fn moved(&self) -> u64 {
        self.0.acked()
    }

    /// Parts what may be said now from what has to wait.
    pub fn part(&self, mut bytes: Bytes) -> (Bytes, Bytes) {
        let later = bytes.split_off(self.bytes().min(bytes.len()));
        (bytes, later)
    }
}

/// What the near end says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The next bytes; at most what is [`Allowed`].
    Data(Bytes),
    /// Its side is closed.
    End,
    /// Its connection is gone.
    Reset,
}

/// A near end's connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The half of a near end that speaks.
pub trait NearRead: Send {
    /// Waits for what it says next. Cancel safe.
    fn next(&mut self, allowed: Allowed<'_>) -> impl Future<Output = Said> + Send;
    /// Waits until its connection is gone before it has said all; never where only reading and writing
    /// can tell, and not as long as its last words can still be taken. Cancel safe.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;
}

/// The half of a near end that listens.
pub trait NearWrite: Send {
    /// Hands it some of `bytes` and returns how many. Cancel safe.
    fn write(&mut self, bytes: Bytes) -> impl Future<Output = Result<usize, Gone>> + Send;
    /// Tells it that nothing more comes. Cancel safe.
    fn end(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
}

impl Ledger {
    /// How much the near end may say.
    pub fn allowed(&self) -> Allowed<'_> {
        Allowed(self)
    }
}
