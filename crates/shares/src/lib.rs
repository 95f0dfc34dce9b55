//! How much each of many may hold of a memory that they share. Pure.
//!
//! What one holds can't be taken from it again: bytes of a connection are kept until its reader takes them.
//! So who stands still must never have got much. Each begins with a first share, which is the smaller the
//! more is held; what it may hold beyond that it has to have moved before, as with TCP's slow start
//! (RFC 5681 section 3.1). Hundreds that never move so leave most of it to one that does.

/// What each may hold at first where nothing is held, in bytes.
pub const FIRST: u64 = 1 << 20;
/// What each may hold at first whatever the others do, in bytes: it always goes on.
pub const LEAST: u64 = 8 << 10;
/// What each that moves may hold whatever the others do, in bytes.
pub const FLOOR: u64 = 16 << 10;
/// The most that each that moves may hold whatever the others do, in bytes.
pub const CEILING: u64 = 512 << 10;

/// What readers' kernels and other buffers on the way take of a connection that nobody reads, in bytes: by
/// so much nothing is shown to move. Linux' receive buffers begin with 64 KiB (tcp(7), `tcp_rmem`), and before
/// them sockets of ours take 128 KiB and what is under way.
const ABSORBED: u64 = 256 << 10;
/// What everything behind a memory of this machine takes of a connection that nobody reads, in bytes: Linux lets receive
/// buffers grow to 6 MiB and send buffers to 4 MiB (tcp(7), `tcp_rmem` and `tcp_wmem`), of which about half is for
/// bytes, and a flow may keep as much again for the far end.
const ABSORBED_NEARBY: u64 = 10 << 20;
/// One has a part at most, of what is left where nothing is held.
const PART: u128 = 8;
/// Nearby, each begins with so small a part at most, so that those who come first leave something to hundreds.
const SMALL_PART: u64 = 64;
/// What each may hold at first shrinks with this power of what is left.
const STEEP: u32 = 8;
/// What is left is measured in so many parts of all.
const SCALE: u64 = 1 << 10;

/// A memory that many share.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// What all may hold together, in bytes, but for what each may whatever the others do.
    pub limit: u64,
    /// What they hold, in bytes.
    pub held: u64,
    /// How many they are.
    pub count: u64,
}

impl Shares {
    /// The most that one may hold now, in bytes, that has moved `moved` so far.
    pub fn most(&self, moved: u64) -> u64 {
        self.grown(self.first(), moved)
    }

    fn grown(&self, first: u64, moved: u64) -> u64 {
        let shown = moved.saturating_sub(first + ABSORBED);
        self.part()
            .max(self.floor())
            .min(first.saturating_add(shown))
    }

    /// As [`Shares::most`], of a memory that is filled and emptied within this machine. Who begins with little isn't slow there:
    /// so each begins with no more than `begin`, and has to have moved more than what fills all that is behind.
    pub fn most_nearby(&self, moved: u64, begin: u64) -> u64 {
        let begin = begin.min(self.limit / SMALL_PART).min(FIRST);
        let first = self.shrunk(begin).max(LEAST);
        self.grown(first, moved.saturating_sub(ABSORBED_NEARBY))
    }

    /// What each may be offered at first that doesn't use it for now, in bytes: an equal part of half of all, as it isn't taken
    /// back, but [`FLOOR`] in any case.
    pub fn offer(&self) -> u64 {
        (self.limit / 2 / self.count.max(1)).max(FLOOR)
    }

    /// What each that moves may hold whatever the others do: beyond the limit they have half as much again to
    /// share, in equal parts.
    pub fn floor(&self) -> u64 {
        let more = (self.limit / 2).saturating_add(self.limit);
        (more.saturating_sub(self.held) / self.count.max(1)).clamp(FLOOR, CEILING)
    }

    fn left(&self) -> u64 {
        self.limit.saturating_sub(self.held)
    }

    /// With half of all left a quarter of what it is with all of it, so that those who stop after they have
    /// moved leave something to those who come after them.
    fn part(&self) -> u64 {
        let left = u128::from(self.left());
        let part = left * left / (u128::from(self.limit.max(1)) * PART);
        // No more than what is left.
        u64::try_from(part).unwrap_or(self.limit)
    }

    /// With three quarters of all left a tenth of [`FIRST`], with half of it the least: a few that never move have what
    /// one needs that begins over a long way, and thousands less than all together.
    fn first(&self) -> u64 {
        self.shrunk(FIRST).max(LEAST)
    }

    fn shrunk(&self, first: u64) -> u64 {
        let left = u128::from(self.left()) * u128::from(SCALE) / u128::from(self.limit.max(1));
        // At most `SCALE`.
        let left = u64::try_from(left).unwrap_or(SCALE);
        (0..STEEP).fold(first, |first, _| first * left / SCALE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 64 << 20;

    fn shares(held: u64, count: u64) -> Shares {
        Shares {
            limit: LIMIT,
            held,
            count,
        }
    }

    /// So many come one after the other, each having moved so much, and take all that they may.
    fn after(count: u64, moved: u64) -> Shares {
        let taken = |held, count| held + shares(held, count).most(moved);
        shares((0..count).fold(0, taken), count)
    }

    #[test]
    fn one_alone_has_a_first_share_and_then_what_it_has_moved_up_to_its_part() {
        let alone = shares(0, 1);
        assert_eq!(alone.most(0), FIRST);
        assert_eq!(alone.most(FIRST + ABSORBED), FIRST);
        assert_eq!(alone.most(FIRST + ABSORBED + 1_000), FIRST + 1_000);
        assert_eq!(alone.most(u64::MAX), LIMIT / 8);
    }

    #[test]
    fn nearby_a_thousand_that_only_filled_what_is_behind_them_leave_most_to_one_who_moves() {
        let limit = 16 << 20;
        let taken = |held, count| {
            let shares = Shares { limit, held, count };
            held + shares.most_nearby(8 << 20, u64::MAX)
        };
        let held = (0..1_000).fold(0, taken);
        let count = 1_001;
        let most = Shares { limit, held, count }.most_nearby(u64::MAX, u64::MAX);
        // Two of the pieces in which bytes move.
        assert!(most >= 120 << 10, "{most} of what {held} leaves");
    }

    #[test]
    fn thousands_that_are_idle_are_offered_little_and_one_beside_them_grows_as_alone() {
        let idle = shares(0, 10_000);
        assert_eq!(idle.most_nearby(0, idle.offer()), FLOOR);
        assert_eq!(idle.most_nearby(u64::MAX, idle.offer()), LIMIT / 8);
        let few = shares(0, 20);
        assert_eq!(few.most_nearby(0, few.offer()), FIRST);
    }

    #[test]
    fn hundreds_who_never_move_leave_most_to_one_who_does() {
        for (still, least) in [
            (64, 4 << 20),
            (256, 2 << 20),
            (1_000, 1 << 20),
            (3_000, 512 << 10),
        ] {
            let most = after(still, 0).most(u64::MAX);
            assert!(most >= least, "{most} beside {still}");
        }
    }

    #[test]
    fn those_who_stop_after_they_have_moved_fill_no_more_than_half_more_and_a_floor_each() {
        for count in [10, 100, 1_000, 8_000] {
            let full = after(count, u64::MAX);
            let most = LIMIT * 3 / 2 + count * FLOOR;
            assert!(full.held <= most, "{} by {count}", full.held);
            assert!(full.most(u64::MAX) >= FLOOR && full.most(0) >= LEAST);
        }
    }

    #[test]
    fn nothing_to_share_is_no_error() {
        let nothing = Shares {
            limit: 0,
            held: 5,
            count: 0,
        };
        assert_eq!((nothing.most(0), nothing.most(u64::MAX)), (LEAST, FLOOR));
        let all = Shares {
            limit: u64::MAX,
            held: 0,
            count: 1,
        };
        assert_eq!(all.most(0), FIRST);
    }
}
