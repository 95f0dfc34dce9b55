//! Local sockets with the identity of who is at the other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use futures::Stream as FutureStream;
use interprocess::local_socket::tokio::Listener;
/// A connection to a local socket.
pub use interprocess::local_socket::tokio::Stream as Connection;
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName as _};
use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
use nix::unistd::{Gid, Uid};

use crate::channel::Channel;
use crate::known::Known;

/// Who is at the other end of a local socket, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Effective user id at the time of connecting.
    pub uid: u32,
    /// Process id; `None` where the system doesn't tell.
    pub pid: Option<i32>,
}

/// Who may open a socket; everyone else gets "permission denied" from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// One user, and root.
    User(u32),
    /// A group, and root.
    Group(u32),
}

/// A connection that was accepted.
pub type LocalStream = Known<Connection, Peer>;

/// How long nothing is accepted after the system couldn't: out of descriptors, the others need a chance
/// to close some.
const BREATH: Duration = Duration::from_millis(50);

/// A listening socket at a path.
#[derive(Debug)]
pub struct LocalListener {
    listener: Listener,
}

impl LocalListener {
    /// Binds `path`, taking the place of a socket file that a dead process left. The caller holds the
    /// [`Instance`](crate::instance::Instance) lock of the directory, so that no living one is displaced.
    ///
    /// # Errors
    ///
    /// When the system refuses the path, the mode or the owner.
    pub fn bind(path: &Path, access: Access) -> io::Result<Self> {
        let listener = ListenerOptions::new()
            .name(path.to_fs_name::<GenericFilePath>()?)
            .try_overwrite(true)
            .mode(0o600)
            .create_tokio()?;
        match access {
            Access::User(uid) => nix::unistd::chown(path, Some(Uid::from_raw(uid)), None)?,
            Access::Group(gid) => {
                nix::unistd::chown(path, None, Some(Gid::from_raw(gid)))?;
                std::fs::set_permissions(
                    path,
                    std::os::unix::fs::PermissionsExt::from_mode(0o660),
                )?;
            }
        }
        Ok(Self { listener })
    }

    /// Waits for the next connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// When the system can't accept, or doesn't tell who connected.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        let stream = self.listener.accept().await?;
        let credentials = stream.peer_creds()?;
        let uid = credentials.euid().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the peer's user is unknown",
            )
        })?;
        let peer = Peer {
            uid,
            pid: credentials.pid(),
        };
        Ok(Known::new(stream, peer))
    }

    /// The connections to come. One that fails is left out; the stream never ends.
    pub fn incoming(self) -> impl FutureStream<Item = io::Result<LocalStream>> {
        futures::stream::unfold(self, |listener| async move {
            let accepted = listener.accept().await;
            if let Err(error) = &accepted {
                tracing::warn!(%error, "a local connection wasn't accepted");
                tokio::time::sleep(BREATH).await;
            }
            Some((accepted, listener))
        })
    }
}

/// Connects to the socket at `path`.
///
/// # Errors
///
/// `NotFound` or `ConnectionRefused` when nobody listens, `PermissionDenied` when others own it.
pub async fn connect(path: &Path) -> io::Result<Connection> {
    Connection::connect(path.to_fs_name::<GenericFilePath>()?).await
}

/// Why a daemon couldn't be called.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket couldn't be opened.
    #[error("can't open {path}")]
    Connect {
        /// The socket.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What listens there doesn't speak gRPC.
    #[error("what listens on {path} isn't a daemon of kdev's")]
    Handshake {
        /// The socket.
        path: String,
        /// What the transport said.
        #[source]
        source: hyper::Error,
    },
}

impl CallError {
    /// Whether nobody listens, as opposed to somebody whom this user may not call.
    pub fn nobody_listens(&self) -> bool {
        matches!(self, Self::Connect { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused))
    }

    /// Whether the socket is another user's.
    pub fn not_permitted(&self) -> bool {
        matches!(self, Self::Connect { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Opens a gRPC channel to the daemon at `path`.
///
/// # Errors
///
/// See [`CallError`].
pub async fn call(path: &Path) -> Result<Channel, CallError> {
    let name = path.display().to_string();
    let stream = connect(path).await.map_err(|source| CallError::Connect {
        path: name.clone(),
        source,
    })?;
    Channel::over(stream)
        .await
        .map_err(|source| CallError::Handshake { path: name, source })
}

/// The descriptor of a connection.
pub fn descriptor_of(stream: &Connection) -> BorrowedFd<'_> {
    let Connection::UdSocket(socket) = stream;
    socket.as_fd()
}

impl AsFd for LocalStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        descriptor_of(&self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn the_listener_knows_who_connected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let own = Uid::effective().as_raw();
        let listener = LocalListener::bind(&path, Access::User(own)).unwrap();
        let mut client = connect(&path).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        assert_eq!(server.who().uid, own);
        client.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }

    #[tokio::test]
    async fn a_socket_file_that_a_dead_process_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(call(&path).await.is_err_and(|error| error.nobody_listens()));
        let listener = LocalListener::bind(&path, Access::User(Uid::effective().as_raw())).unwrap();
        let (client, server) = tokio::join!(connect(&path), listener.accept());
        assert!(client.is_ok() && server.is_ok());
    }
}
