//! Sends each request of a client's connection to the machine that asked for it, or to the pods.
//!
//! [`serve`] takes a client's byte stream and what knows the [`Ways`]: whose a request is, and how to get
//! there. It knows no Kubernetes.
//!
//! | the client speaks | decided | what arrives |
//! |---|---|---|
//! | HTTP/1.0, HTTP/1.1 | per request | the client's bytes, without an offer of h2c; after `101` or an answered CONNECT all that follows |
//! | HTTP/2 with prior knowledge | per stream | the same header lists, data, trailers and resets, in frames of its own |
//! | TLS | once, by the server's name that the client asks for | all bytes |
//! | anything else, or nothing | never | all bytes, at the pods |
//!
//! Whoever [`Ways::copies`] names gets a copy of a request as well, and answers nobody (`tap`, `h2::copy`).
//!
//! ```text
//!            sniff ──► h1: serve ──► exchange ──► pass        (pure: head, framing, body, chunked)
//! serve ──►        ──► h2: serve ──► stream ──► pipe          (upstream: one connection per destination)
//!                  ──► tls: whose connection it is
//!                  ──► bytes to the pods
//! ```
//!
//! A request whose end isn't certain (RFC 9112 section 6.3, and what is known of request smuggling) is never
//! guessed at: as long as one connection to the pods has seen all bytes of the client, it goes on seeing all of
//! them; otherwise the client is answered 400.

mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod h1;
mod h2;
mod limits;
mod peer;
mod serve;
mod sniff;
mod tap;
#[cfg(test)]
mod tests;
mod tls;
mod waiting;
mod ways;

pub use error::{DialError, RouterError};
pub use h1::repeatable;
pub use limits::{Limit, Limits};
pub use serve::{pass, serve};
pub use tap::Tapped;
pub use ways::{First, Ways};
