//! The task that watches all Services and has a worker for each one concerned.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::index::{Index, Lost, Marks, Wish};
use super::worker::{News, Report, Worker};
use super::{Annotated, Assignment, CAPACITY, Event, LostReason};
use crate::backoff::{ApiBackoff, WATCH_SECONDS};
use crate::client::classify_watch;
use crate::redirect::objects::{SERVICE_NAME_LABEL, slices_by};
use crate::redirect::reconcile::Outcome;
use crate::redirect::{Refusal, ServiceName};

/// How many events may wait for their receiver before the cluster's news wait as well.
const OUTBOX: usize = 1024;

type Meta<K> = PartialObjectMeta<K>;
type WatchResult<K> = Result<watcher::Event<Meta<K>>, watcher::Error>;

pub(super) struct Task {
    client: Client,
    manager: String,
    index: Index,
    workers: BTreeMap<ServiceName, Employed>,
    running: JoinSet<()>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    wishes: mpsc::Receiver<(String, Wish)>,
    events: mpsc::Sender<Event>,
    outbox: VecDeque<Event>,
    annotated: watch::Sender<Arc<[Annotated]>>,
    /// Lists under way, and whether there has been a complete one.
    services: Listing<Marks>,
    slices: Listing<BTreeSet<String>>,
}

/// A worker, and what it has told.
struct Employed {
    assignment: watch::Sender<Arc<Assignment>>,
    poke: Arc<Notify>,
    abort: AbortHandle,
    redirected: BTreeSet<String>,
    lost: BTreeSet<String>,
    /// Since it was last redirected, held or restored.
    had_trouble: bool,
    is_settled: bool,
}

struct Listing<T> {
    staged: BTreeMap<ServiceName, T>,
    is_complete: bool,
    is_failing: bool,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            staged: BTreeMap::new(),
            is_complete: false,
            is_failing: false,
        }
    }
}

impl Task {
    pub(super) fn new(
        client: Client,
        manager: &str,
        wishes: mpsc::Receiver<(String, Wish)>,
        events: mpsc::Sender<Event>,
        annotated: watch::Sender<Arc<[Annotated]>>,
    ) -> Self {
        Self {
            client,
            manager: manager.to_owned(),
            index: Index::new(manager),
            workers: BTreeMap::new(),
            running: JoinSet::new(),
            reports: mpsc::channel(CAPACITY),
            wishes,
            events,
            outbox: VecDeque::new(),
            annotated,
            services: Listing::default(),
            slices: Listing::default(),
        }
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let services: Api<Meta<Service>> = Api::all(self.client.clone());
        let mut services = watcher(services, config.clone())
            .backoff(ApiBackoff::new())
            .boxed();
        let slices: Api<Meta<EndpointSlice>> = Api::all(self.client.clone());
        let mut slices = watcher(slices, config.labels(&slices_by(&self.manager)))
            .backoff(ApiBackoff::new())
            .boxed();
        let events = self.events.clone();
        loop {
            let has_room = self.outbox.len() < OUTBOX;
            tokio::select! {
                () = cancel.cancelled() => break,
                wish = self.wishes.recv() => match wish {
                    Some((id, wish)) => self.handle_wish(id, wish),
                    None => break,
                },
                permit = events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop_front() {
                            permit.send(event);
                        }
                    }
                    Err(_) => break,
                },
                Some(event) = services.next(), if has_room => self.handle_service(event),
                Some(event) = slices.next(), if has_room => self.handle_slice(event),
                Some(report) = self.reports.1.recv(), if has_room => self.handle_report(report),
                Some(_) = self.running.join_next() => {}
            }
        }
        self.running.shutdown().await;
    }

    fn handle_wish(&mut self, id: String, wish: Wish) {
        if let Some(service) = self.index.handle_wish(id, wish) {
            self.attend(&service);
        }
    }

    fn handle_service(&mut self, event: WatchResult<Service>) {
        let lost = match event {
            Ok(watcher::Event::Init) => return self.services.staged.clear(),
            Ok(watcher::Event::InitApply(service)) => {
                let marks = Marks::read(&service.metadata);
                self.services
                    .staged
                    .insert(name_of(&service.metadata), marks);
                return;
            }
            Ok(watcher::Event::InitDone) => {
                self.services.complete();
                let lost = self
                    .index
                    .handle_all_services(std::mem::take(&mut self.services.staged));
                self.lose(lost);
                self.publish_annotated();
                return self.attend_all();
            }
            Ok(watcher::Event::Apply(service)) => {
                let name = name_of(&service.metadata);
                let marks = Marks::read(&service.metadata);
                (self.index.handle_service(&name, Some(marks)), name)
            }
            Ok(watcher::Event::Delete(service)) => {
                let name = name_of(&service.metadata);
                (self.index.handle_service(&name, None), name)
            }
            Err(error) => return self.services.fail("services", &error),
        };
        let (lost, service) = lost;
        self.services.is_failing = false;
        self.lose(lost);
        self.publish_annotated();
        self.attend(&service);
    }

    fn handle_slice(&mut self, event: WatchResult<EndpointSlice>) {
        match event {
            Ok(watcher::Event::Init) => self.slices.staged.clear(),
            Ok(watcher::Event::InitApply(slice)) => {
                if let Some((service, slice)) = slice_of(&slice.metadata) {
                    self.slices.staged.entry(service).or_default().insert(slice);
                }
            }
            Ok(watcher::Event::InitDone) => {
                self.slices.complete();
                self.index
                    .handle_all_slices(std::mem::take(&mut self.slices.staged));
                self.attend_all();
            }
            Ok(watcher::Event::Apply(slice)) => self.note_slice(&slice.metadata, true),
            Ok(watcher::Event::Delete(slice)) => self.note_slice(&slice.metadata, false),
            Err(error) => self.slices.fail("endpoint slices", &error),
        }
    }

    fn note_slice(&mut self, slice: &ObjectMeta, is_there: bool) {
        self.slices.is_failing = false;
        if let Some((service, slice)) = slice_of(slice) {
            let was_concerned = self.index.concerns(&service);
            self.index.handle_slice(&service, &slice, is_there);
            // A worker that follows its Service's slices needs no notice of them.
            if was_concerned != self.index.concerns(&service) {
                self.attend(&service);
            }
        }
    }

    fn attend_all(&mut self) {
        let services = self
            .index
            .services()
            .into_iter()
            .chain(self.workers.keys().cloned());
        for service in services.collect::<BTreeSet<_>>() {
            self.attend(&service);
        }
    }

    /// Gives a Service's worker its assignment; employs one or ends it if that is called for.
    ///
    /// Own slices of a Service whose claims haven't been read yet would look like leftovers, so
    /// nothing is done before both lists are complete.
    fn attend(&mut self, service: &ServiceName) {
        if !self.services.is_complete || !self.slices.is_complete {
            return;
        }
        let is_done = self.index.is_foreign(service)
            || (!self.index.concerns(service)
                && self
                    .workers
                    .get(service)
                    .is_none_or(|worker| worker.is_settled));
        if is_done {
            if let Some(worker) = self.workers.remove(service) {
                worker.abort.abort();
            }
            return;
        }
        let (assignment, lost) = self.index.assignment(service);
        let assignment = Arc::new(assignment);
        match self.workers.get_mut(service) {
            Some(worker) => {
                // One that is claimed anew may be lost anew.
                let is_still = |id: &String| lost.iter().any(|one| one.id == *id);
                let is_routed = |id: &String| assignment.routed.contains_key(id);
                worker.lost.retain(|id| is_routed(id) || is_still(id));
                let is_new = worker.assignment.send_if_modified(|current| {
                    let is_new = *current != assignment;
                    *current = assignment;
                    is_new
                });
                worker.is_settled &= !is_new;
                worker.poke.notify_one();
            }
            None => self.employ(service, assignment),
        }
        self.lose(lost);
    }

    fn employ(&mut self, service: &ServiceName, assignment: Arc<Assignment>) {
        let (assignment, assignment_rx) = watch::channel(assignment);
        let poke = Arc::new(Notify::new());
        let worker = Worker {
            client: self.client.clone(),
            service: service.clone(),
            assignment: assignment_rx,
            poke: poke.clone(),
            reports: self.reports.0.clone(),
        };
        let employed = Employed {
            assignment,
            poke,
            abort: self.running.spawn(worker.run()),
            redirected: BTreeSet::new(),
            lost: BTreeSet::new(),
            had_trouble: false,
            is_settled: false,
        };
        self.workers.insert(service.clone(), employed);
    }

    fn handle_report(&mut self, report: Report) {
        let Report {
            service,
            assignment,
            news,
        } = report;
        let Some(worker) = self.workers.get_mut(&service) else {
            return;
        };
        let ids = || assignment.routed.keys().cloned().collect();
        worker.had_trouble |= !matches!(news, News::Reached(_));
        match news {
            News::Contested { by, again_in } => {
                self.outbox.push_back(Event::Contested {
                    service,
                    ids: ids(),
                    by,
                    again_in,
                });
            }
            News::GivenUp { by } => {
                let reason = LostReason::WrittenBack { by };
                self.lose(lost(&service, assignment.routed.keys(), &reason));
            }
            News::Failed { error, again_in } => {
                tracing::warn!(%error, again_in_s = again_in.as_secs_f32(), "can't redirect");
                self.outbox.push_back(Event::Failed {
                    service,
                    ids: ids(),
                    error,
                    again_in,
                });
            }
            News::Reached(outcome) => {
                // A newer assignment is under way if this isn't the current one.
                worker.is_settled = *worker.assignment.borrow() == assignment
                    && !matches!(outcome, Outcome::Redirected { .. } | Outcome::Held { .. });
                let lost = self.reach(&service, &assignment, &outcome);
                self.lose(lost);
                if !self.index.concerns(&service) {
                    self.attend(&service);
                }
            }
        }
    }

    /// Notes what a Service has become, and returns the claims that can't be routed.
    fn reach(
        &mut self,
        service: &ServiceName,
        assignment: &Assignment,
        outcome: &Outcome,
    ) -> Vec<Lost> {
        let Some(worker) = self.workers.get_mut(service) else {
            return Vec::new();
        };
        let ports = match outcome {
            Outcome::Redirected { ports, .. } => &ports[..],
            _ => &[],
        };
        let now: BTreeSet<String> = assignment
            .routed
            .iter()
            .filter(|(_, port)| ports.contains(port))
            .map(|(id, _)| id.clone())
            .collect();
        // After trouble it is news that they still do.
        let redirected: Vec<_> = match std::mem::take(&mut worker.had_trouble) {
            true => now.iter().cloned().collect(),
            false => now.difference(&worker.redirected).cloned().collect(),
        };
        let restored: Vec<_> = worker.redirected.difference(&now).cloned().collect();
        let reason = match outcome {
            Outcome::Refused(Refusal::NotInterceptable(why)) => LostReason::NotInterceptable(*why),
            Outcome::Gone => LostReason::ServiceGone,
            _ => LostReason::PortGone,
        };
        let not_now = assignment.routed.keys().filter(|id| !now.contains(*id));
        let lost = lost(service, not_now, &reason);
        worker.lost.retain(|id| !now.contains(id));
        worker.redirected = now;
        if !redirected.is_empty() {
            let service = service.clone();
            self.outbox.push_back(Event::Redirected {
                service,
                ids: redirected,
            });
        }
        // Of a Service that is gone all claims are lost.
        if !restored.is_empty() && *outcome != Outcome::Gone {
            let service = service.clone();
            self.outbox.push_back(Event::Restored {
                service,
                ids: restored,
            });
        }
        lost
    }

    /// Tells of lost claims, of each once until it is redirected again.
    fn lose(&mut self, lost: Vec<Lost>) {
        for Lost {
            service,
            id,
            reason,
        } in lost
        {
            let is_new = self
                .workers
                .get_mut(&service)
                .is_none_or(|worker| worker.lost.insert(id.clone()));
            if is_new {
                self.outbox.push_back(Event::Lost {
                    service,
                    id,
                    reason,
                });
            }
        }
    }

    fn publish_annotated(&self) {
        if !self.services.is_complete {
            return;
        }
        let annotated: Arc<[Annotated]> = self.index.annotated().into();
        self.annotated.send_if_modified(|current| {
            let is_new = *current != annotated;
            *current = annotated;
            is_new
        });
    }
}

impl<T> Listing<T> {
    fn complete(&mut self) {
        self.is_complete = true;
        self.is_failing = false;
    }

    fn fail(&mut self, what: &str, error: &watcher::Error) {
        let failure = classify_watch(error);
        if std::mem::replace(&mut self.is_failing, true) {
            tracing::debug!(what, %failure, "can't watch");
        } else {
            tracing::warn!(what, %failure, "can't watch; trying until it works");
        }
    }
}

/// Claims on a Service that are lost for one reason.
fn lost<'a>(
    service: &ServiceName,
    ids: impl Iterator<Item = &'a String>,
    reason: &LostReason,
) -> Vec<Lost> {
    let lost = ids.map(|id| Lost {
        service: service.clone(),
        id: id.clone(),
        reason: reason.clone(),
    });
    lost.collect()
}

fn name_of(metadata: &ObjectMeta) -> ServiceName {
    ServiceName::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Returns the Service that an own slice is for, and the slice's name.
fn slice_of(metadata: &ObjectMeta) -> Option<(ServiceName, String)> {
    let service = metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    let namespace = metadata.namespace.as_deref()?;
    Some((ServiceName::new(namespace, service), metadata.name.clone()?))
}
