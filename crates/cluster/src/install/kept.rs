//! What an earlier installation was told and this one isn't: that stays, and defaults count for the first one only.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Service};
use kube::{Api, Client};

use super::error::InstallError;
use super::names::{LABEL_VERSION, MANAGER, version_label};
use super::options::{Direct, InstallOptions, PullPolicy, SESSION_GRACE_SECONDS};
use crate::client::call;

/// The image of a release where nobody chose another one, without its tag.
const REPOSITORY: &str = "docker.io/kdev/traffic-manager";

/// Completes options with what is installed, as far as they don't say.
pub(super) async fn complete(
    client: &Client,
    options: &InstallOptions,
) -> Result<InstallOptions, InstallError> {
    let namespace = options.namespace.as_str();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let doing = |kind| format!("read {kind} {namespace}/{MANAGER}");
    let (deployment, service) = tokio::try_join!(
        call(doing("Deployment"), deployments.get_opt(MANAGER)),
        call(doing("Service"), services.get_opt(MANAGER)),
    )?;
    Ok(completed(options, deployment.as_ref(), service.as_ref()))
}

/// The options with every one that isn't given as the Deployment and the Service have it, or by default.
fn completed(
    given: &InstallOptions,
    deployment: Option<&Deployment>,
    service: Option<&Service>,
) -> InstallOptions {
    let container = deployment.and_then(manager);
    let number = |name: &str| variable(container?, name)?.parse::<u32>().ok();
    let mut options = given.clone();

    if options.image.is_empty() {
        let release = deployment.and_then(|deployment| label(deployment, LABEL_VERSION));
        let image = container.and_then(|container| container.image.as_deref());
        options.image = match (image, release) {
            (Some(image), Some(release)) => image_of(&given.version, image, release),
            _ => default_image(&given.version),
        };
    }
    options.image_pull_policy = given
        .image_pull_policy
        .or_else(|| chosen_policy(container?));
    options.session_grace_seconds = given
        .session_grace_seconds
        .or_else(|| number(SESSION_GRACE_SECONDS));
    for (name, value) in options.router.named_mut() {
        *value = value.or_else(|| number(name));
    }
    if given.direct == Direct::AsInstalled {
        options.direct = service.map_or(Direct::AsInstalled, way);
    }
    options
}

/// The image of a release after one that was installed as `installed`: a manager is brought up to date where it came
/// from, and an image that isn't named after its release stays as long as the release does.
fn image_of(release: &str, installed: &str, installed_release: &str) -> String {
    if version_label(release) == installed_release {
        return installed.to_owned();
    }
    match installed.rsplit_once(':') {
        Some((repository, tag)) if tag == installed_release => format!("{repository}:{release}"),
        _ => default_image(release),
    }
}

fn default_image(release: &str) -> String {
    format!("{REPOSITORY}:{release}")
}

/// The policy that somebody chose. The API server fills in one by the image's tag; to keep that would hold on to it when
/// the tag becomes another one.
fn chosen_policy(container: &Container) -> Option<PullPolicy> {
    let by_tag = match container.image.as_deref()?.rsplit_once(':') {
        // A colon before a slash is that of the registry's port.
        Some((_, tag)) if tag != "latest" && !tag.contains('/') => PullPolicy::IfNotPresent,
        _ => PullPolicy::Always,
    };
    let installed = container.image_pull_policy.as_deref()?;
    [
        PullPolicy::Always,
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
    ]
    .into_iter()
    .find(|policy| policy.as_str() == installed && *policy != by_tag)
}

fn way(service: &Service) -> Direct {
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
    match kind {
        Some("ClusterIP") => Direct::None,
        Some("NodePort") => Direct::NodePort,
        Some("LoadBalancer") => Direct::LoadBalancer,
        // No kind that kdev makes.
        _ => Direct::AsInstalled,
    }
}

fn manager(deployment: &Deployment) -> Option<&Container> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers
        .iter()
        .find(|container| container.name == MANAGER)
}

fn label<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a str> {
    let labels = deployment.metadata.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let variables = container.env.as_deref()?;
    let found = variables.iter().find(|variable| variable.name == name)?;
    found.value.as_deref()
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
