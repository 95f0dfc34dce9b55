//! What comes over a port-forward as SPDY/3.1: a node's frames and what is none, in whatever pieces, against
//! one forward, whose owner does with it whatever comes to its mind.
#![no_main]

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use kdev_cluster::portforward::SpdyStream;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[path = "spdy_frames/connection.rs"]
mod connection;
#[path = "spdy_frames/heard.rs"]
mod heard;
#[path = "spdy_frames/written.rs"]
mod written;

use connection::{Connection, Shared};

const PORT: u16 = 8080;
/// Most bytes that a node says in one run.
const MOST_SAID: usize = 1 << 20;
/// Most bytes of a step.
const MOST: usize = 3 * u16::MAX as usize;

/// The bytes of both directions: each tells its offset by its value, modulo a prime.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..MOST + 251).map(|at| (at % 251) as u8).collect());

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MOST]);
}

fn pattern(start: usize, length: usize) -> Bytes {
    let start = start % 251;
    PATTERN.slice(start..start + length)
}

fuzz_target!(|data: &[u8]| {
    let mut steps = Unstructured::new(data);
    let mut owner = Owner::new();
    while let Ok(step) = Step::arbitrary(&mut steps) {
        if !owner.step(step) {
            return;
        }
        if steps.is_empty() {
            break;
        }
    }
    owner.finish();
});

#[derive(Debug, Arbitrary)]
enum Step<'a> {
    /// What the node says, as it comes.
    Bytes(Piece<'a>),
    Data(Length, bool),
    Words(Piece<'a>, bool),
    Ping([u8; 4]),
    /// A frame of that kind, whatever is in it.
    Control(Kind, u8, Piece<'a>),
    /// The node says nothing more.
    Close,
    Break,
    /// In pieces of how many bytes the connection carries, all that there is if none.
    Pieces(u16),
    /// How much the connection takes until it is told again.
    Take(u16),
    TakeAll,
    Read(Length),
    ReadAll,
    Write(Length),
    Flush,
    Shutdown,
    Drop,
}

/// Some bytes, behind their number.
#[derive(Debug)]
struct Piece<'a>(&'a [u8]);

impl<'a> Arbitrary<'a> for Piece<'a> {
    fn arbitrary(steps: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let length = usize::from(steps.arbitrary::<u8>()?).min(steps.len());
        steps.bytes(length).map(Self)
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Length {
    Little(u8),
    Much(u16),
}

impl From<Length> for usize {
    fn from(length: Length) -> Self {
        match length {
            Length::Little(bytes) => bytes.into(),
            Length::Much(bytes) => 3 * usize::from(bytes),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Kind {
    SynStream = 1,
    SynReply,
    RstStream,
    Settings,
    Ping = 6,
    GoAway,
    Headers,
    WindowUpdate,
}

/// A forward's owner, and what it did.
struct Owner {
    stream: SpdyStream<Shared>,
    node: Rc<RefCell<Connection>>,
    /// How many bytes the node said on the stream of data.
    said: usize,
    is_shut: bool,
    /// A write, a flush or a shutdown waits for the connection.
    writer_waits: bool,
    /// A read told of an error.
    read_failed: bool,
    write_failed: bool,
}

impl Owner {
    fn new() -> Self {
        let node = Rc::new(RefCell::new(Connection::default()));
        Self {
            stream: SpdyStream::new(Shared(node.clone()), PORT),
            node,
            said: 0,
            is_shut: false,
            writer_waits: false,
            read_failed: false,
            write_failed: false,
        }
    }

    /// Does a step; false when the forward is let go of.
    fn step(&mut self, step: Step<'_>) -> bool {
        match step {
            Step::Bytes(Piece(bytes)) => self.hear(&[bytes]),
            Step::Data(length, last) => {
                let bytes = pattern(self.said, length.into());
                self.said += bytes.len();
                self.hear(&[&data_head(3, bytes.len(), last), &bytes]);
            }
            Step::Words(Piece(words), last) => {
                self.hear(&[&data_head(1, words.len(), last), words]);
            }
            Step::Ping(id) => self.hear(&[&control_head(Kind::Ping, 0, 4), &id]),
            Step::Control(kind, flags, Piece(body)) => {
                self.hear(&[&control_head(kind, flags, body.len()), body]);
            }
            Step::Close => self.node.borrow_mut().is_closed = true,
            Step::Break => self.node.borrow_mut().is_broken = true,
            Step::Pieces(length) => {
                self.node.borrow_mut().piece = match length {
                    0 => usize::MAX,
                    length => length.into(),
                }
            }
            Step::Take(length) => self.node.borrow_mut().room = length.into(),
            Step::TakeAll => self.node.borrow_mut().room = usize::MAX,
            Step::Read(length) => {
                self.read(length.into());
            }
            Step::ReadAll => while self.read(MOST) {},
            Step::Write(length) => self.write(length.into()),
            Step::Flush => self.flush(),
            Step::Shutdown => return self.shutdown(),
            Step::Drop => return false,
        }
        true
    }

    /// Lets the node say something.
    fn hear(&mut self, parts: &[&[u8]]) {
        let mut node = self.node.borrow_mut();
        if node.said_in_all < MOST_SAID {
            parts.iter().for_each(|part| node.say(part));
        }
    }

    /// Reads at most so many bytes; false when there are none.
    fn read(&mut self, most: usize) -> bool {
        BUFFER.with_borrow_mut(|bytes| self.read_into(&mut ReadBuf::new(&mut bytes[..most])))
    }

    fn read_into(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let most = buffer.remaining();
        let mut cx = self.begin();
        let read = Pin::new(&mut self.stream).poll_read(&mut cx, buffer);
        let mut node = self.node.borrow_mut();
        match read {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                let has_ended = node.heard.has_ended() || self.is_shut || self.read_failed;
                assert!(most == 0 || has_ended, "an end that isn't one");
                false
            }
            Poll::Ready(Ok(())) => {
                assert!(!self.is_shut && !self.read_failed, "bytes after the end");
                node.heard.deliver(buffer.filled());
                true
            }
            Poll::Ready(Err(error)) => {
                assert!(!self.is_shut || node.is_broken, "{error}");
                if !self.read_failed {
                    node.judge_failure(&error);
                    self.read_failed = true;
                }
                false
            }
            Poll::Pending => {
                assert!(most > 0 && node.waits_to_read);
                assert!(!self.is_shut && !self.read_failed);
                assert!(node.heard.is_empty(), "bytes that wait");
                // Nothing waits for a write that may never come.
                let does_all = node.owes_nothing() || (node.room == 0 && node.waits_to_write);
                assert!(self.writer_waits || does_all, "it keeps bytes back");
                false
            }
        }
    }

    fn write(&mut self, length: usize) {
        if self.write_failed {
            return;
        }
        let offset = self.node.borrow().written.accepted;
        let bytes = pattern(offset, length);
        let mut cx = self.begin();
        let written = Pin::new(&mut self.stream).poll_write(&mut cx, &bytes);
        let mut node = self.node.borrow_mut();
        self.writer_waits = written.is_pending();
        match written {
            Poll::Ready(Ok(count)) => {
                assert!(count <= length && (count > 0 || length == 0));
                node.written.accepted += count;
                node.written.check_waiting();
            }
            other => self.write_failed = node.judge_write(other.map_ok(drop)),
        }
    }

    fn flush(&mut self) {
        if self.write_failed {
            return;
        }
        let mut cx = self.begin();
        let flushed = Pin::new(&mut self.stream).poll_flush(&mut cx);
        self.writer_waits = flushed.is_pending();
        self.write_failed = self.node.borrow().judge_write(flushed);
    }

    /// Closes both directions; false when that fails, and it makes no sense to go on.
    fn shutdown(&mut self) -> bool {
        if self.write_failed || self.is_shut {
            return true;
        }
        let mut cx = self.begin();
        let shut = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        (self.is_shut, self.writer_waits) = (shut.is_ready(), shut.is_pending());
        let node = self.node.borrow();
        let has_failed = node.judge_write(shut);
        assert!(!self.is_shut || node.is_shut || has_failed);
        !has_failed
    }

    fn begin(&self) -> Context<'static> {
        let mut node = self.node.borrow_mut();
        (node.waits_to_read, node.waits_to_write) = (false, false);
        Context::from_waker(Waker::noop())
    }

    /// Lets a connection that works carry all that is left, and end.
    fn finish(mut self) {
        self.step(Step::TakeAll);
        self.flush();
        self.step(Step::ReadAll);
        self.step(Step::Close);
        self.step(Step::ReadAll);
        let node = self.node.borrow();
        let is_over = self.is_shut || self.read_failed || node.heard.has_ended();
        assert!(is_over, "it doesn't end");
        drop(node);
        self.shutdown();
        assert!(self.is_shut || self.write_failed, "it isn't let go of");
    }
}

fn data_head(stream: u32, length: usize, last: bool) -> [u8; 8] {
    head(stream, u32::from(last) << 24 | length as u32)
}

fn control_head(kind: Kind, flags: u8, length: usize) -> [u8; 8] {
    head(
        0x8003_0000 | kind as u32,
        u32::from(flags) << 24 | length as u32,
    )
}

fn head(first: u32, second: u32) -> [u8; 8] {
    (u64::from(first) << 32 | u64::from(second)).to_be_bytes()
}
