//! What a stack is told when it is made.

use std::time::Duration;

/// The size of the largest packet the stack takes or hands out, in bytes.
pub const MAX_PACKET: usize = 65_535;

const MIN_MTU: usize = 1_280;
const MIN_BUFFER: usize = 16 * 1024;
const MAX_BUFFER: usize = 256 * 1024 * 1024;
const BUFFER_STEP: usize = 64 * 1024;
const MIN_TIME: Duration = Duration::from_secs(1);
const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);

/// Limits and sizes of one [`Stack`](crate::Stack).
///
/// A value outside its bounds is brought to the nearest bound when the stack is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// The device's MTU in bytes, 1,280 (what IPv6 demands) to 65,535. Default 1,500.
    pub mtu: usize,
    /// The receive buffer of a flow in bytes, rounded up to 64 KiB. Default 1 MiB: less costs
    /// throughput, more costs cache locality. Only pages that held data are resident.
    pub rx_buffer: usize,
    /// The transmit buffer of a flow in bytes; as [`rx_buffer`](Self::rx_buffer).
    pub tx_buffer: usize,
    /// How many bytes the rings of all flows may hold together before each may hold less, down to 8 KiB:
    /// flows that stand still must neither fill the memory nor stop the others. Default 64 MiB.
    pub max_buffered: usize,
    /// How many flows may exist at once, undecided ones included. A SYN beyond it is dropped,
    /// so the client tries again. Default 16,384.
    pub max_flows: usize,
    /// How many flows may wait for a decision at once. Default 4,096. Beyond it a SYN takes the place of
    /// the flow that waits longest, if that has been for a second, or is dropped.
    pub max_pending: usize,
    /// Whether the device takes packets up to 64 KiB with unfinished checksums and splits them
    /// itself (a TUN device with `IFF_VNET_HDR`). Default on.
    pub segmentation: bool,
    /// After how long a silence a client is asked whether it is still there. A live kernel always
    /// answers, even for a stopped program. Default 5 min.
    pub keep_alive: Duration,
    /// After how long a silence, while an answer is owed, a client counts as gone and its flow is
    /// reset. Default 924 s, what Linux does with `tcp_retries2` at 15.
    pub dead_after: Duration,
    /// After how long an idle flow gives the pages of its empty buffers back, up to twice that; a tenth of a second
    /// while those of all flows have more than half of `max_buffered`. Default 5 s.
    pub trim_after: Duration,
    /// A fixed seed for initial sequence numbers, for reproducible tests. Default: a random one.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mtu: 1_500,
            rx_buffer: 1024 * 1024,
            tx_buffer: 1024 * 1024,
            max_buffered: 64 * 1024 * 1024,
            max_flows: 16_384,
            max_pending: 4_096,
            segmentation: true,
            keep_alive: Duration::from_secs(300),
            dead_after: Duration::from_secs(924),
            trim_after: Duration::from_secs(5),
            seed: None,
        }
    }
}

impl Config {
    /// Returns the configuration with every value within its bounds.
    pub(crate) fn bounded(mut self) -> Self {
        let buffer = |size: usize| {
            let step = if size < BUFFER_STEP {
                MIN_BUFFER
            } else {
                BUFFER_STEP
            };
            size.clamp(MIN_BUFFER, MAX_BUFFER).next_multiple_of(step)
        };
        self.mtu = self.mtu.clamp(MIN_MTU, MAX_PACKET);
        self.rx_buffer = buffer(self.rx_buffer);
        self.tx_buffer = buffer(self.tx_buffer);
        for time in [
            &mut self.keep_alive,
            &mut self.dead_after,
            &mut self.trim_after,
        ] {
            *time = (*time).clamp(MIN_TIME, MAX_TIME);
        }
        self.max_flows = self.max_flows.clamp(1, u32::MAX as usize / 2);
        self.max_pending = self.max_pending.max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_their_bounds_are_brought_to_the_nearest() {
        let config = Config {
            mtu: 1,
            rx_buffer: 0,
            tx_buffer: usize::MAX,
            max_flows: 0,
            keep_alive: Duration::MAX,
            dead_after: Duration::ZERO,
            ..Config::default()
        };
        let bounded = config.bounded();
        assert_eq!(bounded.mtu, MIN_MTU);
        assert_eq!(bounded.rx_buffer, MIN_BUFFER);
        assert_eq!(bounded.tx_buffer, MAX_BUFFER);
        assert_eq!(bounded.max_flows, 1);
        assert_eq!(
            (bounded.keep_alive, bounded.dead_after),
            (MAX_TIME, MIN_TIME)
        );
    }

    #[test]
    fn the_default_is_within_its_bounds() {
        let (plain, bounded) = (Config::default(), Config::default().bounded());
        assert_eq!(format!("{plain:?}"), format!("{bounded:?}"));
    }
}
