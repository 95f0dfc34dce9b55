//! What may happen to a Service, at random.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

use crate::redirect::observed::{Desired, Goal};
use crate::redirect::simulation::{CONTROLLERS, Controller};
use crate::redirect::testing::{
    declare, pod, port, route, service, set_ready, set_terminating, strings,
};

const PORTS: [(&str, u16); 3] = [("http", 80), ("grpc", 90), ("admin", 99)];

/// A Service and its pods.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    dual_stack: bool,
    local: bool,
    publish_not_ready: bool,
    pods: Vec<PodSetting>,
}

#[derive(Debug, Clone)]
pub(super) struct PodSetting {
    ready: bool,
    terminating: bool,
    named: Option<u16>,
}

#[derive(Debug, Clone)]
pub(super) enum Happening {
    Goal(EndGoal),
    Steps(usize),
    CatchUp(Controller),
    Sync(Controller),
    SlicesSeen,
    SelectorWritten(&'static str),
    AnnotationsDropped,
    PodReady(usize, bool),
    PodGone(usize),
    PodNew(PodSetting),
}

#[derive(Debug, Clone)]
pub(super) enum EndGoal {
    /// Ports by index, and which router.
    Redirect(Vec<usize>, u8),
    Hold,
    Restore,
}

impl EndGoal {
    pub(super) fn desired(&self) -> Desired {
        let goal = match self {
            Self::Redirect(ports, router) => {
                let address = format!("10.9.0.{router}");
                let one = |&at: &usize| {
                    let (name, number) = PORTS[at];
                    (port(name, number), route(&[&address], 30_000 + number))
                };
                Goal::Redirect(ports.iter().map(one).collect())
            }
            Self::Hold => Goal::Hold,
            Self::Restore => Goal::Restore,
        };
        Desired {
            manager: "kdev".into(),
            goal,
            forget: BTreeSet::new(),
        }
    }
}

impl Setting {
    pub(super) fn service(&self) -> Service {
        let ports = PORTS.map(|(name, number)| (name, i32::from(number), "TCP"));
        let mut service = service("web", &ports);
        let spec = service.spec.as_mut().unwrap();
        spec.selector = Some(strings(&[("app", "blue")]));
        spec.publish_not_ready_addresses = self.publish_not_ready.then_some(true);
        spec.internal_traffic_policy = self.local.then(|| "Local".into());
        if self.dual_stack {
            spec.ip_families = Some(vec!["IPv4".into(), "IPv6".into()]);
        }
        spec.ports.as_mut().unwrap()[1].target_port = Some(IntOrString::String("main".into()));
        service
    }

    pub(super) fn pods(&self) -> Vec<Pod> {
        self.pods
            .iter()
            .enumerate()
            .map(|(at, pod)| pod.build(at))
            .collect()
    }
}

impl PodSetting {
    pub(super) fn build(&self, at: usize) -> Pod {
        let (v4, v6) = (format!("10.1.0.{at}"), format!("fd00::{at}"));
        let mut pod = pod(&format!("pod-{at}"), &[&v4, &v6]);
        pod.metadata.labels = Some(strings(&[(
            "app",
            if at % 3 == 2 { "green" } else { "blue" },
        )]));
        pod.spec.as_mut().unwrap().node_name = Some(format!("node-{}", at % 2));
        set_ready(&mut pod, self.ready);
        if self.terminating {
            set_terminating(&mut pod);
        }
        if let Some(number) = self.named {
            declare(&mut pod, "main", i32::from(number), "TCP");
        }
        pod
    }
}

pub(super) fn settings() -> impl Strategy<Value = Setting> {
    let pods = proptest::collection::vec(pods(), 0..5);
    (
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.2),
        pods,
    )
        .prop_map(|(dual_stack, local, publish_not_ready, pods)| Setting {
            dual_stack,
            local,
            publish_not_ready,
            pods,
        })
}

pub(super) fn pods() -> impl Strategy<Value = PodSetting> {
    let named = prop_oneof![Just(None), Just(Some(7001)), Just(Some(7002))];
    (
        proptest::bool::weighted(0.8),
        proptest::bool::weighted(0.1),
        named,
    )
        .prop_map(|(ready, terminating, named)| PodSetting {
            ready,
            terminating,
            named,
        })
}

pub(super) fn goals() -> impl Strategy<Value = EndGoal> {
    let ports = proptest::sample::subsequence(vec![0, 1, 2], 1..=3);
    prop_oneof![
        3 => (ports, 1..3_u8).prop_map(|(ports, router)| EndGoal::Redirect(ports, router)),
        1 => Just(EndGoal::Hold),
        2 => Just(EndGoal::Restore),
    ]
}

pub(super) fn happenings() -> impl Strategy<Value = Happening> {
    let controller = || proptest::sample::select(CONTROLLERS.to_vec());
    prop_oneof![
        3 => goals().prop_map(Happening::Goal),
        8 => (1..9_usize).prop_map(Happening::Steps),
        4 => controller().prop_map(Happening::CatchUp),
        6 => controller().prop_map(Happening::Sync),
        1 => Just(Happening::SlicesSeen),
        1 => proptest::sample::select(vec!["blue", "green"]).prop_map(Happening::SelectorWritten),
        1 => Just(Happening::AnnotationsDropped),
        2 => (0..5_usize, any::<bool>()).prop_map(|(at, ready)| Happening::PodReady(at, ready)),
        1 => (0..5_usize).prop_map(Happening::PodGone),
        2 => pods().prop_map(Happening::PodNew),
    ]
}
