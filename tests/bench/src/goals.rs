//! What kdev has to reach, and what it aims at.

use crate::contender::Contender;
use crate::measure::Measure;
use crate::record::{Figure, Record, Summary};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// With which round-trip delay, in ms.
    pub delay: u32,
    /// What is looked at.
    pub of: Figure,
    /// What it is compared with; nothing for an absolute one.
    pub over: Option<Figure>,
    /// How it has to be; nothing where it is only to be known.
    pub must: Option<Limit>,
    /// How it ought to be.
    pub aim: Option<Limit>,
}

/// Which side of a number is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// As much or more.
    AtLeast(f64),
    /// As much or less.
    AtMost(f64),
    /// Less.
    Below(f64),
}

impl Limit {
    /// Whether a figure is good.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
        }
    }

    /// As it stands in a table.
    pub fn text(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {limit}"),
            Self::AtMost(limit) => format!("≤ {limit}"),
            Self::Below(limit) => format!("< {limit}"),
        }
    }
}

impl Goal {
    /// What a run has found for it.
    pub fn found(&self, record: &Record) -> Option<Summary> {
        match self.over {
            Some(over) => record.ratio(self.delay, self.of, over),
            None => record.summary(self.of.0, self.delay, self.of.1),
        }
    }

    /// What is compared.
    pub fn title(&self) -> String {
        let (contender, measure) = self.of;
        let delay = match self.delay {
            0 => String::new(),
            delay => format!(", {delay} ms"),
        };
        match self.over {
            Some((other, same)) if same == measure => {
                let letters = (contender.letter(), other.letter());
                format!("{} ÷ {}: {}{delay}", letters.0, letters.1, measure.title())
            }
            Some((_, other)) => {
                let titles = (measure.title(), other.title());
                format!("{}: {} ÷ {}{delay}", contender.letter(), titles.0, titles.1)
            }
            None => {
                let unit = measure.unit();
                format!(
                    "{}: {}{delay} [{unit}]",
                    contender.letter(),
                    measure.title()
                )
            }
        }
    }
}

/// All of them.
pub fn goals() -> Vec<Goal> {
    use Contender::{Direct, Forward, Kernel, Kubectl};
    use Limit::{AtLeast, AtMost, Below};
    let ratio = |ours, theirs, measure, must, aim| Goal {
        delay: 0,
        of: (ours, measure),
        over: Some((theirs, measure)),
        must: Some(must),
        aim: Some(aim),
    };
    let absolute = |contender, delay, measure, must, aim| Goal {
        delay,
        of: (contender, measure),
        over: None,
        must: Some(must),
        aim,
    };
    let beside = |with, without| Goal {
        delay: 0,
        of: (Forward, with),
        over: Some((Forward, without)),
        must: Some(AtLeast(0.95)),
        aim: None,
    };
    let forward = |measure, must, aim| ratio(Forward, Kubectl, measure, must, aim);
    let direct = |measure, must, aim| ratio(Direct, Kernel, measure, must, aim);
    let mut all = vec![
        forward(Measure::Up1, AtLeast(1.0), AtLeast(1.3)),
        forward(Measure::Down1, AtLeast(1.1), AtLeast(1.5)),
        forward(Measure::Up8, AtLeast(1.0), AtLeast(1.3)),
        forward(Measure::Down8, AtLeast(1.3), AtLeast(2.0)),
        forward(Measure::RoundTrip, AtMost(1.1), AtMost(0.8)),
        forward(Measure::Connections1, AtLeast(3.0), AtLeast(5.0)),
        forward(Measure::Connections16, AtLeast(5.0), AtLeast(10.0)),
        direct(Measure::Up1, AtLeast(0.2), AtLeast(0.3)),
        direct(Measure::Down1, AtLeast(0.2), AtLeast(0.3)),
        direct(Measure::RoundTrip, AtMost(3.0), AtMost(2.0)),
        direct(Measure::Connections1, AtLeast(0.4), AtLeast(0.6)),
        direct(Measure::Connections16, AtLeast(0.4), AtLeast(0.6)),
    ];
    for measure in [Measure::Up1, Measure::Down1] {
        all.push(absolute(
            Direct,
            20,
            measure,
            AtLeast(1.0),
            Some(AtLeast(2.0)),
        ));
        all.push(absolute(
            Direct,
            100,
            measure,
            AtLeast(0.3),
            Some(AtLeast(0.6)),
        ));
    }
    for contender in [Forward, Direct] {
        let growth = Measure::IdleGrowth;
        all.push(absolute(
            contender,
            0,
            growth,
            AtMost(50.0),
            Some(AtMost(25.0)),
        ));
        for (with, without) in [
            (Measure::UpWith, Measure::UpWithout),
            (Measure::DownWith, Measure::DownWithout),
        ] {
            let mut goal = beside(with, without);
            goal.of.0 = contender;
            goal.over = Some((contender, without));
            all.push(goal);
        }
        let resident = Measure::Resident;
        all.push(absolute(
            contender,
            0,
            resident,
            AtMost(60.0),
            Some(AtMost(40.0)),
        ));
        all.push(absolute(contender, 0, Measure::IdleCpu, Below(0.2), None));
    }
    all.extend(of_intercepts());
    all.extend(of_routers());
    all
}

/// What an intercept costs those who ask, which depends on how far away the machine is.
fn of_intercepts() -> Vec<Goal> {
    let [pod, taken @ ..] = Contender::INTERCEPTS;
    let measures = [Measure::Download, Measure::Request, Measure::RequestNew];
    let beside = |contender, measure| Goal {
        delay: 0,
        of: (contender, measure),
        over: Some((pod, measure)),
        must: None,
        aim: None,
    };
    let all = taken
        .iter()
        .flat_map(|contender| measures.map(|measure| beside(*contender, measure)));
    all.collect()
}

/// What an intercept may cost those whom it doesn't concern.
fn of_routers() -> Vec<Goal> {
    let limits = [
        (Measure::Requests, Limit::AtLeast(1.0)),
        (Measure::RequestsP99, Limit::AtMost(1.0)),
    ];
    let goal = |contender, measure, limit| Goal {
        delay: 0,
        of: (contender, measure),
        over: Some((Contender::Nginx, measure)),
        must: Some(limit),
        aim: None,
    };
    let routers = [Contender::Router1, Contender::Router250].into_iter();
    let all =
        routers.flat_map(|router| limits.map(|(measure, limit)| goal(router, measure, limit)));
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(goals: Vec<Goal>) -> Vec<(String, Option<String>)> {
        let one = |goal: &Goal| (goal.title(), goal.must.map(Limit::text));
        goals.iter().map(one).collect()
    }

    #[test]
    fn the_router_has_to_serve_as_many_requests_as_nginx_and_no_later() {
        let must = |title: &str, limit: &str| (title.to_owned(), Some(limit.to_owned()));
        assert_eq!(
            titles(of_routers()),
            [
                must("(l) ÷ (k): requests, 32 kept connections", "≥ 1"),
                must("(l) ÷ (k): requests, 32 kept connections, p99", "≤ 1"),
                must("(m) ÷ (k): requests, 32 kept connections", "≥ 1"),
                must("(m) ÷ (k): requests, 32 kept connections, p99", "≤ 1"),
            ]
        );
    }

    #[test]
    fn every_intercept_is_compared_with_the_pod_itself() {
        let all = titles(of_intercepts());
        assert_eq!(all.len(), 12);
        assert!(
            all.iter()
                .all(|(title, must)| title.contains(" ÷ (f): ") && must.is_none())
        );
    }
}
