//! From what the watches tell to the facts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube::runtime::watcher::Event;

use super::direct::{self, Ways};
use super::pods::{NodeFacts, is_declared, nodes_tell, pod_cidrs};
use super::services::service_cidrs;
use super::{ClusterDns, ClusterFacts};

/// What is known of the objects of one kind, by namespace and name.
#[derive(Debug)]
pub(super) struct Known<T> {
    items: BTreeMap<String, T>,
    /// A list under way, which replaces all items at its end.
    staged: BTreeMap<String, T>,
    is_complete: bool,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            staged: BTreeMap::new(),
            is_complete: false,
        }
    }
}

impl<T> Known<T> {
    /// Takes in what a watch tells.
    pub(super) fn handle_event(&mut self, event: Event<(String, T)>) {
        match event {
            Event::Init => self.staged.clear(),
            Event::InitApply((name, item)) => drop(self.staged.insert(name, item)),
            Event::InitDone => {
                self.items = std::mem::take(&mut self.staged);
                self.is_complete = true;
            }
            Event::Apply((name, item)) => drop(self.items.insert(name, item)),
            Event::Delete((name, _)) => drop(self.items.remove(&name)),
        }
    }

    /// Notes that nothing is to be known: the cluster doesn't have the kind, or the manager may not
    /// see it.
    pub(super) fn handle_unavailable(&mut self) {
        self.is_complete = true;
    }

    fn values(&self) -> impl Iterator<Item = &T> {
        self.items.values()
    }
}

/// Everything known of the cluster's network.
#[derive(Debug)]
pub(super) struct State {
    pub(super) dns: ClusterDns,
    pub(super) namespaces: Known<()>,
    pub(super) nodes: Known<NodeFacts>,
    pub(super) service_cidrs: Known<Vec<IpNet>>,
    pub(super) services: Known<BTreeSet<IpAddr>>,
    pub(super) pods: Known<BTreeSet<IpAddr>>,
    /// The manager's own Service: at most one.
    pub(super) own: Known<Ways>,
    /// Addresses of a few pods; `None` until they are asked for.
    pub(super) sample: Option<BTreeSet<IpAddr>>,
}

impl State {
    pub(super) fn new(dns: ClusterDns) -> Self {
        Self {
            dns,
            namespaces: Known::default(),
            nodes: Known::default(),
            service_cidrs: Known::default(),
            services: Known::default(),
            pods: Known::default(),
            own: Known::default(),
            sample: None,
        }
    }

    /// Returns whether Services' addresses must be looked at, as no ServiceCIDR tells.
    pub(super) fn needs_services(&self) -> bool {
        self.service_cidrs.is_complete && self.service_cidrs.values().all(Vec::is_empty)
    }

    /// Returns whether a few pods must be asked for, to see whether the nodes tell the truth:
    /// networks with their own address management pay no heed to the nodes' prefixes.
    pub(super) fn needs_sample(&self) -> bool {
        self.nodes.is_complete && self.sample.is_none() && nodes_tell(&self.nodes())
    }

    /// Returns whether all pods' addresses must be looked at, as the nodes don't tell.
    pub(super) fn needs_pods(&self) -> bool {
        if !self.nodes.is_complete {
            return false;
        }
        let nodes = self.nodes();
        let mut sample = self.sample.iter().flatten();
        !nodes_tell(&nodes) || sample.any(|address| !is_declared(&nodes, address))
    }

    /// Returns the facts, once everything that is needed for them is known.
    pub(super) fn facts(&self) -> Option<ClusterFacts> {
        let is_complete = self.namespaces.is_complete
            && self.nodes.is_complete
            && self.service_cidrs.is_complete
            && self.own.is_complete
            && (self.services.is_complete || !self.needs_services())
            && (self.pods.is_complete || !self.needs_pods())
            && !self.needs_sample();
        is_complete.then(|| ClusterFacts {
            service_cidrs: service_cidrs(
                self.service_cidrs.values().flatten().copied(),
                self.services.values().flatten().copied(),
            ),
            pod_cidrs: pod_cidrs(&self.nodes(), self.pods.values().flatten()),
            dns: self.dns.clone(),
            namespaces: self.namespaces.items.keys().cloned().collect(),
            direct: direct::addresses(&self.own.values().collect::<Vec<_>>(), &self.nodes()),
        })
    }

    fn nodes(&self) -> Vec<&NodeFacts> {
        self.nodes.values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefixes::tests::{ips, nets};
    use super::*;

    fn list<T>(known: &mut Known<T>, items: impl IntoIterator<Item = (&'static str, T)>) {
        known.handle_event(Event::Init);
        for (name, item) in items {
            known.handle_event(Event::InitApply((name.to_owned(), item)));
        }
        known.handle_event(Event::InitDone);
    }

    fn node(cidrs: &str) -> NodeFacts {
        NodeFacts {
            pod_cidrs: nets(cidrs),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            outside: Vec::new(),
        }
    }

    fn state(cidrs: &str, node_cidrs: &str) -> State {
        let mut state = State::new(ClusterDns::parse(""));
        list(&mut state.namespaces, [("default", ()), ("shop", ())]);
        list(&mut state.nodes, [("node-1", node(node_cidrs))]);
        list(&mut state.service_cidrs, [("kubernetes", nets(cidrs))]);
        list(&mut state.own, []);
        state
    }

    #[test]
    fn nothing_is_told_before_everything_needed_is_known() {
        let mut state = State::new(ClusterDns::parse(""));
        assert_eq!(state.facts(), None);
        assert!(!state.needs_pods() && !state.needs_services() && !state.needs_sample());
        list(&mut state.namespaces, [("default", ())]);
        list(&mut state.own, []);
        list(&mut state.nodes, [("node-1", node("10.244.0.0/24"))]);
        list(
            &mut state.service_cidrs,
            [("kubernetes", nets("10.96.0.0/16"))],
        );
        assert!(state.needs_sample());
        assert_eq!(state.facts(), None);
        state.sample = Some(ips("10.244.0.9"));
        let facts = state.facts().unwrap();
        assert_eq!(facts.service_cidrs, nets("10.96.0.0/16"));
        assert_eq!(facts.pod_cidrs, nets("10.244.0.0/24"));
        assert_eq!(
            facts.namespaces.into_iter().collect::<Vec<_>>(),
            ["default"]
        );
    }

    #[test]
    fn services_are_looked_at_only_without_the_service_cidr_api() {
        let mut state = state("", "10.244.0.0/24");
        state.sample = Some(ips(""));
        assert!(state.needs_services());
        assert_eq!(state.facts(), None);
        list(
            &mut state.services,
            [("default/kubernetes", ips("10.96.0.1"))],
        );
        assert_eq!(state.facts().unwrap().service_cidrs, nets("10.96.0.0/24"));
    }

    #[test]
    fn pods_are_looked_at_when_nodes_tell_nothing() {
        let mut state = state("10.96.0.0/16", "");
        assert!(state.needs_pods() && !state.needs_sample());
        assert_eq!(state.facts(), None);
        list(&mut state.pods, [("shop/web", ips("192.168.7.3"))]);
        assert_eq!(state.facts().unwrap().pod_cidrs, nets("192.168.7.0/24"));
    }

    #[test]
    fn pods_are_looked_at_when_a_few_live_outside_what_the_nodes_tell() {
        let mut state = state("10.96.0.0/16", "10.244.0.0/24");
        state.sample = Some(ips("192.168.7.3"));
        assert!(state.needs_pods());
        list(&mut state.pods, [("shop/web", ips("192.168.7.3"))]);
        assert_eq!(
            state.facts().unwrap().pod_cidrs,
            nets("10.244.0.0/24 192.168.7.0/24")
        );
    }

    #[test]
    fn what_the_manager_may_not_see_holds_nothing_up() {
        let mut state = State::new(ClusterDns::parse(""));
        list(&mut state.namespaces, []);
        state.own.handle_unavailable();
        state.nodes.handle_unavailable();
        state.service_cidrs.handle_unavailable();
        state.services.handle_unavailable();
        assert!(state.needs_pods());
        list(&mut state.pods, [("shop/web", ips("10.244.0.3"))]);
        assert_eq!(state.facts().unwrap().pod_cidrs, nets("10.244.0.0/24"));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_its_end() {
        let mut state = state("10.96.0.0/16", "10.244.0.0/24");
        state.sample = Some(ips(""));
        state.namespaces.handle_event(Event::Init);
        state
            .namespaces
            .handle_event(Event::InitApply(("new".to_owned(), ())));
        assert!(state.facts().unwrap().namespaces.contains("shop"));
        state.namespaces.handle_event(Event::InitDone);
        state
            .namespaces
            .handle_event(Event::Apply(("newer".to_owned(), ())));
        state
            .namespaces
            .handle_event(Event::Delete(("new".to_owned(), ())));
        assert_eq!(
            state
                .facts()
                .unwrap()
                .namespaces
                .into_iter()
                .collect::<Vec<_>>(),
            ["newer"]
        );
    }
}
