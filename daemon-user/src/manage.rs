//! What commands do in a cluster without a session: install, uninstall, list.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use kdev_cluster::client::{self, ApiError, ClusterClient, KubeTarget};
use kdev_cluster::install::{
    self, Answer, Change, Direct, InstallOptions, ManagerError, NamespaceFate, PullPolicy,
    RouterLimits,
};
use kdev_cluster::recover::{self, RecoverError};
use kdev_cluster::redirect::{Intercept, PortRef};
use kdev_cluster::scope::{Found, Scope};
use kdev_cluster::services::{self, ServiceSummary};
use kdev_cluster::vouch::manager_key;
use kdev_proto::v1::{
    self, ErrorKind, InstallRequest, ListRequest, ListResponse, RecoverRequest, UninstallRequest,
};
use kdev_proto::{Failure, RELEASE};
use tokio::sync::mpsc;

use crate::daemon::Daemon;
use crate::failures;
use crate::modes;
use crate::progress::Sink;
use crate::service::{self, manager_namespace, target};
use crate::session::Session;

/// How long a Service may take to be restored.
const RESTORE: Duration = Duration::from_secs(30);
/// Steps that wait to be shown.
const STEPS: usize = 256;

async fn reach(target: KubeTarget) -> Result<ClusterClient, Failure> {
    client::connect(&target)
        .await
        .map_err(|error| failures::cluster(&error))
}

/// What an installation says of the router's limits.
fn limits(wanted: v1::RouterLimits) -> RouterLimits {
    let set = |value: u32| (value != 0).then_some(value);
    RouterLimits {
        head_bytes: set(wanted.head_bytes),
        headers: set(wanted.headers),
        first_byte_ms: set(wanted.first_byte_ms),
        head_ms: set(wanted.head_ms),
        connections: set(wanted.connections),
    }
}

/// Installs the manager, or brings it up to date.
///
/// # Errors
///
/// Why it doesn't serve.
pub async fn install(request: InstallRequest, sink: Sink) -> Result<String, Failure> {
    let wanted = request.cluster.unwrap_or_default();
    let cluster = reach(target(&wanted)).await?;
    let mut options = InstallOptions::new(request.image, RELEASE);
    options.namespace = manager_namespace(&wanted);
    options.direct = direct(&request.direct)?;
    options.image_pull_policy = policy(&request.image_pull_policy)?;
    options.session_grace_seconds =
        (request.session_grace_seconds != 0).then_some(request.session_grace_seconds);
    options.router = limits(request.router.unwrap_or_default());
    let namespace = options.namespace.clone();
    let (mut tell, show) = steps(sink.clone());
    let installing = cluster.kube().clone();
    let work = async move { install::install(&installing, &options, &mut tell).await };
    let (outcome, ()) = tokio::join!(work, show);
    let outcome = outcome.map_err(|error| failures::install(&error))?;
    if let Answer::No(why) = &outcome.answer {
        sink.line(format!(
            "it runs, but doesn't answer through a port-forward: {why}"
        ))
        .await;
    }
    // Its own word, as the image may be any.
    let release = release(&cluster, &namespace).await;
    let release = release.unwrap_or_else(|| "of an unknown release".to_owned());
    let changed = outcome
        .objects
        .iter()
        .filter(|one| one.change != Change::Unchanged)
        .count();
    Ok(if outcome.changed {
        format!(
            "traffic manager {release} serves in namespace {namespace}; {changed} objects changed"
        )
    } else {
        format!("traffic manager {release} serves in namespace {namespace}; nothing had to change")
    })
}

async fn release(cluster: &ClusterClient, namespace: &str) -> Option<String> {
    let pod = install::find_manager(cluster.kube(), namespace)
        .await
        .ok()?;
    let key = manager_key(cluster.kube(), &pod).await.ok()?;
    Some(key.release)
}

fn direct(text: &str) -> Result<Direct, Failure> {
    match text {
        "" => Ok(Direct::AsInstalled),
        "node-port" => Ok(Direct::NodePort),
        "load-balancer" => Ok(Direct::LoadBalancer),
        "none" => Ok(Direct::None),
        other => Err(Failure::new(
            ErrorKind::Usage,
            "can't install",
            format!("{other:?} is no way to reach the manager directly"),
            "give node-port, load-balancer or none",
        )),
    }
}

fn policy(text: &str) -> Result<Option<PullPolicy>, Failure> {
    match text {
        "" => Ok(None),
        "Always" => Ok(Some(PullPolicy::Always)),
        "IfNotPresent" => Ok(Some(PullPolicy::IfNotPresent)),
        "Never" => Ok(Some(PullPolicy::Never)),
        other => Err(Failure::new(
            ErrorKind::Usage,
            "can't install",
            format!("{other:?} isn't an image pull policy"),
            "give Always, IfNotPresent or Never",
        )),
    }
}

/// Removes the manager, after every Service is as it was; a session with it ends first.
///
/// # Errors
///
/// What couldn't be restored or removed.
pub async fn uninstall(
    request: UninstallRequest,
    daemon: &Daemon,
    sink: Sink,
) -> Result<String, Failure> {
    let wanted = request.cluster.unwrap_or_default();
    let cluster = reach(target(&wanted)).await?;
    let namespace = manager_namespace(&wanted);
    let client = cluster.kube();
    let end_session = async {
        let mut slot = daemon.only_one(&sink).await;
        match slot.take_if(|one| is_with(one, &cluster, &namespace)) {
            Some(session) => {
                sink.line("ending this machine's session with it").await;
                service::end(daemon, &session, &sink).await.map(drop)
            }
            None => Ok(()),
        }
    };
    let (mut tell, show) = steps(sink.clone());
    let work = async {
        // Moved in, so that the steps end with the work.
        let mut tell = move |step| tell(step);
        // Whoever may not uninstall keeps the session.
        let restore = async {
            end_session.await?;
            // What can't be seen would be without its manager afterwards.
            let scope = Scope::everywhere(&namespace);
            let recovered = recover::recover(client, scope, RESTORE).await?;
            recovered.all().map_err(RecoverError::from)?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        };
        install::uninstall(client, &namespace, restore, &mut tell).await
    };
    let (removed, ()) = tokio::join!(work, show);
    let removed = removed.map_err(|error| failures::uninstall(&error))?;
    if removed.is_nothing() {
        return Ok(format!(
            "there is nothing of kdev's in namespace {namespace}"
        ));
    }
    let fate = match removed.namespace {
        NamespaceFate::Absent => "the namespace wasn't there".to_owned(),
        NamespaceFate::Removed => format!("namespace {namespace} removed"),
        NamespaceFate::NotOurs => format!("namespace {namespace} stays, as kdev didn't make it"),
        NamespaceFate::InUse { by } => {
            let by: Vec<String> = by.iter().map(ToString::to_string).collect();
            format!(
                "namespace {namespace} stays, as others use it: {}",
                by.join(", ")
            )
        }
    };
    Ok(format!(
        "traffic manager removed: {} objects; {fate}",
        removed.objects.len()
    ))
}

/// Puts back what sessions have changed, where no manager does.
///
/// # Errors
///
/// When a manager runs, something can't be put back, or not everything can be looked at that was to be; what can be is
/// put back all the same.
pub async fn recover(request: RecoverRequest, sink: &Sink) -> Result<String, Failure> {
    let wanted = request.cluster.unwrap_or_default();
    let cluster = reach(target(&wanted)).await?;
    let namespace = manager_namespace(&wanted);
    let client = cluster.kube();
    let scope = Scope {
        manager: &namespace,
        namespace: Some(request.namespace.as_str()).filter(|only| !only.is_empty()),
    };
    let manager = install::find_manager(client, &namespace).await;
    if request.dry_run {
        let changed = recover::changed(client, scope).await;
        let Found { found, unseen } = changed.map_err(|error| failures::recover(&error))?;
        let line = match (found.is_nothing(), manager.is_ok()) {
            (true, _) => "there is nothing to put back".to_owned(),
            (false, false) => format!("would put back: {found}"),
            (false, true) => format!(
                "would put back: {found}; not while a traffic manager runs, which does by itself what sessions leave"
            ),
        };
        return concluded(line, &unseen, scope, sink).await;
    }
    match manager {
        Ok(pod) => {
            return Err(Failure::new(
                ErrorKind::Conflict,
                "nothing is put back",
                format!(
                    "a traffic manager runs (pod {} in namespace {namespace}), and puts back by itself \
                     what sessions leave",
                    pod.name
                ),
                "`kdev leave` ends an intercept of yours, `kdev uninstall` all of everybody's",
            ));
        }
        // It may well run, and serve others.
        Err(error @ ManagerError::Api(_)) => return Err(failures::manager(&namespace, &error)),
        Err(_) => {}
    }
    let recovered = recover::recover(client, scope, RESTORE).await;
    let Found { found, unseen } = recovered.map_err(|error| failures::recover(&error))?;
    let line = match found.is_nothing() {
        true => "there was nothing to put back".to_owned(),
        false => format!("put back: {found}"),
    };
    concluded(line, &unseen, scope, sink).await
}

/// Says what has come of looking, and what wasn't looked at for want of rights. Who names a namespace may know what is in
/// it; who asks for all is to know that it weren't all.
async fn concluded(
    line: String,
    unseen: &[ApiError],
    scope: Scope<'_>,
    sink: &Sink,
) -> Result<String, Failure> {
    if unseen.is_empty() {
        return Ok(line);
    }
    let looks: Vec<&str> = unseen.iter().map(|one| one.doing.as_str()).collect();
    let looks = looks.join(", ");
    if scope.namespace.is_some() {
        return Ok(format!(
            "{line}; what else there may be isn't seen, as you may not {looks}"
        ));
    }
    sink.line(line).await;
    Err(failures::unseen(&looks))
}

/// Whether a session is with this manager.
fn is_with(session: &Session, cluster: &ClusterClient, namespace: &str) -> bool {
    session.cluster.server_url() == cluster.server_url() && session.manager_namespace == namespace
}

/// Where the steps of some work are told, and the future that shows them until that is dropped.
fn steps(
    sink: Sink,
) -> (
    impl FnMut(install::Progress) + Send + Sync,
    impl Future<Output = ()> + Send,
) {
    let (sender, mut steps) = mpsc::channel::<String>(STEPS);
    let tell = move |step: install::Progress| {
        // A terminal that is so slow misses a step.
        let _ = sender.try_send(step.to_string());
    };
    let show = async move {
        while let Some(step) = steps.recv().await {
            sink.line(step).await;
        }
    };
    (tell, show)
}

/// Lists services and who holds them.
///
/// # Errors
///
/// Why they can't be listed.
pub async fn list(
    request: ListRequest,
    session: Option<Arc<Session>>,
) -> Result<ListResponse, Failure> {
    let wanted = request.cluster.unwrap_or_default();
    // Who names another cluster than the session's asks that one.
    let session = session.filter(|session| !wanted.chosen || session.is_of(&target(&wanted)));
    let cluster = match &session {
        Some(session) => Arc::clone(&session.cluster),
        None => Arc::new(reach(target(&wanted)).await?),
    };
    let namespace = match (request.namespace.as_str(), &session) {
        ("*", _) => None,
        ("", Some(session)) => Some(session.namespace.clone()),
        ("", None) => Some(cluster.names().namespace.clone()),
        (named, _) => Some(named.to_owned()),
    };
    let services = services::list(cluster.kube(), namespace.as_deref())
        .await
        .map_err(|error| failures::api("can't list services", &error))?;
    Ok(ListResponse {
        services: services.into_iter().map(summary).collect(),
    })
}

fn holder(intercept: &Intercept) -> v1::Holder {
    v1::Holder {
        by: intercept.owner.clone(),
        since: intercept.since.to_string(),
        rule: intercept.rule.to_string(),
        mode: modes::in_command(intercept.mode).into(),
    }
}

fn summary(service: ServiceSummary) -> v1::ServiceSummary {
    let ports = service
        .ports
        .iter()
        .map(|port| {
            let PortRef {
                name,
                number,
                protocol,
            } = &port.port;
            let on_it =
                |one: &&Intercept| (one.port.number, one.port.protocol) == (*number, *protocol);
            let holders = service.intercepts.iter().filter(on_it).map(holder);
            v1::ServicePort {
                name: name.clone(),
                number: (*number).into(),
                protocol: protocol.to_string(),
                target: port.target.clone(),
                holders: holders.collect(),
            }
        })
        .collect();
    v1::ServiceSummary {
        namespace: service.name.namespace,
        name: service.name.name,
        ports,
        why_not: service
            .interceptable
            .err()
            .map(|why| why.to_string())
            .unwrap_or_default(),
        external_name: service.external_name.unwrap_or_default(),
    }
}
