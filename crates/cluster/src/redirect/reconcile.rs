//! Looking, planning and doing, until a Service is what it is to be.

use std::collections::BTreeMap;
use std::time::Duration;

use kdev_common::fault;
use kube::Client;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::PortRef;
use super::api::{Look, ServiceApi, ServiceName};
use super::intercept::selector;
use super::objects::{MANAGED_BY, MANAGED_BY_LABEL, SERVICE_NAME_LABEL};
use super::observed::{Desired, Goal};
use super::plan::{Course, Refusal, Step, course, plan};
use super::writer::{self, Writer};
use crate::client::{ApiError, ApiFailure};

/// How often in a row others may be faster before it counts as a failure.
const MAX_CONFLICTS: u32 = 20;

/// How to go about it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long everything may take, the controllers' part included.
    pub deadline: Duration,
    /// Whether to clear a selector; if not, one that is there ends in [`Outcome::WrittenBack`]. It is cleared once.
    pub may_clear: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            may_clear: true,
        }
    }
}

/// What a Service is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// These ports lead to the router.
    Redirected {
        /// The ports that the Service has and that were asked for.
        ports: Vec<PortRef>,
        /// The selector of the pods that the other ports lead to.
        selector: BTreeMap<String, String>,
    },
    /// All ports lead to the pods; the selector stays cleared.
    Held {
        /// The selector of the pods.
        selector: BTreeMap<String, String>,
    },
    /// Somebody wrote the selector back, and [`Limits::may_clear`] forbids to clear it.
    WrittenBack {
        /// Who, as the API server noted it.
        by: Writer,
    },
    /// The Service is as it was, and nothing of ours is left.
    Restored,
    /// As [`Outcome::Restored`], though it was to be redirected.
    Refused(Refusal),
    /// There is no such Service, and nothing of ours is left.
    Gone,
}

/// Why a Service isn't what it is to be. Trying again goes on from where this ended.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The cluster doesn't write slices for the selector that is back.
    #[error(
        "service {service} has its selector back, but for {seconds} s the cluster's endpoint slice controller hasn't followed, so its connections go where kdev last led them. Check kube-controller-manager, then try again"
    )]
    ControllerSilent {
        /// The Service.
        service: ServiceName,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// The selector is back, but the rights to do the rest are missing.
    #[error(
        "service {service} has its selector back, but kdev's endpoint slices are still there: {source}. Until somebody deletes them, part of the connections goes to pods, or to a router, that may be gone: `kubectl -n {} delete endpointslices -l {MANAGED_BY_LABEL}={MANAGED_BY},{SERVICE_NAME_LABEL}={}`", service.namespace, service.name
    )]
    OnlySelector {
        /// The Service.
        service: ServiceName,
        /// The first step that wasn't allowed.
        source: ApiError,
    },
    /// The deadline passed.
    #[error("service {service} wasn't done with within {seconds} s (last step: {step}). Try again")]
    TimedOut {
        /// The Service.
        service: ServiceName,
        /// How long was waited, in seconds.
        seconds: u64,
        /// The step that was under way.
        step: &'static str,
    },
    /// Others change the Service all the time.
    #[error(
        "service {service} is changed by others all the time: {attempts} attempts met a conflict, the last one: {source}. Look for what writes to it in its metadata.managedFields"
    )]
    Contended {
        /// The Service.
        service: ServiceName,
        /// How often it was tried.
        attempts: u32,
        /// The last conflict.
        source: ApiError,
    },
}

/// Makes a Service what it is to be.
///
/// It may be dropped or fail at any point: the next call goes on from there.
pub async fn reconcile(
    client: &Client,
    service: &ServiceName,
    desired: &Desired,
    limits: Limits,
) -> Result<Outcome, ReconcileError> {
    let mut run = Run {
        api: ServiceApi::new(client, service.clone()),
        desired,
        may_clear: limits.may_clear,
        step: "observe",
        refused: None,
    };
    match timeout_at(
        Instant::now() + limits.deadline,
        run.go_on_until_done(service),
    )
    .await
    {
        Ok(result) => result,
        Err(_) => {
            let (service, seconds) = (service.clone(), limits.deadline.as_secs());
            Err(match run.step {
                step if step == Step::WaitForControllerSlices.name() => {
                    ReconcileError::ControllerSilent { service, seconds }
                }
                step => ReconcileError::TimedOut {
                    service,
                    seconds,
                    step,
                },
            })
        }
    }
}

struct Run<'a> {
    api: ServiceApi,
    desired: &'a Desired,
    may_clear: bool,
    step: &'static str,
    /// The first step that the user has no right to.
    refused: Option<ApiError>,
}

impl Run<'_> {
    async fn go_on_until_done(&mut self, service: &ServiceName) -> Result<Outcome, ReconcileError> {
        let mut conflicts = 0;
        loop {
            let look = self.api.observe().await?;
            if let Some(outcome) = self.written_back(&look) {
                return Ok(outcome);
            }
            let steps = plan(&look.observed, self.desired);
            // Only a look that finds nothing left to do is believed: the controllers may have
            // undone a step on what they knew then.
            if steps == [Step::Done] {
                return Ok(self.outcome(&look));
            }
            match self.apply(&look, &steps).await {
                Ok(()) => conflicts = 0,
                Err(source) if is_outdated(&source.failure) => {
                    self.refused = None;
                    conflicts += 1;
                    if conflicts == MAX_CONFLICTS {
                        let service = service.clone();
                        return Err(ReconcileError::Contended {
                            service,
                            attempts: conflicts,
                            source,
                        });
                    }
                }
                Err(source) => return Err(source.into()),
            }
            // What is written for the time until the controller has done its part isn't needed once it has.
            let is_waiting = steps.iter().any(Step::is_help);
            if let Some(source) = self.refused.take().filter(|_| !is_waiting) {
                let service = service.clone();
                return Err(ReconcileError::OnlySelector { service, source });
            }
        }
    }

    async fn apply(&mut self, look: &Look, steps: &[Step]) -> Result<(), ApiError> {
        for step in steps {
            // While waiting for the controller that is what a passed deadline is about.
            self.step = step.name();
            if self.refused.is_some() && !step.is_help() {
                continue;
            }
            tracing::debug!(step = step.name(), "redirect");
            match self.api.apply(look, step).await {
                Err(error) if is_refused(&error) && matches!(step, Step::UnmarkSlice(_)) => {
                    tracing::debug!(%error, "the marks on a slice of the cluster's stay");
                }
                // Who may change the Service but not its slices can still help it a good deal.
                Err(error) if self.is_refused_in_part(step, &error) => self.refused = Some(error),
                result => result?,
            }
            // Who writes it back at once is to be told of, not to be written against.
            self.may_clear &= !matches!(step, Step::ClearSelector { .. });
            if let Some(point) = step.point() {
                fault::point(point);
            }
        }
        Ok(())
    }

    fn is_refused_in_part(&self, step: &Step, error: &ApiError) -> bool {
        let is_on_service = matches!(
            step,
            Step::RestoreSelector { .. } | Step::DropAnnotation { .. }
        );
        self.desired.goal == Goal::Restore && !is_on_service && is_refused(error)
    }

    fn written_back(&self, look: &Look) -> Option<Outcome> {
        let service = look.observed.service.as_ref()?;
        if self.may_clear || !matches!(self.desired.goal, Goal::Redirect(_)) {
            return None;
        }
        selector(service).map(|_| Outcome::WrittenBack {
            by: writer::of_selector(service),
        })
    }

    fn outcome(&self, look: &Look) -> Outcome {
        let Some(service) = &look.observed.service else {
            return Outcome::Gone;
        };
        match course(&look.observed, service, self.desired) {
            Course::Redirect { saved, routes } if routes.is_empty() => Outcome::Held {
                selector: saved.selector,
            },
            Course::Redirect { saved, routes } => Outcome::Redirected {
                ports: routes.into_keys().collect(),
                selector: saved.selector,
            },
            Course::Restore(Some(refusal)) => Outcome::Refused(refusal),
            Course::Restore(None) => Outcome::Restored,
        }
    }
}

/// Returns whether a step failed because the state isn't the one observed any more.
///
/// A JSON patch whose `test` fails is "invalid" to the API server, like one that makes no sense;
/// hence the limit on attempts.
pub(super) fn is_outdated(failure: &ApiFailure) -> bool {
    matches!(
        failure,
        ApiFailure::Conflict { .. }
            | ApiFailure::AlreadyExists { .. }
            | ApiFailure::NotFound { .. }
            | ApiFailure::Invalid { .. }
    )
}

fn is_refused(error: &ApiError) -> bool {
    matches!(error.failure, ApiFailure::Forbidden(_))
}
