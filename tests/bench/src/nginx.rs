//! nginx as a plain reverse proxy in a pod, where `tests/bench/nginx.sh` could make an image of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use kdev_e2e::tools;
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::inside::{From, Inside, Target, ready};
use crate::scene::{NAMESPACE, PORT, Scene};

/// Its image, and what everything of its own is called.
const NAME: &str = "nginx";
/// Where it listens; its user may not have a small number.
const LISTENS: u16 = 8080;

/// What is missing for it, if anything.
pub(crate) fn missing() -> Option<String> {
    let image = tools::checkout().join("target/images/nginx.tar");
    (!image.is_file()).then(|| "tests/bench/nginx.sh couldn't make its image".to_owned())
}

/// Starts it in front of the pods that answer, behind a Service as kdev's router is.
pub(crate) fn up(scene: &Scene, inside: &Inside<'_>) -> anyhow::Result<Target> {
    scene.cluster.import(NAME);
    let objects = objects(&inside.backends, &scene.manager_resources());
    scene.cluster.apply(&objects);
    ready(scene, "app=nginx")?;
    inside.service(NAME, Contender::Nginx, From::Pod)
}

/// Its share of the processors is the manager's: pods without one come last where they are short.
fn objects(backends: &[SocketAddr], resources: &Value) -> Value {
    let metadata = json!({ "name": NAME, "namespace": NAMESPACE, "labels": { "app": NAME } });
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": { "nginx.conf": config(backends) },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": { "selector": { "app": NAME }, "ports": [{ "port": PORT, "targetPort": LISTENS }] },
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": NAME,
                "image": "kdev.test/nginx:1",
                "args": ["-e", "stderr", "-c", "/config/nginx.conf", "-g", "daemon off;"],
                "resources": resources,
                "readinessProbe": { "tcpSocket": { "port": LISTENS }, "periodSeconds": 1 },
                "volumeMounts": [mount("config", "/config"), mount("tmp", "/tmp")],
            }],
            "volumes": [
                { "name": "config", "configMap": { "name": NAME } },
                { "name": "tmp", "emptyDir": {} },
            ],
        },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [config, service, pod] })
}

/// As one would set it up who wants it fast: a worker per processor, connections kept on both sides without
/// limit, no log of requests. It adds no header and looks at none.
fn config(backends: &[SocketAddr]) -> String {
    let mut servers = String::new();
    for backend in backends {
        let _ = write!(servers, "server {backend}; ");
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path /tmp/{what};"))
        .join(" ");
    format!(
        "worker_processes auto;
pid /tmp/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    {temporary}
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    upstream pods {{
        {servers}
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {LISTENS};
        location / {{
            proxy_pass http://pods;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_has_the_same_pods_and_share_as_the_router_and_keeps_its_connections() {
        let backends = ["10.0.0.1:7100", "[fd00::2]:7100"].map(|text| text.parse().unwrap());
        let config = config(&backends);
        for line in [
            "server 10.0.0.1:7100; server [fd00::2]:7100;",
            "keepalive 256;",
            "worker_processes auto;",
            "access_log off;",
        ] {
            assert!(config.contains(line), "{config}");
        }
        let all = objects(&backends, &json!({ "requests": { "cpu": "20m" } }));
        let resources = all.pointer("/items/2/spec/containers/0/resources");
        assert_eq!(resources, Some(&json!({ "requests": { "cpu": "20m" } })));
        let count = |brace| config.matches(brace).count();
        assert_eq!(count('{'), count('}'), "{config}");
    }
}
