//! Measuring one thing over one way.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kdev_e2e::command::Outcome;
use serde::de::DeserializeOwned;

use crate::load::report::{Repeated, Transfer};
use crate::measure::{Measure, Topic};
use crate::plan::warm_up;
use crate::scene::Scene;
use crate::way::Way;

/// No measurement takes as long.
const LONGEST: Duration = Duration::from_secs(180);

/// Figures of one measurement.
pub type Figures = Vec<(Measure, f64)>;

/// Does it once.
///
/// # Errors
///
/// When it can't be done, or some of it has failed.
pub fn once(
    scene: &Scene,
    way: &Way<'_>,
    topic: Topic,
    delay: u32,
    time: Duration,
) -> anyhow::Result<Figures> {
    let load = Load { scene, way, time };
    // A loop has to come to more than a few rounds.
    let slow = time.max(Duration::from_millis(20 * u64::from(delay)));
    Ok(match topic {
        Topic::Up1 => vec![(Measure::Up1, load.transfer("up", 1, delay)?)],
        Topic::Down1 => vec![(Measure::Down1, load.transfer("down", 1, delay)?)],
        Topic::Up8 => vec![(Measure::Up8, load.transfer("up", 8, delay)?)],
        Topic::Down8 => vec![(Measure::Down8, load.transfer("down", 8, delay)?)],
        Topic::RoundTrips => {
            let found = load.repeated("round-trips", &load.server(), &[], slow)?;
            vec![
                (Measure::RoundTrip, found.p50_micros),
                (Measure::RoundTripP99, found.p99_micros),
            ]
        }
        Topic::Connections1 => {
            let found = load.repeated("connections", &load.server(), &[], slow)?;
            vec![(Measure::Connections1, found.per_second)]
        }
        Topic::Connections16 => {
            let found = load.repeated("connections", &load.server(), &["--at-once", "16"], slow)?;
            vec![(Measure::Connections16, found.per_second)]
        }
        Topic::Lookups => load.lookups(slow / 2)?,
        Topic::IdleConnections | Topic::Idle | Topic::Intercepts | Topic::Router => Vec::new(),
    })
}

struct Load<'a> {
    scene: &'a Scene,
    way: &'a Way<'a>,
    time: Duration,
}

impl Load<'_> {
    fn server(&self) -> String {
        self.way.server.to_string()
    }

    fn transfer(&self, direction: &str, streams: u32, delay: u32) -> anyhow::Result<f64> {
        let (streams, server) = (streams.to_string(), self.server());
        let (warm_up, time) = (millis(warm_up(delay)), millis(self.time));
        let from = [
            "kdev-bench-load",
            direction,
            "--to",
            &server,
            "--streams",
            &streams,
        ];
        let how = ["--warm-up", &warm_up, "--time", &time];
        let found: Transfer = result(self.run(&[&from[..], &how].concat()))?;
        Ok(found.gbit_per_second)
    }

    fn lookups(&self, time: Duration) -> anyhow::Result<Figures> {
        let Some((server, tcp)) = self.way.names else {
            return Ok(Vec::new());
        };
        let server = server.to_string();
        let over: &[&str] = if tcp { &["--tcp"] } else { &[] };
        let one = self.repeated("lookups", &server, over, time)?;
        let many = [over, &["--at-once", "16"]].concat();
        let many = self.repeated("lookups", &server, &many, time)?;
        Ok(vec![
            (Measure::Lookup, one.p50_micros),
            (Measure::Lookups16, many.per_second),
        ])
    }

    fn repeated(
        &self,
        what: &str,
        server: &str,
        more: &[&str],
        time: Duration,
    ) -> anyhow::Result<Repeated> {
        let time = millis(time);
        let args = ["kdev-bench-load", what, "--to", server, "--time", &time];
        let found: Repeated = result(self.run(&[&args[..], more].concat()))?;
        whole(found)
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.scene.laptop().run_for(self.way.user, args, LONGEST)
    }
}

/// A rate with failures in it is no rate.
pub(crate) fn whole(found: Repeated) -> anyhow::Result<Repeated> {
    let Repeated { count, failed, .. } = found;
    ensure!(failed == 0, "{failed} of {count} failed");
    ensure!(count > 0, "not one was done in time");
    Ok(found)
}

/// What a load program has printed.
pub(crate) fn result<T: DeserializeOwned>(outcome: Outcome) -> anyhow::Result<T> {
    let reason = outcome.stderr.lines().next().unwrap_or_default();
    ensure!(outcome.code == 0, "{reason}");
    serde_json::from_str(&outcome.stdout).with_context(|| outcome.stdout)
}

pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
