//! The intercepts that sessions ask for: each is a task, from the claim that the API server shows to
//! the Service that is as it was.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kdev_cluster::redirect::ServiceName;
use kdev_cluster::redirect::redirector::{Annotated, Event, LostReason, Redirector};
use kdev_common::fault::{Point, point};
use kdev_proto::v1::{InterceptStart, InterceptStop};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::intercept::{self, News};
use crate::lapsed::Lapsed;
use crate::manager::DRAIN;
use crate::resumable::ResumableFlows;
use crate::router::RouterPorts;
use crate::sessions::{Session, Sessions};

/// News that wait for one intercept.
const QUEUE: usize = 16;

/// How long the API server may take to have every Service's ports lead to the pods.
const HAND_OVER: Duration = Duration::from_secs(5);
/// How long the cluster's nodes may take to learn of that: kube-proxy applies changes once a second.
const NODES: Duration = Duration::from_millis(1500);

/// What every intercept needs.
pub struct Tools {
    /// The cluster.
    pub client: Client,
    /// Changes Services.
    pub redirector: Redirector,
    /// The flows that outlive their carriers.
    pub flows: ResumableFlows,
    /// Where connections to intercepted Services arrive.
    pub ports: RouterPorts,
    /// Those that were given back while their sessions were away.
    pub lapsed: Lapsed,
    /// The node that the manager's pod is on, where that is known.
    pub node: Option<String>,
    /// Where everything runs.
    pub tasks: TaskTracker,
    /// Ends everything; Services stay as they are, for the next manager.
    pub cancelled: CancellationToken,
}

impl Tools {
    /// Waits until the manager has ended, and then until what is under way may have found its end.
    async fn ended(&self) {
        self.cancelled.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    }
}

struct Entry {
    session: String,
    news: mpsc::Sender<News>,
}

/// All of them. A clone is the same.
#[derive(Clone)]
pub struct Intercepts {
    tools: Arc<Tools>,
    running: Arc<Mutex<HashMap<String, Entry>>>,
    /// Those whose ports lead here.
    redirected: watch::Sender<HashSet<String>>,
}

impl Intercepts {
    /// Knows none yet.
    pub fn new(tools: Tools) -> Self {
        Self {
            tools: Arc::new(tools),
            running: Arc::default(),
            redirected: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session asks for what it has claimed; asking again, as after a new connection, repeats the
    /// last report.
    pub async fn start(&self, session: &Arc<Session>, start: InterceptStart) {
        let id = start.id.clone();
        let known = self
            .lock()
            .get(&id)
            .map(|entry| (entry.session.clone(), entry.news.clone()));
        match known {
            Some((owner, news)) if owner == session.id => {
                let _ = news.send(News::AskedAgain(Arc::clone(session))).await;
                return;
            }
            // The id is another session's secret: whoever knows it without being that session lies.
            Some(_) => return,
            None => {}
        }
        let (news, mut receiver) = mpsc::channel(QUEUE);
        self.lock().insert(
            id.clone(),
            Entry {
                session: session.id.clone(),
                news,
            },
        );
        let (tools, session, running) = (
            Arc::clone(&self.tools),
            Arc::clone(session),
            Arc::clone(&self.running),
        );
        self.tools.tasks.spawn(async move {
            let service = ServiceName::new(&start.namespace, &start.service);
            let farewell = tokio::select! {
                () = tools.ended() => None,
                farewell = intercept::run(&tools, &session, &start, &service, &mut receiver) => farewell,
            };
            running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            if let Some(farewell) = farewell {
                farewell.say(&mut receiver);
            }
        });
    }

    /// A session has taken its claim back.
    pub async fn stop(&self, session: &Session, stop: InterceptStop) {
        let known = self
            .lock()
            .get(&stop.id)
            .map(|one| (one.session.clone(), one.news.clone()));
        if let Some((owner, news)) = known
            && owner == session.id
        {
            let _ = news.send(News::Leave).await;
        }
    }

    /// The manager ends: Services lead to their pods until the next one takes their claims up. What still
    /// comes here goes on meanwhile, so that no new connection is lost.
    pub async fn hand_over(&self) {
        let mut redirected = self.redirected.subscribe();
        let ids = redirected.borrow().clone();
        if ids.is_empty() {
            return;
        }
        point(Point::HandOver);
        for id in &ids {
            if self.tools.redirector.hold(id).await.is_err() {
                return;
            }
        }
        let none = redirected.wait_for(HashSet::is_empty);
        if tokio::time::timeout(HAND_OVER, none).await.is_err() {
            tracing::warn!("not every Service leads to its pods, and the manager ends");
        }
        point(Point::HandedOver);
        // Not to be seen from here.
        tokio::time::sleep(NODES).await;
    }

    /// A session is over: everything that it claimed is restored, and nothing of it goes on.
    pub async fn end_session(&self, session: &str) {
        point(Point::SessionOver);
        self.tools.flows.end_session(session);
        let news: Vec<_> = self
            .lock()
            .values()
            .filter(|entry| entry.session == session)
            .map(|entry| entry.news.clone())
            .collect();
        for news in news {
            let _ = news.send(News::Leave).await;
        }
        // Also what it claimed without asking for it, or asked of an earlier manager.
        let claims = self.tools.redirector.annotated().borrow().clone();
        for claim in claims.iter() {
            let id = &claim.intercept.id;
            // One that runs does it itself.
            if claim.intercept.session != session || self.lock().contains_key(id) {
                continue;
            }
            let (tools, claim) = (Arc::clone(&self.tools), claim.clone());
            tools.lapsed.note(id);
            let all = self.clone();
            self.tools.tasks.spawn(async move {
                let undo = async {
                    intercept::put_back(&tools.client, &claim.service, &claim.intercept).await;
                    // Its session may have come back meanwhile, and asked for it.
                    if !all.lock().contains_key(&claim.intercept.id) {
                        let _ = tools.redirector.forget(&claim.intercept.id).await;
                    }
                };
                tokio::select! {
                    () = tools.ended() => {}
                    () = undo => {}
                }
            });
        }
    }

    /// Hands the redirector's events on until it ends.
    pub async fn follow(&self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let (ids, news) = match event {
                Event::Redirected { ids, .. } => {
                    self.redirected
                        .send_modify(|redirected| redirected.extend(ids.iter().cloned()));
                    (ids, News::Redirected)
                }
                // Whoever gave it back looks for himself.
                Event::Restored { ids, .. } => {
                    self.not_redirected(&ids);
                    continue;
                }
                Event::Lost { id, reason, .. } => {
                    self.not_redirected(std::slice::from_ref(&id));
                    let news = match reason {
                        LostReason::ServiceGone => News::Gone,
                        LostReason::PortGone => News::PortGone,
                        reason => News::Lost(reason.to_string()),
                    };
                    (vec![id], news)
                }
                Event::Contested {
                    service,
                    ids,
                    by,
                    again_in,
                } => {
                    tracing::info!(%service, %by, ?again_in, "the selector was written back");
                    (
                        ids,
                        News::Trouble(format!("{by} writes the Service's selector back")),
                    )
                }
                Event::Failed {
                    service,
                    ids,
                    error,
                    again_in,
                } => {
                    tracing::warn!(%service, %error, ?again_in, "redirecting failed");
                    (ids, News::Trouble(error.to_string()))
                }
            };
            for id in ids {
                let sender = self.lock().get(&id).map(|entry| entry.news.clone());
                if let Some(sender) = sender {
                    let _ = sender.send(news.clone()).await;
                }
            }
        }
    }

    fn not_redirected(&self, ids: &[String]) {
        self.redirected.send_if_modified(|redirected| {
            let before = redirected.len();
            redirected.retain(|id| !ids.contains(id));
            redirected.len() != before
        });
    }

    /// Expects the sessions whose claims are seen, so that those that don't come are over in time.
    pub async fn expect_claimants(&self, sessions: &Sessions) {
        let mut claims = self.tools.redirector.annotated();
        loop {
            let seen: Arc<[Annotated]> = claims.borrow_and_update().clone();
            for claim in seen.iter() {
                sessions.expect(&claim.intercept.session);
            }
            if claims.changed().await.is_err() {
                return;
            }
        }
    }
}
