//! From a claim that is written to an intercept that works, or what to say where it doesn't.

use std::net::SocketAddr;
use std::time::Duration;

use kdev_cluster::install::find_manager;
use kdev_cluster::obstacles;
use kdev_cluster::redirect::{Intercept, PortRef, ServiceName};
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;
use kdev_proto::v1::intercept_state::Phase;

use crate::progress::Sink;
use crate::session::Session;
use crate::wanted::shown;

/// How long the manager may take to redirect a Service and to probe it.
const ACTIVE: Duration = Duration::from_secs(45);

/// How long looking for what is in the way may take: a hint isn't worth more; and how long still, when it works.
const LOOKED: Duration = Duration::from_secs(2);
const UNNOTICED: Duration = Duration::from_millis(200);

/// Holds what was claimed of a Service with this uid, and has the manager redirect it to `local`.
pub async fn begin(
    session: &Session,
    (name, uid): (&ServiceName, &str),
    claimed: &Intercept,
    local: SocketAddr,
    sink: &Sink,
) {
    let port = shown(&claimed.port);
    sink.line(format!("claimed {name} port {port}")).await;
    let (namespace, service) = (&name.namespace, &name.name);
    // The claim was free: whatever this session believes to hold there, it doesn't.
    session.intercepts.forget_dead(namespace, service, claimed);
    let request = session.intercepts.add(name, uid, claimed.clone(), local);
    session.request(request);
}

/// Waits until it works; the time that its probe took, in microseconds.
///
/// # Errors
///
/// Why it doesn't, with what is in the way.
pub async fn active(
    session: &Session,
    name: &ServiceName,
    claimed: &Intercept,
    sink: &Sink,
) -> Result<u64, Failure> {
    let (active, obstacles) = with_look(
        wait_active(session, &claimed.id, sink),
        in_the_way(session, name, claimed),
    )
    .await;
    let probe_us = active.map_err(|why| {
        let why = [&[why][..], &obstacles].concat();
        let port = shown(&claimed.port);
        failed(format!("{name} port {port}"), why.join("; "))
    })?;
    for one in obstacles {
        sink.line(format!("note: {one}")).await;
    }
    point(Point::ReportedActive);
    Ok(probe_us)
}

/// Awaits `work` for as long as somebody waits for what comes of it.
///
/// # Errors
///
/// Its own, and that nobody does.
pub async fn unless_interrupted<T>(
    name: &ServiceName,
    sink: &Sink,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = sink.closed() => Err(failed(name.to_string(), "the command was interrupted")),
    }
}

/// What is told of one that works.
pub fn told(name: &ServiceName, port: &PortRef, local: SocketAddr, probe_us: u64) -> String {
    format!(
        "active: {name} port {} comes to {local} (a probe through the Service's address took {:.1} ms)",
        shown(port),
        Duration::from_micros(probe_us).as_secs_f64() * 1000.0,
    )
}

/// The failure of what was undone, with what came of that.
pub fn undone(failure: Failure, undone: Result<(), Failure>) -> Failure {
    failure.with_next(match undone {
        Ok(()) => "what it changed is put back; mend the reason and try again".to_owned(),
        Err(failure) => format!("putting it back failed as well: {failure}"),
    })
}

fn failed(what: String, why: impl Into<String>) -> Failure {
    Failure::new(
        ErrorKind::Probe,
        format!("intercepting {what} didn't work"),
        why,
        "",
    )
}

/// Waits until the intercept is active, or isn't, and for what a look at what is in its way finds meanwhile. One that
/// is active waits for that no longer than nobody notices.
async fn with_look(
    active: impl Future<Output = Result<u64, String>>,
    look: impl Future<Output = Vec<String>>,
) -> (Result<u64, String>, Vec<String>) {
    tokio::pin!(active, look);
    let mut found = None;
    let active = loop {
        tokio::select! {
            active = &mut active => break active,
            seen = &mut look, if found.is_none() => found = Some(seen),
        }
    };
    let found = match found {
        Some(found) => found,
        None => {
            let patience = if active.is_ok() { UNNOTICED } else { LOOKED };
            let seen = tokio::time::timeout(patience, look).await;
            seen.unwrap_or_default()
        }
    };
    (active, found)
}

/// What may be in the way of a claim, so far as it is found in time.
async fn in_the_way(session: &Session, name: &ServiceName, claim: &Intercept) -> Vec<String> {
    let client = session.cluster.kube();
    let find = async {
        let manager = find_manager(client, &session.manager_namespace)
            .await
            .ok()?;
        let passes = claim.leaves_some();
        Some(obstacles::find(client, &manager, name, &claim.port, passes).await)
    };
    let found = tokio::time::timeout(LOOKED, find).await;
    let found = found.ok().flatten().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// Waits until the intercept is active; the time that its probe took, in microseconds.
async fn wait_active(session: &Session, id: &str, sink: &Sink) -> Result<u64, String> {
    let wait = async {
        let redirected = session
            .intercepts
            .wait_for(id, |state| state.phase() != Phase::Unspecified)
            .await?;
        if redirected.phase() == Phase::Redirected {
            sink.line("the Service points to the manager; probing")
                .await;
        }
        session
            .intercepts
            .wait_for(id, |state| {
                !matches!(state.phase(), Phase::Unspecified | Phase::Redirected)
            })
            .await
    };
    match tokio::time::timeout(ACTIVE, wait).await {
        Ok(Some(state)) if state.phase() == Phase::Active => Ok(state.probe_us),
        Ok(Some(state)) if state.phase() != Phase::Restored => Err(state.reason),
        Ok(_) => Err("it was left meanwhile".to_owned()),
        Err(_) => Err(format!(
            "the manager didn't report it active within {} s",
            ACTIVE.as_secs()
        )),
    }
}
