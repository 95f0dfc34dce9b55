//! Reading kubeconfig files the way kubectl does, and choosing a context in them.

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use kube::config::{ExecConfig, ExecInteractiveMode, Kubeconfig, KubeconfigError};

use super::ConnectError;

/// Which cluster to connect to, as a person names it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KubeTarget {
    /// Kubeconfig files, merged like the list in `KUBECONFIG`: the first to set a value wins, files
    /// that don't exist are passed over as long as one does.
    pub kubeconfig: Vec<PathBuf>,
    /// The context; `None`: the kubeconfig's current one.
    pub context: Option<String>,
    /// The environment that says which proxy to use and that credential plugins run in.
    pub environment: Environment,
}

impl fmt::Debug for KubeTarget {
    /// Without the environment, in which there may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeTarget")
            .field("kubeconfig", &self.kubeconfig)
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Variables by their names.
pub type Environment = HashMap<String, String>;

/// A context of a kubeconfig, by the names that its owner gave things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextNames {
    /// The context.
    pub context: String,
    /// The cluster.
    pub cluster: String,
    /// The user; empty if the context names none.
    pub user: String,
    /// The namespace that commands mean when they name none.
    pub namespace: String,
}

/// Reads and merges kubeconfig files, of which one at least has to hold a context. Blocks on the file system.
pub(super) fn read(paths: &[PathBuf]) -> Result<Kubeconfig, ConnectError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut read = Vec::new();
    for path in paths {
        let config = match Kubeconfig::read_from(path) {
            Ok(config) => config,
            Err(KubeconfigError::ReadConfig(error, _))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                continue;
            }
            Err(error) => return Err(read_error(path, error)),
        };
        read.push(path.clone());
        merged = Some(match merged {
            None => config,
            Some(first) => first
                .merge(config)
                .map_err(|error| read_error(path, error))?,
        });
    }
    let merged = merged.ok_or_else(|| ConnectError::KubeconfigMissing {
        paths: paths.to_vec(),
    })?;
    if merged.contexts.is_empty() {
        return Err(ConnectError::KubeconfigEmpty { paths: read });
    }
    Ok(merged)
}

fn read_error(path: &Path, error: KubeconfigError) -> ConnectError {
    let path = path.to_owned();
    match error {
        KubeconfigError::ReadConfig(source, _) if source.kind() != io::ErrorKind::InvalidData => {
            ConnectError::KubeconfigUnreadable { path, source }
        }
        // The lines after the first quote the file.
        error => ConnectError::KubeconfigInvalid {
            path,
            reason: error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        },
    }
}

/// Chooses a context and checks that what it refers to is there.
pub(super) fn choose(
    config: &Kubeconfig,
    wanted: Option<&str>,
) -> Result<ContextNames, ConnectError> {
    let available = || {
        config
            .contexts
            .iter()
            .map(|context| context.name.clone())
            .collect()
    };
    let current = config
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty());
    let Some(name) = wanted.or(current) else {
        return Err(ConnectError::NoCurrentContext {
            available: available(),
        });
    };
    let context = config
        .contexts
        .iter()
        .find(|context| context.name == name)
        .and_then(|context| context.context.as_ref())
        .ok_or_else(|| ConnectError::ContextMissing {
            wanted: name.to_owned(),
            available: available(),
        })?;
    let missing = |what: &'static str, missing: &str| ConnectError::ContextBroken {
        context: name.to_owned(),
        what,
        missing: missing.to_owned(),
    };
    if !config
        .clusters
        .iter()
        .any(|cluster| cluster.name == context.cluster)
    {
        return Err(missing("cluster", &context.cluster));
    }
    let user = context.user.clone().unwrap_or_default();
    if !user.is_empty() && !config.auth_infos.iter().any(|known| known.name == user) {
        return Err(missing("user", &user));
    }
    let namespace = context
        .namespace
        .clone()
        .filter(|namespace| !namespace.is_empty());
    Ok(ContextNames {
        context: name.to_owned(),
        cluster: context.cluster.clone(),
        user,
        namespace: namespace.unwrap_or_else(|| "default".to_owned()),
    })
}

/// Makes a credential plugin run without a terminal, so that what it writes to stderr reaches the
/// error instead of a daemon's log.
///
/// # Errors
/// [`ConnectError::PluginNeedsTerminal`] for a plugin that can't do without.
pub(super) fn detach_plugin(exec: &mut ExecConfig) -> Result<(), ConnectError> {
    if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
        return Err(ConnectError::PluginNeedsTerminal {
            command: exec.command.clone().unwrap_or_default(),
        });
    }
    exec.interactive_mode = Some(ExecInteractiveMode::Never);
    Ok(())
}

/// Makes a credential plugin run in `environment` instead of this process's; what the kubeconfig
/// sets comes first.
pub(super) fn surround_plugin(exec: &mut ExecConfig, environment: &Environment) {
    let set = exec.env.get_or_insert_default();
    let own = |name: &str| {
        set.iter()
            .any(|one| one.get("name").map(String::as_str) == Some(name))
    };
    let added: Vec<_> = environment
        .iter()
        .filter(|(name, _)| !own(name))
        .map(|(name, value)| {
            HashMap::from([
                ("name".to_owned(), name.clone()),
                ("value".to_owned(), value.clone()),
            ])
        })
        .collect();
    let foreign = env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| !environment.contains_key(name) && !own(name));
    exec.drop_env.get_or_insert_default().extend(foreign);
    set.extend(added);
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
