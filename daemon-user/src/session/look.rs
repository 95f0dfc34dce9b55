//! What `kdev status` finds out by asking: a connection whose cable is out takes itself for well until it
//! has missed some heartbeats.

use std::time::Duration;

use kdev_cluster::redirect::Mode;
use kdev_cluster::replace;
use kdev_proto::v1::{Part, State};
use kdev_proto::{Failure, PartCell};

use super::Session;

/// How long the API server may take to answer.
const API_SERVER: Duration = Duration::from_secs(2);
/// How long the manager may, by any way.
const MANAGER: Duration = Duration::from_secs(1);

/// Who answered when somebody last asked, and since when it is so.
#[derive(Debug)]
pub struct Found {
    /// The API server: what is carried directly doesn't need it.
    pub api: PartCell,
    /// The manager, over the session's own connection.
    pub manager: PartCell,
    /// The manager, on the direct way that is known.
    pub direct: PartCell,
    /// The root daemon.
    pub root: PartCell,
}

impl Default for Found {
    fn default() -> Self {
        let answers = || PartCell::new(State::Ok, "answers");
        Self {
            api: answers(),
            manager: answers(),
            direct: answers(),
            root: answers(),
        }
    }
}

impl Session {
    /// Asks everybody at once; what [`Session::status`] says is then true.
    pub async fn look(&self) {
        tokio::join!(
            self.look_at_api_server(),
            self.look_at_manager(),
            self.look_at_direct_way(),
            self.look_at_workloads()
        );
    }

    /// Whether what was scaled to zero still is.
    async fn look_at_workloads(&self) {
        let replaced = self
            .intercepts
            .those(|one| one.intercept.mode == Mode::Replace);
        let looks = replaced.into_iter().map(async |one| {
            let id = &one.intercept.id;
            let look = replace::scaled_for(self.cluster.kube(), &one.namespace, id);
            let found = tokio::time::timeout(API_SERVER, look).await;
            // What isn't known isn't told.
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            self.intercepts.handle_workloads(id, &found);
        });
        futures::future::join_all(looks).await;
    }

    async fn look_at_api_server(&self) {
        let api = &self.found.api;
        match tokio::time::timeout(API_SERVER, self.cluster.probe()).await {
            Ok(Ok(_)) => api.set(State::Ok, "answers"),
            Ok(Err(error)) => api.set(State::Down, error.to_string()),
            Err(_) => api.set(State::Down, silent(API_SERVER)),
        }
    }

    async fn look_at_manager(&self) {
        let answers = self.manager.answers(MANAGER).await;
        note(
            &self.found.manager,
            answers.then_some(()).ok_or_else(|| silent(MANAGER)),
        );
    }

    async fn look_at_direct_way(&self) {
        let proven = self.direct.prove(&self.access, MANAGER).await;
        note(&self.found.direct, proven);
    }

    /// How the manager is doing.
    pub(super) fn manager_part(&self) -> Part {
        let part = self.manager.link.borrow().part.clone();
        part.as_found(&self.found.manager.get())
    }

    /// How the direct way is doing.
    pub(super) fn direct_part(&self) -> Part {
        let part = self.direct.found().borrow().part.clone();
        part.as_found(&self.found.direct.get())
    }

    /// The root daemon was asked how it is.
    pub fn handle_root_answer(&self, answer: Result<(), &Failure>) {
        match answer {
            Ok(()) => self.found.root.set(State::Ok, "answers"),
            Err(failure) => self.found.root.set(State::Down, failure.to_string()),
        }
    }

    /// How the root daemon is doing, after it gave no answer: the link to it may know better since when.
    pub fn root_part(&self) -> Part {
        let (link, found) = (self.root.link.borrow().part.clone(), self.found.root.get());
        match link.state() {
            State::Down => link.then(State::Down, found.detail),
            _ => found,
        }
    }
}

fn note(part: &PartCell, answer: Result<(), String>) {
    match answer {
        Ok(()) => part.set(State::Ok, "answers"),
        Err(why) => part.set(State::Degraded, why),
    }
}

fn silent(within: Duration) -> String {
    format!("no answer within {} s", within.as_secs())
}
