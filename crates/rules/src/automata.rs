//! Whether several regexes have a value in common: the product of their automata. Pure.
//!
//! Automata of regexes can grow exponentially, so each has a limit, and so has a search. Beyond them the
//! answer is [`Beyond`].

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;

use crate::pattern::whole;

/// What one automaton may take, in bytes; as much again while it is made.
const AUTOMATON: usize = 256 << 10;
/// The automata that are made for one question: one for each group of two rules, and some.
const AUTOMATA: usize = 160;
/// Steps from state to state for one question: tens of milliseconds.
const STEPS: usize = 1 << 20;

type Dfa = dense::DFA<Vec<u32>>;

/// The limits don't suffice for an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beyond;

/// The work on one question, limited.
#[derive(Default)]
pub(crate) struct Work {
    made: HashMap<String, Option<Rc<Dfa>>>,
    steps: usize,
}

impl Work {
    /// The shortest value that all of these regexes match as a whole, in the most readable characters;
    /// none when there is no such value.
    pub(crate) fn common<'a>(
        &mut self,
        regexes: impl IntoIterator<Item = &'a str>,
    ) -> Result<Option<Vec<u8>>, Beyond> {
        let automata = regexes.into_iter().map(|regex| self.automaton(regex));
        let automata = automata.collect::<Result<Vec<_>, _>>()?;
        self.search(&automata)
    }

    fn automaton(&mut self, regex: &str) -> Result<Rc<Dfa>, Beyond> {
        if let Some(known) = self.made.get(regex) {
            return known.clone().ok_or(Beyond);
        }
        if self.made.len() == AUTOMATA {
            return Err(Beyond);
        }
        let made = make(regex).map(Rc::new);
        self.made.insert(regex.to_owned(), made.clone());
        made.ok_or(Beyond)
    }

    /// Breadth first through the states that all automata are in together.
    fn search(&mut self, automata: &[Rc<Dfa>]) -> Result<Option<Vec<u8>>, Beyond> {
        let letters = letters(automata);
        let start = start::Config::new().anchored(Anchored::Yes);
        let first = automata.iter().map(|it| it.start_state(&start));
        let first: Rc<[StateID]> = first.collect::<Result<_, _>>().map_err(|_| Beyond)?;

        let mut seen = HashSet::from([first.clone()]);
        // A state, the one before it, and the byte between them.
        let mut reached = vec![(first, 0, 0)];
        let mut next = 0;
        while let Some((states, ..)) = reached.get(next) {
            let states = states.clone();
            if accepts(automata, &states) {
                return Ok(Some(way(&reached, next)));
            }
            for letter in &letters {
                self.steps += 1;
                if self.steps > STEPS {
                    return Err(Beyond);
                }
                let after = automata
                    .iter()
                    .zip(states.iter())
                    .map(|(it, state)| it.next_state(*state, *letter));
                let after: Rc<[StateID]> = after.collect();
                let dead = automata
                    .iter()
                    .zip(after.iter())
                    .any(|(it, state)| it.is_dead_state(*state));
                if !dead && seen.insert(after.clone()) {
                    reached.push((after, next, *letter));
                }
            }
            next += 1;
        }
        Ok(None)
    }
}

fn make(regex: &str) -> Option<Dfa> {
    let nfa = thompson::Config::new()
        .utf8(false)
        .nfa_size_limit(Some(AUTOMATON))
        .which_captures(WhichCaptures::None);
    let nfa = NFA::compiler()
        .configure(nfa)
        .build_from_hir(&whole(regex).ok()?)
        .ok()?;
    let dfa = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(AUTOMATON))
        .determinize_size_limit(Some(AUTOMATON));
    dense::Builder::new()
        .configure(dfa)
        .build_from_nfa(&nfa)
        .ok()
}

/// Whether a value that ends in these states is matched by all. Regexes on whole values match at the end only.
fn accepts(automata: &[Rc<Dfa>], states: &[StateID]) -> bool {
    automata
        .iter()
        .zip(states)
        .all(|(it, state)| it.is_match_state(it.next_eoi_state(*state)))
}

fn way(reached: &[(Rc<[StateID]>, usize, u8)], last: usize) -> Vec<u8> {
    let mut value = Vec::new();
    let mut at = last;
    while at != 0 {
        let (_, before, byte) = &reached[at];
        value.push(*byte);
        at = *before;
    }
    value.reverse();
    value
}

/// One byte, the most readable, of each class of bytes that no automaton tells apart.
fn letters(automata: &[Rc<Dfa>]) -> Vec<u8> {
    let readable = |byte: &u8| match byte {
        b'a'..=b'z' => 0,
        b'0'..=b'9' => 1,
        b'A'..=b'Z' => 2,
        b'/' | b'-' | b'_' | b'.' => 3,
        b'!'..=b'~' => 4,
        b' ' => 5,
        _ => 6,
    };
    let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
    bytes.sort_by_key(readable);
    let mut classes = HashSet::new();
    let class = |byte| -> Vec<u8> {
        let classes = automata.iter().map(|it| it.byte_classes().get(byte));
        classes.collect()
    };
    bytes.retain(|byte| classes.insert(class(*byte)));
    bytes
}

#[cfg(test)]
#[path = "automata_tests.rs"]
mod tests;
