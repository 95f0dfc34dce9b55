//! The model's world: flows between a machine and a manager, over carriers that break and overtake.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use proptest::prelude::prop;

use super::*;

/// One flow's stream on a carrier.
pub(super) struct Link {
    pub(super) carrier: usize,
    /// Frames on their way to each side.
    pub(super) coming: [VecDeque<FlowFrame>; 2],
    /// Whether the carrier broke under it.
    pub(super) broken: bool,
    /// Whether a side has let go of it: nothing of it concerns that side any more.
    pub(super) left: [bool; 2],
    /// What the machine said first: what it had received, and how often it had come.
    pub(super) request: (u64, u64),
    /// Whether that is still under way.
    pub(super) is_coming: bool,
}

impl Link {
    pub(super) fn new(carrier: usize, request: (u64, u64)) -> Self {
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
pub(super) enum State {
    /// It has a stream.
    On(usize),
    /// It has come with this stream, and waits for the manager's answer.
    Asking(usize),
    /// It has none.
    Apart,
    Over(Ending),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Closed,
    Reset,
}

pub(super) struct Side {
    pub(super) near: Near,
    pub(super) state: State,
    /// Takes nothing of what has come.
    pub(super) stalled: bool,
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

pub(super) struct Flow {
    pub(super) sides: [Side; 2],
    pub(super) links: Vec<Link>,
    /// How often the machine has come.
    pub(super) come: u64,
    /// What the manager knows of that.
    pub(super) attempts: Attempts,
}

/// The flows, and what each of the two processes keeps for all of them.
pub(super) struct World {
    pub(super) flows: Vec<Flow>,
    pub(super) budgets: [&'static Budget; 2],
    pub(super) limit: u64,
}

impl World {
    /// So many of the flows have moved much already, so that their windows may grow.
    pub(super) fn new(limit: u64, moved: usize) -> Self {
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
        let mut flows: Vec<Flow> = (0..FLOWS).map(flow).collect();
        flows.iter_mut().take(moved).for_each(Flow::move_much);
        Self {
            flows,
            budgets,
            limit,
        }
    }

    pub(super) fn run(&mut self, steps: &[(usize, Step)]) {
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
    pub(super) fn kill(&mut self, carrier: usize) {
        for link in self.flows.iter_mut().flat_map(|flow| &mut flow.links) {
            if link.carrier == carrier {
                link.broken = true;
                link.is_coming = false;
                link.coming.iter_mut().for_each(VecDeque::clear);
            }
        }
    }

    /// What each process counts is what it holds, and however many flows stand still, that is bounded.
    pub(super) fn check(&self) {
        let most = self.limit * 3 / 2 + FLOWS as u64 * kdev_shares::FLOOR;
        for (side, budget) in self.budgets.iter().enumerate() {
            let holdings = self.flows.iter().map(|flow| flow.sides[side].holding());
            let all = holdings.fold(Holding::default(), Holding::and);
            assert!(all.kept <= most, "{} of {most} bytes kept", all.kept);
            // What waits here is kept there.
            let there = all.kept + all.waiting;
            assert_eq!(budget.used(), there);
            assert!(there <= 2 * most, "{there} of {most} bytes, twice");
        }
    }

    /// No carrier breaks any more and nobody stalls: every flow comes to its end.
    pub(super) fn finish(&mut self) {
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
    pub(super) fn step(&mut self, step: &Step) {
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

    pub(super) fn is_over(&self) -> bool {
        let over = |side: &Side| matches!(side.state, State::Over(_));
        self.sides.iter().all(over)
    }

    pub(super) fn send(&mut self, side: usize) {
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

    pub(super) fn arrive(&mut self, side: usize) {
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
                    Ok(Heard::Overrun) => panic!("nobody keeps more than it may"),
                    Err(violation) => panic!("{violation}"),
                }
            }
        }
    }

    /// A side learns that nothing more comes over its stream.
    pub(super) fn notice(&mut self, side: usize) {
        let (State::On(at) | State::Asking(at)) = self.sides[side].state else {
            return;
        };
        let link = &self.links[at];
        let is_ended = link.left[1 - side] && link.coming[side].is_empty() && !link.is_coming;
        if link.broken || is_ended {
            self.leave(side);
        }
    }

    /// Each side says more than what buffers on the way take, and hears of it.
    fn move_much(&mut self) {
        for (from, to) in [(MACHINE, MANAGER), (MANAGER, MACHINE)] {
            for _ in 0..24 {
                for step in [Step::Say(from, CHUNK), Step::Send(from), Step::Arrive(to)] {
                    self.step(&step);
                }
                let answer = [Step::Deliver(to, CHUNK), Step::Tell(to), Step::Send(to)];
                answer.iter().for_each(|step| self.step(step));
                self.step(&Step::Arrive(from));
            }
        }
    }

    pub(super) fn leave(&mut self, side: usize) {
        if let State::On(at) | State::Asking(at) = self.sides[side].state {
            self.links[at].left[side] = true;
            self.links[at].coming[side].clear();
            self.sides[side].state = State::Apart;
        }
    }

    pub(super) fn come(&mut self, carrier: usize) {
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

    pub(super) fn reach(&mut self, index: prop::sample::Index) {
        let coming = self.links.iter().enumerate();
        let coming: Vec<usize> = coming
            .filter_map(|(at, link)| link.is_coming.then_some(at))
            .collect();
        if !coming.is_empty() {
            self.reach_link(coming[index.index(coming.len())]);
        }
    }

    pub(super) fn reach_link(&mut self, at: usize) {
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

    pub(super) fn answer(&mut self, at: usize, answer: FlowFrame) {
        let link = &mut self.links[at];
        if !link.broken && !link.left[MACHINE] {
            link.coming[MACHINE].push_back(answer);
        }
    }

    pub(super) fn reset(&mut self, side: usize) {
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
    pub(super) fn note_done(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if matches!(side.state, State::On(_)) && side.ledger.is_done() {
            side.state = State::Over(Ending::Closed);
        }
    }

    /// Does whatever there is to do.
    pub(super) fn go_on(&mut self) {
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
    pub(super) fn new(budget: &'static Budget) -> Self {
        Self {
            near: Near::new(budget),
            state: State::On(0),
            stalled: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    pub(super) fn say(&mut self, size: usize) {
        if !self.is_over() {
            self.near.say(size);
        }
    }

    pub(super) fn end(&mut self) {
        if !self.is_over() {
            self.near.end();
        }
    }

    pub(super) fn deliver(&mut self, size: usize) {
        if !self.stalled && !self.is_over() {
            self.near.deliver(size);
        }
    }

    /// The flow won't be resumed: it was closed if both ends are, and else is reset.
    pub(super) fn lose(&mut self) {
        while !self.stalled && self.ledger.undelivered().is_some() {
            self.deliver(usize::MAX);
        }
        self.state = State::Over(if self.ledger.is_settled() {
            Ending::Closed
        } else {
            Ending::Reset
        });
    }

    /// What it holds, in bytes.
    fn holding(&self) -> Holding {
        let held = |pieces: &Pieces| {
            let bytes = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
            assert!(bytes <= WINDOW);
            assert!(
                pieces.len() as u64 <= 2 + bytes / 2_048,
                "many small pieces"
            );
            bytes
        };
        let (kept, waiting) = (held(&self.ledger.kept), held(&self.ledger.undelivered));
        assert!(waiting <= self.ledger.window);
        Holding { kept, waiting }
    }
}

#[derive(Default)]
struct Holding {
    kept: u64,
    waiting: u64,
}

impl Holding {
    fn and(self, other: Self) -> Self {
        Self {
            kept: self.kept + other.kept,
            waiting: self.waiting + other.waiting,
        }
    }
}
