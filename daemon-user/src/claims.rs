//! Intercepting a Service with the user's own rights.

use std::net::{Ipv4Addr, SocketAddr};

use futures::future::try_join_all;
use kdev_cluster::redirect::{
    self, Claim, Claimed, Intercept, Mode, PortQuery, PortRef, Protocol, ServiceName, claim_id,
};
use kdev_cluster::replace;
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::{InterceptMode, InterceptRequest};

use crate::activation::{active, begin, told, undone, unless_interrupted};
use crate::failures;
use crate::leaving::{Taken, undo};
use crate::modes;
use crate::progress::{Last, Sink};
use crate::session::{Session, rest};
use crate::wanted::{beside, listener, or, ports, rule};

/// Sends what ports of a Service get to local ones; done when a probe has travelled the real path to each.
///
/// # Errors
///
/// What is in the way of one of them; the Service is then as it was.
pub async fn intercept(
    session: &Session,
    request: InterceptRequest,
    sink: &Sink,
) -> Result<Last, Failure> {
    let mode = modes::in_cluster(request.mode());
    if mode == Mode::Preview {
        return Err(failures::preview_of_what_is_there(&request.service));
    }
    let namespace = or(request.namespace.clone(), &session.namespace);
    let name = ServiceName::new(&namespace, &request.service);
    if request.pass_if_down && mode != Mode::Intercept {
        return Err(failures::nobody_to_pass_to(&name.name));
    }
    let pairs = pairs(session, &name, &request, sink).await?;
    let claims = claims(session, mode, &request, &pairs)?;
    let client = session.cluster.kube();
    if mode == Mode::Replace {
        // Before anything changes.
        replace::find(client, &name)
            .await
            .map_err(|error| failures::replace(&name, &error))?;
    }
    point(Point::Checked);
    let (claimed, uid) = claim(session, &name, &claims, sink).await?;
    point(Point::Claimed);
    for (one, pair) in claimed.iter().zip(&pairs) {
        begin(session, (&name, &uid), one, pair.local, sink).await;
    }
    point(Point::Asked);
    let all = claimed.iter().zip(&pairs).map(async |(one, pair)| {
        let probe_us = active(session, &name, one, sink).await?;
        let told = told(&name, &one.port, pair.local, probe_us);
        Ok::<_, Failure>(format!("{told}{}", pair.notes))
    });
    let active = unless_interrupted(&name, sink, async {
        let lines = try_join_all(all).await?;
        for one in claimed.iter().filter(|one| one.mode == Mode::Replace) {
            scale_down(session, &name, one, sink).await?;
        }
        Ok(lines)
    });
    match active.await {
        Ok(lines) => Ok(Last {
            line: lines.join("\n"),
            intercept: claims[0].id.clone(),
        }),
        Err(failure) => {
            let taken = Taken {
                session,
                name: &name,
                claims: &claimed,
            };
            Err(undone(failure, undo(&taken, sink).await))
        }
    }
}

/// A port of the Service, and where what comes to it goes.
struct Pair {
    port: PortRef,
    local: SocketAddr,
    /// What is to be said of it beside that it works.
    notes: String,
}

/// Finds the ports that are meant, and the programs that take what comes to them.
async fn pairs(
    session: &Session,
    name: &ServiceName,
    request: &InterceptRequest,
    sink: &Sink,
) -> Result<Vec<Pair>, Failure> {
    let wanted = ports(&format!("can't intercept {name}"), &request.ports)?;
    if let Some(failure) = session.manager.link.borrow().failure.clone() {
        return Err(failure);
    }
    let (locals, queries): (Vec<u16>, Vec<PortQuery>) = wanted.into_iter().unzip();
    // Copies of one port may come to several places.
    let each_once = request.mode() != InterceptMode::Wiretap;
    let found = redirect::find_ports(session.cluster.kube(), name, &queries, each_once)
        .await
        .map_err(|error| failures::claim(name, &error))?;
    let mut pairs = Vec::new();
    for (local_port, (port, others)) in locals.into_iter().zip(found) {
        if port.protocol == Protocol::Udp && !session.manager.link.borrow().redirects_udp {
            return Err(failures::manager_without_udp(name));
        }
        let (local, meanwhile) = match listener(name, local_port, port.protocol).await {
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
        pairs.push(Pair {
            port,
            local,
            notes: format!("{meanwhile}{}", beside(local_port, &others)),
        });
    }
    Ok(pairs)
}

/// What is to be claimed: each port, under the id of the call.
fn claims(
    session: &Session,
    mode: Mode,
    request: &InterceptRequest,
    pairs: &[Pair],
) -> Result<Vec<Claim>, Failure> {
    let call = format!("{:032x}", rand::random::<u128>());
    let rule = rule(&request.rule)?;
    let one = |(at, pair): (usize, &Pair)| Claim {
        id: claim_id(&call, at),
        session: session.id.clone(),
        owner: session.owner.clone(),
        manager: session.manager_namespace.clone(),
        port: PortQuery::from(&pair.port),
        rule: rule.clone(),
        mode: match mode {
            // The workload is scaled to zero once.
            Mode::Replace if at > 0 => Mode::Intercept,
            mode => mode,
        },
        pass_if_down: request.pass_if_down,
        take_over: request.take_over,
    };
    Ok(pairs.iter().enumerate().map(one).collect())
}

/// Writes the claims, and returns them with the Service's uid. What they took the place of is put back.
async fn claim(
    session: &Session,
    name: &ServiceName,
    wanted: &[Claim],
    sink: &Sink,
) -> Result<(Vec<Intercept>, String), Failure> {
    let client = session.cluster.kube();
    let turn = session.intercepts.turn().await;
    let claimed = redirect::claim(client, name, wanted).await;
    drop(turn);
    let claimed = claimed.map_err(|error| {
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
    let Claimed { claims, over, uid } = claimed;
    over.iter()
        .for_each(|one| session.intercepts.remove(&one.id));
    for one in over {
        if one.mode == Mode::Replace
            && let Err(error) = replace::restore(client, &name.namespace, &one.id).await
        {
            // Nothing looks after what is claimed here yet.
            let ids: Vec<&str> = claims.iter().map(|one| one.id.as_str()).collect();
            let released = redirect::release(client, name, &ids).await;
            let released = released.map(drop);
            let refused = failures::replace(name, &error);
            return Err(undone(
                refused,
                released.map_err(|error| failures::release(name, &error)),
            ));
        }
        let ended = format!("ended your earlier intercept of {name}, port {}", one.port);
        sink.line(ended).await;
    }
    Ok((claims, uid))
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
