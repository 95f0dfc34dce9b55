//! Kubernetes: client, carriers, discovery, installation, redirecting a Service.

mod backoff;

pub mod access;
pub mod client;
pub mod discovery;
pub mod install;
pub mod obstacles;
pub mod portforward;
pub mod recover;
pub mod redirect;
pub mod replace;
pub mod scope;
pub mod services;
pub mod vouch;
