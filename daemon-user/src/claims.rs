//! Intercepting a Service and leaving it, with the user's own rights.

use std::time::Duration;

use kdev_cluster::redirect::{self, Claim, ClaimError, PortQuery, Protocol, ServiceName};
use kdev_common::loopback;
use kdev_proto::Failure;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{ErrorKind, InterceptRequest, InterceptStart, InterceptStop, LeaveRequest};

use crate::failures;
use crate::progress::Sink;
use crate::session::Session;
use crate::session::intercepts::Held;

/// How long the manager may take to redirect a Service and to probe it.
const ACTIVE: Duration = Duration::from_secs(45);
/// How long the manager may take to restore a Service.
const RESTORED: Duration = Duration::from_secs(30);
/// The same for a manager that is out of reach: it restores when it is back, as the claim is gone.
const UNATTENDED: Duration = Duration::from_secs(8);
/// How long the manager may take to say that it has.
const REPORTED: Duration = Duration::from_secs(5);

/// Sends what a Service's port gets to a local port; done when a probe has travelled the real path.
///
/// # Errors
///
/// What is in the way; the Service is then as it was.
pub async fn intercept(
    session: &Session,
    request: InterceptRequest,
    sink: &Sink,
) -> Result<String, Failure> {
    let service = request.service;
    let namespace = or(request.namespace, &session.namespace);
    let local_port = u16::try_from(request.local_port)
        .ok()
        .filter(|port| *port != 0);
    let Some(local_port) = local_port else {
        return Err(Failure::new(
            ErrorKind::Usage,
            format!("can't intercept {service}"),
            format!("{} isn't a port", request.local_port),
            "give --port LOCAL or LOCAL:PORT, where LOCAL is 1 to 65535",
        ));
    };
    if let Some(failure) = session.manager.link.borrow().failure.clone() {
        return Err(failure);
    }
    let Some(local) = loopback::listener(local_port).await else {
        return Err(Failure::new(
            ErrorKind::LocalPort,
            format!("can't intercept {namespace}/{service}"),
            format!("nothing listens on port {local_port} of this machine"),
            "start your program first, then intercept",
        ));
    };
    let Ok(port) = request.port.parse::<PortQuery>();
    let wanted = Claim {
        id: format!("{:032x}", rand::random::<u128>()),
        session: session.id.clone(),
        owner: session.owner.clone(),
        manager: session.manager_namespace.clone(),
        port,
    };
    let name = ServiceName::new(&namespace, &service);
    let client = session.cluster.kube();
    let claimed = redirect::claim(client, &name, &wanted)
        .await
        .map_err(|error| match &error {
            ClaimError::Taken { by, .. } if *by == session.owner => failures::claim(&name, &error)
                .with_next(
                    "it may be your own earlier session's: then the manager restores the Service \
                     seconds after that session's end; try again in a moment",
                ),
            _ => failures::claim(&name, &error),
        })?;
    let id = claimed.id.clone();
    let port = claimed.port.number;
    if claimed.port.protocol != Protocol::Tcp {
        redirect::release(client, &name, &id)
            .await
            .map_err(|error| failures::release(&name, &error))?;
        return Err(Failure::new(
            ErrorKind::Usage,
            format!("can't intercept {name}"),
            format!(
                "port {port} is {}, and only TCP ports can be intercepted",
                claimed.port.protocol
            ),
            "name a TCP port",
        ));
    }
    sink.line(format!("claimed {name} port {port}")).await;
    // The claim was free: whatever this session believes to hold there, it doesn't.
    session
        .intercepts
        .forget_dead(&namespace, &service, &claimed.port);
    session.intercepts.add(&namespace, &service, claimed, local);
    session.request(Request::Intercept(InterceptStart {
        id: id.clone(),
        namespace: namespace.clone(),
        service: service.clone(),
    }));
    let active = tokio::select! {
        active = wait_active(session, &id, sink) => active,
        () = sink.closed() => Err("the command was interrupted".to_owned()),
    };
    match active {
        Ok(probe_us) => Ok(format!(
            "active: {namespace}/{service} port {port} comes to {local} (a probe through the \
             Service's address took {:.1} ms)",
            Duration::from_micros(probe_us).as_secs_f64() * 1000.0
        )),
        Err(why) => {
            let undone = undo(session, &id, &namespace, &service).await;
            let next = match undone {
                Ok(()) => "the Service is as it was; mend the reason and try again".to_owned(),
                Err(failure) => format!("restoring it failed as well: {failure}"),
            };
            Err(Failure::new(
                ErrorKind::Probe,
                format!("intercepting {namespace}/{service} didn't work"),
                why,
                next,
            ))
        }
    }
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
        Ok(Some(state)) => Err(state.reason),
        Ok(None) => Err("it was left meanwhile".to_owned()),
        Err(_) => Err(format!(
            "the manager didn't report it active within {} s",
            ACTIVE.as_secs()
        )),
    }
}

/// Leaves every intercept of a Service that this session holds, or that of one port.
///
/// # Errors
///
/// When there is none, or the Service isn't restored in time.
pub async fn leave(
    session: &Session,
    request: LeaveRequest,
    sink: &Sink,
) -> Result<String, Failure> {
    let namespace = or(request.namespace, &session.namespace);
    let Ok(port) = request.port.parse::<PortQuery>();
    let mut held = session.intercepts.of_service(&namespace, &request.service);
    held.retain(|one| port.matches(&one.intercept.port));
    if held.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            format!("can't leave {namespace}/{}", request.service),
            "this session doesn't intercept it",
            "`kdev status` lists what it intercepts; -n names another namespace",
        ));
    }
    for one in &held {
        leave_one(session, one, sink).await?;
    }
    let stay = session.intercepts.of_service(&namespace, &request.service);
    let rest = match stay.len() {
        0 => "the Service is as it was".to_owned(),
        1 => "another port stays intercepted".to_owned(),
        more => format!("{more} other ports stay intercepted"),
    };
    Ok(format!("left {namespace}/{}: {rest}", request.service))
}

/// Leaves everything at once; returns the first failure after all have ended.
///
/// # Errors
///
/// See [`leave`].
pub async fn leave_all(session: &Session, sink: &Sink) -> Result<(), Failure> {
    let all = session.intercepts.all();
    let left = all.iter().map(|one| leave_one(session, one, sink));
    let left = futures::future::join_all(left).await;
    left.into_iter().collect()
}

async fn leave_one(session: &Session, held: &Held, sink: &Sink) -> Result<(), Failure> {
    undo(session, &held.intercept.id, &held.namespace, &held.service).await?;
    let port = held.intercept.port.number;
    sink.line(format!(
        "{}/{} port {port} restored",
        held.namespace, held.service
    ))
    .await;
    Ok(())
}

/// Takes the claim back, waits until the manager has restored the Service, and looks.
async fn undo(session: &Session, id: &str, namespace: &str, service: &str) -> Result<(), Failure> {
    let client = session.cluster.kube();
    let name = ServiceName::new(namespace, service);
    redirect::release(client, &name, id)
        .await
        .map_err(|error| failures::release(&name, &error))?;
    session.request(Request::Leave(InterceptStop {
        id: id.to_owned(),
        namespace: namespace.to_owned(),
        service: service.to_owned(),
    }));
    let linked = || session.manager.link.borrow().channel.is_some();
    let patience = if linked() { RESTORED } else { UNATTENDED };
    let restored = redirect::wait_restored(client, &name, id, patience).await;
    // Connections may still come here until the manager says that it passes them to the pods.
    let reported = session.intercepts.wait_for(id, |state| {
        matches!(state.phase(), Phase::Restored | Phase::Failed)
    });
    if restored.is_ok() && linked() {
        let _ = tokio::time::timeout(REPORTED, reported).await;
    }
    session.intercepts.remove(id);
    restored.map_err(|error| failures::restore(&name, &error))
}

fn or(given: String, default: &str) -> String {
    if given.is_empty() {
        default.to_owned()
    } else {
        given
    }
}
