//! Doing a plan.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::contender::Contender;
use crate::idle;
use crate::intercepts;
use crate::machine::Machine;
use crate::measure::{Measure, Topic};
use crate::plan::{GROUPS, Plan};
use crate::record::{Failure, Record, Sample, Settings};
use crate::router;
use crate::scene::Scene;
use crate::sshuttle;
use crate::way::Way;
use crate::work;

/// Does all of it.
///
/// # Errors
///
/// When there is no scene to do it on. What can't be measured is in the record.
pub fn run(scene: &Scene, plan: &Plan, machine: Machine) -> Record {
    let began = Instant::now();
    let mut running = Running {
        scene,
        plan,
        began,
        record: Record {
            machine,
            settings: Settings {
                quick: plan.quick,
                repetitions: plan.repetitions.clone(),
                time: u64::try_from(plan.time().as_millis()).unwrap_or(u64::MAX),
                idle_connections: plan.idle_connections,
                idle_time: plan.idle_time().as_secs(),
            },
            absent: absent(scene),
            samples: Vec::new(),
            failures: Vec::new(),
            took: 0.0,
        },
    };
    for (delay, repetitions) in &plan.repetitions {
        for repetition in 0..*repetitions {
            for group in GROUPS {
                running.group(group, *delay, repetition);
            }
        }
        if plan.wants(Topic::IdleConnections) {
            // With a delay kdev is compared with itself.
            let without = [Contender::Kernel, Contender::Forward, Contender::Direct];
            let ways = if *delay == 0 {
                &without[..]
            } else {
                &without[1..]
            };
            running.idle_connections(ways, *delay);
        }
    }
    if plan.wants(Topic::Idle) {
        running.idle();
    }
    if plan.wants(Topic::Intercepts) {
        intercepts::measure(&mut running);
    }
    if plan.wants(Topic::Router) {
        router::measure(&mut running);
    }
    if plan.wants(Topic::IdleConnections) && plan.repetitions.contains_key(&0) {
        running.idle_connections(&[Contender::Kubectl], 0);
    }
    running.record.took = began.elapsed().as_secs_f64();
    running.record
}

fn absent(scene: &Scene) -> BTreeMap<Contender, String> {
    let mut absent = BTreeMap::new();
    if !scene.chooses_carriers {
        let why = "`kdev connect` has no `--direct`";
        for direct in [
            Contender::Direct,
            Contender::TakenDirect,
            Contender::RuledDirect,
        ] {
            absent.insert(direct, why.to_owned());
        }
    }
    if let Some(why) = sshuttle::missing(scene) {
        absent.insert(Contender::Sshuttle, why);
    }
    if let Some(why) = router::missing() {
        absent.insert(Contender::Nginx, why);
    }
    absent
}

/// A run that is under way.
pub(crate) struct Running<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) plan: &'a Plan,
    began: Instant,
    pub(crate) record: Record,
}

impl<'a> Running<'a> {
    /// Measures everything over the ways of a group, in turns.
    fn group(&mut self, group: &[Contender], delay: u32, repetition: u32) {
        let topics = Topic::REPEATED.into_iter();
        let topics: Vec<Topic> = topics.filter(|topic| self.plan.wants(*topic)).collect();
        if topics.is_empty() {
            return;
        }
        let mut ways = self.open(group, delay, repetition);
        for way in &ways {
            if let Some(took) = way.took {
                let whose = (way.contender, delay, repetition);
                self.keep(whose, vec![(Measure::Begin, took.as_secs_f64())]);
            }
        }
        // Who comes first must not always be the same one.
        if repetition % 2 == 1 {
            ways.reverse();
        }
        for topic in topics {
            for way in &ways {
                let found = work::once(self.scene, way, topic, delay, self.plan.time());
                let whose = (way.contender, delay, repetition);
                match found {
                    Ok(figures) => self.keep(whose, figures),
                    Err(error) => self.fail(whose, &format!("{topic:?}: {error:#}")),
                }
            }
        }
    }

    /// Opens those ways of a group that take part.
    pub(crate) fn open(
        &mut self,
        group: &[Contender],
        delay: u32,
        repetition: u32,
    ) -> Vec<Way<'a>> {
        let mut ways = Vec::new();
        for contender in group {
            if !self.takes_part(*contender) {
                continue;
            }
            let whose = (*contender, delay, repetition);
            match Way::open(self.scene, *contender, delay) {
                Ok(way) => ways.push(way),
                Err(error) => self.fail(whose, &format!("opening: {error:#}")),
            }
        }
        ways
    }

    pub(crate) fn takes_part(&self, contender: Contender) -> bool {
        self.plan.contenders.contains(&contender) && !self.record.absent.contains_key(&contender)
    }

    pub(crate) fn keep(
        &mut self,
        (contender, delay, repetition): (Contender, u32, u32),
        figures: Vec<(Measure, f64)>,
    ) {
        for (measure, value) in figures {
            eprintln!(
                "{:>5.0} s  {delay:>3} ms  #{repetition}  {:<24} {:<30} {value:>12.3} {}",
                self.began.elapsed().as_secs_f64(),
                contender.title(),
                measure.title(),
                measure.unit()
            );
            self.record.samples.push(Sample {
                contender,
                delay,
                measure,
                repetition,
                value,
            });
        }
    }

    pub(crate) fn fail(
        &mut self,
        (contender, delay, repetition): (Contender, u32, u32),
        what: &str,
    ) {
        eprintln!(
            "{delay:>3} ms  #{repetition}  {:<24} FAILED {what}",
            contender.title()
        );
        self.record.failures.push(Failure {
            contender,
            delay,
            repetition,
            what: what.to_owned(),
        });
    }

    fn idle_connections(&mut self, ways: &[Contender], delay: u32) {
        for contender in ways {
            if self.takes_part(*contender) {
                idle::connections(self, *contender, delay);
            }
        }
    }

    fn idle(&mut self) {
        for contender in Contender::WAYS {
            if self.takes_part(contender) && contender != Contender::Kernel {
                idle::nothing(self, contender);
            }
        }
    }
}
