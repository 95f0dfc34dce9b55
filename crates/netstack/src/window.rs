//! How much a client may send: what its ring takes, and less while all rings together hold too much.
//!
//! smoltcp says how much fits into the ring; what is told instead never goes back behind what was told
//! before (RFC 9293 3.8.6), so that bytes on their way stay welcome.

use crate::segment::{SYN, Segment};

/// What a client was told last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    /// By how many bits the field is shifted (RFC 7323 2.2).
    shift: u8,
    /// The sequence number behind the last byte that the client may send, once it was told one.
    edge: Option<u32>,
    /// Whether it was told less than fits, so that smoltcp wouldn't tell it when there is room again.
    held: bool,
}

impl Window {
    /// Returns the field to say instead of the one in `segment`, so that no more than `room` bytes come
    /// behind those that it acknowledges. `shift` is what a SYN-ACK announces, whose own field isn't shifted.
    pub(crate) fn tell(&mut self, segment: &Segment, shift: Option<u8>, room: usize) -> u16 {
        if segment.has(SYN) {
            // Its own window isn't shifted yet.
            self.shift = shift.unwrap_or(0);
            let told = u16::try_from(room).map_or(segment.window, |room| room.min(segment.window));
            self.edge = Some(segment.ack.wrapping_add(u32::from(told)));
            self.held = told < segment.window;
            return told;
        }
        let fits = usize::from(segment.window) << self.shift;
        let told = self
            .promise(segment.ack, room.min(fits))
            .min(segment.window);
        self.held = told < segment.window;
        told
    }

    /// Returns the field that opens a window that was held back for want of room, when it is worth a
    /// packet: as many bytes more as it says already, and `least` of them.
    pub(crate) fn reopen(
        &mut self,
        ack: u32,
        fits: usize,
        room: usize,
        least: usize,
    ) -> Option<u16> {
        let (may, told) = (fits.min(room), self.left(ack));
        if !self.held || may < told.saturating_mul(2) || may < told + least {
            return None;
        }
        let field = self.promise(ack, may);
        self.held = may < fits;
        Some(field)
    }

    /// What of the bytes that the client may send isn't acknowledged.
    fn left(&self, ack: u32) -> usize {
        let left = self.edge.map_or(0, |edge| edge.wrapping_sub(ack) as i32);
        usize::try_from(left).unwrap_or(0)
    }

    /// Promises `room` bytes, or what was promised before if that is more, and returns the field that says
    /// so. A promise isn't taken back, so what is left of it is rounded up, as Linux does it.
    fn promise(&mut self, ack: u32, room: usize) -> u16 {
        let step = (1 << self.shift) - 1;
        let bytes = (room & !step).max((self.left(ack) + step) & !step);
        let field = u16::try_from(bytes >> self.shift).unwrap_or(u16::MAX);
        self.edge = Some(ack.wrapping_add(u32::from(field) << self.shift));
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::ACK;

    fn said(flags: u8, ack: u32, window: u16) -> Segment {
        Segment {
            source_port: 80,
            target_port: 1,
            seq: 7,
            ack,
            flags,
            window,
            header_len: 20,
            payload_len: 0,
        }
    }

    /// A window that was opened by a SYN-ACK, with a shift of 5.
    fn open(ack: u32) -> Window {
        let mut window = Window::default();
        let told = window.tell(&said(SYN | ACK, ack, 1_000), Some(5), usize::MAX);
        assert_eq!(told, 1_000, "a SYN-ACK says what it said");
        window
    }

    #[test]
    fn with_room_enough_the_field_is_smoltcps() {
        let mut window = open(u32::MAX - 5);
        assert_eq!(window.tell(&said(ACK, 3, 20_000), None, usize::MAX), 20_000);
        assert_eq!(window.reopen(3, 1 << 20, usize::MAX, 1), None);
    }

    #[test]
    fn without_room_what_was_promised_stays_and_nothing_is_added() {
        let mut window = open(0);
        window.tell(&said(ACK, 0, 1_000), None, usize::MAX);
        let mut edge = 32_000;
        for ack in [0, 31, 32, 31_000, 31_999, 32_000, 32_100] {
            let told = u32::from(window.tell(&said(ACK, ack, 1_000), None, 0)) << 5;
            let now = ack + told;
            assert!(now >= edge && now < edge.max(ack) + 32, "{ack}: {told}");
            edge = now;
        }
    }

    #[test]
    fn a_window_that_was_held_opens_when_it_is_worth_it() {
        let mut window = open(0);
        assert_eq!(window.tell(&said(ACK, 1_000, 9_000), None, 4_096), 128);
        assert_eq!(
            window.reopen(1_000, 1 << 20, 6_000, 1_000),
            None,
            "little more"
        );
        assert_eq!(window.reopen(1_000, 1 << 20, 65_536, 1_000), Some(2_048));
        assert_eq!(window.reopen(1_000, 1 << 20, 65_536, 1_000), None, "told");
        // Still less than fits: there may be more to tell.
        assert_eq!(window.reopen(1_000, 1 << 20, 1 << 20, 1_000), Some(32_768));
        assert_eq!(window.reopen(1_000, 1 << 20, 1 << 20, 1_000), None);
    }

    #[test]
    fn a_window_that_isnt_scaled_opens_as_far_as_its_field_does() {
        let mut window = Window::default();
        window.tell(&said(SYN | ACK, 0, 65_535), None, usize::MAX);
        assert_eq!(window.tell(&said(ACK, 65_535, 65_535), None, 0), 0);
        assert_eq!(window.reopen(65_535, 1 << 20, 1 << 20, 1), Some(65_535));
    }
}
