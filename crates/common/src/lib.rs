//! What kdev's programs share below the level of any protocol: where their files are, how they talk
//! over local sockets, how they log, and how a daemon comes to life alone and detached.

pub mod carrier;
pub mod causes;
pub mod channel;
pub mod clock;
#[cfg(unix)]
pub mod descriptor;
pub mod detach;
#[cfg(unix)]
pub mod fault;
pub mod instance;
pub mod killable;
pub mod known;
pub mod label;
pub mod logging;
pub mod loopback;
pub mod memory;
pub mod outage;
pub mod paths;
#[cfg(unix)]
pub mod person;
pub mod runtime;
pub mod socket;
#[cfg(unix)]
pub mod tied;
pub mod transport;
pub mod wake;
