//! Making a Service whose ports lead to this machine and to nothing else.

use futures::future::try_join_all;
use kdev_cluster::redirect::{self, PortRef, Preview, Protocol, ServiceName};
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::PreviewRequest;

use crate::activation::{active, begin, told, undone, unless_interrupted};
use crate::failures;
use crate::leaving::{Taken, undo};
use crate::progress::{Last, Sink};
use crate::session::Session;
use crate::wanted::{each_once, listener, new_name, new_port, or, ports};

/// Makes the Service with all of its ports; done when a probe has come by each of them.
///
/// # Errors
///
/// What is in the way of one of them; there is no such Service then.
pub async fn make(
    session: &Session,
    request: PreviewRequest,
    sink: &Sink,
) -> Result<Last, Failure> {
    let namespace = or(request.namespace.clone(), &session.namespace);
    let name = ServiceName::new(&namespace, &request.service);
    new_name(&name)?;
    let wanted = new_ports(&name, &request)?;
    if let Some(failure) = session.manager.link.borrow().failure.clone() {
        return Err(failure);
    }
    let is_udp = |(_, port): &(u16, PortRef)| port.protocol == Protocol::Udp;
    if wanted.iter().any(is_udp) && !session.manager.link.borrow().redirects_udp {
        return Err(failures::manager_without_udp(&name));
    }
    let mut locals = Vec::new();
    for (local, port) in &wanted {
        locals.push(listener(&name, *local, port.protocol).await?);
    }
    let preview = Preview {
        id: format!("{:032x}", rand::random::<u128>()),
        session: session.id.clone(),
        owner: session.owner.clone(),
        manager: session.manager_namespace.clone(),
        ports: wanted.into_iter().map(|(_, port)| port).collect(),
    };
    point(Point::Checked);
    let claimed = redirect::create_preview(session.cluster.kube(), &name, &preview)
        .await
        .map_err(|error| failures::claim(&name, &error))?;
    point(Point::PreviewMade);
    for (one, local) in claimed.iter().zip(&locals) {
        // Nobody makes it again but this.
        begin(session, (&name, ""), one, *local, sink).await;
    }
    point(Point::Asked);
    let all = claimed.iter().zip(&locals).map(async |(one, &local)| {
        let probe_us = active(session, &name, one, sink).await?;
        Ok(told(&name, &one.port, local, probe_us))
    });
    match unless_interrupted(&name, sink, try_join_all(all)).await {
        Ok(lines) => Ok(Last {
            line: lines.join("\n"),
            intercept: preview.id,
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

/// The ports that are wanted, each with that of its local program.
fn new_ports(name: &ServiceName, request: &PreviewRequest) -> Result<Vec<(u16, PortRef)>, Failure> {
    let mut wanted = Vec::new();
    let what = format!("can't make service {name}");
    for (local, query) in ports(&what, &request.ports)? {
        wanted.push((local, new_port(name, local, &query)?));
    }
    let ports: Vec<PortRef> = wanted.iter().map(|(_, port)| port.clone()).collect();
    each_once(name, &ports)?;
    Ok(wanted)
}
