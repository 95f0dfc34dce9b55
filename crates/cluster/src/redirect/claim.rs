//! Claiming a port of a Service, and giving it up, with the user's own credentials.

use k8s_openapi::api::core::v1::Service;
use kdev_rules::{Overlap, Rule};
use kube::{Api, Client};
use thiserror::Error;

use super::api::{ServiceName, patch_service};
use super::beside::can_stand_beside;
use super::intercept::{Intercept, Mode, Unreadable, call_id, intercepts, now};
use super::meant::{meant, no_such_port};
use super::patch;
use super::port::{PortQuery, PortRef, Protocol};
use super::reconcile::is_outdated;
use super::suitable::{NotInterceptable, external_name, interceptable, service_at};
use crate::client::{ApiError, ApiFailure, Forbidden, call};

/// How often to try when others change the Service at the same time.
const ATTEMPTS: u32 = 8;

/// What a user claims.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Chosen by the user's daemon, unique in the world.
    pub id: String,
    /// The session that the connections go to.
    pub session: String,
    /// `user@machine`, for people.
    pub owner: String,
    /// The namespace of the traffic manager that is to serve it.
    pub manager: String,
    /// The port.
    pub port: PortQuery,
    /// Which of its requests; every connection without conditions.
    pub rule: Rule,
    /// What comes with it.
    pub mode: Mode,
    /// Whether the pods take what the machine refuses.
    pub pass_if_down: bool,
    /// Whether claims of the same owner's that are in the way end.
    pub take_over: bool,
}

/// The same claim once more, where it is gone.
impl From<&Intercept> for Claim {
    fn from(one: &Intercept) -> Self {
        Self {
            id: one.id.clone(),
            session: one.session.clone(),
            owner: one.owner.clone(),
            manager: one.manager.clone(),
            port: PortQuery::from(&one.port),
            rule: one.rule.clone(),
            mode: one.mode,
            pass_if_down: one.pass_if_down,
            take_over: false,
        }
    }
}

/// Why a claim can't be written or taken back.
///
/// Each text says what failed, why, and what to try next; it is complete without the sources.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// There is no such Service.
    #[error("there is no service {service}. `kdev list` shows those that there are")]
    ServiceNotFound {
        /// The Service asked for.
        service: ServiceName,
    },
    /// The Service has no such port, or several.
    #[error("{}", no_such_port(service, wanted, available))]
    PortNotFound {
        /// The Service.
        service: ServiceName,
        /// What was asked for.
        wanted: PortQuery,
        /// The ports that there are.
        available: Vec<PortRef>,
    },
    /// Two that were asked for are one.
    #[error(
        "port {port} of service {service} is named twice, as {} and as {}. Give each port of the Service once",
        named.0, named.1
    )]
    PortTwice {
        /// The Service.
        service: ServiceName,
        /// The port.
        port: PortRef,
        /// How it was asked for, both times.
        named: Box<(PortQuery, PortQuery)>,
    },
    /// The Service can't be redirected.
    #[error("service {service} can't be intercepted: {why}")]
    NotInterceptable {
        /// The Service.
        service: ServiceName,
        /// Why not, and what to do instead.
        why: NotInterceptable,
    },
    /// The Service is only another name.
    #[error(
        "service {service} can't be intercepted: it is of type ExternalName, only another name for {host}, so only an agent in the pods of its clients can intercept them, and kdev has none yet. {}",
        instead(host)
    )]
    ExternalName {
        /// The Service.
        service: ServiceName,
        /// The host that it is another name for.
        host: String,
    },
    /// Somebody has that port, or requests on it that this claim would have as well.
    #[error(
        "port {port} of service {service} is intercepted by {} since {}{}",
        theirs.owner, theirs.since, beside(&theirs.rule, conflict)
    )]
    Taken {
        /// The Service.
        service: ServiceName,
        /// The port.
        port: PortRef,
        /// Their claim.
        theirs: Box<Intercept>,
        /// Which requests both would have.
        conflict: Box<Overlap>,
    },
    /// Replacing takes the pods from all ports of the Service, and others of its ports need them, or have taken them.
    #[error(
        "replacing service {service} takes the pods from all of its ports, and others need them, or have them scaled to zero already: {}. Ask them to leave, or use `kdev intercept`, which leaves the pods where they are",
        held(theirs)
    )]
    Shared {
        /// The Service.
        service: ServiceName,
        /// The claims that would lose their pods, or that replace it.
        theirs: Vec<Intercept>,
    },
    /// What the claim leaves to the pods would reach nobody, as somebody has scaled them to zero.
    #[error(
        "the pods of service {service}, which are to answer what isn't answered here, are scaled to zero for as long as it is replaced: {}. Take the port as a whole, or ask them to leave",
        held(theirs)
    )]
    Resting {
        /// The Service.
        service: ServiceName,
        /// The claims that replace it.
        theirs: Vec<Intercept>,
    },
    /// The Service is served by another traffic manager.
    #[error(
        "service {service} is intercepted by {by} through the traffic manager in namespace {manager:?}, and one Service can only have one. Use that manager: --manager-namespace {manager}; if that namespace is gone, `kdev uninstall -n {manager}` clears what it left"
    )]
    OtherManager {
        /// The Service.
        service: ServiceName,
        /// The owner of an intercept there.
        by: String,
        /// The other manager's namespace.
        manager: String,
    },
    /// There is such a Service, and one was to be made.
    #[error(
        "there is a service {service} already. Choose another name, or take its connections with `kdev intercept`"
    )]
    Exists {
        /// The Service.
        service: ServiceName,
    },
    /// The user may not read or change the Service.
    #[error("can't {doing}: {forbidden}. Ask the cluster's administrator for that right")]
    Forbidden {
        /// The step, as it completes the sentence "can't ...".
        doing: String,
        /// Who may not do what.
        forbidden: Box<Forbidden>,
        /// The API server's answer.
        source: ApiError,
    },
    /// Others change the Service all the time.
    #[error(
        "service {service} is changed by others all the time: {attempts} attempts met a conflict. Try again"
    )]
    Conflict {
        /// The Service.
        service: ServiceName,
        /// How often it was tried.
        attempts: u32,
        /// The last conflict.
        source: ApiError,
    },
    /// The annotation with the claims was written by somebody else.
    #[error("service {service}: {source}")]
    Unreadable {
        /// The Service.
        service: ServiceName,
        /// What is wrong.
        source: Unreadable,
    },
    /// The call to the API server failed otherwise.
    #[error(transparent)]
    Api(ApiError),
}

impl ClaimError {
    /// The claims on the Service that this one can't stand beside.
    pub fn in_the_way(&self) -> &[Intercept] {
        match self {
            Self::Taken { theirs, .. } => std::slice::from_ref(theirs),
            Self::Shared { theirs, .. } | Self::Resting { theirs, .. } => theirs,
            _ => &[],
        }
    }
}

/// What has come of claiming.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The claims, with the ports that were found.
    pub claims: Vec<Intercept>,
    /// Those that they took the place of: in the way of one whose owner is the same, where it may take over.
    pub over: Vec<Intercept>,
    /// Of the Service.
    pub uid: String,
}

/// Writes claims on a Service, all of them or none.
///
/// What is there already stays as it is.
///
/// # Errors
///
/// What is in the way of one of them.
pub async fn claim(
    client: &Client,
    service: &ServiceName,
    wanted: &[Claim],
) -> Result<Claimed, ClaimError> {
    let result = edit(client, service, "claim a port", |found, claims| {
        let (mut stay, mut over, mut made) = (claims.to_vec(), Vec::new(), Vec::new());
        for claim in wanted {
            let one = place(service, found, claim, &mut stay, &mut over)?;
            if stay.iter().all(|other| other.id != one.id) {
                stay.push(one.clone());
            }
            made.push(one);
        }
        let is_new = |one: &Intercept| claims.iter().all(|other| other.id != one.id);
        let write = made.iter().any(is_new).then_some(stay);
        let claimed = Claimed {
            claims: made,
            over,
            uid: found.metadata.uid.clone().unwrap_or_default(),
        };
        Ok((claimed, write))
    });
    result.await?.ok_or_else(|| ClaimError::ServiceNotFound {
        service: service.clone(),
    })
}

/// Finds a place for a claim among those that `stay`; what it takes the place of is `over`.
fn place(
    name: &ServiceName,
    service: &Service,
    claim: &Claim,
    stay: &mut Vec<Intercept>,
    over: &mut Vec<Intercept>,
) -> Result<Intercept, ClaimError> {
    loop {
        let refused = match check(name, service, stay, claim) {
            Ok(intercept) => return Ok(intercept),
            Err(refused) => refused,
        };
        // A preview's Service would go with it, and what the same command claims isn't in its own way.
        let ends = |one: &&Intercept| {
            let is_own = call_id(&one.id) == call_id(&claim.id);
            claim.take_over && !is_own && one.owner == claim.owner && one.mode != Mode::Preview
        };
        let own: Vec<_> = refused.in_the_way().iter().filter(ends).cloned().collect();
        if own.is_empty() {
            return Err(refused);
        }
        stay.retain(|other| own.iter().all(|one| one.id != other.id));
        over.extend(own);
    }
}

/// Reads the claims on a Service; `None` if there is no such Service.
///
/// # Errors
///
/// When it can't be read.
pub async fn claims_on(
    client: &Client,
    service: &ServiceName,
) -> Result<Option<Vec<Intercept>>, ClaimError> {
    edit(client, service, "read the claims", |_, claims| {
        Ok((claims.to_vec(), None))
    })
    .await
}

/// Takes claims back; returns whether any of them was there.
///
/// The traffic manager restores the Service when it sees that.
///
/// # Errors
///
/// When the Service can't be read or written.
pub async fn release(
    client: &Client,
    service: &ServiceName,
    ids: &[&str],
) -> Result<bool, ClaimError> {
    let result = edit(client, service, "give up a port", |_, claims| {
        let mut stay = claims.to_vec();
        stay.retain(|claim| !ids.contains(&claim.id.as_str()));
        let any = stay.len() < claims.len();
        Ok((any, any.then_some(stay)))
    });
    Ok(result.await?.unwrap_or(false))
}

/// Reads the claims, and writes those that `change` returns, until nobody else was faster.
/// `None` if there is no such Service.
async fn edit<T>(
    client: &Client,
    name: &ServiceName,
    what: &str,
    change: impl Fn(&Service, &[Intercept]) -> Result<(T, Option<Vec<Intercept>>), ClaimError>,
) -> Result<Option<T>, ClaimError> {
    let services: Api<Service> = Api::namespaced(client.clone(), &name.namespace);
    let mut attempts = 0;
    loop {
        let read = call(format!("read service {name}"), services.get_opt(&name.name));
        let Some(service) = read.await.map_err(refused)? else {
            return Ok(None);
        };
        let claims = intercepts(&service.metadata).map_err(|source| ClaimError::Unreadable {
            service: name.clone(),
            source,
        })?;
        let (value, write) = change(&service, &claims)?;
        let Some(write) = write else {
            return Ok(Some(value));
        };

        let patch = patch::write_intercepts(&service, &write);
        let doing = format!("{what} of service {name}");
        attempts += 1;
        match patch_service(&services, doing, &name.name, patch).await {
            Ok(()) => return Ok(Some(value)),
            Err(error) if !is_outdated(&error.failure) => return Err(refused(error)),
            Err(source) if attempts == ATTEMPTS => {
                return Err(ClaimError::Conflict {
                    service: name.clone(),
                    attempts,
                    source,
                });
            }
            Err(_) => {}
        }
    }
}

/// Says whether `wanted` can be claimed beside `claims`.
fn check(
    name: &ServiceName,
    service: &Service,
    claims: &[Intercept],
    wanted: &Claim,
) -> Result<Intercept, ClaimError> {
    if let Some(own) = claims.iter().find(|claim| claim.id == wanted.id) {
        return Ok(own.clone());
    }
    let not = |why| unsuitable(name, service, why);
    interceptable(service).map_err(not)?;
    let port = meant(name, service, &wanted.port)?;
    if port.protocol == Protocol::Sctp {
        return Err(not(NotInterceptable::Protocol));
    }
    if port.protocol == Protocol::Udp && !wanted.rule.is_everything() {
        return Err(not(NotInterceptable::RuleOnDatagrams));
    }
    can_stand_beside(name, &port, wanted, claims)?;
    Ok(Intercept {
        id: wanted.id.clone(),
        session: wanted.session.clone(),
        owner: wanted.owner.clone(),
        manager: wanted.manager.clone(),
        port,
        since: now(),
        rule: wanted.rule.clone(),
        mode: wanted.mode,
        pass_if_down: wanted.pass_if_down,
    })
}

/// Says why a Service can't be redirected, and where it leads if it is only another name.
pub(super) fn unsuitable(
    name: &ServiceName,
    service: &Service,
    why: NotInterceptable,
) -> ClaimError {
    let name = name.clone();
    match external_name(service) {
        Some(host) => ClaimError::ExternalName {
            service: name,
            host: host.to_owned(),
        },
        None => ClaimError::NotInterceptable { service: name, why },
    }
}

/// What can be intercepted in the place of another name for `host`.
fn instead(host: &str) -> String {
    match service_at(host) {
        Some(at) => format!(
            "If that is a Service of this cluster, intercept it: `kdev intercept {} -n {}`",
            at.name, at.namespace
        ),
        None => "Intercept a Service of this cluster, whose clients ask for it by its own name"
            .to_owned(),
    }
}

/// Says of a refused call who may not do what.
pub(super) fn refused(error: ApiError) -> ClaimError {
    match &error.failure {
        ApiFailure::Forbidden(forbidden) => ClaimError::Forbidden {
            doing: error.doing.clone(),
            forbidden: forbidden.clone(),
            source: error,
        },
        _ => ClaimError::Api(error),
    }
}

/// What can be done about a claim of somebody else's.
fn beside(theirs: &Rule, conflict: &Overlap) -> String {
    if theirs.is_everything() {
        return ". Ask them to leave it; if they are gone, the traffic manager restores it by itself"
            .to_owned();
    }
    format!(
        " for {theirs}, and {conflict}. Use conditions that no request of theirs meets, or ask them to \
         leave it"
    )
}

fn held(claims: &[Intercept]) -> String {
    let claims: Vec<_> = claims.iter().map(Intercept::to_string).collect();
    claims.join("; ")
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
