use super::*;
use crate::redirect::PortRef;
use crate::redirect::Route;
use crate::redirect::objects::SLICE_CONTROLLER;
use crate::redirect::slices::wanted;
use crate::redirect::testing::{
    many_pods, original, own, pod, port, route, service, set_ready, strings,
};
use k8s_openapi::api::core::v1::Pod;

fn web() -> Service {
    service("web", &[("http", 80, "TCP"), ("dns", 53, "UDP")])
}

fn after(service: &Service, slices: &[EndpointSlice], wanted: Wanted) -> Changes {
    let observed = Observed {
        service: Some(service.clone()),
        slices: slices.to_vec(),
        ..Observed::default()
    };
    let saved = original(&[("app", "web")]);
    changes(&observed, service, &saved, wanted, TheClusters::Borrowed)
}

fn routed(port: PortRef, route: Route) -> BTreeMap<PortRef, Route> {
    [(port, route)].into()
}

#[test]
fn leaving_a_router_is_one_update_of_its_slice() {
    let service = web();
    let pods = many_pods(2);
    let routes = routed(port("http", 80), route(&["10.9.0.1"], 30_080));
    let slices = own(&service, wanted(&service, &pods, &routes, &BTreeMap::new()));
    let router = slices
        .iter()
        .find(|slice| slice.endpoints[0].addresses[0] == "10.9.0.1");
    let uid = &router.unwrap().metadata.uid;

    let pods_only = wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new());
    let changes = after(&service, &slices, pods_only);
    assert!(changes.creates.is_empty());
    assert_eq!(changes.updates.len(), 1);
    assert_eq!(changes.updates[0].metadata.uid, *uid);
    assert_eq!(changes.updates[0].ports.as_ref().unwrap().len(), 2);
    assert_eq!(changes.deletes.len(), 1);
}

#[test]
fn a_router_that_moves_to_another_port_is_one_update_too() {
    let service = service("web", &[("", 80, "TCP")]);
    let to = |address: &str, number: u16| {
        let routes = routed(port("", 80), route(&[address], number));
        wanted(&service, &many_pods(2), &routes, &BTreeMap::new())
    };
    let slices = own(&service, to("10.9.0.1", 30_080));
    let changes = after(&service, &slices, to("10.9.0.2", 30_081));
    assert!(changes.creates.is_empty() && changes.deletes.is_empty());
    assert_eq!(changes.updates.len(), 1);
}

#[test]
fn a_slice_whose_other_ports_get_one_of_their_own_becomes_the_routers() {
    let service = web();
    let pods = many_pods(2);
    let slices = own(
        &service,
        wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new()),
    );
    let routes = routed(port("http", 80), route(&["10.9.0.1"], 30_080));
    let wanted = wanted(&service, &pods, &routes, &BTreeMap::new());
    let changes = after(&service, &slices, wanted);
    assert_eq!(addresses(&changes.creates), [["10.1.0.0", "10.1.0.1"]]);
    assert_eq!(addresses(&changes.updates), [["10.9.0.1"]]);
    assert!(changes.deletes.is_empty());
}

#[test]
fn a_slice_whose_other_ports_nothing_ready_serves_stays_until_the_end() {
    let service = web();
    let mut pods = many_pods(2);
    pods.iter_mut().for_each(|pod| set_ready(pod, false));
    let slices = own(
        &service,
        wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new()),
    );
    let routes = routed(port("http", 80), route(&["10.9.0.1"], 30_080));
    let wanted = wanted(&service, &pods, &routes, &BTreeMap::new());
    let changes = after(&service, &slices, wanted);
    assert!(changes.updates.is_empty());
    assert_eq!((changes.creates.len(), changes.deletes.len()), (2, 1));
}

#[test]
fn of_several_slices_of_pods_one_becomes_the_routers_and_the_others_go_after_it() {
    let service = service("web", &[("", 80, "TCP")]);
    let pods = many_pods(250);
    let slices = own(
        &service,
        wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new()),
    );
    let routes = routed(port("", 80), route(&["10.9.0.1"], 30_080));
    let wanted = wanted(&service, &pods, &routes, &BTreeMap::new());
    let changes = after(&service, &slices, wanted);
    assert!(changes.creates.is_empty());
    assert_eq!((changes.updates.len(), changes.deletes.len()), (1, 2));
}

#[test]
fn the_clusters_slice_is_the_clusters_while_it_is_borrowed_and_given_back_as_it_was() {
    let service = service("web", &[("", 80, "TCP")]);
    let pods = many_pods(2);
    let to_pods = wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new());
    let mut slices = own(&service, to_pods.clone());
    slices[0].metadata.labels = Some(strings(&[
        ("kubernetes.io/service-name", "web"),
        (MANAGED_BY_LABEL, SLICE_CONTROLLER),
    ]));
    slices[0].metadata.annotations = None;
    let routes = routed(port("", 80), route(&["10.9.0.1"], 30_080));
    let to_router = wanted(&service, &pods, &routes, &BTreeMap::new());

    let changes = after(&service, &slices, to_router);
    assert_eq!(addresses(&changes.updates), [["10.9.0.1"]]);
    let borrowed = &changes.updates[0].metadata;
    assert_eq!(borrowed.name, slices[0].metadata.name);
    let labels = borrowed.labels.as_ref().unwrap();
    assert_eq!(labels[MANAGED_BY_LABEL], SLICE_CONTROLLER);
    assert_eq!(labels[MANAGER_LABEL], "kdev");
    assert!(is_borrowed(&changes.updates[0]));

    let observed = Observed {
        service: Some(service.clone()),
        slices: changes.updates,
        ..Observed::default()
    };
    let saved = original(&[("app", "web")]);
    let back = |service: &Service| {
        let wanted = to_pods.clone();
        super::changes(&observed, service, &saved, wanted, TheClusters::GivenBack).updates
    };
    assert_eq!(back(&service), slices);
    // The controller copies a Service's labels to its slices.
    let mut labelled = service.clone();
    labelled.metadata.labels = Some(strings(&[(MANAGER_LABEL, "kdev")]));
    let labels = back(&labelled).remove(0).metadata.labels.unwrap();
    assert_eq!(labels[MANAGER_LABEL], "kdev");
}

/// The addresses of each slice.
fn addresses(slices: &[EndpointSlice]) -> Vec<Vec<&str>> {
    let all = slices.iter().map(|slice| {
        let endpoints = slice.endpoints.iter();
        endpoints
            .map(|endpoint| endpoint.addresses[0].as_str())
            .collect()
    });
    all.collect()
}

#[test]
fn a_slice_is_not_turned_into_one_that_nothing_is_ready_in() {
    let service = service("web", &[("", 80, "TCP")]);
    let mut pods = many_pods(1);
    set_ready(&mut pods[0], false);
    let routes = routed(port("", 80), route(&["10.9.0.1"], 30_080));
    let slices = own(&service, wanted(&service, &pods, &routes, &BTreeMap::new()));
    let pods_only = wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new());
    let changes = after(&service, &slices, pods_only);
    assert!(changes.updates.is_empty());
}

#[test]
fn a_slice_holds_a_hundred_endpoints_and_a_change_touches_one_slice() {
    let service = service("web", &[("", 80, "TCP")]);
    let mut pods = many_pods(250);
    let want = |pods: &[Pod]| wanted(&service, pods, &BTreeMap::new(), &BTreeMap::new());
    let slices = own(&service, want(&pods));
    let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);

    pods.remove(3);
    pods.push(pod("new", &["10.2.0.1"]));
    let observed = Observed {
        service: Some(service.clone()),
        slices,
        ..Observed::default()
    };
    let changes = after(&service, &observed.slices, want(&pods));
    assert!(changes.creates.is_empty() && changes.deletes.is_empty());
    assert_eq!(changes.updates.len(), 1);
    assert_eq!(
        changes.updates[0].metadata.uid,
        observed.slices[changes_at(&observed)].metadata.uid
    );
}

fn changes_at(observed: &Observed) -> usize {
    let has = |slice: &EndpointSlice| {
        slice
            .endpoints
            .iter()
            .any(|endpoint| endpoint.addresses[0] == "10.1.0.3")
    };
    observed.slices.iter().position(has).unwrap()
}

#[test]
fn pods_that_share_their_nodes_address_have_an_endpoint_each() {
    let service = service("web", &[("", 80, "TCP")]);
    let pods = [pod("old", &["10.1.0.1"]), pod("new", &["10.1.0.1"])];
    let slices = own(
        &service,
        wanted(&service, &pods, &BTreeMap::new(), &BTreeMap::new()),
    );
    assert_eq!(slices[0].endpoints.len(), 2);
}

#[test]
fn slices_that_are_as_wanted_are_left_alone() {
    let service = web();
    let wanted = wanted(&service, &many_pods(2), &BTreeMap::new(), &BTreeMap::new());
    let observed = Observed {
        service: Some(service.clone()),
        slices: own(&service, wanted.clone()),
        ..Observed::default()
    };
    let changes = after(&service, &observed.slices, wanted);
    assert!(changes.creates.is_empty() && changes.updates.is_empty() && changes.deletes.is_empty());
}

#[test]
fn own_slices_are_marked_and_belong_to_the_service() {
    let service = web();
    let slices = own(
        &service,
        wanted(&service, &many_pods(1), &BTreeMap::new(), &BTreeMap::new()),
    );
    let metadata = &slices[0].metadata;
    let labels = metadata.labels.as_ref().unwrap();
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "kdev.dev");
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["kdev.dev/manager"], "kdev");
    assert!(metadata.name.as_ref().unwrap().starts_with("web-kdev-"));
    assert!(is_owned_by(&slices[0], &service));
    assert_eq!(
        metadata.owner_references.as_ref().unwrap()[0].block_owner_deletion,
        None
    );
}

#[test]
fn a_write_that_brings_a_ready_endpoint_comes_before_one_that_takes_it() {
    let service = service("web", &[("", 80, "TCP")]);
    let want = |pods: &[Pod]| wanted(&service, pods, &BTreeMap::new(), &BTreeMap::new());
    let mut pods = many_pods(101);
    set_ready(&mut pods[100], false);
    let observed = Observed {
        service: Some(service.clone()),
        slices: own(&service, want(&pods)),
        ..Observed::default()
    };
    for pod in &mut pods[..100] {
        set_ready(pod, false);
    }
    set_ready(&mut pods[100], true);
    let changes = after(&service, &observed.slices, want(&pods));
    let ready: Vec<_> = changes.updates.iter().map(has_ready).collect();
    assert_eq!(ready, [true, false]);
}
