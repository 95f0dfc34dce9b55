//! One intercept of this session, and how it is doing.

use std::net::SocketAddr;

use kdev_cluster::redirect::{Intercept, Mode};
use kdev_cluster::replace::Workload;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{InterceptStart, InterceptState, InterceptStatus, Part, State};

use crate::modes;

/// An intercept of this session.
#[derive(Debug, Clone)]
pub struct Held {
    /// Namespace of the Service.
    pub namespace: String,
    /// The Service.
    pub service: String,
    /// What stands in the Service's annotation.
    pub intercept: Intercept,
    /// Where its connections go on this machine.
    pub local: SocketAddr,
    /// Of the Service that was claimed; empty where it isn't known.
    pub(super) uid: String,
    pub(super) part: Part,
    pub(super) connections: u64,
    pub(super) reported: InterceptState,
    /// It isn't being left: what was given back meanwhile is to be taken again.
    pub(super) kept: bool,
    /// It was given back, and claimed again.
    pub(super) claimed_again: bool,
    /// The manager was asked how it stands, and hasn't said so.
    pub(super) asked: bool,
    /// The workload has its replicas back, though it is to have none.
    pub(super) scaled_back: bool,
    /// How what was scaled to zero was found.
    pub(super) workloads: Workloads,
}

/// How the workloads behind a Service that is replaced were found.
#[derive(Debug, Clone, Default)]
pub(super) struct Workloads {
    /// Each of them; empty where nobody has looked, or there is none.
    text: String,
    /// Somebody scaled one of them up.
    is_scaled_up: bool,
}

impl Workloads {
    pub(super) fn new(found: &[Workload]) -> Self {
        let texts = found.iter().map(|one| match one.replicas() {
            0 => format!("{one} scaled to zero"),
            1 => format!("{one} was scaled up by somebody, to 1 replica"),
            many => format!("{one} was scaled up by somebody, to {many} replicas"),
        });
        Self {
            text: texts.collect::<Vec<_>>().join("; "),
            is_scaled_up: found.iter().any(|one| one.replicas() > 0),
        }
    }

    /// How an intercept that works is doing with them.
    fn add_to(&self, part: Part) -> Part {
        if part.state() != State::Ok || self.text.is_empty() {
            return part;
        }
        let state = match self.is_scaled_up {
            true => State::Degraded,
            false => State::Ok,
        };
        Part {
            state: state.into(),
            since_ms: part.since_ms,
            detail: format!("{}; {}", part.detail, self.text),
        }
    }
}

impl Held {
    /// What asks the manager to redirect it. Asking again does no harm.
    pub fn request(&self) -> Request {
        Request::Intercept(InterceptStart {
            id: self.intercept.id.clone(),
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            service_uid: self.uid.clone(),
            port: self.intercept.port.number.into(),
            protocol: self.intercept.port.protocol.to_string(),
        })
    }

    /// Whether it was given back, as its Service was deleted or this machine was away, and is to be claimed again, of the
    /// next Service of its name. A Service that was made for an intercept isn't.
    pub fn is_gone(&self) -> bool {
        (self.is_kept_in(Phase::Gone) || self.is_kept_in(Phase::Lapsed))
            && self.intercept.mode != Mode::Preview
    }

    /// Why nobody tries any more to have it work; `None` as long as somebody does.
    pub fn lost(&self) -> Option<&str> {
        // A preview's Service goes with it, and nobody makes another one.
        let ended = self.intercept.mode == Mode::Preview
            && (self.is_kept_in(Phase::Gone) || self.is_kept_in(Phase::Lapsed));
        (ended || self.is_kept_in(Phase::Lost)).then_some(self.reported.reason.as_str())
    }

    /// Whether the manager has said nothing of it since it was claimed again, or asked how it stands.
    pub fn is_unheard(&self) -> bool {
        self.is_kept_in(Phase::Unspecified) && self.claimed_again || self.kept && self.asked
    }

    /// Whether the manager says that it works.
    pub fn works(&self) -> bool {
        self.is_kept_in(Phase::Active)
    }

    /// Whether it works, and its workload is to be scaled to zero again.
    pub fn is_unscaled(&self) -> bool {
        self.works() && self.scaled_back
    }

    /// How it is doing for `kdev status`, where nothing takes what comes if it is `unheard`.
    pub(super) fn status(&self, manager: &Part, unheard: bool) -> InterceptStatus {
        InterceptStatus {
            id: self.intercept.id.clone(),
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            port: self.intercept.port.number.into(),
            port_name: self.intercept.port.name.clone(),
            protocol: self.intercept.port.protocol.to_string(),
            local_port: self.local.port().into(),
            part: Some(self.workloads.add_to(self.part_with(manager, unheard))),
            connections: self.connections,
            rule: self.intercept.rule.to_string(),
            mode: modes::in_command(self.intercept.mode).into(),
        }
    }

    fn part_with(&self, manager: &Part, unheard: bool) -> Part {
        if self.part.state() != State::Ok {
            return self.part.clone();
        }
        let (state, since_ms, detail) = if manager.state() != State::Ok {
            let detail = "the manager is out of reach; it was active".to_owned();
            (State::Degraded, manager.since_ms, detail)
        } else if self.asked {
            let detail = "it was active; the manager is asked whether it is".to_owned();
            (State::Pending, manager.since_ms, detail)
        } else {
            let since_ms = self.part.since_ms.max(manager.since_ms);
            match unheard {
                true => {
                    let detail = format!("{}; {}", self.part.detail, self.unheard());
                    (State::Degraded, since_ms, detail)
                }
                false => (State::Ok, since_ms, self.part.detail.clone()),
            }
        };
        Part {
            state: state.into(),
            since_ms,
            detail,
        }
    }

    /// What it means that nothing takes what comes.
    fn unheard(&self) -> String {
        let fate = match (self.intercept.mode, self.intercept.pass_if_down) {
            (Mode::Wiretap, _) => "copies are lost",
            (_, true) => "what comes goes to the pods",
            (_, false) => "who connects gets 502 over HTTP, and else a reset or nothing",
        };
        let (port, protocol) = (self.local.port(), self.intercept.port.protocol);
        format!("nothing listens on {protocol} port {port} of this machine: {fate}")
    }

    fn is_kept_in(&self, phase: Phase) -> bool {
        self.kept && self.reported.phase() == phase
    }
}
