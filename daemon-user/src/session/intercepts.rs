//! The intercepts that this session holds: where their connections go, and what the manager says of
//! them.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kdev_cluster::redirect::{Intercept, Mode, ServiceName, call_id};
use kdev_cluster::replace::Workload;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{InterceptState, InterceptStatus, Part, State};
use kdev_rules::overlap;
use tokio::sync::watch;

use super::manager_link::InterceptEvents;
use held::Workloads;

pub use held::Held;

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
                let why = one.lost().filter(|_| call_id(id) == call);
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
        held.iter()
            .map(|(id, one)| one.status(manager, unheard.contains(id)))
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
            .filter(|one| !one.is_gone() && one.lost().is_none());
        let ask = |one: &mut Held| {
            one.asked = true;
            one.request()
        };
        there.map(ask).collect()
    }
}
