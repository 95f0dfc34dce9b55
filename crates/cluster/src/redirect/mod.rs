//! Redirecting a Service without touching a pod, and restoring it.
//!
//! A user's daemon [`claim`]s a port in an annotation, with the user's credentials. The traffic
//! manager's [`redirector`] sees that, clears the Service's selector and writes its slices itself, the
//! cluster's own among them:
//! the port leads to the manager's router, all others to the pods. [`reconcile`] does that and
//! undoes it; it runs with anybody's rights, so a Service is whole again where no manager runs.
//!
//! [`plan`](plan::plan) holds the order of steps, and why it leaves no gap.

mod api;
mod backends;
mod beside;
mod changes;
mod claim;
mod intercept;
mod meant;
mod notices;
pub mod objects;
mod observed;
mod patch;
pub mod plan;
pub(crate) mod pods;
mod port;
mod preview;
mod reconcile;
pub mod redirector;
mod restored;
mod slices;
mod suitable;
mod writer;

pub use self::api::ServiceName;
pub use self::backends::{Backends, follow_backends};
pub use self::claim::{Claim, ClaimError, Claimed, claim, claims_on, release};
pub use self::intercept::{
    Intercept, Mode, Original, Unreadable, call_id, claim_id, intercepts, label_selector, original,
    original_selector,
};
pub use self::meant::find_ports;
pub use self::observed::{Desired, EndpointsObject, Goal, Observed, Route};
pub use self::plan::{Refusal, Step};
pub use self::port::{PortQuery, PortRef, Protocol, Which, ports_of};
pub use self::preview::{Preview, create_preview, delete_orphans, delete_preview};
pub use self::reconcile::{Limits, Outcome, ReconcileError, reconcile};
pub use self::restored::{RestoreError, changed, restore_all, wait_restored};
pub(crate) use self::suitable::external_name;
pub use self::suitable::{NotInterceptable, interceptable};
pub use self::writer::Writer;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
