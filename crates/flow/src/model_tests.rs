//! Random programs for several flows over carriers that break, against a simple model: every byte arrives
//! once and in order or the flow is reset, and memory stays within its budget.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use proptest::prelude::*;

use super::*;
use crate::attempts::Attempts;
use crate::near::Near;

const FLOWS: usize = 3;
const CARRIERS: usize = 3;
/// The two sides of each flow. The machine is the one that comes with another carrier.
const MACHINE: usize = 0;
const MANAGER: usize = 1;

#[derive(Debug, Clone)]
enum Step {
    Say(usize, usize),
    /// A side that says little at a time, often.
    Murmur(usize, usize),
    End(usize),
    /// A side takes no more, or takes again.
    Stall(usize, bool),
    Deliver(usize, usize),
    /// It is time to acknowledge.
    Tell(usize),
    /// One frame leaves a side.
    Send(usize),
    /// One frame arrives at a side.
    Arrive(usize),
    /// A side hears that its carrier has broken, if it has.
    Notice(usize),
    /// The machine takes its carrier for broken, though it isn't, and what it said is still under way.
    Doubt,
    /// The machine comes over this carrier.
    Come(usize),
    /// One of the attempts under way reaches the manager, in whatever order.
    Reach(prop::sample::Index),
    /// All that is under way on this carrier is lost, in both directions.
    Kill(usize),
    /// A side gives the flow up.
    Reset(usize),
}

/// Steps with the flow that they are for.
fn step() -> impl Strategy<Value = (usize, Step)> {
    let side = 0..2usize;
    let step = prop_oneof![
        8 => (side.clone(), 1..=CHUNK).prop_map(|(side, size)| Step::Say(side, size)),
        2 => (side.clone(), 1..40usize).prop_map(|(side, count)| Step::Murmur(side, count)),
        1 => side.clone().prop_map(Step::End),
        2 => (side.clone(), any::<bool>()).prop_map(|(side, on)| Step::Stall(side, on)),
        8 => (side.clone(), 1..100_000usize).prop_map(|(side, size)| Step::Deliver(side, size)),
        2 => side.clone().prop_map(Step::Tell),
        12 => side.clone().prop_map(Step::Send),
        12 => side.clone().prop_map(Step::Arrive),
        2 => side.clone().prop_map(Step::Notice),
        1 => Just(Step::Doubt),
        4 => (0..CARRIERS).prop_map(Step::Come),
        4 => any::<prop::sample::Index>().prop_map(Step::Reach),
        1 => (0..CARRIERS).prop_map(Step::Kill),
    ];
    (0..FLOWS, step)
}

fn step_or_reset() -> impl Strategy<Value = (usize, Step)> {
    let reset = (0..FLOWS, 0..2usize).prop_map(|(flow, side)| (flow, Step::Reset(side)));
    prop_oneof![150 => step(), 1 => reset]
}

/// One flow's stream on a carrier.
struct Link {
    carrier: usize,
    /// Frames on their way to each side.
    coming: [VecDeque<FlowFrame>; 2],
    /// Whether the carrier broke under it.
    broken: bool,
    /// Whether a side has let go of it: nothing of it concerns that side any more.
    left: [bool; 2],
    /// What the machine said first: what it had received, and how often it had come.
    request: (u64, u64),
    /// Whether that is still under way.
    is_coming: bool,
}

impl Link {
    fn new(carrier: usize, request: (u64, u64)) -> Self {
        Self {
            carrier,
            coming: [VecDeque::new(), VecDeque::new()],
            broken: false,
            left: [false; 2],
            request,
            is_coming: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has a stream.
    On(usize),
    /// It has come with this stream, and waits for the manager's answer.
    Asking(usize),
    /// It has none.
    Apart,
    Over(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Closed,
    Reset,
}

struct Side {
    near: Near,
    state: State,
    /// Takes nothing of what has come.
    stalled: bool,
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

struct Flow {
    sides: [Side; 2],
    links: Vec<Link>,
    /// How often the machine has come.
    come: u64,
    /// What the manager knows of that.
    attempts: Attempts,
}

/// The flows, and what each of the two processes keeps for all of them.
struct World {
    flows: Vec<Flow>,
    budgets: [&'static Budget; 2],
    limit: u64,
}

/// What a process may hold: so little that flows get into each other's way, or enough for windows to grow.
fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![Just(300 << 10), Just(32 << 20)]
}

impl World {
    fn new(limit: u64) -> Self {
        let budgets = [(); 2].map(|()| &*Box::leak(Box::new(Budget::new(limit))));
        let flow = |index| Flow {
            sides: budgets.map(Side::new),
            links: vec![Link {
                is_coming: false,
                ..Link::new(index % CARRIERS, (0, 0))
            }],
            come: 0,
            attempts: Attempts::default(),
        };
        Self {
            flows: (0..FLOWS).map(flow).collect(),
            budgets,
            limit,
        }
    }

    fn run(&mut self, steps: &[(usize, Step)]) {
        for (flow, step) in steps {
            if let Step::Kill(carrier) = *step {
                self.kill(carrier);
            } else {
                self.flows[*flow].step(step);
            }
            self.check();
        }
    }

    /// A carrier is lost to all flows on it, and to none beside it.
    fn kill(&mut self, carrier: usize) {
        for link in self.flows.iter_mut().flat_map(|flow| &mut flow.links) {
            if link.carrier == carrier {
                link.broken = true;
                link.is_coming = false;
                link.coming.iter_mut().for_each(VecDeque::clear);
            }
        }
    }

    fn check(&self) {
        for (side, budget) in self.budgets.iter().enumerate() {
            let flows = || self.flows.iter().map(|flow| &flow.sides[side]);
            let kept: u64 = flows().map(Side::check).sum();
            assert_eq!(budget.used(), kept);
            let most = self.limit + (CHUNK + FLOWS * Budget::SHARE as usize) as u64;
            assert!(kept <= most, "{kept} of {most} bytes");
        }
    }

    /// No carrier breaks any more and nobody stalls: every flow comes to its end.
    fn finish(&mut self) {
        for side in self.flows.iter_mut().flat_map(|flow| &mut flow.sides) {
            side.end();
            side.stalled = false;
        }
        for _ in 0..3_000 {
            for flow in &mut self.flows {
                flow.go_on();
            }
            self.check();
            if self.flows.iter().all(Flow::is_over) {
                return;
            }
        }
        let states = self.flows.iter().map(|flow| flow.sides.each_ref());
        let states: Vec<_> = states.map(|sides| sides.map(|side| side.state)).collect();
        panic!("it doesn't come to its end: {states:?}");
    }
}

impl Flow {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Say(side, size) => self.sides[side].say(size),
            Step::Murmur(side, count) => (0..count).for_each(|_| self.sides[side].say(1)),
            Step::End(side) => self.sides[side].end(),
            Step::Stall(side, stalled) => self.sides[side].stalled = stalled,
            Step::Deliver(side, size) => self.sides[side].deliver(size),
            Step::Tell(side) => self.sides[side].ledger.handle_ack_timeout(),
            Step::Send(side) => self.send(side),
            Step::Arrive(side) => self.arrive(side),
            Step::Notice(side) => self.notice(side),
            Step::Doubt => self.leave(MACHINE),
            Step::Come(carrier) => self.come(carrier),
            Step::Reach(index) => self.reach(index),
            Step::Kill(_) => {}
            Step::Reset(side) => self.reset(side),
        }
        for side in 0..2 {
            self.note_done(side);
        }
    }

    fn is_over(&self) -> bool {
        let over = |side: &Side| matches!(side.state, State::Over(_));
        self.sides.iter().all(over)
    }

    fn send(&mut self, side: usize) {
        let State::On(link) = self.sides[side].state else {
            return;
        };
        let link = &mut self.links[link];
        if let Some(frame) = self.sides[side].ledger.poll_frame()
            && !link.broken
            && !link.left[1 - side]
        {
            link.coming[1 - side].push_back(frame);
        }
    }

    fn arrive(&mut self, side: usize) {
        let (State::On(at) | State::Asking(at)) = self.sides[side].state else {
            return;
        };
        let Some(frame) = self.links[at].coming[side].pop_front() else {
            return;
        };
        let asking = self.sides[side].state == State::Asking(at);
        let side = &mut self.sides[side];
        match frame.kind.unwrap() {
            Kind::Opened(opened) if asking => {
                assert_eq!(side.ledger.handle_resumed(opened.received), Ok(()));
                side.state = State::On(at);
            }
            // There is no such flow any more.
            Kind::Failed(_) if asking => side.lose(),
            kind => {
                assert!(!asking, "the answer comes first");
                match side.ledger.handle_frame(kind) {
                    Ok(Heard::Nothing) => {}
                    Ok(Heard::Reset) => side.state = State::Over(Ending::Reset),
                    Err(violation) => panic!("{violation}"),
                }
            }
        }
    }

    /// A side learns that nothing more comes over its stream.
    fn notice(&mut self, side: usize) {
        let (State::On(at) | State::Asking(at)) = self.sides[side].state else {
            return;
        };
        let link = &self.links[at];
        let is_ended = link.left[1 - side] && link.coming[side].is_empty() && !link.is_coming;
        if link.broken || is_ended {
            self.leave(side);
        }
    }

    fn leave(&mut self, side: usize) {
        if let State::On(at) | State::Asking(at) = self.sides[side].state {
            self.links[at].left[side] = true;
            self.links[at].coming[side].clear();
            self.sides[side].state = State::Apart;
        }
    }

    fn come(&mut self, carrier: usize) {
        let machine = &mut self.sides[MACHINE];
        if let State::Asking(at) = machine.state {
            // It took too long; what was asked may still arrive.
            self.links[at].left[MACHINE] = true;
            machine.state = State::Apart;
        }
        if machine.state == State::Apart {
            self.come += 1;
            let request = (machine.ledger.received(), self.come);
            machine.state = State::Asking(self.links.len());
            self.links.push(Link::new(carrier, request));
        }
    }

    fn reach(&mut self, index: prop::sample::Index) {
        let coming = self.links.iter().enumerate();
        let coming: Vec<usize> = coming
            .filter_map(|(at, link)| link.is_coming.then_some(at))
            .collect();
        if !coming.is_empty() {
            self.reach_link(coming[index.index(coming.len())]);
        }
    }

    fn reach_link(&mut self, at: usize) {
        self.links[at].is_coming = false;
        let (received, attempt) = self.links[at].request;
        let manager = &mut self.sides[MANAGER];
        if let State::Over(_) = manager.state {
            let unknown = frame::failed(&frame::Failed::new(Default::default(), ""));
            self.answer(at, unknown);
        } else if self.attempts.handle_arrived(attempt) {
            assert_eq!(manager.ledger.handle_resumed(received), Ok(()));
            let answer = frame::resumed(manager.ledger.received());
            self.leave(MANAGER);
            self.sides[MANAGER].state = State::On(at);
            self.answer(at, answer);
        } else {
            self.links[at].left[MANAGER] = true;
        }
    }

    fn answer(&mut self, at: usize, answer: FlowFrame) {
        let link = &mut self.links[at];
        if !link.broken && !link.left[MACHINE] {
            link.coming[MACHINE].push_back(answer);
        }
    }

    fn reset(&mut self, side: usize) {
        match self.sides[side].state {
            State::Over(_) => return,
            State::On(at) if !self.links[at].broken && !self.links[at].left[1 - side] => {
                self.links[at].coming[1 - side].push_back(frame::reset());
            }
            _ => {}
        }
        self.sides[side].state = State::Over(Ending::Reset);
    }

    /// A side on which nothing is left to do is over; what it said last is still under way.
    fn note_done(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if matches!(side.state, State::On(_)) && side.ledger.is_done() {
            side.state = State::Over(Ending::Closed);
        }
    }

    /// Does whatever there is to do.
    fn go_on(&mut self) {
        for side in 0..2 {
            for step in [
                Step::Tell(side),
                Step::Send(side),
                Step::Arrive(side),
                Step::Deliver(side, usize::MAX),
                Step::Notice(side),
            ] {
                self.step(&step);
            }
        }
        let machine_is_over = matches!(self.sides[MACHINE].state, State::Over(_));
        let is_asked = self.links.iter().any(|link| link.is_coming);
        match self.sides.each_ref().map(|side| side.state) {
            [State::Apart, _] => self.come(0),
            // Nobody comes any more.
            [_, State::Apart] if machine_is_over && !is_asked => self.sides[MANAGER].lose(),
            [State::Over(_), State::On(at)] if self.links[at].coming[MANAGER].is_empty() => {
                // A side that is over lets go of its stream.
                self.links[at].left[MACHINE] = true;
            }
            [State::On(at), State::Over(_)] if self.links[at].coming[MACHINE].is_empty() => {
                self.links[at].left[MANAGER] = true;
            }
            _ => {}
        }
        if let Some(at) = self.links.iter().position(|link| link.is_coming) {
            self.reach_link(at);
        }
    }
}

impl Side {
    fn new(budget: &'static Budget) -> Self {
        Self {
            near: Near::new(budget),
            state: State::On(0),
            stalled: false,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    fn say(&mut self, size: usize) {
        if !self.is_over() {
            self.near.say(size);
        }
    }

    fn end(&mut self) {
        if !self.is_over() {
            self.near.end();
        }
    }

    fn deliver(&mut self, size: usize) {
        if !self.stalled && !self.is_over() {
            self.near.deliver(size);
        }
    }

    /// The flow won't be resumed: it was closed if both ends are, and else is reset.
    fn lose(&mut self) {
        while !self.stalled && self.ledger.undelivered().is_some() {
            self.deliver(usize::MAX);
        }
        self.state = State::Over(if self.ledger.is_settled() {
            Ending::Closed
        } else {
            Ending::Reset
        });
    }

    /// Checks what it holds, and returns how much of that counts.
    fn check(&self) -> u64 {
        let held = |pieces: &Pieces| {
            let bytes = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            assert!(bytes <= WINDOW);
            assert!(
                pieces.len() as u64 <= 2 + bytes / 2_048,
                "many small pieces"
            );
            bytes
        };
        let granted = self.ledger.window;
        assert!(held(&self.ledger.undelivered) <= granted);
        held(&self.ledger.kept) + granted - Budget::SHARE
    }
}

/// What has become of each flow, where `may_be_reset` tells whether somebody has given one up.
fn judge(world: &World, may_be_reset: bool) {
    for flow in &world.flows {
        let [machine, manager] = &flow.sides;
        for (from, to) in [(machine, manager), (manager, machine)] {
            assert!(
                from.said.starts_with(&to.heard),
                "other bytes than were said"
            );
            assert!(
                !to.heard_end || from.said == to.heard,
                "an end before its time"
            );
            if to.state == State::Over(Ending::Closed) {
                assert!(to.heard_end && to.heard == from.said);
            } else {
                assert!(may_be_reset, "nobody gave it up: {:?}", to.state);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn every_byte_arrives_once_and_in_order_whichever_carriers_break(
        steps in prop::collection::vec(step(), 0..1_000),
        limit in limit(),
    ) {
        let mut world = World::new(limit);
        world.run(&steps);
        world.finish();
        judge(&world, false);
        let budgets = world.budgets;
        drop(world);
        prop_assert_eq!(budgets.map(Budget::used), [0, 0]);
    }

    #[test]
    fn a_flow_that_somebody_gives_up_is_reset_and_touches_no_other(
        steps in prop::collection::vec(step_or_reset(), 0..600),
        limit in limit(),
    ) {
        let mut world = World::new(limit);
        world.run(&steps);
        world.finish();
        judge(&world, true);
        for (index, flow) in world.flows.iter().enumerate() {
            let given_up = |(flow, step): &(usize, Step)| {
                *flow == index && matches!(step, Step::Reset(_))
            };
            if !steps.iter().any(given_up) {
                let closed = |side: &Side| side.state == State::Over(Ending::Closed);
                prop_assert!(flow.sides.iter().all(closed));
            }
        }
    }
}
