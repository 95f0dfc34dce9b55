//! An intercept's end: what came with it is undone, and its Service given back.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::redirect::redirector::Annotated;
use kdev_cluster::redirect::{self, Intercept, Mode, RestoreError, ServiceName};
use kdev_cluster::replace;
use kdev_common::fault::{Point, point};
use kdev_proto::v1::InterceptState;
use kdev_proto::v1::intercept_state::Phase;
use kube::Client;
use tokio::sync::mpsc;

use super::reporter::Reporter;
use super::{Claimed, News};
use crate::router::RouterPort;
use crate::sessions::Session;

/// How long restoring may take before it is worth a line in the log.
const RESTORE: Duration = Duration::from_secs(30);
/// How long the router stays after the Service is restored, for nodes that learn of it late.
const LINGER: Duration = Duration::from_secs(30);
/// What a session hears that asks for what is over.
const GIVEN_BACK: &str = "it was left, and the Service was given back";
/// How often undoing what comes with an intercept is tried, and the pause after the first attempt.
const PUT_BACK_ATTEMPTS: u32 = 4;
const PUT_BACK_AGAIN: Duration = Duration::from_secs(1);
/// Before an API server that doesn't answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Undoes what comes with an intercept, where its session hasn't. What fails for long is left to whoever sweeps.
pub async fn put_back(client: &Client, service: &ServiceName, claim: &Intercept) {
    let mut pause = PUT_BACK_AGAIN;
    for _ in 0..PUT_BACK_ATTEMPTS {
        match try_put_back(client, service, claim).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%service, %error, mode = ?claim.mode, "what came with an intercept isn't undone yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

async fn try_put_back(
    client: &Client,
    service: &ServiceName,
    claim: &Intercept,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    match claim.mode {
        Mode::Intercept | Mode::Wiretap => Ok(()),
        Mode::Replace => replace::restore(client, &service.namespace, &claim.id)
            .await
            .map(drop)
            .map_err(Into::into),
        Mode::Preview => redirect::delete_preview(client, service, &claim.id)
            .await
            .map_err(Into::into),
    }
}

impl Claimed<'_> {
    /// Puts back what came with an intercept whose Service is gone, and the claim with it: one of the same id that
    /// comes is a new one. What the nodes still lead here, for the Service or for the next one of its name, goes to
    /// the pods.
    pub(super) async fn abandon(self, port: Arc<RouterPort>) {
        self.joined.leave();
        self.linger(port);
        put_back(&self.tools.client, self.service, self.claim).await;
    }

    /// Keeps the router's port until every node has learned that nothing leads to it.
    fn linger(&self, port: Arc<RouterPort>) {
        let cancelled = self.tools.cancelled.clone();
        self.tools.tasks.spawn(async move {
            let _ = tokio::time::timeout(LINGER, cancelled.cancelled()).await;
            drop(port);
        });
    }

    /// Gives back what the intercept has of a Service, and the claim with it, so that one of the same id that comes is a new
    /// one; false when the manager ends before.
    pub(super) async fn give_back(
        &self,
        port: Arc<RouterPort>,
        reporter: &mut Reporter,
        news: &mut mpsc::Receiver<News>,
    ) -> bool {
        let given_back = async {
            let mut claims = self.tools.redirector.annotated();
            let is_off = |claims: &Arc<[Annotated]>| {
                claims.iter().all(|one| one.intercept.id != self.claim.id)
            };
            self.given_back().await && claims.wait_for(is_off).await.is_ok()
        };
        tokio::pin!(given_back);
        let is_free = loop {
            tokio::select! {
                is_free = &mut given_back => break is_free,
                // Who leaves it waits for the same.
                Some(one) = news.recv() => if let News::AskedAgain(session) = one {
                    reporter.repeat_to(session);
                },
            }
        };
        self.linger(port);
        is_free
    }

    /// Undoes what comes with it, and waits until the Service is rid of the claim; false when the manager ends before.
    async fn given_back(&self) -> bool {
        self.joined.leave();
        point(Point::Left);
        put_back(&self.tools.client, self.service, self.claim).await;
        point(Point::PutBack);
        if self.tools.redirector.forget(&self.claim.id).await.is_err() {
            return false;
        }
        while let Err(error) = self.wait_restored().await {
            tracing::warn!(service = %self.service, %error, "a Service isn't restored yet");
        }
        true
    }

    /// Gives the Service back; the router stays until every node has learned of it. `lost` says why the session
    /// didn't want that.
    pub(super) async fn restore(
        self,
        session: &Session,
        news: &mut mpsc::Receiver<News>,
        lost: Option<String>,
    ) {
        let over = lost.clone().unwrap_or_else(|| GIVEN_BACK.to_owned());
        let restore = async {
            if !self.given_back().await {
                return;
            }
            if lost.is_none() {
                session.report(InterceptState {
                    phase: Phase::Restored.into(),
                    ..self.state("")
                });
            }
            point(Point::RestoredReported);
            tokio::time::sleep(LINGER).await;
        };
        // Nothing changes what comes now, but whoever asks must be told that it is over: a session that
        // was away for too long believes that it still holds it.
        let listen = async {
            loop {
                match news.recv().await {
                    Some(News::AskedAgain(session)) => session.report(self.state(&over)),
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = restore => {}
            () = listen => {}
        }
    }

    /// A report that it is over.
    fn state(&self, reason: &str) -> InterceptState {
        InterceptState {
            id: self.claim.id.clone(),
            phase: Phase::Lost.into(),
            reason: reason.to_owned(),
            ..InterceptState::default()
        }
    }

    async fn wait_restored(&self) -> Result<(), RestoreError> {
        let ids = [self.claim.id.as_str()];
        let restored =
            redirect::wait_restored(&self.tools.client, self.service, &ids, RESTORE).await;
        if let Err(RestoreError::Api(_)) = &restored {
            // The API server can't be asked, for now.
            tokio::time::sleep(ASK_AGAIN).await;
        }
        restored
    }
}
