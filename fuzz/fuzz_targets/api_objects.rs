//! What the cluster says: objects, annotations that others may have written, refusals, and the resolver
//! file of a pod.
#![no_main]

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kdev_cluster::client::Forbidden;
use kdev_cluster::discovery::{ClusterDns, fuzzing};
use kdev_cluster::redirect::{
    PortQuery, Which, interceptable, intercepts, objects, original, ports_of,
};
use kdev_cluster::vouch;
use kdev_identity::Fingerprint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    annotations(text);
    pod_resolver(text);
    refusal(text);
    let service: Option<Service> = serde_json::from_str(text).ok();
    if let Some(service) = &service {
        read_service(service);
    }
    let node: Option<Node> = serde_json::from_str(text).ok();
    let pod: Option<Pod> = serde_json::from_str(text).ok();
    fuzzing::objects(node.as_ref(), pod.as_ref(), service.as_ref());
    if let Ok(lease) = serde_json::from_str::<Lease>(text) {
        vouch::fuzzing::lease(&lease);
    }
    if let Ok(key) = text.parse::<Fingerprint>() {
        assert_eq!(key.to_string(), text);
    }
    let Ok(query) = text.parse::<PortQuery>();
    if query.which != Which::Only {
        assert_eq!(query.to_string().parse(), Ok(query));
    }
});

fn annotated(annotation: &str, text: &str) -> ObjectMeta {
    ObjectMeta {
        annotations: Some(BTreeMap::from([(annotation.to_owned(), text.to_owned())])),
        ..ObjectMeta::default()
    }
}

/// What is read can be written, and reads the same again.
fn annotations(text: &str) {
    if let Ok(claims) = intercepts(&annotated(objects::INTERCEPTS, text)) {
        let written = serde_json::to_string(&claims).expect("plain data");
        let read = intercepts(&annotated(objects::INTERCEPTS, &written));
        assert_eq!(read.expect("our own words"), claims);
    }
    if let Ok(Some(former)) = original(&annotated(objects::ORIGINAL, text)) {
        assert!(!former.selector.is_empty());
        let written = serde_json::to_string(&former).expect("plain data");
        let read = original(&annotated(objects::ORIGINAL, &written));
        assert_eq!(read.expect("our own words"), Some(former));
    }
}

fn pod_resolver(text: &str) {
    let dns = ClusterDns::parse(text);
    assert!(!dns.domain.is_empty() && !dns.domain.ends_with('.'));
    assert!(!dns.domain.contains(char::is_whitespace));
    assert_eq!(dns.domain, dns.domain.to_ascii_lowercase());
    let server = dns
        .server
        .map_or(String::new(), |server| format!("nameserver {server}\n"));
    let written = format!("{server}search svc.{}\n", dns.domain);
    assert_eq!(ClusterDns::parse(&written), dns);
}

fn refusal(text: &str) {
    if let Some(forbidden) = Forbidden::parse(text) {
        assert!(!forbidden.to_string().is_empty());
        assert!(!forbidden.verb.contains(' '));
    }
}

fn read_service(service: &Service) {
    let ports = ports_of(service);
    let _ = interceptable(service);
    for port in &ports {
        let query = PortQuery::from(port);
        let found = query.find(service);
        let same = |other: &&_| query.matches(other);
        let count = ports.iter().filter(same).count();
        assert!(found.is_none_or(|found| query.matches(&found)));
        assert!(count > 1 || query.find(service).as_ref() == Some(port));
    }
}
