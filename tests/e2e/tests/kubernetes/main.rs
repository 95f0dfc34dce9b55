//! kdev on a real Kubernetes: what the README promises, each promise a test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on says so by panicking"
)]

mod asleep;
mod carriers;
mod connect;
mod connect_refused;
mod contested;
mod crash;
mod credentials;
mod direct;
mod disturbed;
mod faults;
mod flood;
mod flows;
mod honesty;
mod install;
mod install_refused;
mod intercept;
mod intercept_refused;
mod ipv6;
mod kinds;
mod leaves_nothing;
mod list;
mod modes;
mod names;
mod obstacles;
mod older_kernel;
mod orders;
mod outside;
mod reach;
mod resume;
mod rules;
mod status;
mod trust;
mod two_clusters;
mod udp;
mod uninstall;
mod version;
