//! What it costs to do nothing: thousands of idle connections, and none at all.

use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use kdev_e2e::laptop::Daemon;
use kdev_e2e::wait;

use crate::background::Background;
use crate::contender::Contender;
use crate::measure::{Measure, Topic};
use crate::process::{Memory, cpu_time};
use crate::run::Running;
use crate::scene::Scene;
use crate::way::{Way, processes, status};
use crate::work::{self, Figures};

/// How long opening them may take.
const OPEN: Duration = Duration::from_secs(180);
/// How long connections have been idle when their memory is looked at.
const SETTLE: Duration = Duration::from_secs(15);
/// How long kdev may take to be rid of them.
const GONE: Duration = Duration::from_secs(30);

/// How many connections kubectl is given: with thousands its streams time out, and what it leaves
/// behind on the node spoils whatever comes next.
const FEW: usize = 500;

/// One stream without idle connections and beside them, in turns.
pub(crate) fn connections(running: &mut Running<'_>, contender: Contender, delay: u32) {
    let (count, rounds) = match contender {
        Contender::Kubectl => (running.plan.idle_connections.min(FEW), 1),
        _ => (
            running.plan.idle_connections,
            running.plan.idle_rounds(delay),
        ),
    };
    for way in running.open(&[contender], delay, 0) {
        for round in 0..rounds {
            let whose = (contender, delay, round);
            let found = connections_once(running, &way, delay, count);
            match found {
                Ok(mut figures) => {
                    if round > 0 {
                        // It finds what an earlier one has left.
                        figures.retain(|(measure, _)| !measure.is_growth());
                    }
                    running.keep(whose, figures);
                }
                Err(error) => {
                    running.fail(whose, &format!("idle connections: {error:#}"));
                    break;
                }
            }
        }
    }
}

fn connections_once(
    running: &Running<'_>,
    way: &Way<'_>,
    delay: u32,
    count: usize,
) -> anyhow::Result<Figures> {
    let scene = running.scene;
    let one = |topic| {
        let figures = work::once(scene, way, topic, delay, running.plan.time())?;
        figures
            .first()
            .map(|(_, value)| *value)
            .context("no figure")
    };
    let mut found = vec![
        (Measure::UpWithout, one(Topic::Up1)?),
        (Measure::DownWithout, one(Topic::Down1)?),
    ];
    let before = memory(scene, way.contender)?;
    let idle = open(scene, way, count)?;
    if before.is_some() {
        // Nothing is waited for: they are idle only after a while.
        thread::sleep(SETTLE);
    }
    if let (Some(before), Some(after)) = (before, memory(scene, way.contender)?) {
        let growth = after.resident - before.resident;
        #[allow(clippy::cast_precision_loss, reason = "counts are small")]
        let each = growth * 1000.0 / count as f64;
        if way.contender != Contender::Kubectl {
            found.push((Measure::IdleGrowth, growth));
        }
        found.push((Measure::IdleGrowthEach, each));
    }
    found.push((Measure::UpWith, one(Topic::Up1)?));
    found.push((Measure::DownWith, one(Topic::Down1)?));
    drop(idle);
    if matches!(way.contender, Contender::Forward | Contender::Direct) {
        wait::within(GONE, || (flows(scene) == 0).then_some(())).context("flows stay")?;
    }
    Ok(found)
}

fn open(scene: &Scene, way: &Way<'_>, count: usize) -> anyhow::Result<Background> {
    let user = match way.user {
        kdev_e2e::laptop::User::Eve => "eve",
        _ => "dev",
    };
    let (server, count) = (way.server.to_string(), count.to_string());
    let args = [
        "kdev-bench-load",
        "idle",
        "--to",
        &server,
        "--count",
        &count,
    ];
    Background::start(scene.command(user, &args), OPEN)
}

fn flows(scene: &Scene) -> u64 {
    let status = status(scene);
    let carriers = status["carriers"].as_array().cloned().unwrap_or_default();
    carriers
        .iter()
        .filter_map(|carrier| carrier["flows"].as_u64())
        .sum()
}

/// Memory of the program that holds connections: of kdev's, the root daemon.
fn memory(scene: &Scene, contender: Contender) -> anyhow::Result<Option<Memory>> {
    let pids = match contender {
        Contender::Kernel => return Ok(None),
        Contender::Forward | Contender::Direct => scene.laptop().daemons(Daemon::Root),
        _ => processes(scene, contender)?,
    };
    Ok(Some(Memory::of(&pids)?))
}

/// Memory and CPU of a way that nobody goes.
pub(crate) fn nothing(running: &mut Running<'_>, contender: Contender) {
    let time = running.plan.idle_time();
    for way in running.open(&[contender], 0, 0) {
        let whose = (way.contender, 0, 0);
        match nothing_once(running.scene, contender, time) {
            Ok(figures) => running.keep(whose, figures),
            Err(error) => running.fail(whose, &format!("idle: {error:#}")),
        }
    }
}

fn nothing_once(scene: &Scene, contender: Contender, time: Duration) -> anyhow::Result<Figures> {
    let pids = processes(scene, contender)?;
    let before = cpu_time(&pids)?;
    // Nothing is waited for: this is what is measured.
    thread::sleep(time);
    let used = cpu_time(&pids)? - before;
    let memory = Memory::of(&pids)?;
    Ok(vec![
        (Measure::Resident, memory.resident),
        (Measure::Proportional, memory.proportional),
        (
            Measure::IdleCpu,
            100.0 * used.as_secs_f64() / time.as_secs_f64(),
        ),
    ])
}
