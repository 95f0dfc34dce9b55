//! A connection to a cluster: from a kubeconfig's words to an API server that answers.

mod config;
mod error;
mod failure;
mod forbidden;
mod kubeconfig;
mod plugin;
mod proxy;
mod transport;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use tokio::task::spawn_blocking;

pub use self::error::ConnectError;
pub use self::failure::{
    ApiError, ApiFailure, CALL_TIMEOUT, Unreachable, UnreachableReason, call, classify,
    classify_watch, timed_out,
};
pub use self::forbidden::Forbidden;
pub use self::kubeconfig::{ContextNames, Environment, KubeTarget};

use self::plugin::Plugin;

/// How long the API server may take to answer the first question.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a credential plugin may take; some open a browser.
pub const PLUGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one TCP and TLS handshake with the API server may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for one cluster, and what the kubeconfig calls it.
#[derive(Clone)]
pub struct ClusterClient {
    kube: Client,
    names: ContextNames,
    server: Uri,
    proxy: Option<Uri>,
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("names", &self.names)
            .field("server", &self.server)
            .field("proxy", &self.proxy_shown())
            .finish_non_exhaustive()
    }
}

/// Connects to the cluster that `target` names and checks that its API server answers and accepts
/// the credentials.
///
/// A credential plugin runs without a terminal, for at most [`PLUGIN_TIMEOUT`]; one that outstays
/// it isn't killed, since only the library knows it, and its thread ends with it. The error names its process.
pub async fn connect(target: &KubeTarget) -> Result<ClusterClient, ConnectError> {
    let paths = target.kubeconfig.clone();
    let kubeconfig = blocking(move || kubeconfig::read(&paths)).await?;
    let environment = target.environment.clone();
    let context = target.context.as_deref();
    let client = ClusterClient::from_kubeconfig(kubeconfig, context, environment).await?;
    client.probe().await?;
    Ok(client)
}

impl ClusterClient {
    /// Makes a client out of a kubeconfig's context, running its credential plugin, if it has one,
    /// in `environment`. Asks the API server nothing.
    pub async fn from_kubeconfig(
        kubeconfig: Kubeconfig,
        context: Option<&str>,
        environment: Environment,
    ) -> Result<Self, ConnectError> {
        let names = kubeconfig::choose(&kubeconfig, context)?;
        let chosen = names.clone();
        let config = blocking(move || config::make(&kubeconfig, &chosen, &environment)).await?;
        let exec = config.auth_info.exec.as_ref();
        let plugin = exec.map(|exec| Plugin::new(&names.user, exec));
        let (server, proxy) = (config.cluster_url.clone(), config.proxy_url.clone());
        let kube = build(config, &names, plugin).await?;
        Ok(Self {
            kube,
            names,
            server,
            proxy,
        })
    }

    /// Makes a client out of a pod's service account. Asks the API server nothing.
    ///
    /// Must be called within a tokio runtime.
    pub fn in_cluster() -> Result<Self, ConnectError> {
        let mut config = Config::incluster_env().map_err(ConnectError::NotInCluster)?;
        config.connect_timeout = Some(HANDSHAKE_TIMEOUT);
        install_crypto();
        let names = ContextNames {
            context: "in-cluster".to_owned(),
            cluster: "in-cluster".to_owned(),
            user: "service account".to_owned(),
            namespace: config.default_namespace.clone(),
        };
        let server = config.cluster_url.clone();
        let kube = transport::client(config).map_err(|error| unusable(&names, &error))?;
        Ok(Self {
            kube,
            names,
            server,
            proxy: None,
        })
    }

    /// Asks the API server for its version, for at most [`PROBE_TIMEOUT`].
    ///
    /// Any user may ask that, so only the connection and the credentials are tried, no right.
    pub async fn probe(&self) -> Result<String, ConnectError> {
        let url = self.server_url();
        let answer = tokio::time::timeout(PROBE_TIMEOUT, self.kube.apiserver_version()).await;
        let source = match answer {
            Ok(Ok(version)) => return Ok(version.git_version),
            Ok(Err(source)) => Box::new(source),
            Err(_) => {
                let why = Unreachable {
                    reason: UnreachableReason::TimedOut,
                    detail: format!("waited {} s", PROBE_TIMEOUT.as_secs()),
                };
                return Err(ConnectError::Unreachable {
                    url,
                    proxy: self.proxy_shown(),
                    why,
                    source: None,
                });
            }
        };
        Err(match classify(&source) {
            ApiFailure::Unreachable(why) => ConnectError::Unreachable {
                url,
                proxy: self.proxy_shown(),
                why,
                source: Some(source),
            },
            ApiFailure::Unauthorized { message } => ConnectError::Unauthorized {
                url,
                user: self.names.user.clone(),
                message,
                source,
            },
            // A cluster may keep even its version from those it doesn't know; it did answer.
            ApiFailure::Forbidden(forbidden) if !forbidden.is_anonymous() => {
                return Ok(String::new());
            }
            ApiFailure::Forbidden(forbidden) => ConnectError::Unauthorized {
                url,
                user: self.names.user.clone(),
                message: forbidden.to_string(),
                source,
            },
            failure => ConnectError::NotKubernetes {
                url,
                proxy: self.proxy_shown(),
                message: failure.to_string(),
                source,
            },
        })
    }

    /// The proxy's URL for people.
    fn proxy_shown(&self) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        Some(proxy::shown(&proxy.to_string()))
    }

    /// Returns the Kubernetes client.
    pub fn kube(&self) -> &Client {
        &self.kube
    }

    /// Returns what the kubeconfig calls the context, its cluster and its user.
    pub fn names(&self) -> &ContextNames {
        &self.names
    }

    /// Returns the API server's URL as the kubeconfig spells it.
    pub fn server_url(&self) -> String {
        self.server.to_string().trim_end_matches('/').to_owned()
    }

    /// Returns the hosts that connections to the API server go to, as the kubeconfig and the
    /// environment spell them: names or addresses.
    pub fn api_server_hosts(&self) -> Vec<String> {
        [Some(&self.server), self.proxy.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|url| proxy::host_of(url).map(str::to_owned))
            .collect()
    }

    /// Resolves the addresses that connections to the API server go to: the server's own, and the
    /// proxy's if one leads there. No route of a tunnel may cover them.
    ///
    /// # Errors
    /// Fails if the name of the host that is dialled can't be resolved. The server's own name
    /// needn't resolve here when a proxy is dialled.
    pub async fn api_server_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = match &self.proxy {
            None => resolve(&self.server).await?,
            Some(proxy) => {
                let mut addresses = resolve(proxy).await?;
                addresses.extend(resolve(&self.server).await.unwrap_or_default());
                addresses
            }
        };
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }
}

/// Builds the client on a thread of its own, since that runs the credential plugin.
async fn build(
    mut config: Config,
    names: &ContextNames,
    plugin: Option<Plugin>,
) -> Result<Client, ConnectError> {
    config.connect_timeout = Some(HANDSHAKE_TIMEOUT);
    install_crypto();
    let built = blocking(move || transport::client(config));
    let Ok(built) = tokio::time::timeout(PLUGIN_TIMEOUT, built).await else {
        let plugin = plugin.unwrap_or_else(|| Plugin::of_provider(&names.user));
        return Err(blocking(move || plugin.outstayed(PLUGIN_TIMEOUT.as_secs())).await);
    };
    built.map_err(|error| {
        let failed = plugin.and_then(|plugin| plugin.failed(&error));
        failed.unwrap_or_else(|| unusable(names, &error))
    })
}

fn unusable(names: &ContextNames, error: &kube::Error) -> ConnectError {
    let message = match classify(error) {
        ApiFailure::Credentials { message } | ApiFailure::Other { message } => message,
        failure => failure.to_string(),
    };
    ConnectError::CredentialsUnusable {
        context: names.context.clone(),
        message,
    }
}

/// Chooses the TLS provider, unless the process has chosen: with two in one binary the library
/// would panic instead.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

async fn resolve(uri: &Uri) -> io::Result<Vec<SocketAddr>> {
    let host = proxy::host_of(uri).unwrap_or_default();
    Ok(tokio::net::lookup_host((host, proxy::port_of(uri)))
        .await?
        .collect())
}

/// Runs `work` on a thread that may block; a panic goes on in the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels; nobody is left to take an answer.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
