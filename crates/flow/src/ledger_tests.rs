use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use proptest::prelude::*;

use kdev_shares::{FLOOR, LEAST};

use super::*;
use crate::near::Near;

/// Two sides of one flow, and what is under way between them on the current carrier.
#[derive(Default)]
struct Pair {
    sides: [Side; 2],
}

struct Side {
    near: Near,
    /// Frames on their way to this side.
    coming: VecDeque<FlowFrame>,
}

impl Deref for Side {
    type Target = Near;

    fn deref(&self) -> &Near {
        &self.near
    }
}

impl DerefMut for Side {
    fn deref_mut(&mut self) -> &mut Near {
        &mut self.near
    }
}

static PLENTY: Budget = Budget::new(1 << 40);

impl Default for Side {
    fn default() -> Self {
        Self {
            near: Near::new(&PLENTY),
            coming: VecDeque::new(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Say(usize, usize),
    End(usize),
    /// One frame leaves a side.
    Send(usize),
    /// One frame arrives at a side.
    Arrive(usize),
    Deliver(usize, usize),
    Tell(usize),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0..2usize;
    prop_oneof![
        4 => (side.clone(), 1..=CHUNK).prop_map(|(side, size)| Step::Say(side, size)),
        1 => side.clone().prop_map(Step::End),
        6 => side.clone().prop_map(Step::Send),
        6 => side.clone().prop_map(Step::Arrive),
        4 => (side.clone(), 1..100_000usize).prop_map(|(side, size)| Step::Deliver(side, size)),
        1 => side.prop_map(Step::Tell),
        1 => Just(Step::Cut),
    ]
}

impl Pair {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Say(side, size) => self.sides[side].say(size),
            Step::End(side) => self.sides[side].end(),
            Step::Send(side) => {
                if let Some(frame) = self.sides[side].ledger.poll_frame() {
                    self.sides[1 - side].coming.push_back(frame);
                }
            }
            Step::Arrive(side) => self.sides[side].arrive(),
            Step::Deliver(side, size) => self.sides[side].deliver(size),
            Step::Tell(side) => self.sides[side].ledger.handle_ack_timeout(),
            Step::Cut => self.cut(),
        }
        for side in &self.sides {
            side.check();
        }
    }

    fn cut(&mut self) {
        let received = [0, 1].map(|side: usize| self.sides[side].ledger.received());
        for (side, other) in [(0, 1), (1, 0)] {
            self.sides[side].coming.clear();
            let resumed = self.sides[side].ledger.handle_resumed(received[other]);
            resumed.unwrap();
        }
    }

    /// Lets both go on until nothing more happens.
    fn finish(&mut self) {
        for side in &mut self.sides {
            side.end();
        }
        for _ in 0..10_000 {
            for side in 0..2 {
                self.step(&Step::Tell(side));
                self.step(&Step::Send(side));
                self.step(&Step::Arrive(side));
                self.step(&Step::Deliver(side, usize::MAX));
            }
            if self.sides.iter().all(|side| side.ledger.is_done()) {
                return;
            }
        }
        panic!(
            "it doesn't come to its end: {:?}",
            self.sides.each_ref().map(|one| &one.ledger)
        );
    }
}

impl Side {
    fn arrive(&mut self) {
        if let Some(frame) = self.coming.pop_front() {
            let heard = self.ledger.handle_frame(frame.kind.unwrap());
            assert_eq!(heard, Ok(Heard::Nothing));
        }
    }

    fn check(&self) {
        let bytes = |pieces: &Pieces| pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        assert!(bytes(&self.ledger.kept) <= WINDOW);
        assert!(bytes(&self.ledger.undelivered) <= WINDOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_breaks_every_byte_arrives_once_and_in_order(
        steps in prop::collection::vec(step(), 0..600),
    ) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.step(step);
        }
        pair.finish();
        let [one, other] = &pair.sides;
        prop_assert!(one.said == other.heard && other.said == one.heard);
        prop_assert!(one.heard_end && other.heard_end);
    }

    #[test]
    fn nothing_the_other_side_says_can_do_more_than_end_the_flow(
        frames in prop::collection::vec(hostile(), 0..100),
    ) {
        let mut ledger = Ledger::new(&PLENTY, None);
        ledger.handle_said(vec![0; CHUNK].into());
        for kind in frames {
            if ledger.handle_frame(kind).is_err() {
                break;
            }
            ledger.poll_frame();
            let held: usize = ledger.undelivered.iter().map(Bytes::len).sum();
            prop_assert!(held as u64 <= WINDOW);
        }
    }
}

fn hostile() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (0..2_000_000usize).prop_map(|size| Kind::Data(vec![0; size].into())),
        any::<u64>().prop_map(|delivered| frame::ack(delivered, WINDOW).kind.unwrap()),
        (0..200_000u64).prop_map(|delivered| frame::ack(delivered, WINDOW).kind.unwrap()),
        Just(frame::end().kind.unwrap()),
        Just(frame::opened().kind.unwrap()),
    ]
}

#[test]
fn a_side_that_isnt_read_from_stops_the_other_at_the_window() {
    let mut pair = Pair::default();
    for _ in 0..1_000 {
        pair.step(&Step::Say(0, CHUNK));
        pair.step(&Step::Send(0));
        pair.step(&Step::Arrive(1));
    }
    assert_eq!(pair.sides[0].ledger.room(), 0);
    let said = pair.sides[0].said.len() as u64;
    let most = 2 * Budget::SHARE;
    assert!((most - CHUNK as u64..=most).contains(&said), "{said}");
    assert_eq!(pair.sides[1].ledger.received(), Budget::SHARE);
    pair.finish();
    assert_eq!(pair.sides[1].heard.len() as u64, said);
}

#[test]
fn a_side_that_is_read_from_is_granted_more_until_it_has_the_whole_window() {
    let mut pair = Pair::default();
    for _ in 0..2_000 {
        for _ in 0..400 {
            pair.step(&Step::Say(0, CHUNK));
            pair.step(&Step::Send(0));
        }
        while !pair.sides[1].coming.is_empty() {
            pair.step(&Step::Arrive(1));
        }
        while pair.sides[1].ledger.undelivered().is_some() {
            pair.step(&Step::Deliver(1, usize::MAX));
        }
        pair.step(&Step::Tell(1));
        pair.step(&Step::Send(1));
        pair.step(&Step::Arrive(0));
        if pair.sides[1].ledger.window == WINDOW {
            return;
        }
    }
    panic!(
        "{} bytes is all it was granted",
        pair.sides[1].ledger.window
    );
}

#[test]
fn one_session_cant_use_up_what_others_have() {
    let share = Arc::new(Budget::new(8 << 20));
    let ledger = |share: &Arc<Budget>| Ledger::new(&PLENTY, Some(Arc::clone(share)));
    let mut flows: Vec<Ledger> = (0..100).map(|_| ledger(&share)).collect();
    flows.iter_mut().for_each(have_moved);
    let kept: Vec<u64> = flows.iter_mut().map(fill).collect();
    assert!(kept[0] > Budget::SHARE && kept[99] <= Budget::SHARE);
    let mut other = ledger(&Arc::new(Budget::new(8 << 20)));
    have_moved(&mut other);
    assert!(fill(&mut other) > Budget::SHARE);
    drop(flows);
    assert_eq!(share.used(), 0);
}

#[test]
fn what_is_handed_on_is_told_in_large_pieces_or_in_time() {
    let mut pair = Pair::default();
    pair.step(&Step::Say(0, 100));
    pair.step(&Step::Send(0));
    pair.step(&Step::Arrive(1));
    pair.step(&Step::Deliver(1, 100));
    let ledger = &mut pair.sides[1].ledger;
    assert!(ledger.is_in_debt() && !ledger.has_frame());
    ledger.handle_ack_timeout();
    assert_eq!(ledger.poll_frame(), Some(frame::ack(100, Budget::SHARE)));
    assert!(!ledger.is_in_debt());
}

#[test]
fn a_lie_about_what_was_received_is_found_out() {
    let mut ledger = Ledger::new(&PLENTY, None);
    ledger.handle_said(vec![0; 100].into());
    assert!(ledger.handle_resumed(101).is_err());
    assert!(ledger.handle_resumed(100).is_ok());
    assert!(
        ledger
            .handle_frame(frame::ack(101, 0).kind.unwrap())
            .is_err()
    );
    assert!(ledger.handle_frame(frame::ack(60, 0).kind.unwrap()).is_ok());
    assert!(ledger.handle_resumed(59).is_err(), "it was told already");
}

/// Says as much as may be said, and returns how much that is.
fn fill(flow: &mut Ledger) -> u64 {
    static NOUGHTS: [u8; CHUNK] = [0; CHUNK];
    let before = flow.said;
    while let room @ 1.. = flow.room() {
        flow.handle_said(Bytes::from_static(&NOUGHTS[..room]));
    }
    flow.said - before
}

/// Lets the other side hand on twice what may ever be under way, and grant all of that.
fn have_moved(flow: &mut Ledger) {
    while flow.acked < 2 * WINDOW {
        fill(flow);
        while flow.poll_frame().is_some() {}
        let ack = frame::ack(flow.sent, WINDOW).kind.unwrap();
        flow.handle_frame(ack).unwrap();
    }
}

#[test]
fn a_grant_without_end_is_as_good_as_the_whole_window() {
    let mut ledger = Ledger::new(&PLENTY, None);
    have_moved(&mut ledger);
    let endless = frame::ack(ledger.sent, u64::MAX).kind.unwrap();
    assert_eq!(ledger.handle_frame(endless), Ok(Heard::Nothing));
    assert!(fill(&mut ledger) > WINDOW - CHUNK as u64);
    while ledger.poll_frame().is_some() {}
    assert_eq!(ledger.sent, ledger.said);
}

#[test]
fn those_who_stop_leave_room_for_one_who_moves() {
    static BUDGET: Budget = Budget::new(128 << 20);
    let mut still: Vec<Ledger> = (0..64).map(|_| Ledger::new(&BUDGET, None)).collect();
    still.iter_mut().for_each(have_moved);
    let kept: Vec<u64> = still.iter_mut().map(fill).collect();
    assert!(kept[0] > WINDOW * 3 / 4, "one alone has nearly all");
    assert!(kept.iter().sum::<u64>() <= BUDGET.limit + 64 * FLOOR);
    let mut moving = Ledger::new(&BUDGET, None);
    have_moved(&mut moving);
    assert!(fill(&mut moving) >= FLOOR);
    // What is over is there for others.
    still.truncate(1);
    assert!(fill(&mut moving) > WINDOW / 2);
    drop((still, moving));
    assert_eq!(BUDGET.used(), 0);
}

#[test]
fn hundreds_whose_readers_never_read_leave_what_it_needs_to_one_who_moves() {
    static BUDGET: Budget = Budget::new(64 << 20);
    let mut still: Vec<Ledger> = (0..1_000).map(|_| Ledger::new(&BUDGET, None)).collect();
    let kept: Vec<u64> = still.iter_mut().map(fill).collect();
    assert!(kept[0] > 2 * Budget::SHARE - CHUNK as u64 && kept[999] >= LEAST / 2);
    let mut moving = Ledger::new(&BUDGET, None);
    have_moved(&mut moving);
    assert!(fill(&mut moving) >= 1 << 20);
}

#[test]
fn one_who_has_moved_much_and_is_idle_takes_nothing_from_others() {
    static NEAR: Budget = Budget::new(64 << 20);
    static FAR: Budget = Budget::new(64 << 20);
    let mut pair = Pair::default();
    pair.sides[0].near = Near::new(&NEAR);
    pair.sides[1].near = Near::new(&FAR);
    for _ in 0..200 {
        for _ in 0..400 {
            pair.step(&Step::Say(0, CHUNK));
            pair.step(&Step::Send(0));
        }
        for _ in 0..400 {
            pair.step(&Step::Arrive(1));
            pair.step(&Step::Deliver(1, usize::MAX));
        }
        pair.step(&Step::Tell(1));
        pair.step(&Step::Send(1));
        pair.step(&Step::Arrive(0));
    }
    assert!(pair.sides[1].ledger.window >= 4 << 20);
    while NEAR.used() > 0 {
        for step in [Step::Send(0), Step::Arrive(1), Step::Deliver(1, usize::MAX)] {
            pair.step(&step);
        }
        for step in [Step::Tell(1), Step::Send(1), Step::Arrive(0)] {
            pair.step(&step);
        }
    }
    assert_eq!(FAR.used(), 0);
}

#[test]
fn many_flows_whose_readers_never_read_fill_the_budget_and_a_floor_each_and_no_more() {
    static NEAR: Budget = Budget::new(32 << 20);
    static FAR: Budget = Budget::new(32 << 20);
    const MANY: usize = 8_192;
    let new = |_| (Ledger::new(&NEAR, None), Ledger::new(&FAR, None));
    let mut flows: Vec<(Ledger, Ledger)> = (0..MANY).map(new).collect();
    let most = NEAR.limit + MANY as u64 * FLOOR;
    for _ in 0..2 {
        for (near, far) in &mut flows {
            fill(near);
            while let Some(frame) = near.poll_frame() {
                far.handle_frame(frame.kind.unwrap()).unwrap();
            }
            assert!(near.said > 0, "each is heard");
            assert!(NEAR.used() <= most, "{} of {most}", NEAR.used());
        }
    }
    let there: u64 = flows.iter().map(|(_, far)| far.waiting()).sum();
    assert_eq!(FAR.used(), there, "what waits counts");
    assert!(there <= most, "{there} of {most}");
    // Everybody goes on as soon as there is somebody who reads.
    for (near, far) in &mut flows {
        while let Some(Undelivered::Data(bytes)) = far.undelivered() {
            far.handle_delivered(bytes.len());
        }
        far.handle_ack_timeout();
        near.handle_frame(far.poll_frame().unwrap().kind.unwrap())
            .unwrap();
        assert!(near.room() > 0 || near.has_frame());
    }
    drop(flows);
    assert_eq!((NEAR.used(), FAR.used()), (0, 0));
}

#[test]
fn what_waits_is_bounded_also_when_the_other_sides_keep_more_than_they_may() {
    static BUDGET: Budget = Budget::new(1 << 20);
    let share = Bytes::from(vec![0; CHUNK]);
    let mut flows: Vec<Ledger> = (0..100).map(|_| Ledger::new(&BUDGET, None)).collect();
    let mut reset = 0;
    for flow in &mut flows {
        for _ in 0..Budget::SHARE / CHUNK as u64 {
            let heard = flow.handle_frame(Kind::Data(share.clone())).unwrap();
            reset += u64::from(heard == Heard::Overrun);
        }
    }
    let most = 4 * BUDGET.limit + 100 * (2 * FLOOR + CHUNK as u64);
    assert!(
        reset > 0 && BUDGET.used() <= most,
        "{} of {most}",
        BUDGET.used()
    );
    // A flow that nothing waits for is heard in any case.
    let mut moving = Ledger::new(&BUDGET, None);
    for _ in 0..3 {
        assert_eq!(
            moving.handle_frame(Kind::Data(share.clone())),
            Ok(Heard::Nothing)
        );
        moving.handle_delivered(CHUNK);
    }
    drop((flows, moving));
    assert!(BUDGET.used() == 0 && !BUDGET.is_overrun());
}

#[test]
fn beyond_the_budget_each_flow_has_its_floor_and_no_more() {
    static LITTLE: Budget = Budget::new(1 << 20);
    let mut flows: Vec<Ledger> = (0..100).map(|_| Ledger::new(&LITTLE, None)).collect();
    let kept: Vec<u64> = flows.iter_mut().map(fill).collect();
    assert!(kept.iter().all(|kept| *kept >= LEAST / 2));
    assert!(kept[90..].iter().all(|kept| *kept == LEAST));
    assert!(LITTLE.used() > LITTLE.limit);
}

#[test]
fn one_who_may_keep_no_more_asks_once_and_is_answered_at_once_without_more_being_granted() {
    static NOTHING: Budget = Budget::new(0);
    let (mut near, mut far) = (Ledger::new(&NOTHING, None), Ledger::new(&PLENTY, None));
    for _ in 0..100 {
        fill(&mut near);
        let frames: Vec<FlowFrame> = std::iter::from_fn(|| near.poll_frame()).collect();
        assert_eq!(frames.last(), Some(&frame::full()));
        assert_eq!(
            frames.iter().filter(|one| **one == frame::full()).count(),
            1
        );
        for frame in frames {
            far.handle_frame(frame.kind.unwrap()).unwrap();
        }
        assert_eq!(far.poll_frame(), None, "nothing was handed on yet");
        let Some(Undelivered::Data(bytes)) = far.undelivered() else {
            panic!("something has come");
        };
        far.handle_delivered(bytes.len());
        let ack = far.poll_frame().expect("it is waited for");
        near.handle_frame(ack.kind.unwrap()).unwrap();
        assert!(near.room() > 0);
        assert_eq!(far.window, Budget::SHARE);
    }
}

#[test]
fn one_who_may_keep_no_more_hears_of_all_that_is_handed_on_bit_by_bit() {
    static NOTHING: Budget = Budget::new(0);
    let (mut near, mut far) = (Ledger::new(&NOTHING, None), Ledger::new(&PLENTY, None));
    fill(&mut near);
    while let Some(frame) = near.poll_frame() {
        far.handle_frame(frame.kind.unwrap()).unwrap();
    }
    // Too little for another piece.
    far.handle_delivered(1_000);
    let ack = far.poll_frame().expect("it is waited for");
    near.handle_frame(ack.kind.unwrap()).unwrap();
    assert_eq!((near.room(), near.has_frame()), (0, false));
    while let Some(Undelivered::Data(bytes)) = far.undelivered() {
        far.handle_delivered(bytes.len());
    }
    let ack = far.poll_frame().expect("the rest is still waited for");
    near.handle_frame(ack.kind.unwrap()).unwrap();
    assert!(near.room() > 0);
}

#[test]
fn one_who_has_only_a_share_hears_of_what_was_handed_on_before_it_is_used_up() {
    static NOTHING: Budget = Budget::new(0);
    let (mut near, mut far) = (Ledger::new(&NOTHING, None), Ledger::new(&NOTHING, None));
    // As long as bytes are handed on there is a frame to be sent, without any timer.
    for _ in 0..100 {
        fill(&mut near);
        let frame = near.poll_frame().expect("there is room");
        far.handle_frame(frame.kind.unwrap()).unwrap();
        while let Some(Undelivered::Data(bytes)) = far.undelivered() {
            far.handle_delivered(bytes.len());
        }
        while let Some(ack) = far.poll_frame() {
            near.handle_frame(ack.kind.unwrap()).unwrap();
        }
    }
}

#[test]
fn what_may_not_be_kept_yet_waits_and_nothing_of_it_is_lost() {
    static NOTHING: Budget = Budget::new(0);
    let said: Bytes = (0..100_000_u32).map(|at| at as u8).collect();
    let (mut ledger, mut heard, mut waits) = (Ledger::new(&NOTHING, None), vec![], said.clone());
    while !waits.is_empty() {
        let (now, later) = ledger.allowed().part(waits);
        if now.is_empty() {
            while ledger.poll_frame().is_some() {}
            let ack = frame::ack(heard.len() as u64, Budget::SHARE);
            ledger.handle_frame(ack.kind.unwrap()).unwrap();
        }
        heard.extend_from_slice(&now);
        ledger.handle_said(now);
        assert!(ledger.kept() <= FLOOR);
        waits = later;
    }
    assert!(heard == said);
}

#[test]
fn a_long_replay_of_small_pieces_takes_no_longer_than_they_are_many() {
    let mut ledger = Ledger::new(&PLENTY, None);
    for _ in 0..60_000 {
        ledger.handle_said(vec![7; 16].into());
    }
    while ledger.poll_frame().is_some() {}
    ledger.handle_resumed(0).unwrap();
    let mut frames = 0;
    while ledger.poll_frame().is_some() {
        frames += 1;
    }
    assert!((1..=60_000).contains(&frames), "{frames}");
}
