//! Counters.

/// What a stack has done since it was made, and how full it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Packets taken in, whatever became of them.
    pub packets_in: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Bytes of packets taken in.
    pub bytes_in: u64,
    /// Bytes of packets handed out.
    pub bytes_out: u64,
    /// Dropped: shorter or stranger than their headers allow.
    pub malformed: u64,
    /// Dropped: a checksum was wrong.
    pub bad_checksum: u64,
    /// Dropped: from or to an address that is no single host elsewhere.
    pub martian: u64,
    /// Echo requests received for the owner.
    pub echoes_in: u64,
    /// Echo replies sent.
    pub echoes_out: u64,
    /// Dropped: ICMP that is no echo request, and is not carried.
    pub icmp_ignored: u64,
    /// Dropped: neither TCP nor UDP nor ICMP.
    pub unsupported: u64,
    /// Fragments taken for reassembly.
    pub fragments: u64,
    /// Datagrams given up because fragments were missing, overlapping or too many.
    pub reassembly_failed: u64,
    /// Flows requested.
    pub requested: u64,
    /// Flows accepted.
    pub accepted: u64,
    /// Flows refused with a reset.
    pub refused: u64,
    /// Flows and datagrams answered with an ICMP message.
    pub unreachable: u64,
    /// SYNs dropped because `max_flows` were there.
    pub dropped_max_flows: u64,
    /// SYNs dropped because `max_pending` waited for a decision.
    pub dropped_max_pending: u64,
    /// Flows that were forgotten because `max_pending` waited, these for long, and others asked.
    pub forgotten: u64,
    /// SYNs that repeated one already held.
    pub repeated_syns: u64,
    /// Resets sent to segments that belong to no flow.
    pub stray_resets: u64,
    /// Flows that ended by a reset, from either side.
    pub reset: u64,
    /// Flows that ended by a FIN from each side.
    pub finished: u64,
    /// Datagrams received for the owner.
    pub datagrams_in: u64,
    /// Datagrams sent for the owner.
    pub datagrams_out: u64,
    /// Datagrams dropped because the owner did not take earlier ones.
    pub datagrams_dropped: u64,
    /// Own answers dropped because the owner did not take earlier packets.
    pub replies_dropped: u64,
    /// Flows there now, undecided ones included.
    pub flows: usize,
    /// Flows waiting for a decision now.
    pub pending: usize,
    /// Buffers kept for the next flow now.
    pub pooled_buffers: usize,
    /// Bytes that wait now: packets and datagrams for the owner, fragments for their rest, and what
    /// flows have received and not handed out, or taken and not seen acknowledged.
    pub buffered: usize,
}
