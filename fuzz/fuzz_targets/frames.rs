//! What comes over a carrier: its preamble, messages, and frames in whatever order against one side of a flow.
#![no_main]

use std::fmt::Debug;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use kdev_common::carrier::{PREAMBLE_LENGTH, Preamble};
use kdev_flow::budget::Budget;
use kdev_flow::ledger::{Heard, Ledger, Undelivered, Violation, WINDOW};
use kdev_flow::rpc::read::{NoFrame, Reader};
use kdev_flow::{CHUNK, frame};
use kdev_proto::Failure;
use kdev_proto::v1::flow_frame::Kind;
use kdev_proto::v1::{ErrorDetail, FlowBlocked, FlowFrame, SessionEvent, SessionRequest};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<PREAMBLE_LENGTH>()
        && let Some(preamble) = Preamble::decode(bytes)
    {
        assert_eq!(&preamble.encode(), bytes);
    }
    assert_eq!(
        messages(data, data.len()),
        messages(data, 3),
        "where pieces end says nothing"
    );
    reads_as_written::<FlowFrame>(data);
    reads_as_written::<SessionRequest>(data);
    reads_as_written::<SessionEvent>(data);
    reads_as_written::<ErrorDetail>(data);
    let status = tonic::Status::with_details(tonic::Code::Internal, "", data.to_vec().into());
    let failure = Failure::from(status);
    let status = tonic::Status::from(failure.clone());
    if !status.details().is_empty() {
        assert_eq!(Failure::from(status), failure, "a failure survives its way");
    }

    let mut steps = Unstructured::new(data);
    let mut side = Side::default();
    while let Ok(step) = Step::arbitrary(&mut steps) {
        if !side.step(step) || steps.is_empty() {
            break;
        }
    }
    drop(side);
    assert_eq!(BUDGET.used(), 0, "nothing is left of a flow that is over");
});

/// The frames of a stream that comes in pieces of so many bytes, and what ended it.
fn messages(data: &[u8], piece: usize) -> (Vec<FlowFrame>, Option<NoFrame>, bool) {
    let (mut reader, mut frames) = (Reader::default(), Vec::new());
    for piece in data.chunks(piece.max(1)) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            match reader.next(&mut piece) {
                Ok(frame) => frames.extend(frame),
                Err(error) => return (frames, Some(error), false),
            }
        }
    }
    (frames, None, reader.is_amid())
}

fn reads_as_written<M: Message + Default + PartialEq + Debug>(data: &[u8]) {
    if let Ok(message) = M::decode(data) {
        let written = message.encode_to_vec();
        assert_eq!(written.len(), message.encoded_len());
        assert_eq!(M::decode(&written[..]).as_ref(), Ok(&message));
    }
}

/// Enough for a flow to be granted some times its share.
static BUDGET: Budget = Budget::new(WINDOW);

/// The bytes of both directions: each tells its offset by its value, modulo a prime.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    (0..2 * WINDOW as usize + 251)
        .map(|at| (at % 251) as u8)
        .collect()
});

fn pattern(start: u64, length: usize) -> Bytes {
    let start = (start % 251) as usize;
    PATTERN.slice(start..start + length)
}

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// A message as it comes.
    Bytes(&'a [u8]),
    Data(u32),
    End,
    Ack(Offset, Window),
    Resumed(Offset),
    Blocked,
    Misplaced,
    Say(u16),
    EndOwn,
    Deliver(u32),
    Tell,
    Send,
    SendAll,
}

/// An offset that the other side tells: near to one that makes sense, or any.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Offset {
    Acked(i8),
    Sent(i8),
    Any(u64),
}

/// How much more the other side takes.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Window {
    Little(u8),
    Much(u32),
    Any(u64),
}

impl From<Window> for u64 {
    fn from(window: Window) -> Self {
        match window {
            Window::Little(bytes) => bytes.into(),
            Window::Much(bytes) => bytes.into(),
            Window::Any(bytes) => bytes,
        }
    }
}

/// One side of a flow, and what has to be true of it.
struct Side {
    ledger: Ledger,
    said: u64,
    ended: bool,
    sent: u64,
    acked: u64,
    /// Up to which offset the other side takes bytes.
    allowed: u64,
    /// Which of these the other side was told to be too little.
    blocked_at: u64,
    /// What had gone out when the other side was told that no more can be kept.
    full_at: u64,
    received: u64,
    other_ended: bool,
    delivered: u64,
    /// Up to which offset the other side may send bytes.
    granted: u64,
}

impl Default for Side {
    fn default() -> Self {
        Self {
            ledger: Ledger::new(&BUDGET, None),
            said: 0,
            ended: false,
            sent: 0,
            acked: 0,
            allowed: Budget::SHARE,
            blocked_at: 0,
            full_at: 0,
            received: 0,
            other_ended: false,
            delivered: 0,
            granted: Budget::SHARE,
        }
    }
}

impl Side {
    /// Does a step; false when the flow is over.
    fn step(&mut self, step: Step<'_>) -> bool {
        let goes_on = match step {
            Step::Bytes(bytes) => match FlowFrame::decode(bytes) {
                Ok(FlowFrame { kind: Some(kind) }) => self.hear(kind),
                _ => true,
            },
            Step::Data(length) => {
                let length = length as usize % (WINDOW as usize + CHUNK);
                self.hear(Kind::Data(pattern(self.received, length)))
            }
            Step::End => self.hear_frame(frame::end()),
            Step::Ack(offset, window) => {
                self.hear_frame(frame::ack(self.offset(offset), window.into()))
            }
            Step::Blocked => self.hear_frame(frame::blocked()),
            Step::Misplaced => self.hear_frame(frame::opened()),
            Step::Resumed(offset) => self.resume(self.offset(offset)),
            Step::Say(length) => {
                self.say(usize::from(length) % (CHUNK + 1));
                true
            }
            Step::EndOwn => {
                self.ended = true;
                self.ledger.handle_ended();
                true
            }
            Step::Deliver(count) => {
                self.deliver(count as usize);
                true
            }
            Step::Tell => {
                self.ledger.handle_ack_timeout();
                true
            }
            Step::Send => {
                self.send();
                true
            }
            Step::SendAll => {
                while self.send() {}
                true
            }
        };
        let kept = self.said - self.acked.min(self.said);
        let granted = BUDGET.used().checked_sub(kept);
        let granted = granted.expect("what is kept is counted");
        assert!(granted <= WINDOW && kept <= WINDOW);
        assert_eq!(self.ledger.received(), self.received);
        goes_on
    }

    fn offset(&self, offset: Offset) -> u64 {
        match offset {
            Offset::Acked(by) => self.acked.wrapping_add_signed(by.into()),
            Offset::Sent(by) => self.sent.wrapping_add_signed(by.into()),
            Offset::Any(at) => at,
        }
    }

    fn last(&self) -> u64 {
        self.said + u64::from(self.ended)
    }

    fn hear_frame(&mut self, frame: FlowFrame) -> bool {
        frame.kind.is_none_or(|kind| self.hear(kind))
    }

    /// Takes a frame, and knows itself what has to come of it.
    fn hear(&mut self, kind: Kind) -> bool {
        let kind = match kind {
            Kind::Data(bytes) => Kind::Data(pattern(self.received, bytes.len())),
            other => other,
        };
        let expected = match &kind {
            Kind::Data(_) | Kind::End(_) if self.other_ended => Err(Violation::AfterEnd),
            Kind::Data(bytes) if self.received + bytes.len() as u64 > self.granted => {
                Err(Violation::Window)
            }
            Kind::Ack(ack) if ack.delivered < self.acked || ack.delivered > self.sent => {
                Err(Violation::Offset {
                    told: ack.delivered,
                    from: self.acked,
                    to: self.sent,
                })
            }
            Kind::Open(_) | Kind::Opened(_) | Kind::Failed(_) => Err(Violation::Misplaced),
            Kind::Reset(_) => Ok(Heard::Reset),
            Kind::Data(_) | Kind::End(_) | Kind::Ack(_) | Kind::Blocked(_) => Ok(Heard::Nothing),
        };
        assert_eq!(self.ledger.handle_frame(kind.clone()), expected);
        if expected != Ok(Heard::Nothing) {
            return false;
        }
        match kind {
            Kind::Data(bytes) => self.received += bytes.len() as u64,
            Kind::End(_) => (self.received, self.other_ended) = (self.received + 1, true),
            Kind::Ack(ack) => {
                self.acked = ack.delivered;
                let allowed = ack.delivered.saturating_add(ack.window);
                self.allowed = self.allowed.max(allowed);
            }
            _ => {}
        }
        true
    }

    fn resume(&mut self, other_received: u64) -> bool {
        let makes_sense = (self.acked..=self.last()).contains(&other_received);
        assert_eq!(
            self.ledger.handle_resumed(other_received).is_ok(),
            makes_sense
        );
        (self.sent, self.blocked_at, self.full_at) = (other_received, 0, 0);
        makes_sense
    }

    fn say(&mut self, length: usize) {
        let length = length.min(self.ledger.room());
        if length > 0 {
            assert!(!self.ended);
            self.ledger.handle_said(pattern(self.said, length));
            self.said += length as u64;
        }
    }

    fn deliver(&mut self, most: usize) {
        match self.ledger.undelivered() {
            Some(Undelivered::Data(bytes)) => {
                let count = most.min(bytes.len());
                let place = pattern(self.delivered, count);
                assert!(bytes[..count] == place, "other bytes than were sent");
                self.ledger.handle_delivered(count);
                self.delivered += count as u64;
            }
            Some(Undelivered::End) => {
                assert!(self.other_ended && self.delivered + 1 == self.received);
                self.ledger.handle_end_delivered();
                self.delivered += 1;
            }
            None => assert_eq!(self.delivered, self.received),
        }
    }

    /// Sends a frame, if there is one.
    fn send(&mut self) -> bool {
        let has_frame = self.ledger.has_frame();
        let sent = self.ledger.poll_frame().and_then(|frame| frame.kind);
        assert_eq!(sent.is_some(), has_frame);
        match sent {
            Some(Kind::Data(bytes)) => {
                assert!((1..=CHUNK).contains(&bytes.len()));
                assert!(
                    bytes == pattern(self.sent, bytes.len()),
                    "other bytes than were said"
                );
                self.sent += bytes.len() as u64;
                assert!(self.sent <= self.said.min(self.allowed));
            }
            Some(Kind::End(_)) => {
                assert!(self.ended && self.sent == self.said);
                self.sent += 1;
            }
            Some(Kind::Ack(ack)) => {
                assert_eq!(ack.delivered, self.delivered);
                let granted = self.delivered + ack.window;
                assert!(granted >= self.granted, "a grant is never taken back");
                assert!(granted <= self.granted.max(self.delivered + WINDOW));
                self.granted = granted;
            }
            Some(Kind::Blocked(FlowBlocked { full: true })) => {
                assert!(self.sent == self.said && self.ledger.room() == 0);
                assert!(self.full_at < self.sent, "once is enough");
                self.full_at = self.sent;
            }
            Some(Kind::Blocked(_)) => {
                assert!(self.sent == self.allowed && self.sent < self.said);
                assert!(self.blocked_at < self.allowed, "once is enough");
                self.blocked_at = self.allowed;
            }
            Some(other) => panic!("not a frame of an open flow: {other:?}"),
            None => {}
        }
        has_frame
    }
}
