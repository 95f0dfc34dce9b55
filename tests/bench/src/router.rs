//! Requests of a pod's that no rule wants, through kdev's router to the Service's pods, beside nginx as a plain
//! reverse proxy to the same pods.

use std::time::Duration;

use crate::background::Background;
use crate::contender::Contender;
use crate::inside::{From, Inside, MANY, ONE, Target};
use crate::load::report::Repeated;
use crate::measure::Measure;
use crate::nginx;
use crate::run::Running;
use crate::way::Way;
use crate::work::{Figures, millis, whole};

/// How many intercepts a Service has, each with a rule of its own.
pub const RULES: usize = 250;
/// How long it may take to make them.
const MADE: Duration = Duration::from_secs(180);
/// The header that rules ask for, and that requests have with a value that no rule asks for.
const HEADER: &str = "x-user";
/// Clients at once, each with a connection that it keeps.
const CLIENTS: u32 = 32;

/// Why nginx can't take part, if it can't.
pub(crate) fn missing() -> Option<String> {
    nginx::missing()
}

/// Measures all of it.
pub(crate) fn measure(running: &mut Running<'_>) {
    let rounds = running.plan.router_rounds();
    if rounds == 0 {
        return;
    }
    let inside = match Inside::set(running.scene) {
        Ok(inside) => inside,
        Err(error) => {
            let whose = (Contender::Router1, 0, 0);
            return running.fail(whose, &format!("pods for requests: {error:#}"));
        }
    };
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |running: &mut Running<'_>, contender, made: anyhow::Result<Target>| match made {
        Ok(target) => targets.push(target),
        Err(error) => running.fail((contender, 0, 0), &format!("opening: {error:#}")),
    };
    add(running, Contender::Pod, inside.pod());
    if running.takes_part(Contender::Nginx) {
        let made = nginx::up(running.scene, &inside);
        add(running, Contender::Nginx, made);
    }
    let session = Session::open(running, &inside);
    match &session {
        Ok(_) => {
            for (contender, service, count) in [
                (Contender::Router1, ONE, 1),
                (Contender::Router250, MANY, RULES),
            ] {
                if running.takes_part(contender) {
                    let made = inside
                        .intercept_all(service, HEADER, count, MADE)
                        .and_then(|()| inside.service(service, contender, From::Pod));
                    add(running, contender, made);
                }
            }
        }
        Err(error) => running.fail((Contender::Router1, 0, 0), &format!("opening: {error:#}")),
    }
    targets.retain(|target| running.takes_part(target.contender));
    for repetition in 0..rounds {
        for target in &targets {
            let whose = (target.contender, 0, repetition);
            match once(&inside, *target, 2 * running.plan.time()) {
                Ok(figures) => running.keep(whose, figures),
                Err(error) => running.fail(whose, &format!("requests: {error:#}")),
            }
        }
        // Who comes first must not always be the same one.
        let by = usize::from(!targets.is_empty());
        targets.rotate_left(by);
    }
}

/// A session that intercepts.
struct Session<'a> {
    // In the order in which they are to go.
    _way: Way<'a>,
    _program: Background,
}

impl<'a> Session<'a> {
    fn open(running: &Running<'a>, inside: &Inside<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            // Nothing of what is measured comes to the machine: how it is connected doesn't matter.
            _way: Way::open(running.scene, Contender::Forward, 0)?,
            _program: inside.machine()?,
        })
    }
}

fn once(inside: &Inside<'_>, target: Target, time: Duration) -> anyhow::Result<Figures> {
    let (time, clients) = (millis(time), CLIENTS.to_string());
    let header = format!("{HEADER}: nobody");
    let how = ["--time", &time, "--at-once", &clients, "--header", &header];
    let found: Repeated = inside.load(target, "requests", &how)?;
    let found = whole(found)?;
    Ok(vec![
        (Measure::Requests, found.per_second),
        (Measure::RequestsP99, found.p99_micros),
    ])
}
