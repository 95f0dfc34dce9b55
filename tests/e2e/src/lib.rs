//! What tests of kdev on a real Kubernetes are written with.
//!
//! A test takes the [`desk::Desk`]: a laptop on which nothing of kdev's runs, beside a cluster. All
//! tests share one of each, so only one has it at a time. Whoever changes something in the cluster
//! makes a [`workload::Workload`] in a namespace of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on says so by panicking"
)]

pub mod cluster;
pub mod command;
pub mod datagrams;
pub mod desk;
pub mod ends;
pub mod firewall;
pub mod footprint;
pub mod http;
pub mod kept;
pub mod kinds;
pub mod laptop;
pub mod namespace;
pub mod orders;
pub mod pod;
pub mod snapshot;
pub mod talk;
pub mod text;
pub mod tools;
pub mod wait;
pub mod workload;
