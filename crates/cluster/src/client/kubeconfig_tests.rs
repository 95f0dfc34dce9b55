use std::fs;

use super::*;

const WORK: &str = r#"
apiVersion: v1
kind: Config
current-context: work
clusters:
- {name: c1, cluster: {server: "https://10.0.0.1:6443"}}
users:
- {name: alice, user: {token: t}}
contexts:
- {name: work, context: {cluster: c1, user: alice, namespace: shop}}
- {name: bare, context: {cluster: c1}}
- {name: no-cluster, context: {cluster: gone, user: alice}}
- {name: no-user, context: {cluster: c1, user: gone}}
"#;

const HOME: &str = r#"
apiVersion: v1
kind: Config
current-context: home
clusters:
- {name: c1, cluster: {server: "https://other:6443"}}
- {name: c2, cluster: {server: "https://10.0.0.2:6443"}}
users: []
contexts:
- {name: home, context: {cluster: c2}}
"#;

fn config(text: &str) -> Kubeconfig {
    Kubeconfig::from_yaml(text).unwrap()
}

fn names(context: &str, cluster: &str, user: &str, namespace: &str) -> ContextNames {
    ContextNames {
        context: context.into(),
        cluster: cluster.into(),
        user: user.into(),
        namespace: namespace.into(),
    }
}

#[test]
fn the_current_context_is_taken_when_none_is_named() {
    assert_eq!(
        choose(&config(WORK), None).unwrap(),
        names("work", "c1", "alice", "shop")
    );
}

#[test]
fn a_context_without_user_and_namespace_gets_none_and_default() {
    assert_eq!(
        choose(&config(WORK), Some("bare")).unwrap(),
        names("bare", "c1", "", "default")
    );
}

#[test]
fn a_context_that_does_not_exist_is_answered_with_those_that_do() {
    let error = choose(&config(WORK), Some("wrok")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"wrok\""), "{text}");
    assert!(text.contains("work, bare, no-cluster, no-user"), "{text}");
}

#[test]
fn a_kubeconfig_without_a_current_context_asks_for_one() {
    let text = WORK.replace("current-context: work", "");
    let error = choose(&config(&text), None).unwrap_err();
    assert!(
        matches!(error, ConnectError::NoCurrentContext { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--context"), "{error}");
}

#[test]
fn a_context_that_refers_to_nothing_says_what_is_missing() {
    for (context, what) in [("no-cluster", "cluster"), ("no-user", "user")] {
        let error = choose(&config(WORK), Some(context))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(what) && error.contains("\"gone\""),
            "{error}"
        );
    }
}

#[test]
fn the_first_file_to_set_a_value_wins_and_missing_files_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (work, home, gone) = (
        dir.path().join("w"),
        dir.path().join("h"),
        dir.path().join("gone"),
    );
    fs::write(&work, WORK).unwrap();
    fs::write(&home, HOME).unwrap();

    let merged = read(&[gone, work, home]).unwrap();
    assert_eq!(
        choose(&merged, None).unwrap(),
        names("work", "c1", "alice", "shop")
    );
    assert_eq!(
        choose(&merged, Some("home")).unwrap(),
        names("home", "c2", "", "default")
    );
    let c1 = merged
        .clusters
        .iter()
        .find(|cluster| cluster.name == "c1")
        .unwrap();
    let server = c1.cluster.as_ref().unwrap().server.as_deref();
    assert_eq!(server, Some("https://10.0.0.1:6443"));
}

#[test]
fn no_file_at_all_is_an_error_that_names_where_was_looked() {
    let dir = tempfile::tempdir().unwrap();
    let error = read(&[dir.path().join("a"), dir.path().join("b")]).unwrap_err();
    assert!(matches!(error, ConnectError::KubeconfigMissing { .. }));
    let text = error.to_string();
    assert!(text.contains("/a") && text.contains("/b"), "{text}");
}

#[test]
fn files_without_a_context_are_named_as_far_as_they_were_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("bare"), "apiVersion: v1\nkind: Config\n").unwrap();
    let error = read(&[path("empty"), path("gone"), path("bare")]).unwrap_err();
    let (empty, bare) = (path("empty"), path("bare"));
    assert_eq!(
        error.to_string(),
        format!(
            "no kubeconfig: there is no context in {}, nor in {}. Name another file with --kubeconfig or in KUBECONFIG",
            empty.display(),
            bare.display()
        )
    );

    // One context anywhere is enough.
    fs::write(path("work"), WORK).unwrap();
    read(&[empty, path("work")]).unwrap();
}

#[test]
fn a_file_that_is_no_kubeconfig_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken");
    fs::write(&path, "contexts: {[").unwrap();
    let error = read(std::slice::from_ref(&path)).unwrap_err();
    assert!(
        matches!(&error, ConnectError::KubeconfigInvalid { path: p, .. } if *p == path),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_kubeconfig_is_not_quoted_since_it_may_hold_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken");
    fs::write(
        &path,
        "users:\n- name: u\n  user:\n    token: hunter2\n     contexts: []\n",
    )
    .unwrap();
    let error = read(&[path]).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(error.to_string().contains("line "), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let error = read(std::slice::from_ref(&path)).unwrap_err();
    assert!(
        matches!(&error, ConnectError::KubeconfigUnreadable { path: p, .. } if *p == path),
        "{error}"
    );
}

#[test]
fn a_plugin_runs_without_a_terminal_unless_it_needs_one() {
    let mut exec = ExecConfig {
        command: Some("corp-login".into()),
        ..ExecConfig::default()
    };
    detach_plugin(&mut exec).unwrap();
    assert_eq!(exec.interactive_mode, Some(ExecInteractiveMode::Never));

    exec.interactive_mode = Some(ExecInteractiveMode::Always);
    let error = detach_plugin(&mut exec).unwrap_err().to_string();
    assert!(
        error.contains("corp-login") && error.contains("terminal"),
        "{error}"
    );
}
