//! Which name goes to which resolver, and the DNS server that decides it.
//!
//! The rule: a name that resolved before connecting keeps resolving as before; kdev fills in names
//! that wouldn't resolve otherwise; `.svc` and the cluster's domain are always the cluster's.
//!
//! ```text
//!                     ┌─ Outside ──────► forward: the machine's own name servers, byte for byte
//! query ─► policy ────┼─ OutsideFirst ─► both at once; verdict: whose answer it is
//!                     ├─ OutsideThenCluster ─► the same, one after the other
//!                     ├─ Cluster ──────► cache ─► lookup: the traffic manager asks cluster DNS
//!                     └─ Localhost, Nonexistent: answered here
//! ```
//!
//! Pure: [`policy`], `request`, `reply`, `rewrite`, `cache`, `verdict`, `wire`. With sockets:
//! [`forward`], which the traffic manager uses as well to ask cluster DNS, and [`server`].

mod cache;
pub mod forward;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod lookup;
pub mod policy;
mod reply;
mod request;
mod rewrite;
pub mod server;
#[cfg(test)]
mod test_messages;
mod verdict;
mod wire;

pub use forward::{ForwardError, Timing, Upstream, Via};
pub use hickory_proto::rr::Name;
pub use lookup::{ClusterLookup, LookupError, Whose};
pub use policy::{Policy, PolicyError, Route, classify};
pub use server::{BindError, ClusterTrouble, DnsHandle, DnsServer, DnsStats, Limits, ServeError};
