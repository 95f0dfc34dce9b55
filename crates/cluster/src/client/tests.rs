use std::path::PathBuf;

use tokio::net::TcpListener;

use super::*;

/// A kubeconfig with one context, `test`, whose user is what `user` says.
fn kubeconfig(server: &str, user: &str) -> Kubeconfig {
    Kubeconfig::from_yaml(&format!(
        r#"
apiVersion: v1
kind: Config
current-context: test
clusters:
- name: c
  cluster: {{server: "{server}", insecure-skip-tls-verify: true}}
users:
- name: u
  user: {user}
contexts:
- name: test
  context: {{cluster: c, user: u, namespace: shop}}
"#
    ))
    .unwrap()
}

async fn client(server: &str, user: &str) -> Result<ClusterClient, ConnectError> {
    let environment = std::env::vars().collect();
    ClusterClient::from_kubeconfig(self::kubeconfig(server, user), None, environment).await
}

#[tokio::test]
async fn a_kubeconfig_that_does_not_exist_is_said_first() {
    let target = KubeTarget {
        kubeconfig: vec![PathBuf::from("/nowhere/config")],
        ..KubeTarget::default()
    };
    let error = connect(&target).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::KubeconfigMissing { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_as_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&server, "{token: t}")
        .await
        .unwrap()
        .probe()
        .await
        .unwrap_err();
    let ConnectError::Unreachable { url, why, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*url, server);
    assert_eq!(why.reason, UnreachableReason::Refused, "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_up_during_the_handshake_is_told_as_broken_or_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let hang_up = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let error = client(&server, "{token: t}")
        .await
        .unwrap()
        .probe()
        .await
        .unwrap_err();
    hang_up.abort();
    let ConnectError::Unreachable { why, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        matches!(
            why.reason,
            UnreachableReason::Broken | UnreachableReason::Tls
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_told_as_no_answer_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", listener.local_addr().unwrap());
    let error = client(&server, "{token: t}")
        .await
        .unwrap()
        .probe()
        .await
        .unwrap_err();
    let ConnectError::Unreachable { why, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(why.reason, UnreachableReason::TimedOut, "{error}");
    drop(listener);
}

#[cfg(unix)]
#[tokio::test]
async fn a_plugin_that_fails_is_quoted() {
    let user = r#"{exec: {apiVersion: client.authentication.k8s.io/v1, command: sh,
        args: ["-c", "echo 'token expired: run corp login' >&2; exit 3"]}}"#;
    let error = client("https://127.0.0.1:1", user).await.unwrap_err();
    let ConnectError::PluginFailed {
        user,
        command,
        message,
        ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((user.as_str(), command.as_str()), ("u", "sh"));
    assert!(
        message.contains("token expired: run corp login"),
        "{message}"
    );
    assert!(message.contains("exit status: 3"), "{message}");
}

#[tokio::test]
async fn a_plugin_that_is_not_installed_is_named() {
    let user = r#"{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin}}"#;
    let error = client("https://127.0.0.1:1", user).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::PluginMissing { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("no-such-plugin"), "{error}");

    let user = r#"{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin,
        installHint: "run corp get plugin"}}"#;
    let error = client("https://127.0.0.1:1", user).await.unwrap_err();
    assert!(error.to_string().contains("run corp get plugin"), "{error}");
}

#[tokio::test]
async fn a_proxy_where_nobody_listens_is_named_without_its_credentials() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    drop(listener);
    let environment = [(
        "HTTPS_PROXY".to_owned(),
        format!("http://alice:hunter2@{proxy}"),
    )];
    let kubeconfig = kubeconfig("https://192.0.2.1:6443", "{token: t}");
    let client = ClusterClient::from_kubeconfig(kubeconfig, None, environment.into())
        .await
        .unwrap();
    let error = client.probe().await.unwrap_err();
    let told = error.to_string();
    let through =
        format!("the API server https://192.0.2.1:6443 through the proxy http://{proxy}: ");
    assert!(told.contains(&through), "{told}");
    assert!(told.contains("the connection was refused"), "{told}");
    assert!(told.contains("Check that the proxy runs"), "{told}");
    assert!(told.contains("HTTPS_PROXY"), "{told}");
    let all = format!("{told} {client:?}");
    assert!(!all.contains("hunter2") && !all.contains("alice"), "{all}");
}

#[tokio::test]
async fn credentials_that_make_no_sense_are_the_contexts_fault_and_are_not_quoted() {
    // A private key on one line: `-----BEGIN PRIVATE KEY----- hunter2 -----END ...`.
    let key =
        "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tIGh1bnRlcjIgLS0tLS1FTkQgUFJJVkFURSBLRVktLS0tLQo=";
    let user = format!("{{client-certificate-data: bm9uZQ==, client-key-data: {key}}}");
    let error = client("https://127.0.0.1:1", &user).await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::CredentialsUnusable { .. }),
        "{error}"
    );
    let all = format!("{error} {error:?}");
    let as_bytes = "104, 117, 110, 116, 101, 114, 50";
    assert!(!all.contains("hunter2") && !all.contains(as_bytes), "{all}");
}

#[tokio::test]
async fn the_api_servers_addresses_are_those_that_are_dialled() {
    let direct = client("https://[::1]:6443", "{token: t}").await.unwrap();
    let addresses = direct.api_server_addresses().await.unwrap();
    assert_eq!(addresses, ["[::1]:6443".parse().unwrap()]);

    let mut config = kubeconfig("https://127.0.0.9:6443", "{token: t}");
    config.clusters[0].cluster.as_mut().unwrap().proxy_url = Some("http://127.0.0.1:3128".into());
    let proxied = ClusterClient::from_kubeconfig(config, None, Environment::default())
        .await
        .unwrap();
    let addresses = proxied.api_server_addresses().await.unwrap();
    assert_eq!(
        addresses,
        [
            "127.0.0.1:3128".parse().unwrap(),
            "127.0.0.9:6443".parse().unwrap()
        ]
    );
}

#[tokio::test]
async fn the_names_are_those_of_the_kubeconfig() {
    let client = client("https://127.0.0.1:6443/", "{token: t}")
        .await
        .unwrap();
    let names = client.names();
    assert_eq!(
        (
            names.context.as_str(),
            names.cluster.as_str(),
            names.user.as_str()
        ),
        ("test", "c", "u")
    );
    assert_eq!(names.namespace, "shop");
    assert_eq!(client.server_url(), "https://127.0.0.1:6443");
}
