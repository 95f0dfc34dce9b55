//! Which claims can stand beside each other on one Service: the answer is the same whichever of two came first.

use kdev_rules::overlap;

use super::api::ServiceName;
use super::claim::{Claim, ClaimError};
use super::intercept::{Intercept, Mode, leaves_some};
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
    // Of the port itself nothing reaches the pods any more: whoever may have it beside a replacement misses none.
    let elsewhere = |are: &dyn Fn(&Intercept) -> bool| -> Vec<Intercept> {
        let others = claims.iter().filter(|other| !is_on_it(other) && are(other));
        others.cloned().collect()
    };
    if wanted.mode == Mode::Replace {
        // A workload is scaled for one claim, which ends that as well.
        let theirs = elsewhere(&|other| other.leaves_some() || other.mode == Mode::Replace);
        if !theirs.is_empty() {
            return Err(ClaimError::Shared {
                service: service(),
                theirs,
            });
        }
    }
    if leaves_some(&wanted.rule, wanted.pass_if_down, wanted.mode) {
        let theirs = elsewhere(&|other| other.mode == Mode::Replace);
        if !theirs.is_empty() {
            return Err(ClaimError::Resting {
                service: service(),
                theirs,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kdev_rules::{Flag, Item, Rule};

    use super::*;
    use crate::redirect::port::PortQuery;
    use crate::redirect::testing;

    fn claim(one: &Intercept) -> Claim {
        Claim {
            session: "s2".into(),
            owner: "bob@desk".into(),
            ..Claim::from(one)
        }
    }

    fn fits(wanted: &Intercept, beside: &Intercept) -> bool {
        let name = ServiceName::new("shop", "web");
        let wanted_claim = claim(wanted);
        assert_eq!(wanted_claim.port, PortQuery::from(&wanted.port));
        let claims = std::slice::from_ref(beside);
        can_stand_beside(&name, &wanted.port, &wanted_claim, claims).is_ok()
    }

    /// One of each kind on a port, with what it is and whether it needs the pods.
    fn kinds(id: &str, port: (&str, u16)) -> Vec<(&'static str, bool, Intercept)> {
        let rule = Rule::from_flags([Item::Condition(Flag::Header, "x-user=ann")]).unwrap();
        let whole = testing::intercept(id, port);
        let with = |mode| Intercept {
            mode,
            ..whole.clone()
        };
        let ruled = Intercept {
            rule: rule.clone(),
            ..whole.clone()
        };
        let passing = Intercept {
            pass_if_down: true,
            ..whole.clone()
        };
        let some_copies = Intercept {
            rule,
            ..with(Mode::Wiretap)
        };
        vec![
            ("replace", false, with(Mode::Replace)),
            ("wiretap", true, with(Mode::Wiretap)),
            ("wiretap of some", true, some_copies),
            ("rule", true, ruled),
            ("passing", true, passing),
            ("whole", false, whole),
        ]
    }

    #[test]
    fn only_what_needs_no_pods_stands_beside_a_replacement_of_another_port_in_either_order() {
        let (_, _, replace) = kinds("i1", ("http", 80)).remove(0);
        for (kind, needs_pods, other) in kinds("i2", ("grpc", 90)) {
            let fit = !needs_pods && other.mode != Mode::Replace;
            assert_eq!(fits(&other, &replace), fit, "{kind} beside a replacement");
            assert_eq!(fits(&replace, &other), fit, "a replacement beside {kind}");
        }
    }

    #[test]
    fn what_stands_beside_what_doesnt_depend_on_who_came_first() {
        for port in [("http", 80), ("grpc", 90)] {
            for (left, _, one) in kinds("i1", ("http", 80)) {
                for (right, _, other) in kinds("i2", port) {
                    assert_eq!(
                        fits(&one, &other),
                        fits(&other, &one),
                        "{left} and {right} of port {port:?}"
                    );
                }
            }
        }
    }
}
