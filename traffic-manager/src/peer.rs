//! A connection whose other end is known, and which ends with its session.

use std::sync::Arc;

use kdev_common::killable::Killable;
use kdev_common::known::Known;
use kdev_flow::Carrier;
use kdev_identity::ServerStream;
use tokio::net::TcpStream;
use tonic::Status;
use tonic::codegen::http::Extensions;

use crate::sessions::{Place, Session};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The session whose key was proven.
    pub session: Arc<Session>,
    /// Whether it is the user's daemon, which alone speaks for the session.
    pub speaks: bool,
    /// The connection itself.
    pub carrier: Carrier,
    /// Given back when the connection is gone, and whoever has looked who it was.
    _place: Arc<Place>,
}

impl Peer {
    /// Who calls, by the key that was proven for the connection.
    ///
    /// # Errors
    ///
    /// When the connection isn't one of [`admit`]'s.
    pub fn of(call: &Extensions) -> Result<Self, Status> {
        let peer = call.get::<Self>().cloned();
        peer.ok_or_else(|| Status::internal("the connection isn't known"))
    }

    /// The session whose user's daemon calls.
    ///
    /// # Errors
    ///
    /// When it is the root daemon, which carries flows and doesn't speak for the session.
    pub fn speaker(self) -> Result<Arc<Session>, Status> {
        if self.speaks {
            Ok(self.session)
        } else {
            Err(Status::permission_denied(
                "this key carries flows, and doesn't speak for the session",
            ))
        }
    }
}

/// See the module.
pub type PeerStream = Known<Killable<ServerStream<TcpStream>>, Peer>;

/// Makes a connection one of `session`'s, which holds `place` as long as it is there.
pub fn admit(
    stream: ServerStream<TcpStream>,
    session: Arc<Session>,
    speaks: bool,
    place: Place,
) -> PeerStream {
    let close = session.cut.child_token();
    let peer = Peer {
        carrier: Carrier::new(close.clone())
            .within(Arc::clone(&session.memory), Arc::clone(&session.datagrams)),
        session,
        speaks,
        _place: Arc::new(place),
    };
    Known::new(Killable::new(stream, close), peer)
}
