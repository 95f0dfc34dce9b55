//! Random programs for several flows over carriers that break, against a simple model: every byte arrives
//! once and in order or the flow is reset, and memory stays within its budget.

use proptest::prelude::*;

use super::*;
use crate::attempts::Attempts;
use crate::near::Near;

#[path = "model_world.rs"]
mod world;
use world::{Ending, Side, State, World};

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

/// What a process may hold: so little that flows get into each other's way, or enough for windows to grow.
fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![Just(64 << 10), Just(300 << 10), Just(32 << 20)]
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
        moved in 0..=FLOWS,
    ) {
        let mut world = World::new(limit, moved);
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
        moved in 0..=FLOWS,
    ) {
        let mut world = World::new(limit, moved);
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
