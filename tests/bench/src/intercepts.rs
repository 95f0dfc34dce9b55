//! Requests of a pod's that come to the machine, beside the same to another pod.

use std::time::Duration;

use crate::background::Background;
use crate::contender::Contender;
use crate::inside::{From, Inside, RULED, Target, WHOLE};
use crate::load::report::{Repeated, Transfer};
use crate::measure::Measure;
use crate::plan::warm_up;
use crate::run::Running;
use crate::way::Way;
use crate::work::{Figures, millis, whole};

/// A header that all requests have, and what the rule asks for.
const HEADER: &str = "x-kdev-bench: yes";
const RULE: [&str; 2] = ["--header", "x-kdev-bench=yes"];

/// How a machine is connected, and who is measured then.
struct Session {
    carriers: Contender,
    whole: Contender,
    ruled: Contender,
}

const SESSIONS: [Session; 2] = [
    Session {
        carriers: Contender::Forward,
        whole: Contender::TakenForward,
        ruled: Contender::RuledForward,
    },
    Session {
        carriers: Contender::Direct,
        whole: Contender::TakenDirect,
        ruled: Contender::RuledDirect,
    },
];

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Work {
    Download,
    Kept,
    New,
    New16,
}

const ALL: [Work; 4] = [Work::Download, Work::Kept, Work::New, Work::New16];

/// Measures all of it.
pub(crate) fn measure(running: &mut Running<'_>) {
    let inside = match Inside::set(running.scene) {
        Ok(inside) => inside,
        Err(error) => {
            let whose = (Contender::Pod, 0, 0);
            return running.fail(whose, &format!("pods for requests: {error:#}"));
        }
    };
    for repetition in 0..running.plan.intercept_rounds() {
        let there = |session: &&Session| session.taken().iter().any(|it| running.takes_part(*it));
        let mut sessions: Vec<&Session> = SESSIONS.iter().filter(there).collect();
        // Who comes first must not always be the same one.
        if repetition % 2 == 1 {
            sessions.reverse();
        }
        for (number, session) in sessions.into_iter().enumerate() {
            session.measure(running, &inside, repetition, number == 0);
        }
    }
}

impl Session {
    fn taken(&self) -> [Contender; 2] {
        [self.whole, self.ruled]
    }

    fn measure(&self, running: &mut Running<'_>, inside: &Inside<'_>, round: u32, first: bool) {
        let opened = match self.open(running, inside) {
            Ok(opened) => opened,
            Err(error) => {
                return running.fail((self.whole, 0, round), &format!("opening: {error:#}"));
            }
        };
        let mut targets = opened.targets.clone();
        // The pod has one figure per repetition.
        targets.retain(|target| {
            running.takes_part(target.contender) && (first || target.contender != Contender::Pod)
        });
        if round % 2 == 1 {
            targets.reverse();
        }
        for work in ALL {
            for target in &targets {
                let whose = (target.contender, 0, round);
                match work.once(inside, *target, running.plan.time()) {
                    Ok(figures) => running.keep(whose, figures),
                    Err(error) => running.fail(whose, &format!("{work:?}: {error:#}")),
                }
            }
        }
    }

    fn open<'a>(&self, running: &Running<'a>, inside: &Inside<'_>) -> anyhow::Result<Opened<'a>> {
        let way = Way::open(running.scene, self.carriers, 0)?;
        let program = inside.machine()?;
        inside.intercept(WHOLE, &[])?;
        inside.intercept(RULED, &RULE)?;
        Ok(Opened {
            targets: vec![
                inside.pod()?,
                inside.service(WHOLE, self.whole, From::Machine)?,
                inside.service(RULED, self.ruled, From::Machine)?,
            ],
            _way: way,
            _program: program,
        })
    }
}

/// Two Services that are intercepted.
struct Opened<'a> {
    targets: Vec<Target>,
    // In the order in which they are to go.
    _way: Way<'a>,
    _program: Background,
}

impl Work {
    fn once(self, inside: &Inside<'_>, target: Target, time: Duration) -> anyhow::Result<Figures> {
        let time = millis(time);
        let how = ["--header", HEADER, "--time", &time];
        let requests = |more: &[&str]| {
            let found: Repeated = inside.load(target, "requests", &[&how, more].concat())?;
            whole(found)
        };
        Ok(match self {
            Self::Download => {
                let warm_up = millis(warm_up(0));
                let how = [&how[..], &["--warm-up", &warm_up]].concat();
                let found: Transfer = inside.load(target, "download", &how)?;
                vec![(Measure::Download, found.gbit_per_second)]
            }
            Self::Kept => {
                let found = requests(&[])?;
                vec![
                    (Measure::Request, found.p50_micros),
                    (Measure::RequestP99, found.p99_micros),
                ]
            }
            Self::New => vec![(Measure::RequestNew, requests(&["--new"])?.p50_micros)],
            Self::New16 => {
                let found = requests(&["--new", "--at-once", "16"])?;
                vec![(Measure::RequestsNew16, found.per_second)]
            }
        })
    }
}
