//! Intercepting a Service with the user's own rights.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kdev_cluster::install::find_manager;
use kdev_cluster::redirect::{self, Claim, Intercept, Mode, PortQuery, Protocol, ServiceName};
use kdev_cluster::{obstacles, replace};
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{ErrorKind, InterceptRequest, InterceptStart};

use crate::failures;
use crate::leaving::{Taken, undo};
use crate::modes;
use crate::progress::{Last, Sink};
use crate::session::{Session, rest};
use crate::wanted::{beside, listener, new_name, new_port, or, rule, shown};

/// How long the manager may take to redirect a Service and to probe it.
const ACTIVE: Duration = Duration::from_secs(45);

/// How long looking for what is in the way may take: a hint isn't worth more; and how long still, when it works.
const LOOKED: Duration = Duration::from_secs(2);
const UNNOTICED: Duration = Duration::from_millis(200);

/// Sends what a Service's port gets to a local port; done when a probe has travelled the real path.
///
/// # Errors
///
/// What is in the way; the Service is then as it was.
pub async fn intercept(
    session: &Session,
    request: InterceptRequest,
    sink: &Sink,
) -> Result<Last, Failure> {
    let mode = modes::in_cluster(request.mode());
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
    if request.pass_if_down && mode != Mode::Intercept {
        return Err(failures::nobody_to_pass_to(&service));
    }
    let rule = rule(&request.rule)?;
    let Ok(wanted) = request.port.parse::<PortQuery>();
    let name = ServiceName::new(&namespace, &service);
    let client = session.cluster.kube();
    let (port, others) = match mode {
        Mode::Preview => {
            new_name(&name)?;
            (new_port(&name, local_port, &wanted)?, Vec::new())
        }
        Mode::Intercept | Mode::Replace | Mode::Wiretap => {
            redirect::find_port(client, &name, &wanted)
                .await
                .map_err(|error| failures::claim(&name, &error))?
        }
    };
    if port.protocol == Protocol::Udp && !session.manager.link.borrow().redirects_udp {
        return Err(failures::manager_without_udp(&name));
    }
    let (local, meanwhile) = match listener(&name, local_port, port.protocol).await {
        Ok(local) => (local, ""),
        // That is what the pods are asked to stand in for.
        Err(closed) if request.pass_if_down => {
            let why = closed.why;
            sink.line(format!(
                "note: {why}; the pods get what comes until something does"
            ))
            .await;
            let expected = SocketAddr::from((Ipv4Addr::LOCALHOST, local_port));
            (expected, "; until something listens there, to the pods")
        }
        Err(closed) => return Err(closed),
    };
    if mode == Mode::Replace {
        // Before anything changes.
        replace::find(client, &name)
            .await
            .map_err(|error| failures::replace(&name, &error))?;
    }
    let wanted = Claim {
        id: format!("{:032x}", rand::random::<u128>()),
        session: session.id.clone(),
        owner: session.owner.clone(),
        manager: session.manager_namespace.clone(),
        port: PortQuery::from(&port),
        rule,
        mode,
        pass_if_down: request.pass_if_down,
        take_over: request.take_over,
    };
    point(Point::Checked);
    let claimed = match mode {
        Mode::Preview => redirect::create_preview(client, &name, port, &wanted)
            .await
            .map_err(|error| failures::claim(&name, &error))?,
        Mode::Intercept | Mode::Replace | Mode::Wiretap => {
            claim(session, &name, &wanted, sink).await?
        }
    };
    point(match mode {
        Mode::Preview => Point::PreviewMade,
        Mode::Intercept | Mode::Replace | Mode::Wiretap => Point::Claimed,
    });
    let id = claimed.id.clone();
    let port = shown(&claimed.port);
    sink.line(format!("claimed {name} port {port}")).await;
    // The claim was free: whatever this session believes to hold there, it doesn't.
    session
        .intercepts
        .forget_dead(&namespace, &service, &claimed);
    session
        .intercepts
        .add(&namespace, &service, claimed.clone(), local);
    session.request(Request::Intercept(InterceptStart {
        id: id.clone(),
        namespace: namespace.clone(),
        service: service.clone(),
    }));
    point(Point::Asked);
    let held = Taken {
        session,
        id: &id,
        name: &name,
        mode,
    };
    let active = async {
        let (active, obstacles) = with_look(
            wait_active(session, &id, sink),
            in_the_way(session, &name, &claimed),
        )
        .await;
        let probe_us = active.map_err(|why| {
            let why = [&[why][..], &obstacles].concat();
            Failure::new(
                ErrorKind::Probe,
                format!("intercepting {name} didn't work"),
                why.join("; "),
                "",
            )
        })?;
        for one in obstacles {
            sink.line(format!("note: {one}")).await;
        }
        point(Point::ReportedActive);
        if mode == Mode::Replace {
            scale_down(session, &name, &claimed, sink).await?;
        }
        Ok(probe_us)
    };
    let active = tokio::select! {
        active = active => active,
        () = sink.closed() => Err(Failure::new(
            ErrorKind::Probe,
            format!("intercepting {name} didn't work"),
            "the command was interrupted",
            "",
        )),
    };
    match active {
        Ok(probe_us) => {
            let line = format!(
                "active: {name} port {port} comes to {local} (a probe through the Service's address took \
             {:.1} ms){meanwhile}{}",
                Duration::from_micros(probe_us).as_secs_f64() * 1000.0,
                beside(local_port, &others)
            );
            Ok(Last {
                line,
                intercept: id,
            })
        }
        Err(failure) => {
            let next = match undo(&held, sink).await {
                Ok(()) => "what it changed is put back; mend the reason and try again".to_owned(),
                Err(failure) => format!("putting it back failed as well: {failure}"),
            };
            Err(failure.with_next(next))
        }
    }
}

/// Writes the claim. What it took the place of is put back.
async fn claim(
    session: &Session,
    name: &ServiceName,
    wanted: &Claim,
    sink: &Sink,
) -> Result<Intercept, Failure> {
    let client = session.cluster.kube();
    let turn = session.intercepts.turn().await;
    let claimed = redirect::claim(client, name, wanted).await;
    drop(turn);
    let (claimed, over) = claimed.map_err(|error| {
        let refused = failures::claim(name, &error);
        let theirs = error.in_the_way();
        match !theirs.is_empty() && theirs.iter().all(|one| one.owner == session.owner) {
            true => refused.with_next(
                "it is your own: add --take-over, which ends it, or `kdev leave` it where this \
                 session holds it",
            ),
            false => refused,
        }
    })?;
    for one in over {
        session.intercepts.remove(&one.id);
        if one.mode == Mode::Replace {
            replace::restore(client, &name.namespace, &one.id)
                .await
                .map_err(|error| failures::replace(name, &error))?;
        }
        sink.line(format!("ended your earlier intercept of {name}"))
            .await;
    }
    Ok(claimed)
}

/// Scales what is behind the Service to zero.
async fn scale_down(
    session: &Session,
    name: &ServiceName,
    claimed: &Intercept,
    sink: &Sink,
) -> Result<(), Failure> {
    let client = session.cluster.kube();
    let scaled = rest::scale_down(client, &session.intercepts, name, claimed)
        .await
        .map_err(|error| failures::replace(name, &error))?;
    point(Point::ScaledDown);
    for workload in scaled {
        let replicas = workload.replicas();
        sink.line(format!("scaled {workload} from {replicas} to 0"))
            .await;
    }
    Ok(())
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
        Ok(Some(state)) => Err(state.reason),
        Ok(None) => Err("it was left meanwhile".to_owned()),
        Err(_) => Err(format!(
            "the manager didn't report it active within {} s",
            ACTIVE.as_secs()
        )),
    }
}
