//! Making the client library's configuration of a kubeconfig's context.
//!
//! The library can do so itself, but checks `NO_PROXY` against the proxy's host instead of the
//! server's, and fails where that list has an empty entry.

use http::Uri;
use kube::Config;
use kube::config::{Cluster, ExecAuthCluster, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::ConnectError;
use super::kubeconfig::{ContextNames, Environment, detach_plugin, surround_plugin};
use super::proxy::{self, ProxyEnv};

/// Makes the configuration of a context that `choose` has found. Blocks on the file system.
pub(super) fn make(
    kubeconfig: &Kubeconfig,
    names: &ContextNames,
    environment: &Environment,
) -> Result<Config, ConnectError> {
    let unusable = |what: String| ConnectError::ContextUnusable {
        context: names.context.clone(),
        what,
    };
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == names.cluster)
        .and_then(|cluster| cluster.cluster.as_ref())
        .ok_or_else(|| unusable(format!("the cluster {:?} is empty", names.cluster)))?;
    let user = kubeconfig
        .auth_infos
        .iter()
        .find(|user| user.name == names.user);

    let mut config = Config::new(server(cluster).map_err(unusable)?);
    config.default_namespace = names.namespace.clone();
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name = cluster.tls_server_name.clone();
    config.auth_info = user
        .and_then(|user| user.auth_info.clone())
        .unwrap_or_default();

    // For a plugin's eyes; it also reads the certificate authority, from the file or the text.
    let shown = ExecAuthCluster::try_from(cluster).map_err(|error| unusable(error.to_string()))?;
    config.root_cert = match &shown.certificate_authority_data {
        Some(pem) => Some(certificates(pem).map_err(unusable)?),
        None => None,
    };
    if let Some(exec) = &mut config.auth_info.exec {
        detach_plugin(exec)?;
        surround_plugin(exec, environment);
        if exec.provide_cluster_info {
            exec.cluster = Some(shown);
        }
    }
    let env = ProxyEnv::read(environment);
    config.proxy_url = proxy::choose(&config.cluster_url, cluster.proxy_url.as_deref(), &env)
        .map(|url| {
            url.parse().map_err(|source| ConnectError::ProxyInvalid {
                url: proxy::shown(&url),
                source,
            })
        })
        .transpose()?;
    Ok(config)
}

fn server(cluster: &Cluster) -> Result<Uri, String> {
    let server = cluster.server.as_deref().unwrap_or_default();
    if server.is_empty() {
        return Err("its cluster has no server".to_owned());
    }
    let url: Uri = server
        .parse()
        .map_err(|error| format!("the server {server:?}: {error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err(format!("the server {server:?} is no http or https URL")),
    }
}

/// Reads the certificates of a PEM text, as DER.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()))
        .collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        // The parser's error would quote the text.
        _ => Err("its certificate authority holds no PEM certificate".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use kube::config::{ExecConfig, ExecInteractiveMode};

    use super::super::kubeconfig::choose;
    use super::*;

    /// `-----BEGIN CERTIFICATE-----` around the bytes 1, 2, 3, in base64 as a kubeconfig has it.
    const CA: &str =
        "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFRSUQKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

    fn kubeconfig(cluster: &str, user: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(&format!(
            "current-context: x\n\
             contexts: [{{name: x, context: {{cluster: c, user: u, namespace: n}}}}]\n\
             clusters: [{{name: c, cluster: {cluster}}}]\n\
             users: [{{name: u, user: {user}}}]\n"
        ))
        .unwrap()
    }

    fn made(cluster: &str, user: &str, env: &[(&str, &str)]) -> Result<Config, ConnectError> {
        let kubeconfig = kubeconfig(cluster, user);
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        make(&kubeconfig, &choose(&kubeconfig, None)?, &env)
    }

    #[test]
    fn everything_the_context_says_is_in_the_configuration() {
        let cluster = format!(
            "{{server: 'https://api.example:6443', certificate-authority-data: {CA}, \
              tls-server-name: kube, insecure-skip-tls-verify: true}}"
        );
        let config = made(&cluster, "{as: alice}", &[]).unwrap();
        assert_eq!(config.cluster_url, "https://api.example:6443/");
        assert_eq!(config.default_namespace, "n");
        assert_eq!(config.root_cert, Some(vec![vec![1, 2, 3]]));
        assert_eq!(config.tls_server_name.as_deref(), Some("kube"));
        assert!(config.accept_invalid_certs);
        assert_eq!(config.auth_info.impersonate.as_deref(), Some("alice"));
        assert_eq!(config.proxy_url, None);
    }

    #[test]
    fn the_environments_proxy_counts_though_no_proxy_has_an_empty_entry() {
        let env = |bypass| [("https_proxy", "http://proxy:3128"), ("NO_PROXY", bypass)];
        let cluster = "{server: 'https://api.example:6443'}";
        let config = made(cluster, "{}", &env("other.example,")).unwrap();
        assert_eq!(
            config.proxy_url,
            Some(Uri::from_static("http://proxy:3128"))
        );
        assert_eq!(
            made(cluster, "{}", &env("api.example,")).unwrap().proxy_url,
            None
        );
    }

    #[test]
    fn what_makes_no_sense_is_named_and_secrets_are_not_quoted() {
        let table = [
            ("{}", "no server"),
            ("{server: ''}", "no server"),
            ("{server: 'api.example:6443'}", "no http or https URL"),
            ("{server: 'https://a b'}", "\"https://a b\""),
            (
                "{server: 'https://a', certificate-authority: /nowhere/ca}",
                "/nowhere/ca",
            ),
            (
                "{server: 'https://a', certificate-authority-data: '%%'}",
                "base64",
            ),
            (
                "{server: 'https://a', certificate-authority-data: bm9uZQ==}",
                "no PEM certificate",
            ),
        ];
        for (cluster, part) in table {
            let error = made(cluster, "{}", &[]).unwrap_err();
            assert!(
                matches!(error, ConnectError::ContextUnusable { .. }),
                "{error}"
            );
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_plugin_sees_the_cluster_only_if_it_asks_to() {
        let cluster = format!("{{server: 'https://a', certificate-authority-data: {CA}}}");
        let plugin = |asks: bool| -> ExecConfig {
            let user = format!("{{exec: {{command: login, provideClusterInfo: {asks}}}}}");
            made(&cluster, &user, &[]).unwrap().auth_info.exec.unwrap()
        };
        assert!(plugin(false).cluster.is_none());
        let asking = plugin(true);
        assert_eq!(asking.cluster.unwrap().server.as_deref(), Some("https://a"));
        assert_eq!(asking.interactive_mode, Some(ExecInteractiveMode::Never));
    }

    #[test]
    fn a_plugin_runs_in_the_callers_environment_and_not_in_this_process_s() {
        let user = "{exec: {command: login, env: [{name: A, value: kubeconfig}]}}";
        let env = [("A", "caller"), ("AWS_PROFILE", "work")];
        let config = made("{server: 'https://a'}", user, &env).unwrap();
        let exec = config.auth_info.exec.unwrap();
        let set: Vec<(String, String)> = exec
            .env
            .unwrap()
            .iter()
            .map(|one| (one["name"].clone(), one["value"].clone()))
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(set, [pair("A", "kubeconfig"), pair("AWS_PROFILE", "work")]);
        let dropped = exec.drop_env.unwrap();
        assert!(dropped.contains(&"PATH".to_owned()), "{dropped:?}");
        assert!(!dropped.contains(&"A".to_owned()), "{dropped:?}");
    }
}
