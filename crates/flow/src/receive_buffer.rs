//! How much the kernel may hold of what a connection's peer sends.
//!
//! Linux has a receive buffer grow while it is read fast (tcp(7), `tcp_rmem`), as that of each flow is at first, and leaves it
//! as large when the flow stands still. A thousand flows that nobody reads so took half a gigabyte of a node's memory, which
//! counts as the manager's. So a buffer keeps the size that it began with until its flow has shown that it moves.

use std::os::fd::AsFd;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What a flow has to have moved, in bytes: more than buffers on its way take of one that nobody reads.
const SHOWN: u64 = 2 << 20;
/// A flow that is read waits for less, and TCP asks again no earlier (RFC 6298, Linux' least).
const STILL: Duration = Duration::from_millis(200);

/// A connection's receive buffer.
#[derive(Debug)]
pub(crate) struct ReceiveBuffer {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has the size that it began with, and what the peer sends beyond it is dropped. Whether its flow stands still, and
    /// since when.
    Kept(Option<Instant>),
    /// It takes what comes, and doesn't grow by being read.
    Small,
    /// It is the kernel's to decide.
    Grows,
}

impl ReceiveBuffer {
    /// Has the buffer of `connection` keep its size. Where the system can't, it grows as ever.
    pub(crate) fn kept(connection: &impl AsFd) -> Self {
        let kept = options::keep(connection).is_ok();
        let state = if kept {
            State::Kept(None)
        } else {
            State::Grows
        };
        Self { state }
    }

    /// Its flow has nothing read for now. If that lasts the buffer takes all that comes; by itself it doesn't grow: a peer
    /// whose packets are dropped while it asks whether there is room says them again after half a minute, though there was
    /// room all the time. Cancel safe: called again, it lasts since the first time.
    pub(crate) async fn stands_still(&mut self, connection: &impl AsFd) {
        if let State::Kept(since) = &mut self.state {
            let since = *since.get_or_insert_with(Instant::now);
            // In a box, as thousands of flows that are idle would keep room for it.
            Box::pin(sleep_until(since + STILL)).await;
            self.state = State::Small;
            // It could be kept, so this can be done as well; below, too.
            let _ = options::release(connection);
        }
    }

    /// It is read. Lets it grow if so many bytes moved show that its flow moves.
    pub(crate) fn handle_read(&mut self, connection: &impl AsFd, moved: u64) {
        if self.state != State::Grows && moved > SHOWN {
            self.state = State::Grows;
            let _ = options::release(connection).and_then(|()| options::enlarge(connection));
        } else if let State::Kept(since) = &mut self.state {
            *since = None;
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod options {
    use super::AsFd;
    use nix::Error;

    pub(super) fn keep(_connection: &impl AsFd) -> nix::Result<()> {
        Err(Error::ENOTSUP)
    }

    pub(super) fn release(_connection: &impl AsFd) -> nix::Result<()> {
        Err(Error::ENOTSUP)
    }

    pub(super) fn enlarge(_connection: &impl AsFd) -> nix::Result<()> {
        Err(Error::ENOTSUP)
    }
}

#[cfg(target_os = "linux")]
mod options {
    use super::AsFd;
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::SetStruct;

    /// Which buffers of a socket keep their size (since Linux 5.15; socket(7) has no word of it).
    #[derive(Clone, Copy)]
    struct Locked;

    nix::setsockopt_impl!(
        Locked,
        libc::SOL_SOCKET,
        libc::SO_BUF_LOCK,
        u32,
        SetStruct<'_, u32>
    );

    /// From how many bytes on a socket is readable (socket(7), `SO_RCVLOWAT`).
    #[derive(Clone, Copy)]
    struct ReadableFrom;

    nix::setsockopt_impl!(
        ReadableFrom,
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        i32,
        SetStruct<'_, i32>
    );

    /// `SOCK_RCVBUF_LOCK` of linux/socket.h.
    const RECEIVE: u32 = 2;
    /// More than a buffer that was kept has room for.
    const MORE: i32 = 256 << 10;

    pub(super) fn keep(connection: &impl AsFd) -> nix::Result<()> {
        setsockopt(connection, Locked, &RECEIVE)
    }

    pub(super) fn release(connection: &impl AsFd) -> nix::Result<()> {
        setsockopt(connection, Locked, &0)
    }

    /// The kernel has a buffer grow when more is read in a round trip than ever before, which never happens again where
    /// all that a kept one took was read: it has to be made larger once, as this option does.
    pub(super) fn enlarge(connection: &impl AsFd) -> nix::Result<()> {
        setsockopt(connection, ReadableFrom, &MORE)?;
        setsockopt(connection, ReadableFrom, &1)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::testing::{connection, soon};
    use nix::sys::socket::getsockopt;
    use nix::sys::socket::sockopt::RcvBuf;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// Has much pass, as fast as it does, and returns how large the buffer is then.
    async fn pass(from: &mut TcpStream, to: &mut TcpStream) -> usize {
        let (bytes, mut read) = (vec![0; 64 << 20], vec![0; 64 << 20]);
        let both = async { tokio::join!(from.write_all(&bytes), to.read_exact(&mut read)) };
        let (written, read) = soon(both).await;
        written.unwrap();
        read.unwrap();
        getsockopt(to, RcvBuf).unwrap()
    }

    #[tokio::test]
    async fn it_grows_when_its_flow_has_shown_that_it_moves_and_not_before() {
        let (mut from, mut to) = connection().await;
        let begun = getsockopt(&to, RcvBuf).unwrap();
        let mut buffer = ReceiveBuffer::kept(&to);
        assert_eq!(pass(&mut from, &mut to).await, begun);
        buffer.handle_read(&to, SHOWN);
        assert_eq!(pass(&mut from, &mut to).await, begun);
        soon(buffer.stands_still(&to)).await;
        buffer.handle_read(&to, SHOWN + 1);
        assert!(pass(&mut from, &mut to).await > begun);
    }

    #[tokio::test]
    async fn who_stands_still_is_let_go_though_the_other_direction_moves() {
        let (_from, to) = connection().await;
        let mut buffer = ReceiveBuffer::kept(&to);
        let moves = async |buffer: &mut ReceiveBuffer| {
            let turn = STILL / 10;
            let _ = tokio::time::timeout(turn, buffer.stands_still(&to)).await;
        };
        moves(&mut buffer).await;
        assert!(matches!(buffer.state, State::Kept(Some(_))));
        buffer.handle_read(&to, 0);
        assert_eq!(buffer.state, State::Kept(None));
        soon(async {
            while buffer.state != State::Small {
                moves(&mut buffer).await;
            }
        })
        .await;
    }
}
