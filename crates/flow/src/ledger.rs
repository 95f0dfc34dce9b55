//! What one side of a TCP flow has said and heard: enough to go on over another carrier, and to never
//! have more under way than the other side can hold.
//!
//! Pure: frames and bytes in, frames and bytes out. Offsets count bytes; the end after them counts as
//! one more, as TCP's FIN does (RFC 9293 section 3.4).

use std::sync::Arc;

use bytes::Bytes;
use kdev_proto::v1::FlowFrame;
use kdev_proto::v1::flow_frame::Kind;

use crate::budget::Budget;
use crate::pieces::Pieces;
use crate::{CHUNK, frame};

/// Most bytes of one direction that may be under way: sent and not yet handed on at the other side. A
/// flow begins with [`Budget::SHARE`], and is granted more when it has used all of that.
pub const WINDOW: u64 = 16 << 20;
/// Bytes after which it is worth telling the other side that they were handed on. Where it may keep less
/// than that it asks, so that nobody waits for a timer.
const ACK_EVERY: u64 = Budget::SHARE / 2;

/// A frame that the other side must not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More than the window allows.
    #[error("more data than was granted")]
    Window,
    /// Something after the end.
    #[error("data after the end")]
    AfterEnd,
    /// An offset of what was never said.
    #[error("offset {told} of what was said from {from} to {to}")]
    Offset {
        /// What was told.
        told: u64,
        /// The least that makes sense.
        from: u64,
        /// The most that makes sense.
        to: u64,
    },
    /// A frame that has no place in a flow that is open.
    #[error("a frame that has no place in an open flow")]
    Misplaced,
}

/// What the other side said beyond data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that concerns anybody else.
    Nothing,
    /// The connection broke.
    Reset,
    /// More than this process can hold: the flow has to be reset.
    Overrun,
}

/// What waits to be handed on to the near end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undelivered {
    /// The next bytes.
    Data(Bytes),
    /// The end after all of them.
    End,
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// What was said and isn't acknowledged: from `acked` on.
    kept: Pieces,
    /// What the other side has handed on.
    acked: u64,
    /// What was said, without the end.
    said: u64,
    ended: bool,
    /// What has gone out on the current carrier, with the end.
    sent: u64,
    /// Which piece of `kept` goes out next, and the offset at which it starts.
    next: usize,
    next_start: u64,
    /// Up to which offset the other side takes bytes.
    allowed: u64,
    /// Which of these the other side was told to be too little.
    blocked_at: u64,
    /// What had gone out when the other side was told that no more can be kept.
    full_at: u64,
    budget: &'static Budget,
    /// Of the session whose flow it is, where there are several.
    share: Option<Arc<Budget>>,
    /// What they have it down for.
    counted: u64,

    undelivered: Pieces,
    /// What was received, with the end.
    received: u64,
    other_ended: bool,
    /// What was handed on, with the end.
    delivered: u64,
    told: u64,
    tell: bool,
    /// Up to which offset the other side, which has room for nothing more, waits to hear of all that is handed on.
    tell_to: u64,
    /// How much more than what was handed on the other side may send, and up to which offset it may.
    window: u64,
    granted: u64,
    /// The other side has more to say than that.
    is_too_little: bool,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.give_back(self.counted);
        let promised = self.window - Budget::SHARE;
        for one in self.budgets() {
            one.redeem(promised);
            one.leave();
        }
    }
}

impl Ledger {
    /// A flow of which nothing was said yet, and that holds what it says and hears within `budget` and,
    /// where it is one of a session's among others, that one's `share`.
    pub fn new(budget: &'static Budget, share: Option<Arc<Budget>>) -> Self {
        budget.join();
        share.iter().for_each(|share| share.join());
        Self {
            kept: Pieces::default(),
            acked: 0,
            said: 0,
            ended: false,
            sent: 0,
            next: 0,
            next_start: 0,
            allowed: Budget::SHARE,
            blocked_at: 0,
            full_at: 0,
            budget,
            share,
            counted: 0,
            undelivered: Pieces::default(),
            received: 0,
            other_ended: false,
            delivered: 0,
            told: 0,
            tell: false,
            tell_to: 0,
            window: Budget::SHARE,
            granted: Budget::SHARE,
            is_too_little: false,
        }
    }

    /// What may be held of a direction of which so many bytes were handed on.
    fn allowance(&self, moved: u64) -> u64 {
        let each = self.budgets().map(|one| one.allowance(moved));
        each.min().unwrap_or(WINDOW)
    }

    fn give_back(&self, bytes: u64) {
        self.budgets().for_each(|one| one.give_back(bytes));
    }

    /// What was said and isn't acknowledged, in bytes.
    fn kept(&self) -> u64 {
        self.said - self.acked.min(self.said)
    }

    /// What came and wasn't handed on, in bytes.
    fn waiting(&self) -> u64 {
        let bytes = self.received - u64::from(self.other_ended);
        bytes.saturating_sub(self.delivered)
    }

    /// Lets the budgets know what it holds. What is there can't be refused any more; what makes others
    /// hold less is that it counts. What was granted and hasn't come doesn't: the other side keeps that in
    /// a budget of its own, and a connection that has moved much and is idle would take it from others.
    fn count(&mut self) {
        let (held, counted) = (self.kept() + self.waiting(), self.counted);
        self.counted = held;
        if held > counted {
            let more = held - counted;
            self.budgets().for_each(|one| one.take(more));
        } else if held < counted {
            self.give_back(counted - held);
        }
    }

    /// How much of what the near end said was handed on at the other side, in bytes; the end counts as one more.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// How many bytes the near end may say now, at most [`CHUNK`]. A flow that waits for others to use
    /// less of the budget has something under way, whose acknowledgement makes it look again.
    pub fn room(&self) -> usize {
        if self.ended {
            return 0;
        }
        // Ahead of what the other side takes, a share is enough to go on at once when it takes more.
        let granted = self.allowed.saturating_sub(self.acked);
        let most = granted
            .saturating_add(Budget::SHARE)
            .min(self.allowance(self.acked));
        // Where it is little, one half can be under way while the other is acknowledged.
        let piece = (most / 2).min(CHUNK as u64);
        if self.kept() + piece <= most {
            // At most a chunk, see above.
            usize::try_from(piece).unwrap_or(CHUNK)
        } else {
            0
        }
    }

    /// The near end said something; no more than there is room for.
    pub fn handle_said(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len() as u64;
        let before = self.kept.back().map_or(0, Bytes::len) as u64;
        if self.kept.push(bytes) && self.next == self.kept.len() {
            // The last piece had gone out, and now has more.
            (self.next, self.next_start) = (self.next - 1, self.said - before);
        }
        self.said += length;
        self.count();
    }

    /// The near end's first words, at most [`CHUNK`] of them, have gone out before.
    pub fn handle_said_before(&mut self, bytes: Bytes) {
        self.handle_said(bytes);
        (self.sent, self.next, self.next_start) = (self.said, self.kept.len(), self.said);
    }

    /// The near end has ended its side.
    pub fn handle_ended(&mut self) {
        self.ended = true;
    }

    /// All that is to be said, with the end.
    fn last(&self) -> u64 {
        self.said + u64::from(self.ended)
    }

    /// Whether [`Ledger::poll_frame`] has one.
    pub fn has_frame(&self) -> bool {
        self.owes_ack() || self.may_send() || self.owes_end() || self.is_blocked() || self.is_full()
    }

    /// It has more to say than it was granted, and the other side doesn't know.
    fn is_blocked(&self) -> bool {
        self.sent == self.allowed && self.sent < self.said && self.blocked_at < self.allowed
    }

    /// It keeps as much as it may, and that is so little that the other side doesn't acknowledge it by
    /// itself, and doesn't know.
    fn is_full(&self) -> bool {
        let is_little = (1..ACK_EVERY).contains(&self.kept());
        let is_news = self.sent == self.said && self.full_at < self.sent;
        is_little && is_news && !self.ended && self.room() == 0
    }

    fn may_send(&self) -> bool {
        self.sent < self.said.min(self.allowed)
    }

    /// The end needs no room.
    fn owes_end(&self) -> bool {
        self.ended && self.sent == self.said
    }

    /// A near end that has heard the end mostly ends as well, and both leave together: it isn't told
    /// before.
    fn owes_ack(&self) -> bool {
        let owed = self.delivered - self.told;
        let waited_for = self.tell || self.told < self.tell_to || self.is_settled();
        owed >= ACK_EVERY || (owed > 0 && waited_for)
    }

    fn delivered_end(&self) -> bool {
        self.other_ended && self.delivered == self.received
    }

    /// The next frame for the carrier.
    pub fn poll_frame(&mut self) -> Option<FlowFrame> {
        if self.owes_ack() {
            (self.told, self.tell) = (self.delivered, false);
            self.grant();
            return Some(frame::ack(self.delivered, self.granted - self.delivered));
        }
        if self.may_send() {
            return self.next_piece().map(frame::data);
        }
        if self.owes_end() {
            self.sent += 1;
            return Some(frame::end());
        }
        if self.is_blocked() {
            self.blocked_at = self.allowed;
            return Some(frame::blocked());
        }
        if self.is_full() {
            self.full_at = self.sent;
            return Some(frame::full());
        }
        None
    }

    /// Lets the other side send more: twice as much as before under way when that was too little, as far
    /// as the budget allows. A near end that doesn't take anything gets nothing more.
    fn grant(&mut self) {
        if std::mem::take(&mut self.is_too_little) {
            let most = self.allowance(self.delivered).min(self.promisable());
            self.widen(most.min(2 * self.window));
        }
        self.granted = self.granted.max(self.delivered + self.window);
    }

    fn promisable(&self) -> u64 {
        let promisable = self.budgets().map(Budget::promisable).min();
        promisable.map_or(WINDOW, |more| more.saturating_add(Budget::SHARE))
    }

    fn widen(&mut self, window: u64) {
        let more = window.saturating_sub(self.window);
        self.budgets().for_each(|one| one.promise(more));
        self.window += more;
    }

    /// That of the process, and the session's where there are several.
    fn budgets(&self) -> impl Iterator<Item = &Budget> {
        std::iter::once(self.budget).chain(self.share.as_deref())
    }

    /// What goes out next, at most [`CHUNK`] bytes of one piece.
    fn next_piece(&mut self) -> Option<Bytes> {
        let piece = self.kept.get(self.next)?;
        let start = usize::try_from(self.sent - self.next_start).ok()?;
        let room = usize::try_from(self.allowed - self.sent).unwrap_or(CHUNK);
        let end = piece.len().min(start + CHUNK.min(room));
        let bytes = piece.slice(start..end);
        self.sent += bytes.len() as u64;
        if end == piece.len() {
            (self.next, self.next_start) = (self.next + 1, self.sent);
        }
        Some(bytes)
    }

    /// Finds the piece that `sent` is in.
    fn seek(&mut self) {
        (self.next, self.next_start) = (0, self.acked.min(self.said));
        for piece in self.kept.iter() {
            let end = self.next_start + piece.len() as u64;
            if end > self.sent {
                return;
            }
            (self.next, self.next_start) = (self.next + 1, end);
        }
    }

    /// Takes a frame from the carrier.
    ///
    /// # Errors
    ///
    /// When the other side breaks the protocol; the flow has to be reset.
    pub fn handle_frame(&mut self, kind: Kind) -> Result<Heard, Violation> {
        match kind {
            Kind::Data(_) | Kind::End(_) if self.other_ended => Err(Violation::AfterEnd),
            Kind::Data(bytes) => {
                if self.received + bytes.len() as u64 > self.granted {
                    return Err(Violation::Window);
                }
                if self.waiting() > self.budget.part() && self.budget.is_overrun() {
                    return Ok(Heard::Overrun);
                }
                if !bytes.is_empty() {
                    self.received += bytes.len() as u64;
                    self.undelivered.push(bytes);
                    self.count();
                }
                Ok(Heard::Nothing)
            }
            Kind::End(_) => {
                self.received += 1;
                self.other_ended = true;
                Ok(Heard::Nothing)
            }
            Kind::Ack(ack) => {
                let told = ack.delivered;
                if !(self.acked..=self.sent).contains(&told) {
                    let (from, to) = (self.acked, self.sent);
                    return Err(Violation::Offset { told, from, to });
                }
                self.forget(told);
                self.allowed = self.allowed.max(told.saturating_add(ack.window));
                Ok(Heard::Nothing)
            }
            Kind::Blocked(blocked) => {
                // It waits for this, a round trip away.
                self.tell = true;
                match blocked.full {
                    // Part of what it keeps may not make the room that it needs; nor would more be of use to it.
                    true => self.tell_to = self.received,
                    false => self.is_too_little = true,
                }
                Ok(Heard::Nothing)
            }
            Kind::Reset(_) => Ok(Heard::Reset),
            Kind::Open(_) | Kind::Opened(_) | Kind::Failed(_) => Err(Violation::Misplaced),
        }
    }

    fn forget(&mut self, acked: u64) {
        let mut gone = acked.min(self.said) - self.acked.min(self.said);
        self.acked = acked;
        self.count();
        while gone > 0 {
            let pieces = self.kept.len();
            // Fits where it matters, as it is compared with a piece's own length.
            let count = self
                .kept
                .drop_front(usize::try_from(gone).unwrap_or(usize::MAX));
            gone -= count as u64;
            if count == 0 {
                break;
            }
            if self.kept.len() < pieces {
                // What was acknowledged was sent, so the next piece comes after it.
                self.next = self.next.saturating_sub(1);
            } else if self.next == 0 {
                self.next_start = acked;
            }
        }
    }

    /// What is to be handed on next.
    pub fn undelivered(&self) -> Option<Undelivered> {
        match self.undelivered.front() {
            Some(bytes) => Some(Undelivered::Data(bytes.clone())),
            None if self.other_ended && self.delivered < self.received => Some(Undelivered::End),
            None => None,
        }
    }

    /// The near end has taken so many of the bytes that are first.
    pub fn handle_delivered(&mut self, count: usize) {
        self.delivered += self.undelivered.drop_front(count) as u64;
        self.count();
    }

    /// The near end was told of the end.
    pub fn handle_end_delivered(&mut self) {
        if self.undelivered() == Some(Undelivered::End) {
            self.delivered += 1;
        }
    }

    /// Whether something was handed on that the other side doesn't know of yet.
    pub fn is_in_debt(&self) -> bool {
        self.delivered > self.told
    }

    /// It was long enough: the next frame tells.
    pub fn handle_ack_timeout(&mut self) {
        self.tell = true;
    }

    /// What was received, to be told to the other side when the flow is resumed.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The flow goes on over another carrier, and the other side has received so much.
    ///
    /// # Errors
    ///
    /// When it can't have.
    pub fn handle_resumed(&mut self, other_received: u64) -> Result<(), Violation> {
        if !(self.acked..=self.last()).contains(&other_received) {
            return Err(Violation::Offset {
                told: other_received,
                from: self.acked,
                to: self.last(),
            });
        }
        self.sent = other_received;
        (self.blocked_at, self.full_at) = (0, 0);
        self.seek();
        // What was told on the old carrier may not have arrived.
        (self.told, self.tell) = (0, self.delivered > 0);
        Ok(())
    }

    /// Whether both near ends have ended and this one has heard all: whatever is still unsaid between
    /// the two sides, this near end is closed.
    pub fn is_settled(&self) -> bool {
        self.ended && self.delivered_end()
    }

    /// Whether all was said, heard, handed on and acknowledged, both ways.
    pub fn is_done(&self) -> bool {
        self.ended
            && self.acked == self.last()
            && self.delivered_end()
            && self.told == self.delivered
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model;
