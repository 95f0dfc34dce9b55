//! Giving back what this session has intercepted, with the user's own rights.

use std::collections::BTreeMap;
use std::time::Duration;

use kdev_cluster::redirect::{self, Intercept, Mode, PortQuery, ServiceName};
use kdev_cluster::replace;
use kdev_common::fault::{Point, point};
use kdev_proto::Failure;
use kdev_proto::v1::intercept_state::Phase;
use kdev_proto::v1::session_request::Kind as Request;
use kdev_proto::v1::{ErrorKind, InterceptStop, LeaveRequest};

use crate::failures;
use crate::progress::Sink;
use crate::session::Session;
use crate::session::intercepts::Held;
use crate::wanted::{or, rule, shown};

/// How long the manager may take to restore a Service.
const RESTORED: Duration = Duration::from_secs(30);
/// The same for a manager that is out of reach: it restores when it is back, as the claim is gone.
const UNATTENDED: Duration = Duration::from_secs(8);
/// How long a workload may take to have a pod that is ready again.
const READY: Duration = Duration::from_secs(60);
/// How long the manager may take to say that it has.
const REPORTED: Duration = Duration::from_secs(5);

/// What this session has claimed of a Service.
pub struct Taken<'a> {
    /// Who has it.
    pub session: &'a Session,
    /// The Service.
    pub name: &'a ServiceName,
    /// The claims.
    pub claims: &'a [Intercept],
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
        id => redirect::call_id(&one.intercept.id) == id,
    });
    if let Some(json) = &request.rule {
        let wanted = rule(json)?;
        held.retain(|one| one.intercept.rule == wanted);
    }
    held = with_the_rest(&request, session, &namespace, held)?;
    if held.is_empty() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            format!("can't leave {namespace}/{}", request.service),
            "this session doesn't intercept it",
            "`kdev status` lists what it intercepts; -n names another namespace",
        ));
    }
    let name = ServiceName::new(&namespace, &request.service);
    let claims: Vec<Intercept> = held.into_iter().map(|one| one.intercept).collect();
    give_back(session, &name, &claims, sink).await?;
    let rest = match redirect::claims_on(session.cluster.kube(), &name).await {
        Ok(stay) => state(stay.as_deref()),
        Err(error) => format!("what others hold of the Service isn't known: {error}"),
    };
    Ok(format!("left {name}: {rest}"))
}

/// Those that are meant, with what a preview's Service takes along when it goes: all of its ports.
fn with_the_rest(
    request: &LeaveRequest,
    session: &Session,
    namespace: &str,
    meant: Vec<Held>,
) -> Result<Vec<Held>, Failure> {
    let all = session.intercepts.of_service(namespace, &request.service);
    let rest = rest_of_previews(&all, &meant);
    match rest.is_empty() || !request.id.is_empty() {
        true => Ok([meant, rest].concat()),
        false => {
            let name = ServiceName::new(namespace, &request.service);
            Err(failures::part_of_preview(&name))
        }
    }
}

/// What isn't meant, of those previews of which something is.
fn rest_of_previews(all: &[Held], meant: &[Held]) -> Vec<Held> {
    let is_preview = |one: &&Held| one.intercept.mode == Mode::Preview;
    let is_rest = |one: &&Held| {
        let is_meant = |other: &Held| other.intercept.id == one.intercept.id;
        let preview = redirect::call_id(&one.intercept.id);
        let mut previews = meant.iter().filter(is_preview);
        !meant.iter().any(is_meant)
            && previews.any(|other| redirect::call_id(&other.intercept.id) == preview)
    };
    let previews = all.iter().filter(is_preview);
    previews.filter(is_rest).cloned().collect()
}

/// How a Service is when some of its claims have been left; `None` where it is gone.
fn state(stay: Option<&[Intercept]>) -> String {
    match stay {
        None => "the Service is gone".to_owned(),
        Some([]) => "the Service is as it was".to_owned(),
        Some(stay) => {
            let stay: Vec<_> = stay.iter().map(ToString::to_string).collect();
            format!("the Service still has {}", stay.join("; "))
        }
    }
}

/// Leaves everything at once; returns the first failure after all have ended.
///
/// # Errors
///
/// See [`leave`].
pub async fn leave_all(session: &Session, sink: &Sink) -> Result<(), Failure> {
    let mut services: BTreeMap<_, Vec<Intercept>> = BTreeMap::new();
    for one in session.intercepts.all() {
        let of_service = services.entry((one.namespace, one.service)).or_default();
        of_service.push(one.intercept);
    }
    let left = services.iter().map(async |((namespace, service), claims)| {
        let name = ServiceName::new(namespace, service);
        give_back(session, &name, claims, sink).await
    });
    let left = futures::future::join_all(left).await;
    left.into_iter().collect()
}

async fn give_back(
    session: &Session,
    name: &ServiceName,
    claims: &[Intercept],
    sink: &Sink,
) -> Result<(), Failure> {
    let taken = Taken {
        session,
        name,
        claims,
    };
    undo(&taken, sink).await?;
    for one in claims {
        let fate = match one.mode {
            Mode::Preview => "removed",
            Mode::Intercept | Mode::Replace | Mode::Wiretap => "given back",
        };
        let port = shown(&one.port);
        sink.line(format!("{name} port {port} {fate}")).await;
    }
    Ok(())
}

/// Takes the claims back, waits until the manager has restored the Service, and looks.
///
/// # Errors
///
/// What isn't as it was.
pub async fn undo(taken: &Taken<'_>, sink: &Sink) -> Result<(), Failure> {
    let Taken {
        session,
        name,
        claims,
    } = taken;
    let client = session.cluster.kube();
    let ids: Vec<&str> = claims.iter().map(|one| one.id.as_str()).collect();
    let turn = session.intercepts.turn().await;
    ids.iter().for_each(|id| session.intercepts.let_go(id));
    drop(turn);
    let mut scaled = Ok(());
    for one in claims.iter().filter(|one| one.mode == Mode::Replace) {
        // While the machine still answers.
        scaled = scaled.and(scale_back(session, name, one, sink).await);
    }
    let turn = session.intercepts.turn().await;
    let released = redirect::release(client, name, &ids).await;
    drop(turn);
    released.map_err(|error| failures::release(name, &error))?;
    point(Point::Released);
    for id in &ids {
        session.request(Request::Leave(InterceptStop {
            id: (*id).to_owned(),
            namespace: name.namespace.clone(),
            service: name.name.clone(),
        }));
    }
    point(Point::AskedToLeave);
    let linked = || session.manager.link.borrow().channel.is_some();
    let patience = if linked() { RESTORED } else { UNATTENDED };
    let restored = redirect::wait_restored(client, name, &ids, patience).await;
    point(Point::RestoredSeen);
    // Connections may still come here until the manager says that it passes them to the pods.
    let reported = ids.iter().map(|id| {
        session.intercepts.wait_for(id, |state| {
            let working = [
                Phase::Unspecified,
                Phase::Redirected,
                Phase::Active,
                Phase::Contested,
            ];
            !working.contains(&state.phase())
        })
    });
    if restored.is_ok() && linked() {
        let _ = tokio::time::timeout(REPORTED, futures::future::join_all(reported)).await;
    }
    ids.iter().for_each(|id| session.intercepts.remove(id));
    // It goes as a whole, whichever of its claims is named.
    if let Some(one) = claims.iter().find(|one| one.mode == Mode::Preview) {
        redirect::delete_preview(client, name, &one.id)
            .await
            .map_err(|error| failures::api(&format!("can't remove service {name}"), &error))?;
        point(Point::PreviewDeleted);
    }
    restored.map_err(|error| failures::restore(name, &error))?;
    scaled
}

/// Gives what was scaled to zero its replicas back, and waits until it serves.
async fn scale_back(
    session: &Session,
    name: &ServiceName,
    replaced: &Intercept,
    sink: &Sink,
) -> Result<(), Failure> {
    let client = session.cluster.kube();
    let restored = replace::restore(client, &name.namespace, &replaced.id)
        .await
        .map_err(|error| failures::replace(name, &error))?;
    point(Point::ScaledBack);
    for workload in &restored {
        sink.line(format!("scaled {workload} back")).await;
    }
    if !replace::wait_ready(client, &restored, READY).await {
        sink.line(format!(
            "no pod of {name} is ready after {} s",
            READY.as_secs()
        ))
        .await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::intercepts::Intercepts;

    #[test]
    fn what_is_told_of_a_service_is_what_still_holds_of_it() {
        assert_eq!(state(None), "the Service is gone");
        assert_eq!(state(Some(&[])), "the Service is as it was");
        let claims = r#"[{"id":"i1","session":"s1","owner":"ann@laptop","manager":"kdev","port":{"name":"http","number":80,"protocol":"TCP"},"since":"2026-01-02T03:04:05Z"}]"#;
        let claims: Vec<Intercept> = serde_json::from_str(claims).unwrap();
        assert_eq!(
            state(Some(&claims)),
            "the Service still has port http (80/TCP) held by ann@laptop since 2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn a_preview_is_left_as_a_whole_and_nothing_of_another_with_it() {
        let intercepts = Intercepts::default();
        let claim = r#"{"id":"","session":"s1","owner":"ann@laptop","manager":"kdev","port":{"name":"","number":80,"protocol":"TCP"},"since":"2026-01-02T03:04:05Z","mode":"preview"}"#;
        let claim: Intercept = serde_json::from_str(claim).unwrap();
        let add = |id: &str, mode: Mode| {
            let id = id.to_owned();
            let one = Intercept {
                id,
                mode,
                ..claim.clone()
            };
            let mine = ServiceName::new("shop", "mine");
            intercepts.add(&mine, "", one, ([127, 0, 0, 1], 9000).into());
        };
        for id in ["a", "a.2", "a.3", "b"] {
            add(id, Mode::Preview);
        }
        add("c", Mode::Wiretap);
        let all = intercepts.all();
        let rest = |ids: &[&str]| -> Vec<String> {
            let meant = intercepts.those(|one| ids.contains(&one.intercept.id.as_str()));
            let rest = rest_of_previews(&all, &meant);
            rest.into_iter().map(|one| one.intercept.id).collect()
        };
        assert_eq!(rest(&["a.2"]), ["a", "a.3"]);
        assert_eq!(rest(&["a", "c"]), ["a.2", "a.3"]);
        for whole in [&["a", "a.2", "a.3"][..], &["b"], &["c"], &[]] {
            assert_eq!(rest(whole), [""; 0], "{whole:?}");
        }
    }
}
