//! What a run has found, as it is kept on disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::machine::Machine;
use crate::measure::Measure;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// Who couldn't take part, and why.
    pub absent: BTreeMap<Contender, String>,
    /// Everything that was measured.
    pub samples: Vec<Sample>,
    /// What couldn't be, though it should have been.
    pub failures: Vec<Failure>,
    /// How long all took, in seconds.
    pub took: f64,
}

/// What a run was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether only a glance was wanted.
    pub quick: bool,
    /// Round-trip delays, in ms, and how often everything was done with each.
    pub repetitions: BTreeMap<u32, u32>,
    /// How long a transfer or a loop was measured, in ms.
    pub time: u64,
    /// How many idle connections there were.
    pub idle_connections: usize,
    /// How long nothing was done, in s.
    pub idle_time: u64,
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Whose.
    pub contender: Contender,
    /// With which round-trip delay, in ms.
    pub delay: u32,
    /// Of what.
    pub measure: Measure,
    /// In which repetition.
    pub repetition: u32,
    /// In the measure's unit.
    pub value: f64,
}

/// A figure that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose.
    pub contender: Contender,
    /// With which round-trip delay, in ms.
    pub delay: u32,
    /// In which repetition.
    pub repetition: u32,
    /// What was tried, and what came of it.
    pub what: String,
}

/// The figures of one way and measure, over all repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub count: usize,
}

impl Record {
    /// The figures of one way and measure, by repetition.
    pub fn values(&self, contender: Contender, delay: u32, measure: Measure) -> BTreeMap<u32, f64> {
        let wanted = |sample: &&Sample| {
            sample.contender == contender && sample.delay == delay && sample.measure == measure
        };
        let samples = self.samples.iter().filter(wanted);
        samples
            .map(|sample| (sample.repetition, sample.value))
            .collect()
    }

    /// What they come to; `None` if there are none.
    pub fn summary(&self, contender: Contender, delay: u32, measure: Measure) -> Option<Summary> {
        Summary::of(self.values(contender, delay, measure).into_values())
    }

    /// The quotients of two figures that were taken in the same repetition.
    pub fn ratio(&self, delay: u32, over: Figure, under: Figure) -> Option<Summary> {
        let over = self.values(over.0, delay, over.1);
        let under = self.values(under.0, delay, under.1);
        Summary::of(over.iter().filter_map(|(repetition, value)| {
            let other = under.get(repetition)?;
            (*other != 0.0).then(|| value / other)
        }))
    }

    /// The delays that were asked for.
    pub fn delays(&self) -> Vec<u32> {
        self.settings.repetitions.keys().copied().collect()
    }
}

/// Whose figure of what.
pub type Figure = (Contender, Measure);

impl Summary {
    /// Of some figures; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self {
            median,
            min,
            max,
            count: values.len(),
        })
    }
}

/// Records for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A figure without delay.
    pub(crate) fn sample(
        contender: Contender,
        measure: Measure,
        repetition: u32,
        value: f64,
    ) -> Sample {
        Sample {
            contender,
            delay: 0,
            measure,
            repetition,
            value,
        }
    }

    /// A record of such figures.
    pub(crate) fn record(samples: Vec<Sample>) -> Record {
        Record {
            machine: Machine::default(),
            settings: Settings {
                quick: false,
                repetitions: [(0, 3)].into(),
                time: 1000,
                idle_connections: 5000,
                idle_time: 30,
            },
            absent: BTreeMap::new(),
            samples,
            failures: Vec::new(),
            took: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::*;

    fn sample(contender: Contender, repetition: u32, value: f64) -> Sample {
        testing::sample(contender, Measure::Up1, repetition, value)
    }

    #[test]
    fn the_median_is_the_one_in_the_middle_or_between_the_two() {
        let of = |values: &[f64]| Summary::of(values.iter().copied()).map(|found| found.median);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(of(&[4.0, 1.0, 100.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_ratio_compares_what_was_measured_in_the_same_repetition() {
        let (over, under) = (Contender::Forward, Contender::Kubectl);
        let record = record(vec![
            sample(over, 0, 1.0),
            sample(under, 0, 2.0),
            sample(over, 1, 30.0),
            sample(under, 1, 10.0),
            sample(over, 2, 7.0),
        ]);
        let ratio = record.ratio(0, (over, Measure::Up1), (under, Measure::Up1));
        let ratio = ratio.unwrap();
        assert_eq!((ratio.min, ratio.max, ratio.count), (0.5, 3.0, 2));
    }

    #[test]
    fn a_record_comes_back_from_its_file_as_it_was() {
        let mut record = record(vec![sample(Contender::Direct, 0, 0.25)]);
        record
            .absent
            .insert(Contender::Sshuttle, "not installed".to_owned());
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
