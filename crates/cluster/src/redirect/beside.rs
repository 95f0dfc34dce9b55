//! Which claims can stand beside each other on one Service.

use kdev_rules::overlap;

use super::api::ServiceName;
use super::claim::{Claim, ClaimError};
use super::intercept::{Intercept, Mode};
use super::port::PortRef;

/// Says whether `wanted`, which means `port`, can stand beside `claims`.
///
/// # Errors
///
/// Those that it can't stand beside.
pub(super) fn can_stand_beside(
    service: &ServiceName,
    port: &PortRef,
    wanted: &Claim,
    claims: &[Intercept],
) -> Result<(), ClaimError> {
    let service = || service.clone();
    if let Some(other) = claims.iter().find(|other| other.manager != wanted.manager) {
        return Err(ClaimError::OtherManager {
            service: service(),
            by: other.owner.clone(),
            manager: other.manager.clone(),
        });
    }
    let is_on_it = |other: &Intercept| {
        (other.port.number, other.port.protocol) == (port.number, port.protocol)
    };
    for other in claims.iter().filter(|other| is_on_it(other)) {
        // A copy is in nobody's way.
        if [other.mode, wanted.mode].contains(&Mode::Wiretap) {
            continue;
        }
        if let Some(conflict) = overlap(&other.rule, &wanted.rule) {
            return Err(ClaimError::Taken {
                service: service(),
                port: port.clone(),
                theirs: Box::new(other.clone()),
                conflict: Box::new(conflict),
            });
        }
    }
    let those = |are: &dyn Fn(&Intercept) -> bool| -> Vec<Intercept> {
        claims.iter().filter(|other| are(other)).cloned().collect()
    };
    if wanted.mode == Mode::Replace {
        let theirs = those(&|other| !is_on_it(other) && !is_whole_and_own(other, wanted));
        if !theirs.is_empty() {
            return Err(ClaimError::Shared {
                service: service(),
                theirs,
            });
        }
    }
    let leaves_some = !wanted.rule.is_everything() || wanted.pass_if_down;
    if wanted.mode == Mode::Intercept && leaves_some {
        let theirs = those(&|other| other.mode == Mode::Replace);
        if !theirs.is_empty() {
            return Err(ClaimError::Resting {
                service: service(),
                theirs,
            });
        }
    }
    Ok(())
}

/// Whether a claim has a whole port for the same session: it misses no pods, and ends by the same hand.
fn is_whole_and_own(other: &Intercept, wanted: &Claim) -> bool {
    other.session == wanted.session && other.mode == Mode::Intercept && !other.leaves_some()
}
