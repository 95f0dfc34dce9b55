//! The intercepts that this session holds: where their connections go, and what the manager says of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kdev_cluster::redirect::{Intercept, Mode, ServiceName, call_id};
use kdev_cluster::replace::Workload;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{InterceptStart, InterceptState, InterceptStatus, Part, State};
use kdev_rules::overlap;
use tokio::sync::watch;

use super::manager_link::InterceptEvents;
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
    uid: String,
    part: Part,
    connections: u64,
    reported: InterceptState,
    /// It isn't being left: what was given back meanwhile is to be taken again.
    kept: bool,
    /// It was given back, and claimed again.
    claimed_again: bool,
    /// The manager was asked how it stands, and hasn't said so.
    asked: bool,
    /// The workload has its replicas back, though it is to have none.
    scaled_back: bool,
    /// How what was scaled to zero was found.
    workloads: Workloads,
}

/// How the workloads behind a Service that is replaced were found.
#[derive(Debug, Clone, Default)]
struct Workloads {
    /// Each of them; empty where nobody has looked, or there is none.
    text: String,
    /// Somebody scaled one of them up.
    is_scaled_up: bool,
}

impl Workloads {
    fn new(found: &[Workload]) -> Self {
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
    pub fn is_lost(&self) -> Option<&str> {
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

/// All of them, by id.
#[derive(Debug)]
pub struct Intercepts {
    held: Mutex<BTreeMap<String, Held>>,
    changed: watch::Sender<u64>,
    any: watch::Sender<bool>,
    writing: tokio::sync::Mutex<()>,
}

impl Default for Intercepts {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            changed: watch::Sender::new(0),
            any: watch::Sender::new(false),
            writing: tokio::sync::Mutex::default(),
        }
    }
}

impl Intercepts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Held>) -> T) -> T {
        let mut held = self.lock();
        let result = change(&mut held);
        let any = !held.is_empty();
        drop(held);
        self.any
            .send_if_modified(|before| std::mem::replace(before, any) != any);
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Waits for this session's turn at writing to Services: many claims that come or go at once on one Service
    /// would meet each other's writes until they gave up. Cancel safe.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.writing.lock().await
    }

    /// Holds an intercept of the Service with this uid from now on; empty where that isn't known. Returns what asks the
    /// manager to redirect it.
    pub fn add(
        &self,
        service: &ServiceName,
        uid: &str,
        intercept: Intercept,
        local: SocketAddr,
    ) -> Request {
        let one = Held {
            namespace: service.namespace.clone(),
            service: service.name.clone(),
            local,
            uid: uid.to_owned(),
            part: Part::new(State::Pending, "being installed"),
            connections: 0,
            reported: InterceptState::default(),
            kept: true,
            claimed_again: false,
            asked: false,
            scaled_back: false,
            workloads: Workloads::default(),
            intercept: intercept.clone(),
        };
        let request = one.request();
        self.edit(|held| held.insert(intercept.id, one));
        request
    }

    /// Forgets those of a Service's port that are over, and whose requests another one has now.
    pub fn forget_dead(&self, namespace: &str, service: &str, by: &Intercept) {
        self.edit(|held| {
            held.retain(|_, one| {
                let is_it = one.namespace == namespace
                    && one.service == service
                    && one.intercept.port == by.port
                    && one.intercept.mode == by.mode
                    && overlap(&one.intercept.rule, &by.rule).is_some();
                !is_it || one.part.state() != State::Down
            });
        });
    }

    /// It is being left: nothing of it is taken again. To be called in turn, see [`Intercepts::turn`].
    pub fn let_go(&self, id: &str) {
        self.change(id, |one| one.kept = false);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Held)) {
        self.edit(|held| {
            if let Some(one) = held.get_mut(id) {
                change(one);
            }
        });
    }

    /// Notice of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Those of which something holds.
    pub fn those(&self, are: impl Fn(&Held) -> bool) -> Vec<Held> {
        let held = self.lock();
        held.values().filter(|one| are(one)).cloned().collect()
    }

    /// Whether something holds of one that is held.
    pub fn is(&self, id: &str, what: impl Fn(&Held) -> bool) -> bool {
        self.lock().get(id).is_some_and(what)
    }

    /// It is claimed again, of the Service with this uid.
    pub fn handle_claimed_again(&self, intercept: Intercept, uid: &str) {
        self.change(&intercept.id.clone(), |one| {
            one.part = one
                .part
                .then(State::Pending, "being installed again".to_owned());
            one.reported = InterceptState::default();
            one.claimed_again = true;
            one.uid = uid.to_owned();
            one.intercept = intercept;
        });
    }

    /// It can't be claimed again, for now.
    pub fn handle_not_claimed(&self, id: &str, why: &str) {
        self.change(id, |one| {
            one.part = one.part.then(State::Down, why.to_owned())
        });
    }

    /// Its workload has its replicas, or may have.
    pub fn handle_scaled_back(&self, id: &str) {
        self.change(id, |one| one.scaled_back = true);
    }

    /// The same, as nobody looks after the Service.
    pub fn handle_unattended_workload(&self, id: &str) {
        self.change(id, |one| {
            one.scaled_back = true;
            // It works again once the manager says so anew.
            if one.reported.phase() == Phase::Active {
                one.reported = InterceptState::default();
            }
        });
    }

    /// Its workload has no replicas again.
    pub fn handle_scaled_down(&self, id: &str) {
        self.change(id, |one| one.scaled_back = false);
    }

    /// What it has scaled to zero was found so.
    pub fn handle_workloads(&self, id: &str, found: &[Workload]) {
        // Nobody waits for this.
        if let Some(one) = self.lock().get_mut(id) {
            one.workloads = Workloads::new(found);
        }
    }

    /// Doesn't hold it any more.
    pub fn remove(&self, id: &str) {
        self.edit(|held| held.remove(id));
    }

    /// Those of one Service.
    pub fn of_service(&self, namespace: &str, service: &str) -> Vec<Held> {
        self.those(|one| one.namespace == namespace && one.service == service)
    }

    /// Whether anything is held that has come of one call.
    pub fn holds_any(&self, call: &str) -> bool {
        self.lock().keys().any(|id| call_id(id) == call)
    }

    /// Waits until nothing is held that has come of one call. Cancel safe.
    pub async fn none_of(&self, call: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if !self.holds_any(call) {
                return;
            }
            if changed.changed().await.is_err() {
                // The sender is this one's own.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until one that has come of a call is given up; why. Cancel safe.
    pub async fn lost_of(&self, call: &str) -> String {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let lost = |(id, one): (&String, &Held)| {
                let why = one.is_lost().filter(|_| call_id(id) == call);
                why.map(str::to_owned)
            };
            let found = self.lock().iter().find_map(lost);
            if let Some(why) = found {
                return why;
            }
            if changed.changed().await.is_err() {
                // The sender is this one's own.
                std::future::pending::<()>().await;
            }
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<Held> {
        self.lock().values().cloned().collect()
    }

    /// Whether there is any; changes as they come and go.
    pub fn any_held(&self) -> watch::Receiver<bool> {
        self.any.subscribe()
    }

    /// Where an intercept's connections go; `None` when it isn't held.
    pub fn local_address(&self, id: &str) -> Option<SocketAddr> {
        self.lock().get(id).map(|one| one.local)
    }

    /// Counts a connection that reached the local program.
    pub fn count_connection(&self, id: &str) {
        if let Some(one) = self.lock().get_mut(id) {
            one.connections += 1;
        }
    }

    /// No manager looks after a Service any more; what becomes of its intercepts meanwhile.
    pub fn handle_unattended(&self, service: &ServiceName, text: &str) {
        self.edit(|held| {
            let of_it = held.values_mut().filter(|one| {
                (&one.namespace, &one.service) == (&service.namespace, &service.name)
                    && one.part.state() == State::Ok
            });
            for one in of_it {
                one.part = one.part.then(State::Degraded, text.to_owned());
                // What the manager said of it is over.
                one.reported = InterceptState::default();
            }
        });
    }

    /// Waits until the manager's report on an intercept is one that `wanted` accepts; `None` when it
    /// isn't held any more. Cancel safe.
    pub async fn wait_for(
        &self,
        id: &str,
        wanted: impl Fn(&InterceptState) -> bool,
    ) -> Option<InterceptState> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let reported = self.lock().get(id).map(|one| one.reported.clone())?;
            if wanted(&reported) {
                return Some(reported);
            }
            changed.changed().await.ok()?;
        }
    }

    /// All of them for `kdev status`, of which nothing takes `unheard` on this machine. While the link to the manager doesn't
    /// work, nobody knows.
    pub fn status(&self, manager: &Part, unheard: &BTreeSet<String>) -> Vec<InterceptStatus> {
        let held = self.lock();
        let part = |one: &Held| {
            if one.part.state() != State::Ok {
                return one.part.clone();
            }
            if manager.state() == State::Ok && one.asked {
                return Part {
                    state: State::Pending.into(),
                    since_ms: manager.since_ms,
                    detail: "it was active; the manager is asked whether it is".to_owned(),
                };
            }
            if manager.state() == State::Ok {
                let since_ms = one.part.since_ms.max(manager.since_ms);
                if unheard.contains(&one.intercept.id) {
                    let what = format!("{}; {}", one.part.detail, one.unheard());
                    return Part {
                        since_ms,
                        ..Part::new(State::Degraded, what)
                    };
                }
                return Part {
                    since_ms,
                    ..one.part.clone()
                };
            }
            Part {
                state: State::Degraded.into(),
                since_ms: manager.since_ms,
                detail: "the manager is out of reach; it was active".to_owned(),
            }
        };
        held.values()
            .map(|one| InterceptStatus {
                id: one.intercept.id.clone(),
                namespace: one.namespace.clone(),
                service: one.service.clone(),
                port: one.intercept.port.number.into(),
                port_name: one.intercept.port.name.clone(),
                protocol: one.intercept.port.protocol.to_string(),
                local_port: one.local.port().into(),
                part: Some(one.workloads.add_to(part(one))),
                connections: one.connections,
                rule: one.intercept.rule.to_string(),
                mode: modes::in_command(one.intercept.mode).into(),
            })
            .collect()
    }
}

impl InterceptEvents for Intercepts {
    fn handle_state(&self, state: InterceptState) {
        let (health, detail) = match state.phase() {
            Phase::Redirected => (
                State::Pending,
                "the Service points here; being probed".to_owned(),
            ),
            Phase::Active => (
                State::Ok,
                format!("active; the probe took {} µs", state.probe_us),
            ),
            Phase::Contested => (State::Degraded, state.reason.clone()),
            Phase::Failed | Phase::Gone | Phase::Lapsed | Phase::Lost => {
                (State::Down, state.reason.clone())
            }
            Phase::Restored => (State::Down, "the Service is as it was".to_owned()),
            Phase::Unspecified => return,
        };
        self.edit(|held| {
            if let Some(one) = held.get_mut(&state.id) {
                one.reported = state;
                one.asked = false;
                let again = match one.reported.phase() {
                    Phase::Gone if one.is_gone() => "; intercepted again when it is there again",
                    Phase::Lapsed if one.is_gone() => "; being intercepted again",
                    Phase::Lapsed => "; end it with `kdev leave`, and begin it again",
                    Phase::Lost => "; `kdev leave` and intercept again once that is mended",
                    _ => "",
                };
                one.part = one.part.then(health, detail + again);
                // Who had it redirected has given the workload back, too.
                one.scaled_back |= one.is_gone() && one.intercept.mode == Mode::Replace;
            }
        });
    }

    fn held(&self) -> Vec<Request> {
        let mut held = self.lock();
        // What is gone is asked for once it is claimed again, and what is lost by whoever wants it again.
        let there = held
            .values_mut()
            .filter(|one| !one.is_gone() && one.is_lost().is_none());
        let ask = |one: &mut Held| {
            one.asked = true;
            one.request()
        };
        there.map(ask).collect()
    }
}
