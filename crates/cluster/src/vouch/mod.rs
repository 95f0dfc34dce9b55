//! Who may speak with whom: the API server vouches, by Leases in the manager's namespace.
//!
//! A user's daemon writes a Lease with the hashes of its own key and of its root daemon's, with the
//! user's credentials: who may connect is who may create it. It is there as long as the session. The
//! manager writes one for its pod, which goes with the pod. The hashes are public; what they are of
//! never leaves its process.

#[cfg(fuzzing)]
pub mod fuzzing;
mod index;
mod lease;
mod manager;
mod session;
mod watch;

pub use self::index::{Session, Vouched};
pub use self::lease::{session_id, session_lease_name};
pub use self::manager::{ManagerKey, ManagerKeyError, OwnPod, manager_key, publish};
pub use self::session::{SessionLease, VouchError};
pub use self::watch::SessionLeases;
