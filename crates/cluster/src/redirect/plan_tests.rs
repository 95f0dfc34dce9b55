#[path = "plan_stories.rs"]
mod stories;

use std::collections::BTreeSet;

use proptest::prelude::*;

use self::stories::{EndGoal, Happening, goals, happenings, settings};
use super::*;
use crate::redirect::objects::{INTERCEPTS, MANAGED_BY, MANAGED_BY_LABEL};
use crate::redirect::observed::is_borrowed;
use crate::redirect::simulation::{Cluster, Controller, Outdated};
use crate::redirect::testing::{
    intercept, original as saved_selector, pod, service, set_ready, strings,
};

#[test]
fn a_service_nobody_intercepts_is_left_alone() {
    let observed = web().observe();
    assert_eq!(plan(&observed, &Desired::restored([])), [Step::Done]);
    assert_eq!(plan(&observed, &hold()), [Step::Done]);
}

#[test]
fn a_service_with_one_port_is_redirected_by_one_change_of_its_slice() {
    let steps = plan(&cluster(&[("http", 80, "TCP")]).observe(), &redirect_http());
    assert_eq!(
        names(&steps),
        ["stop mirroring", "clear selector", "update slice", "done"]
    );
}

#[test]
fn ports_that_stay_have_their_slice_before_the_selector_is_cleared() {
    let steps = plan(&web().observe(), &redirect_http());
    assert_eq!(
        names(&steps),
        [
            "create slice",
            "stop mirroring",
            "clear selector",
            "update slice",
            "done"
        ]
    );
}

#[test]
fn a_slice_that_was_borrowed_is_given_back_as_it_was_and_nothing_is_waited_for() {
    let mut cluster = cluster(&[("http", 80, "TCP")]);
    let before = cluster.slices.clone();
    converge(&mut cluster, &redirect_http());
    assert_eq!(cluster.observe().borrowed().count(), 1);

    let desired = Desired::restored([]);
    let steps = plan(&cluster.observe(), &desired);
    assert_eq!(names(&steps), ["update slice", "restore selector", "done"]);
    run(&mut cluster, &steps).unwrap();
    let steps = plan(&cluster.observe(), &desired);
    assert_eq!(
        names(&steps),
        ["allow mirroring", "drop annotation", "done"]
    );
    run(&mut cluster, &steps).unwrap();
    let versionless = |slices: &[EndpointSlice]| {
        let mut slices = slices.to_vec();
        for slice in &mut slices {
            slice.metadata.resource_version = None;
        }
        slices
    };
    assert_eq!(versionless(&cluster.slices), versionless(&before));
}

#[test]
fn a_selector_that_others_write_back_has_the_controller_take_its_slices_back() {
    let mut cluster = cluster(&[("http", 80, "TCP")]);
    converge(&mut cluster, &redirect_http());
    write_selector(&mut cluster, "blue");
    cluster.settle();
    let observed = cluster.observe();
    assert_eq!(observed.borrowed().count(), 0);
    let addresses = observed.slices[0].endpoints.iter();
    let addresses: Vec<_> = addresses.map(|endpoint| &endpoint.addresses[0]).collect();
    assert_eq!(addresses, ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn a_service_is_not_restored_before_the_controller_has_taken_its_slices_back() {
    let mut cluster = cluster(&[("http", 80, "TCP")]);
    converge(&mut cluster, &redirect_http());
    // By who may not write slices.
    write_selector(&mut cluster, "blue");
    let steps = plan(&cluster.observe(), &Desired::restored([]));
    assert_eq!(steps.last(), Some(&Step::WaitForControllerSlices));
    let writes = names(&steps)
        .iter()
        .filter(|name| **name == "update slice")
        .count();
    assert_eq!(writes, 1, "whoever may leads them to the pods at once");
}

#[test]
fn slices_of_a_version_that_made_all_of_its_own_are_used_and_go() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    // It deleted the cluster's, and made one of its own for each.
    let label = |slice: &mut EndpointSlice| {
        let labels = slice.metadata.labels.get_or_insert_default();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    };
    let at = cluster.slices.iter().position(is_borrowed).unwrap();
    let mut own = cluster.slices[at].clone();
    cluster.delete_slice(at);
    label(&mut own);
    own.metadata.name = Some("web-kdev-1".to_owned());
    own.metadata.uid = Some("uid-own".to_owned());
    cluster.slices.push(own);
    assert_eq!(
        plan(&cluster.observe(), &redirect_http()),
        [Step::Done],
        "it works as it is"
    );
    converge(&mut cluster, &hold());
    converge(&mut cluster, &Desired::restored([]));
    let observed = cluster.observe();
    assert_eq!((observed.own().count(), observed.slices.len()), (0, 1));
}

#[test]
fn restoring_leads_to_the_pods_then_removes_every_trace() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());

    let desired = Desired::restored([]);
    let steps = plan(&cluster.observe(), &desired);
    assert_eq!(
        names(&steps),
        ["update slice", "restore selector", "delete slice", "done"]
    );
    run(&mut cluster, &steps).unwrap();
    let steps = plan(&cluster.observe(), &desired);
    assert_eq!(
        names(&steps),
        ["allow mirroring", "drop annotation", "done"]
    );
}

#[test]
fn a_selector_that_is_written_back_is_cleared_again_and_the_new_one_is_saved() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    write_selector(&mut cluster, "green");
    cluster.settle();
    converge(&mut cluster, &redirect_http());
    let saved = cluster.observe().original().unwrap();
    assert_eq!(saved, saved_selector(&[("app", "green")]));

    converge(&mut cluster, &Desired::restored([]));
    assert_eq!(
        cluster.observe().selector().unwrap(),
        strings(&[("app", "green")])
    );
}

#[test]
fn a_service_that_is_made_anew_loses_the_slices_of_the_old_one() {
    let mut cluster = web();
    let fresh = cluster.service.clone().unwrap();
    converge(&mut cluster, &redirect_http());
    cluster.service = Some(fresh);
    cluster.edit(|service| service.metadata.uid = Some("service-2".into()));
    converge(&mut cluster, &Desired::restored([]));
    assert_eq!(cluster.observe().own().count(), 0);
}

#[test]
fn the_slices_of_a_service_that_is_gone_are_deleted() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    cluster.service = None;
    let steps = plan(&cluster.observe(), &redirect_http());
    assert!(matches!(
        steps[..],
        [
            Step::DeleteSlice { .. },
            Step::DeleteSlice { .. },
            Step::Done
        ]
    ));
}

#[test]
fn a_selector_survives_the_loss_of_the_services_annotations() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    cluster.edit(|service| service.metadata.annotations = None);
    converge(&mut cluster, &Desired::restored([]));
    assert_eq!(
        cluster.observe().selector().unwrap(),
        strings(&[("app", "blue")])
    );
}

#[test]
fn a_skip_mirror_label_that_is_not_ours_stays() {
    let mut cluster = web();
    cluster.apply(&Step::SkipMirrorLabel { on: true }).unwrap();
    assert_eq!(
        plan(&cluster.observe(), &Desired::restored([])),
        [Step::Done]
    );
}

#[test]
fn holding_leads_all_ports_to_the_pods_and_keeps_the_selector_cleared() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    converge(&mut cluster, &hold());
    let observed = cluster.observe();
    assert!(selector(observed.service.as_ref().unwrap()).is_none());
    let addresses: BTreeSet<_> = observed
        .slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .map(|endpoint| endpoint.addresses[0].as_str())
        .collect();
    assert_eq!(addresses, ["10.1.0.1", "10.1.0.2"].into());
}

#[test]
fn a_node_whose_pods_go_keeps_the_router_under_a_local_policy() {
    let mut cluster = web();
    let spec = cluster.service.as_mut().unwrap().spec.as_mut().unwrap();
    spec.internal_traffic_policy = Some("Local".into());
    let nodes = |cluster: &Cluster| {
        let observed = cluster.observe();
        let slices = observed.slices.iter();
        let endpoints = slices.flat_map(|slice| slice.endpoints.clone());
        let routers = endpoints.filter(is_router);
        routers
            .filter_map(|router| router.node_name)
            .collect::<Vec<_>>()
    };
    converge(&mut cluster, &redirect_http());
    assert_eq!(nodes(&cluster), ["node-1"]);
    cluster.pods.clear();
    converge(&mut cluster, &redirect_http());
    assert_eq!(nodes(&cluster), ["node-1"]);
}

#[test]
fn a_forgotten_claim_leaves_the_annotation_and_the_others_stay() {
    let mut cluster = web();
    let claims = [intercept("i1", ("http", 80)), intercept("i2", ("grpc", 90))];
    cluster.edit(|service| {
        annotate(
            service,
            INTERCEPTS,
            &serde_json::to_string(&claims).unwrap(),
        )
    });
    let mut desired = redirect_http();
    desired.forget = ["i2".to_owned()].into();
    converge(&mut cluster, &desired);
    assert_eq!(claims_on(&cluster), ["i1"]);

    converge(&mut cluster, &Desired::restored([]));
    assert_eq!(claims_on(&cluster), ["i1"]);
    converge(&mut cluster, &Desired::restored(["i1".to_owned()]));
    assert_eq!(cluster.service.unwrap().metadata.annotations, None);
}

#[test]
fn a_service_that_can_not_be_redirected_is_restored_and_the_reason_is_known() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    cluster.edit(|service| service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 81);
    converge(&mut cluster, &redirect_http());
    let observed = cluster.observe();
    let course = course(
        &observed,
        observed.service.as_ref().unwrap(),
        &redirect_http(),
    );
    assert!(
        matches!(course, Course::Restore(Some(Refusal::PortsGone))),
        "{course:?}"
    );
    assert_eq!(observed.own().count(), 0);
}

#[test]
fn an_external_name_is_not_waited_for() {
    let mut cluster = web();
    converge(&mut cluster, &redirect_http());
    cluster.edit(|service| {
        let spec = service.spec.as_mut().unwrap();
        spec.type_ = Some("ExternalName".into());
        spec.selector = Some(strings(&[("app", "blue")]));
    });
    converge(&mut cluster, &Desired::restored([]));
    assert_eq!(cluster.observe().own().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crashes between any two steps, controllers that lag behind, people who write the selector
    /// back or drop the annotation, pods that come and go: no step or controller ever empties a
    /// port that a ready endpoint serves, and in the end the Service is what it is to be.
    #[test]
    fn whatever_happens_no_port_is_emptied_and_the_end_is_reached(
        setting in settings(),
        story in proptest::collection::vec(happenings(), 0..40),
        end in goals(),
    ) {
        let service = setting.service();
        let mut cluster = Cluster::new(service.clone(), setting.pods());
        let mut desired = Desired::restored([]);
        // What a router serves: a port that it was asked for as long as slices lead there, whatever is wanted since.
        let mut routed = Vec::new();
        let mut app = "blue";
        let mut born = 0;
        for happening in &story {
            match happening {
                Happening::Goal(goal) => {
                    desired = goal.desired();
                    routed.push(routes(&desired).clone());
                }
                Happening::Steps(count) => {
                    let steps = plan(&cluster.observe(), &desired);
                    for step in steps.iter().take(*count) {
                        let before = cluster.serving([routes(&desired)]);
                        if cluster.apply(step).is_err() {
                            break;
                        }
                        check(&before, &cluster, [routes(&desired)], step.name())?;
                    }
                }
                Happening::CatchUp(controller) => cluster.catch_up(*controller),
                Happening::Sync(controller) => {
                    let follows_old = cluster.follows_old_selector(*controller);
                    let has_selector = selector(cluster.service.as_ref().unwrap()).is_some();
                    // Whoever writes the selector back has the router's slice taken back too: only pods count then.
                    let judged = match has_selector && *controller == Controller::Slices {
                        true => Vec::new(),
                        false => routed.clone(),
                    };
                    let before = cluster.serving(&judged);
                    cluster.sync(*controller);
                    // A controller that follows an old selector breaks its own slices by itself; and with a selector
                    // nobody is to count on what was mirrored.
                    let is_its_own = follows_old || (has_selector && *controller == Controller::Mirroring);
                    if !is_its_own {
                        check(&before, &cluster, &judged, "controller")?;
                    }
                }
                Happening::SlicesSeen => cluster.see_slices(),
                Happening::SelectorWritten(name) => {
                    write_selector(&mut cluster, name);
                    // Until the cluster follows a changed selector there is a gap of its own.
                    if app != *name {
                        cluster.catch_up(Controller::Slices);
                        cluster.sync(Controller::Slices);
                    }
                    app = name;
                }
                Happening::AnnotationsDropped => {
                    let observed = cluster.observe();
                    let saved = observed.original();
                    // For a moment, after the selector is cleared, the annotation is the only one.
                    let is_copy = |slice: &EndpointSlice| original(&slice.metadata).unwrap() == saved;
                    // A controller that still follows the selector may yet take a borrowed slice's copy away.
                    let lasts = !cluster.follows_old_selector(Controller::Slices);
                    let mut copies = observed.own().chain(observed.borrowed().filter(|_| lasts));
                    let copy = saved.is_some()
                        && copies.next().is_some_and(is_copy)
                        && copies.all(is_copy);
                    let set = selector(observed.service.as_ref().unwrap()).is_some();
                    if copy || set {
                        cluster.edit(|service| service.metadata.annotations = None);
                    }
                }
                Happening::PodReady(at, ready) => {
                    if let Some(pod) = cluster.pods.get_mut(*at) {
                        set_ready(pod, *ready);
                    }
                }
                Happening::PodGone(at) => {
                    if *at < cluster.pods.len() {
                        cluster.pods.remove(*at);
                    }
                }
                Happening::PodNew(pod) => {
                    born += 1;
                    let mut pod = pod.build(100 + born);
                    pod.metadata.labels = Some(strings(&[("app", app)]));
                    cluster.pods.push(pod);
                }
            }
        }
        let end = end.desired();
        converge(&mut cluster, &end);

        let observed = cluster.observe();
        let now = observed.service.clone().unwrap();
        if selector(&now).is_some() {
            let mut wanted = service.spec.clone().unwrap();
            wanted.selector = Some(strings(&[("app", app)]));
            prop_assert_eq!(now.spec.unwrap(), wanted);
            prop_assert_eq!(now.metadata.annotations, None);
            prop_assert_eq!(observed.own().chain(observed.borrowed()).count(), 0);
            prop_assert_ne!(observed.endpoints, EndpointsObject::SkipMirror);
        } else {
            prop_assert_eq!(observed.original().unwrap().selector, strings(&[("app", app)]));
            prop_assert_eq!(observed.mirrored().count(), 0);
            prop_assert_eq!(observed.endpoints, EndpointsObject::SkipMirror);
            let serving = cluster.serving([routes(&end)]);
            let lasting = observed.lasting(routes(&end));
            let wanted = slices::wanted(&now, &observed.pods, &lasting, &BTreeMap::new());
            let changes = changes(
                &observed, &now, &observed.original().unwrap(), wanted, TheClusters::Borrowed,
            );
            prop_assert!(changes.creates.is_empty() && changes.updates.is_empty());
            prop_assert!(changes.deletes.is_empty());
            for port in routes(&end).keys() {
                let served = serving[&("IPv4".to_owned(), port.name.clone())];
                prop_assert!(served > 0, "{port} isn't served");
            }
        }
    }
}

fn check<'a>(
    before: &BTreeMap<(String, String), usize>,
    cluster: &Cluster,
    routed: impl IntoIterator<Item = &'a BTreeMap<PortRef, Route>>,
    by: &str,
) -> Result<(), TestCaseError> {
    for (port, after) in cluster.serving(routed) {
        let emptied = after == 0 && before.get(&port).is_some_and(|&before| before > 0);
        prop_assert!(!emptied, "{port:?} was emptied by {by}:\n{cluster}");
    }
    Ok(())
}

/// Plans and acts as the executor does, with controllers that do their part, until nothing is left.
fn converge(cluster: &mut Cluster, desired: &Desired) {
    for _ in 0..20 {
        let steps = plan(&cluster.observe(), desired);
        if steps == [Step::Done] {
            cluster.settle();
            if plan(&cluster.observe(), desired) == [Step::Done] {
                return;
            }
        }
        let _ = run(cluster, &steps);
        cluster.settle();
    }
    let steps = plan(&cluster.observe(), desired);
    panic!("no end: {steps:?}\n{cluster}");
}

fn run(cluster: &mut Cluster, steps: &[Step]) -> Result<(), Outdated> {
    steps.iter().try_for_each(|step| cluster.apply(step))
}

fn routes(desired: &Desired) -> &BTreeMap<PortRef, Route> {
    static NONE: BTreeMap<PortRef, Route> = BTreeMap::new();
    match &desired.goal {
        Goal::Redirect(routes) => routes,
        Goal::Hold | Goal::Restore => &NONE,
    }
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::name).collect()
}

fn web() -> Cluster {
    cluster(&[("http", 80, "TCP"), ("grpc", 90, "TCP")])
}

/// A Service with these ports, and two pods.
fn cluster(ports: &[(&str, i32, &str)]) -> Cluster {
    let mut service = service("web", ports);
    service.spec.as_mut().unwrap().selector = Some(strings(&[("app", "blue")]));
    let mut pods = vec![pod("a", &["10.1.0.1"]), pod("b", &["10.1.0.2"])];
    for pod in &mut pods {
        pod.metadata.labels = Some(strings(&[("app", "blue")]));
    }
    Cluster::new(service, pods)
}

fn redirect_http() -> Desired {
    EndGoal::Redirect(vec![0], 1).desired()
}

fn hold() -> Desired {
    EndGoal::Hold.desired()
}

fn write_selector(cluster: &mut Cluster, app: &str) {
    cluster.edit(|service| {
        service.spec.as_mut().unwrap().selector = Some(strings(&[("app", app)]));
    });
}

fn annotate(service: &mut Service, annotation: &str, text: &str) {
    let annotations = service.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation.to_owned(), text.to_owned());
}

fn claims_on(cluster: &Cluster) -> Vec<String> {
    let claims = intercepts(&cluster.service.as_ref().unwrap().metadata).unwrap();
    claims.into_iter().map(|claim| claim.id).collect()
}
