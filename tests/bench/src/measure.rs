//! What is measured.

use serde::{Deserialize, Serialize};

/// One figure of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// To the pod, one stream.
    Up1,
    /// From the pod, one stream.
    Down1,
    /// To the pod, eight streams together.
    Up8,
    /// From the pod, eight streams together.
    Down8,
    /// 64 bytes there and back, the median.
    RoundTrip,
    /// The same, what 99 of 100 stay below.
    RoundTripP99,
    /// New connections with 64 bytes there and back, one at a time.
    Connections1,
    /// The same, sixteen at a time.
    Connections16,
    /// A name of the cluster's, one at a time, the median.
    Lookup,
    /// The same, sixteen at a time.
    Lookups16,
    /// From calling the command until it can be used.
    Begin,
    /// How much thousands of idle connections add to the program that holds them.
    IdleGrowth,
    /// The same for one connection, for ways that can't hold thousands.
    IdleGrowthEach,
    /// One stream to the pod, just before the idle connections are opened.
    UpWithout,
    /// The same beside them.
    UpWith,
    /// One stream from the pod, just before the idle connections are opened.
    DownWithout,
    /// The same beside them.
    DownWith,
    /// Resident memory of all its processes on the machine, with nothing to do.
    Resident,
    /// The same, shared pages divided among those who share them.
    Proportional,
    /// CPU time of its processes per time, with nothing to do.
    IdleCpu,
    /// Bytes of answers to a pod's requests, one connection.
    Download,
    /// Small requests of a pod's one after the other on one connection, the median.
    Request,
    /// The same, what 99 of 100 stay below.
    RequestP99,
    /// Small requests of a pod's one after the other, each on a connection of its own, the median.
    RequestNew,
    /// The same, sixteen at a time.
    RequestsNew16,
    /// Small requests of many clients at once, each on one connection.
    Requests,
    /// How long those take, what 99 of 100 stay below.
    RequestsP99,
}

/// What a user chooses with `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Topic {
    /// Throughput up, one stream.
    Up1,
    /// Throughput down, one stream.
    Down1,
    /// Throughput up, eight streams.
    Up8,
    /// Throughput down, eight streams.
    Down8,
    /// Round trips of 64 bytes.
    RoundTrips,
    /// New connections, one at a time.
    Connections1,
    /// New connections, sixteen at a time.
    Connections16,
    /// Lookups of names.
    Lookups,
    /// Thousands of idle connections.
    IdleConnections,
    /// Memory and CPU with nothing to do.
    Idle,
    /// Requests of a pod's that come to the machine.
    Intercepts,
    /// Requests of a pod's that no rule wants.
    Router,
}

impl Topic {
    /// Those that are done again and again for every way.
    pub const REPEATED: [Self; 8] = [
        Self::Up1,
        Self::Down1,
        Self::Up8,
        Self::Down8,
        Self::RoundTrips,
        Self::Connections1,
        Self::Connections16,
        Self::Lookups,
    ];
    /// Those that are done for themselves.
    pub const OTHERS: [Self; 4] = [
        Self::IdleConnections,
        Self::Idle,
        Self::Intercepts,
        Self::Router,
    ];
}

impl Measure {
    /// Those of ways from the machine to a pod, in the order in which they are shown.
    pub const OF_WAYS: [Self; 20] = [
        Self::Up1,
        Self::Down1,
        Self::Up8,
        Self::Down8,
        Self::RoundTrip,
        Self::RoundTripP99,
        Self::Connections1,
        Self::Connections16,
        Self::Lookup,
        Self::Lookups16,
        Self::Begin,
        Self::IdleGrowth,
        Self::IdleGrowthEach,
        Self::UpWithout,
        Self::UpWith,
        Self::DownWithout,
        Self::DownWith,
        Self::Resident,
        Self::Proportional,
        Self::IdleCpu,
    ];
    /// Those of requests that come to the machine.
    pub const OF_INTERCEPTS: [Self; 5] = [
        Self::Download,
        Self::Request,
        Self::RequestP99,
        Self::RequestNew,
        Self::RequestsNew16,
    ];
    /// Those of requests that no rule wants.
    pub const OF_ROUTERS: [Self; 2] = [Self::Requests, Self::RequestsP99];

    /// Whether it is memory that idle connections add.
    pub fn is_growth(self) -> bool {
        matches!(self, Self::IdleGrowth | Self::IdleGrowthEach)
    }

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Up1 => "up, 1 stream",
            Self::Down1 => "down, 1 stream",
            Self::Up8 => "up, 8 streams",
            Self::Down8 => "down, 8 streams",
            Self::RoundTrip => "64 B round trip, p50",
            Self::RoundTripP99 => "64 B round trip, p99",
            Self::Connections1 => "connections, 1 at once",
            Self::Connections16 => "connections, 16 at once",
            Self::Lookup => "DNS lookup, p50",
            Self::Lookups16 => "DNS lookups, 16 at once",
            Self::Begin => "until it can be used",
            Self::IdleGrowth => "idle connections: memory",
            Self::IdleGrowthEach => "idle connections: memory of one",
            Self::UpWithout => "up, 1 stream, without them",
            Self::UpWith => "up, 1 stream, beside them",
            Self::DownWithout => "down, 1 stream, without them",
            Self::DownWith => "down, 1 stream, beside them",
            Self::Resident => "idle: resident",
            Self::Proportional => "idle: proportional share",
            Self::IdleCpu => "idle: CPU",
            Self::Download => "download, 1 connection",
            Self::Request => "small request, kept connection, p50",
            Self::RequestP99 => "small request, kept connection, p99",
            Self::RequestNew => "small request, new connection, p50",
            Self::RequestsNew16 => "small requests, new connections, 16 at once",
            Self::Requests => "requests, 32 kept connections",
            Self::RequestsP99 => "requests, 32 kept connections, p99",
        }
    }

    /// What its figures are in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Up1
            | Self::Down1
            | Self::Up8
            | Self::Down8
            | Self::UpWithout
            | Self::UpWith
            | Self::DownWithout
            | Self::DownWith
            | Self::Download => "Gbit/s",
            Self::RoundTrip
            | Self::RoundTripP99
            | Self::Lookup
            | Self::Request
            | Self::RequestP99
            | Self::RequestNew
            | Self::RequestsP99 => "µs",
            Self::Connections1
            | Self::Connections16
            | Self::Lookups16
            | Self::RequestsNew16
            | Self::Requests => "/s",
            Self::Begin => "s",
            Self::IdleGrowthEach => "kB",
            Self::IdleGrowth | Self::Resident | Self::Proportional => "MB",
            Self::IdleCpu => "%",
        }
    }
}
