//! Who is at the other end of a carrier: TLS 1.3 with both keys pinned.
//!
//! There are no certificates. Each process makes an [`Identity`], a key pair that never leaves it, and
//! publishes the key's [`Fingerprint`] in a Lease, which the API server lets it write. Each side of a
//! connection proves that it has the private key (RFC 7250 raw public keys in RFC 8446 handshakes):
//! the [`Connector`] takes one key only, the [`Acceptor`] tells which key it was.

mod acceptor;
mod connector;
mod fingerprint;
mod gather;
mod keys;
mod settings;
#[cfg(test)]
mod tests;

pub use acceptor::Acceptor;
pub use connector::Connector;
pub use fingerprint::{Fingerprint, NotAFingerprint};
pub use keys::{Identity, IdentityError};

use tokio::io::{AsyncRead, AsyncWrite, BufReader};

use gather::Gather;

/// The machine's end of a connection.
pub type ClientStream<S> = tokio_rustls::client::TlsStream<BufReader<Gather<S>>>;
/// The manager's end of a connection.
pub type ServerStream<S> = tokio_rustls::server::TlsStream<BufReader<Gather<S>>>;

/// What TLS is spoken over. Small writes leave together, and much is read at once.
fn buffered<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> BufReader<Gather<S>> {
    BufReader::with_capacity(READ, Gather::new(stream))
}

/// Bytes that are read at once: the TLS library itself reads four KiB at a time.
const READ: usize = 128 << 10;
