//! Handing an open descriptor to another process over a local socket, unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Sends `bytes` with a descriptor, which the other side gets a copy of. To be called before anything
/// else is sent, when there is room for sure.
///
/// # Errors
///
/// When the other side is gone, or the system refuses.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptor: &impl AsFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd().as_raw_fd()];
    let sent = sendmsg::<UnixAddr>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Fills `bytes`, and returns the descriptor that came with them, if one did. Nothing else may read
/// meanwhile. What was received is lost when the future is dropped.
///
/// # Errors
///
/// `UnexpectedEof` when the other side ends before.
pub async fn receive(socket: &impl AsFd, bytes: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    // SAFETY: an OwnedFd is open, and the same, as long as the AsyncFd has it.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    let (mut filled, mut descriptor) = (0, None);
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let (count, came) = socket
            .async_io(Interest::READABLE, |socket| receive_some(socket, rest))
            .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
        descriptor = descriptor.or(came);
    }
    Ok(descriptor)
}

fn receive_some(socket: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    // Room for as many as the kernel lets anyone send (SCM_MAX_FD): what didn't fit would be lost open.
    let mut space = cmsg_space!([RawFd; 253]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut all = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for one in raw {
                // SAFETY: the kernel has just made it for this process, and nobody else knows it.
                all.push(unsafe { OwnedFd::from_raw_fd(one) });
            }
        }
    }
    let count = message.bytes;
    Ok((count, all.pop()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_descriptor_comes_with_the_bytes_that_it_was_sent_with() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"the file").unwrap();
        file.rewind().unwrap();
        send(&near, b"bytes", &file).unwrap();
        let mut bytes = [0; 5];
        let came = receive(&far, &mut bytes).await.unwrap().unwrap();
        assert_eq!(&bytes, b"bytes");
        let mut content = String::new();
        std::fs::File::from(came)
            .read_to_string(&mut content)
            .unwrap();
        assert_eq!(content, "the file");
    }

    #[tokio::test]
    async fn bytes_may_come_alone_and_in_pieces() {
        let (near, far) = UnixStream::pair().unwrap();
        near.try_write(b"by").unwrap();
        let mut bytes = [0; 5];
        let receiving = async { receive(&far, &mut bytes).await.unwrap() };
        let sending = async {
            tokio::task::yield_now().await;
            near.try_write(b"tes").unwrap();
        };
        let (came, ()) = tokio::join!(receiving, sending);
        assert!(came.is_none());
        assert_eq!(&bytes, b"bytes");
        drop(near);
        let ended = receive(&far, &mut [0; 1]).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
