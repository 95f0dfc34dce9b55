//! What a node said, as far as a forward has read it, and what has to come of it.

use std::io;

use bytes::{Buf, BytesMut};
use kdev_cluster::portforward::{ForwardError, SpdyError};

/// Most bytes of an error's words that are kept.
const MOST_WORDS: usize = 4 << 10;

/// How a forward ends.
#[derive(Debug)]
enum End {
    Closed,
    Failed(String),
    Broken(SpdyError),
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Head,
    Data { last: bool },
    Words { last: bool },
    Ping,
    Other,
}

pub struct Heard {
    part: Part,
    /// How many bytes of it are to come.
    left: usize,
    /// The bytes of a head, or of a ping.
    kept: Vec<u8>,
    /// What is for the owner and didn't get there.
    data: BytesMut,
    words: Vec<u8>,
    /// Pings without an answer, in their order.
    pub unanswered: Vec<[u8; 4]>,
    end: Option<End>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            part: Part::Head,
            left: 8,
            kept: Vec::new(),
            data: BytesMut::new(),
            words: Vec::new(),
            unanswered: Vec::new(),
            end: None,
        }
    }
}

impl Heard {
    /// There are no bytes for the owner, and the forward goes on.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.end.is_none()
    }

    /// The owner has all bytes, and no more come.
    pub fn has_ended(&self) -> bool {
        self.data.is_empty() && matches!(self.end, Some(End::Closed))
    }

    pub fn handle_read(&mut self, mut bytes: &[u8]) {
        while self.end.is_none() && !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.left.min(bytes.len()));
            match self.part {
                Part::Head | Part::Ping => self.kept.extend_from_slice(now),
                Part::Data { .. } => self.data.extend_from_slice(now),
                Part::Words { .. } => {
                    let room = MOST_WORDS - self.words.len();
                    self.words.extend_from_slice(&now[..room.min(now.len())]);
                }
                Part::Other => {}
            }
            self.left -= now.len();
            while self.end.is_none() && self.left == 0 {
                self.handle_part();
            }
            bytes = later;
        }
    }

    /// Takes a part that is complete, and knows what the next one is.
    fn handle_part(&mut self) {
        let part = self.part;
        let kept = std::mem::take(&mut self.kept);
        (self.part, self.left) = (Part::Head, 8);
        match part {
            Part::Head => match self.begin(u64::from_be_bytes(kept.try_into().expect("a head"))) {
                Ok((part, left)) => (self.part, self.left) = (part, left),
                Err(end) => self.end = Some(end),
            },
            Part::Data { last: true } => self.end = Some(self.closed()),
            Part::Words { last: true } if !self.words.is_empty() => self.end = Some(self.closed()),
            Part::Ping => self.unanswered.push(kept.try_into().expect("four bytes")),
            Part::Data { .. } | Part::Words { .. } | Part::Other => {}
        }
    }

    fn begin(&self, head: u64) -> Result<(Part, usize), End> {
        let length = head as usize & 0xff_ffff;
        let last = head >> 24 & 1 == 1;
        if head >> 63 == 0 {
            return match (head >> 32) as u32 {
                3 => Ok((Part::Data { last }, length)),
                1 => Ok((Part::Words { last }, length)),
                other => Err(End::Broken(SpdyError::Stream(other))),
            };
        }
        let (version, kind) = ((head >> 48) as u32 & 0x7fff, (head >> 32) as u16);
        if version != 3 {
            return Err(End::Broken(SpdyError::Version(version)));
        }
        match kind {
            _ if length > 64 << 10 => Err(End::Broken(SpdyError::Length(length))),
            6 if length != 4 => Err(End::Broken(SpdyError::Length(length))),
            6 => Ok((Part::Ping, length)),
            // That a stream or the connection is given up.
            3 | 7 => Err(self.closed()),
            _ => Ok((Part::Other, length)),
        }
    }

    /// What the node said of an error is told, however the forward ends.
    fn closed(&self) -> End {
        if self.words.is_empty() {
            return End::Closed;
        }
        End::Failed(String::from_utf8_lossy(&self.words).trim().to_owned())
    }

    pub fn handle_closed(&mut self) {
        self.end = Some(self.closed());
    }

    pub fn deliver(&mut self, bytes: &[u8]) {
        assert!(self.data.starts_with(bytes), "other bytes than were said");
        self.data.advance(bytes.len());
    }

    /// Whether a read had to fail that way.
    pub fn judge_failure(&self, error: &io::Error) {
        assert!(self.data.is_empty(), "bytes are lost");
        let told = error.get_ref().and_then(|error| error.downcast_ref());
        match (told, &self.end) {
            (Some(ForwardError::Pod(told)), Some(End::Failed(words))) => {
                assert_eq!(&told.message, words);
                let refused = words.to_lowercase().contains("connection refused");
                assert_eq!(error.kind() == io::ErrorKind::ConnectionRefused, refused);
            }
            (Some(ForwardError::Spdy(told)), Some(End::Broken(why))) => assert_eq!(told, why),
            (_, end) => panic!("{error:?} instead of {end:?}"),
        }
    }
}
