//! Intercepting a Service and leaving it, with the user's own rights.

use std::net::SocketAddr;
use std::time::Duration;

use kdev_cluster::redirect::{
    self, Claim, ClaimError, Intercept, Mode, PortQuery, PortRef, Protocol, ServiceName, Which,
};
use kdev_cluster::replace;
use kdev_common::fault::{Point, point};
use kdev_common::loopback;
use kdev_proto::Failure;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{ErrorKind, InterceptRequest, InterceptStart, InterceptStop, LeaveRequest};
use kdev_rules::Rule;

use crate::failures;
use crate::modes;
use crate::progress::{Last, Sink};
use crate::session::Session;
use crate::session::intercepts::Held;

/// How long the manager may take to redirect a Service and to probe it.
const ACTIVE: Duration = Duration::from_secs(45);
/// How long the manager may take to restore a Service.
const RESTORED: Duration = Duration::from_secs(30);
/// The same for a manager that is out of reach: it restores when it is back, as the claim is gone.
const UNATTENDED: Duration = Duration::from_secs(8);
/// How long a workload may take to have a pod that is ready again.
const READY: Duration = Duration::from_secs(60);
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
    let rule = rule(&request.rule)?;
    let Ok(wanted) = request.port.parse::<PortQuery>();
    let name = ServiceName::new(&namespace, &service);
    let client = session.cluster.kube();
    let (port, others) = match mode {
        Mode::Preview => (new_port(&name, local_port, &wanted)?, Vec::new()),
        Mode::Intercept | Mode::Replace | Mode::Wiretap => {
            redirect::find_port(client, &name, &wanted)
                .await
                .map_err(|error| failures::claim(&name, &error))?
        }
    };
    if port.protocol == Protocol::Udp && !session.manager.link.borrow().redirects_udp {
        return Err(failures::manager_without_udp(&name));
    }
    let local = listener(&name, local_port, port.protocol).await?;
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
    session.intercepts.add(&namespace, &service, claimed, local);
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
        let probe_us = wait_active(session, &id, sink).await.map_err(|why| {
            Failure::new(
                ErrorKind::Probe,
                format!("intercepting {name} didn't work"),
                why,
                "",
            )
        })?;
        point(Point::ReportedActive);
        if mode == Mode::Replace {
            scale_down(&held, sink).await?;
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
             {:.1} ms){}",
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

/// Reads a rule as the command writes it.
fn rule(json: &str) -> Result<Rule, Failure> {
    let rule = match json {
        "" => Ok(Rule::default()),
        json => Rule::from_json(json),
    };
    rule.map_err(|error| {
        Failure::new(
            ErrorKind::Usage,
            "can't use the conditions",
            error.to_string(),
            "`kdev intercept --help` shows how they are written",
        )
    })
}

/// An intercept that this session has claimed.
struct Taken<'a> {
    session: &'a Session,
    id: &'a str,
    name: &'a ServiceName,
    mode: Mode,
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
    let (claimed, over) = claimed.map_err(|error| match &error {
        ClaimError::Taken { theirs, .. } if theirs.owner == session.owner => {
            failures::claim(name, &error)
                .with_next("it is your own: `kdev leave` it, or add --take-over, which ends it")
        }
        _ => failures::claim(name, &error),
    })?;
    for one in over {
        if one.mode == Mode::Replace {
            replace::restore(client, &name.namespace, &one.id)
                .await
                .map_err(|error| failures::replace(name, &error))?;
        }
        session.intercepts.remove(&one.id);
        sink.line(format!("ended your earlier intercept of {name}"))
            .await;
    }
    Ok(claimed)
}

/// Finds where the local program takes what comes to a port of that protocol.
async fn listener(
    name: &ServiceName,
    port: u16,
    protocol: Protocol,
) -> Result<SocketAddr, Failure> {
    let (found, other, does) = match protocol {
        Protocol::Udp => (
            loopback::receiver(port).await,
            Protocol::Tcp,
            "takes datagrams",
        ),
        Protocol::Tcp | Protocol::Sctp => {
            (loopback::listener(port).await, Protocol::Udp, "listens")
        }
    };
    if let Some(found) = found {
        return Ok(found);
    }
    let other_is_there = match other {
        Protocol::Udp => loopback::receiver(port).await.is_some(),
        Protocol::Tcp | Protocol::Sctp => loopback::listener(port).await.is_some(),
    };
    let beside = match other_is_there {
        true => format!(", only on its {other} port"),
        false => String::new(),
    };
    Err(Failure::new(
        ErrorKind::LocalPort,
        format!("can't intercept {name}"),
        format!("nothing {does} on {protocol} port {port} of this machine{beside}"),
        match other_is_there {
            true => format!(
                "name the Service's {other} port, with --port LOCAL[:PORT]/{}, or start a program \
                 that takes {protocol}",
                suffix(other)
            ),
            false => "start your program first, then intercept".to_owned(),
        },
    ))
}

/// The port of a Service that is to be made.
fn new_port(name: &ServiceName, local: u16, wanted: &PortQuery) -> Result<PortRef, Failure> {
    let refused = |why: String, next: &str| {
        Failure::new(
            ErrorKind::Usage,
            format!("can't make service {name}"),
            why,
            next,
        )
    };
    let number = match &wanted.which {
        Which::Only => local,
        Which::Number(number) => *number,
        Which::Name(text) => {
            return Err(refused(
                format!("{text} isn't a port"),
                "give --port LOCAL or LOCAL:PORT, where PORT is 1 to 65535",
            ));
        }
    };
    let protocol = wanted.protocol.unwrap_or(Protocol::Tcp);
    if number == 0 {
        return Err(refused(
            "0 isn't a port".to_owned(),
            "give --port LOCAL or LOCAL:PORT, where PORT is 1 to 65535",
        ));
    }
    if protocol == Protocol::Sctp {
        return Err(refused(
            format!("{protocol} isn't carried"),
            "name a TCP or UDP port",
        ));
    }
    Ok(PortRef {
        name: String::new(),
        number,
        protocol,
    })
}

/// A port as people are told of it.
fn shown(port: &PortRef) -> String {
    format!("{}/{}", port.number, port.protocol)
}

/// A protocol as people write it behind a port.
fn suffix(protocol: Protocol) -> String {
    protocol.as_str().to_lowercase()
}

/// How to have what could have been meant as well.
fn beside(local: u16, others: &[PortRef]) -> String {
    let all = others.iter().filter(|one| one.protocol != Protocol::Sctp);
    let all = all.map(|one| {
        let (number, protocol) = (one.number, suffix(one.protocol));
        format!(
            "; its {} port {number} is another one: --port {local}:{number}/{protocol}",
            one.protocol
        )
    });
    all.collect()
}

/// Scales what is behind the Service to zero.
async fn scale_down(held: &Taken<'_>, sink: &Sink) -> Result<(), Failure> {
    let client = held.session.cluster.kube();
    let failed = |error| failures::replace(held.name, &error);
    for workload in replace::find(client, held.name).await.map_err(failed)? {
        replace::scale_down(client, &workload, held.id, &held.session.manager_namespace)
            .await
            .map_err(failed)?;
        point(Point::ScaledDown);
        let replicas = workload.replicas();
        sink.line(format!("scaled {workload} from {replicas} to 0"))
            .await;
    }
    Ok(())
}

/// Gives what was scaled to zero its replicas back, and waits until it serves.
async fn scale_back(held: &Taken<'_>, sink: &Sink) -> Result<(), Failure> {
    let client = held.session.cluster.kube();
    let restored = replace::restore(client, &held.name.namespace, held.id)
        .await
        .map_err(|error| failures::replace(held.name, &error))?;
    point(Point::ScaledBack);
    for workload in &restored {
        sink.line(format!("scaled {workload} back")).await;
    }
    if !replace::wait_ready(client, &restored, READY).await {
        sink.line(format!(
            "no pod of {} is ready after {} s",
            held.name,
            READY.as_secs()
        ))
        .await;
    }
    Ok(())
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
    let namespace = or(request.namespace.clone(), &session.namespace);
    let Ok(port) = request.port.parse::<PortQuery>();
    let mut held = session.intercepts.of_service(&namespace, &request.service);
    held.retain(|one| match request.id.as_str() {
        "" => port.matches(&one.intercept.port),
        id => one.intercept.id == id,
    });
    if let Some(json) = &request.rule {
        let wanted = rule(json)?;
        held.retain(|one| one.intercept.rule == wanted);
    }
    if held.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            format!("can't leave {namespace}/{}", request.service),
            "this session doesn't intercept it",
            "`kdev status` lists what it intercepts; -n names another namespace",
        ));
    }
    let mut left = Ok(());
    for one in &held {
        left = left.and(leave_one(session, one, sink).await);
    }
    left?;
    let stay = session.intercepts.of_service(&namespace, &request.service);
    let rest = match stay.len() {
        0 => "the Service is as it was".to_owned(),
        1 => "another intercept of it stays".to_owned(),
        more => format!("{more} other intercepts of it stay"),
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
    let name = ServiceName::new(&held.namespace, &held.service);
    let taken = Taken {
        session,
        id: &held.intercept.id,
        name: &name,
        mode: held.intercept.mode,
    };
    undo(&taken, sink).await?;
    let port = shown(&held.intercept.port);
    let fate = match held.intercept.mode {
        Mode::Preview => "removed",
        Mode::Intercept | Mode::Replace | Mode::Wiretap => "restored",
    };
    sink.line(format!("{name} port {port} {fate}")).await;
    Ok(())
}

/// Takes the claim back, waits until the manager has restored the Service, and looks.
async fn undo(held: &Taken<'_>, sink: &Sink) -> Result<(), Failure> {
    let (session, id, name) = (held.session, held.id, held.name);
    let client = session.cluster.kube();
    let scaled = match held.mode {
        // While the machine still answers.
        Mode::Replace => scale_back(held, sink).await,
        Mode::Intercept | Mode::Preview | Mode::Wiretap => Ok(()),
    };
    let turn = session.intercepts.turn().await;
    let released = redirect::release(client, name, id).await;
    drop(turn);
    released.map_err(|error| failures::release(name, &error))?;
    point(Point::Released);
    session.request(Request::Leave(InterceptStop {
        id: id.to_owned(),
        namespace: name.namespace.clone(),
        service: name.name.clone(),
    }));
    point(Point::AskedToLeave);
    let linked = || session.manager.link.borrow().channel.is_some();
    let patience = if linked() { RESTORED } else { UNATTENDED };
    let restored = redirect::wait_restored(client, name, id, patience).await;
    point(Point::RestoredSeen);
    // Connections may still come here until the manager says that it passes them to the pods.
    let reported = session.intercepts.wait_for(id, |state| {
        matches!(state.phase(), Phase::Restored | Phase::Failed)
    });
    if restored.is_ok() && linked() {
        let _ = tokio::time::timeout(REPORTED, reported).await;
    }
    session.intercepts.remove(id);
    if held.mode == Mode::Preview {
        redirect::delete_preview(client, name, id)
            .await
            .map_err(|error| failures::api(&format!("can't remove service {name}"), &error))?;
        point(Point::PreviewDeleted);
    }
    restored.map_err(|error| failures::restore(name, &error))?;
    scaled
}

fn or(given: String, default: &str) -> String {
    if given.is_empty() {
        default.to_owned()
    } else {
        given
    }
}
