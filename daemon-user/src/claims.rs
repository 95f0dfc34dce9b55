//! Intercepting a Service with the user's own rights.

use std::net::{Ipv4Addr, SocketAddr};

use kdev_cluster::redirect::{self, Claim, Intercept, Mode, PortQuery, Protocol, ServiceName};
use kdev_cluster::replace;
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::InterceptRequest;

use crate::activation::{active, begin, told, undone, unless_interrupted};
use crate::failures;
use crate::leaving::{Taken, undo};
use crate::modes;
use crate::progress::{Last, Sink};
use crate::session::{Session, rest};
use crate::wanted::{beside, listener, local_port, or, rule};

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
    if mode == Mode::Preview {
        return Err(failures::preview_of_what_is_there(&service));
    }
    let namespace = or(request.namespace, &session.namespace);
    let local_port = local_port(&service, request.local_port)?;
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
    let (port, others) = redirect::find_port(client, &name, &wanted)
        .await
        .map_err(|error| failures::claim(&name, &error))?;
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
    let claimed = claim(session, &name, &wanted, sink).await?;
    point(Point::Claimed);
    let id = claimed.id.clone();
    begin(session, &name, &claimed, local, sink).await;
    point(Point::Asked);
    let held = Taken {
        session,
        id: &id,
        name: &name,
        mode,
    };
    let active = unless_interrupted(&name, sink, async {
        let probe_us = active(session, &name, &claimed, sink).await?;
        if mode == Mode::Replace {
            scale_down(session, &name, &claimed, sink).await?;
        }
        Ok(probe_us)
    });
    match active.await {
        Ok(probe_us) => {
            let line = format!(
                "{}{meanwhile}{}",
                told(&name, &claimed.port, local, probe_us),
                beside(local_port, &others)
            );
            Ok(Last {
                line,
                intercept: id,
            })
        }
        Err(failure) => Err(undone(failure, undo(&held, sink).await)),
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
