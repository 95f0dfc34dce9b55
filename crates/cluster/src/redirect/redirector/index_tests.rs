use super::*;
use crate::redirect::testing::{intercept, route};

fn web() -> ServiceName {
    ServiceName::new("shop", "web")
}

fn marks(claims: &[Intercept]) -> Option<Marks> {
    Some(Marks {
        intercepts: claims.to_vec(),
        cleared_by: None,
    })
}

fn by(manager: &str) -> Intercept {
    Intercept {
        manager: manager.into(),
        ..intercept("i9", ("admin", 99))
    }
}

fn routed() -> Wish {
    Wish::Route(route(&["10.9.0.1"], 30_000))
}

fn index(claims: &[Intercept]) -> Index {
    let mut index = Index::new("kdev");
    index.handle_service(&web(), marks(claims));
    index
}

fn goal(index: &Index) -> Goal {
    index.assignment(&web()).0.desired.goal
}

#[test]
fn a_claim_nobody_has_said_anything_about_is_held() {
    assert_eq!(goal(&index(&[intercept("i1", ("http", 80))])), Goal::Hold);
}

#[test]
fn a_claim_is_routed_when_both_the_claim_and_the_wish_are_known_in_whichever_order() {
    let claim = intercept("i1", ("http", 80));
    let mut index = Index::new("kdev");
    assert_eq!(index.handle_wish("i1".into(), routed()), None);
    assert!(!index.concerns(&web()));
    index.handle_service(&web(), marks(std::slice::from_ref(&claim)));
    let (assignment, _) = index.assignment(&web());
    assert_eq!(assignment.routed, [("i1".to_owned(), claim.port)].into());
    assert!(matches!(assignment.desired.goal, Goal::Redirect(_)));
}

#[test]
fn a_service_is_restored_when_its_last_claim_is_forgotten() {
    let mut index = index(&[intercept("i1", ("http", 80)), intercept("i2", ("grpc", 90))]);
    assert_eq!(index.handle_wish("i1".into(), Wish::Forget), Some(web()));
    assert_eq!(goal(&index), Goal::Hold);
    index.handle_wish("i2".into(), Wish::Forget);
    let (assignment, _) = index.assignment(&web());
    assert_eq!(assignment.desired.goal, Goal::Restore);
    assert_eq!(
        assignment.desired.forget,
        ["i1".to_owned(), "i2".to_owned()].into()
    );
}

#[test]
fn a_claim_that_is_removed_by_others_is_lost_once() {
    let mut index = index(&[intercept("i1", ("http", 80)), intercept("i2", ("grpc", 90))]);
    index.handle_wish("i1".into(), routed());
    index.handle_wish("i2".into(), Wish::Forget);
    let lost = index.handle_service(&web(), marks(&[]));
    let reason = LostReason::ClaimRemoved;
    assert_eq!(
        lost,
        [Lost {
            service: web(),
            id: "i1".into(),
            reason
        }]
    );
    assert!(!index.concerns(&web()));
    assert_eq!(index.handle_service(&web(), None), []);
}

#[test]
fn a_service_missing_from_a_new_list_is_gone() {
    let mut index = index(&[intercept("i1", ("http", 80))]);
    index.handle_wish("i1".into(), routed());
    let lost = index.handle_all_services(BTreeMap::new());
    let reason = LostReason::ServiceGone;
    assert_eq!(
        lost,
        [Lost {
            service: web(),
            id: "i1".into(),
            reason
        }]
    );
}

#[test]
fn claims_on_one_port_share_a_route_and_of_two_routes_the_first_is_taken() {
    let claims = ["i1", "i2", "i3"].map(|id| intercept(id, ("http", 80)));
    let mut index = index(&claims);
    index.handle_wish("i1".into(), routed());
    index.handle_wish("i2".into(), routed());
    let elsewhere = Wish::Route(route(&["10.9.0.1"], 30_001));
    index.handle_wish("i3".into(), elsewhere);
    let (assignment, lost) = index.assignment(&web());
    assert_eq!(assignment.routed.keys().collect::<Vec<_>>(), ["i1", "i2"]);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].reason, LostReason::PortTaken);
}

#[test]
fn own_slices_alone_are_reason_enough_to_look() {
    let mut index = Index::new("kdev");
    index.handle_slice(&web(), "web-kdev-1", true);
    assert!(index.concerns(&web()));
    assert_eq!(goal(&index), Goal::Restore);
    index.handle_slice(&web(), "web-kdev-1", false);
    assert!(!index.concerns(&web()));
}

#[test]
fn what_is_another_managers_is_left_alone() {
    let mut index = index(&[by("other")]);
    assert!(!index.concerns(&web()));
    assert!(index.annotated().is_empty());

    let cleared = |claims: &[Intercept]| {
        Some(Marks {
            intercepts: claims.to_vec(),
            cleared_by: Some("other".into()),
        })
    };
    index.handle_service(&web(), cleared(&[]));
    assert!(!index.concerns(&web()));
    // Our user's claim is proof that the other manager is done with it.
    index.handle_service(&web(), cleared(&[intercept("i1", ("http", 80))]));
    assert!(index.concerns(&web()));
}

#[test]
fn what_is_forgotten_before_it_was_seen_leaves_nothing() {
    let mut index = Index::new("kdev");
    index.handle_wish("i1".into(), routed());
    index.handle_wish("i1".into(), Wish::Forget);
    index.handle_service(&web(), marks(&[intercept("i1", ("http", 80))]));
    assert_eq!(goal(&index), Goal::Hold);
}

#[test]
fn an_id_that_is_copied_to_another_service_means_nothing_there() {
    let mut index = index(&[intercept("i1", ("http", 80))]);
    index.handle_wish("i1".into(), routed());
    let other = ServiceName::new("shop", "another");
    let copied = intercept("i1", ("http", 80));
    assert_eq!(index.handle_service(&other, marks(&[copied])), []);
    assert_eq!(index.handle_service(&other, marks(&[])), []);
    assert_eq!(index.handle_wish("i1".into(), Wish::Forget), Some(web()));
    assert_eq!(goal(&index), Goal::Restore);
}

#[test]
fn what_is_over_isnt_held() {
    let mut index = index(&[intercept("i1", ("http", 80))]);
    index.handle_wish("i1".into(), Wish::Forget);
    index.handle_wish("i1".into(), Wish::Hold);
    assert_eq!(goal(&index), Goal::Restore);
}
