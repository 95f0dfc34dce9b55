//! What the annotations of a Service say: who claims which port, and how it was before.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kdev_rules::Rule;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PortRef;
use super::objects::{INTERCEPTS, ORIGINAL};

/// One user's claim on one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intercept {
    /// Chosen by the user's daemon, unique in the world.
    pub id: String,
    /// The session that the connections go to, by its [`session_id`](crate::vouch::session_id).
    pub session: String,
    /// `user@machine`, for people.
    pub owner: String,
    /// The namespace of the traffic manager that serves it; other managers leave it alone.
    pub manager: String,
    /// The port.
    pub port: PortRef,
    /// When it was claimed, by the clock of the user's machine.
    pub since: Timestamp,
    /// Which requests; every connection where it isn't written.
    #[serde(default, skip_serializing_if = "Rule::is_everything")]
    pub rule: Rule,
    /// What else comes with it.
    #[serde(default, skip_serializing_if = "Mode::is_intercept")]
    pub mode: Mode,
    /// Whether the pods take what the machine refuses, as long as nothing listens there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pass_if_down: bool,
}

/// What comes with an intercept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing.
    #[default]
    Intercept,
    /// The workloads behind the Service have no replicas meanwhile.
    Replace,
    /// The Service was made for it and its like, and goes with the first of them.
    Preview,
    /// Requests go where they would without it; what comes is a copy.
    Wiretap,
}

impl Mode {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    fn is_intercept(&self) -> bool {
        *self == Self::Intercept
    }
}

impl Intercept {
    /// Whether the Service's pods still get some of what comes to the port.
    pub fn leaves_some(&self) -> bool {
        leaves_some(&self.rule, self.pass_if_down, self.mode)
    }
}

/// See [`Intercept::leaves_some`].
pub(super) fn leaves_some(rule: &Rule, pass_if_down: bool, mode: Mode) -> bool {
    !rule.is_everything() || pass_if_down || mode == Mode::Wiretap
}

/// `port http (80/TCP) held by ann@laptop for --header x-user=ann since 2026-01-02T03:04:05Z`.
impl fmt::Display for Intercept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = match self.mode {
            Mode::Intercept | Mode::Preview => "held by",
            Mode::Replace => "replaced by",
            Mode::Wiretap => "copied to",
        };
        write!(f, "port {} {held} {}", self.port, self.owner)?;
        if !self.rule.is_everything() {
            write!(f, " for {}", self.rule)?;
        }
        write!(f, " since {}", self.since)
    }
}

/// The time, in whole seconds.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// How a Service was before its selector was cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Original {
    /// The selector, never empty.
    pub selector: BTreeMap<String, String>,
    /// The namespace of the traffic manager that cleared it.
    pub manager: String,
}

/// An annotation that isn't what kdev writes.
#[derive(Debug, Error)]
#[error(
    "the annotation {annotation} can't be read: {source}. Remove it with `kubectl annotate` if nobody intercepts the Service"
)]
pub struct Unreadable {
    /// The annotation's name.
    pub annotation: &'static str,
    /// What is wrong with it.
    pub source: serde_json::Error,
}

/// Reads the claims on a Service out of its metadata; none if there is no annotation.
pub fn intercepts(metadata: &ObjectMeta) -> Result<Vec<Intercept>, Unreadable> {
    Ok(read(metadata, INTERCEPTS)?.unwrap_or_default())
}

/// Reads how a Service was before its selector was cleared, out of its metadata or that of one of
/// its own slices; `None` if it wasn't cleared.
pub fn original(metadata: &ObjectMeta) -> Result<Option<Original>, Unreadable> {
    let original: Option<Original> = read(metadata, ORIGINAL)?;
    Ok(original.filter(|original| !original.selector.is_empty()))
}

fn read<T: for<'a> Deserialize<'a>>(
    metadata: &ObjectMeta,
    annotation: &'static str,
) -> Result<Option<T>, Unreadable> {
    metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(annotation))
        .map(|text| serde_json::from_str(text))
        .transpose()
        .map_err(|source| Unreadable { annotation, source })
}

/// Returns the selector of a Service; `None` if it is missing or empty.
pub(super) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    service
        .spec
        .as_ref()?
        .selector
        .as_ref()
        .filter(|selector| !selector.is_empty())
}

/// Returns the selector that a Service has when nobody intercepts it.
pub fn original_selector(service: &Service) -> Option<BTreeMap<String, String>> {
    selector(service)
        .cloned()
        .or_else(|| Some(original(&service.metadata).ok()??.selector))
}

/// Writes a selector as a label selector of the API.
pub fn label_selector(selector: &BTreeMap<String, String>) -> String {
    let terms: Vec<_> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    terms.join(",")
}

/// The id of one of the claims that a call makes; the first has the call's own. The call's has no dot.
pub fn claim_id(call: &str, at: usize) -> String {
    match at {
        0 => call.to_owned(),
        at => format!("{call}.{}", at + 1),
    }
}

/// The id of the call that has made a claim.
pub fn call_id(claim: &str) -> &str {
    claim.split_once('.').map_or(claim, |(call, _)| call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(annotation: &str, text: &str) -> ObjectMeta {
        ObjectMeta {
            annotations: Some([(annotation.to_owned(), text.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_intercept_is_written_as_documented() {
        let text = r#"[{"id":"i1","session":"s1","owner":"ann@laptop","manager":"kdev","port":{"name":"http","number":80,"protocol":"TCP"},"since":"2026-01-02T03:04:05Z"}]"#;
        let read = intercepts(&annotated(INTERCEPTS, text)).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].owner, "ann@laptop");
        assert_eq!(read[0].port.to_string(), "http (80/TCP)");
        assert!(read[0].rule.is_everything());
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn an_intercept_of_some_requests_says_which() {
        let text = r#"[{"id":"i1","session":"s1","owner":"ann@laptop","manager":"kdev","port":{"name":"http","number":80,"protocol":"TCP"},"since":"2026-01-02T03:04:05Z","rule":{"any":[{"all":[{"header":"x-user=ann"}]}]},"mode":"replace"}]"#;
        let read = intercepts(&annotated(INTERCEPTS, text)).unwrap();
        assert_eq!(read[0].rule.to_string(), "--header x-user=ann");
        assert_eq!(read[0].mode, Mode::Replace);
        assert_eq!(
            read[0].to_string(),
            "port http (80/TCP) replaced by ann@laptop for --header x-user=ann since 2026-01-02T03:04:05Z"
        );
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over() {
        let text = r#"{"selector":{"app":"web"},"manager":"kdev","more":[1,2]}"#;
        let read = original(&annotated(ORIGINAL, text)).unwrap().unwrap();
        assert_eq!(label_selector(&read.selector), "app=web");
    }

    #[test]
    fn a_service_without_annotations_has_no_intercepts_and_no_original() {
        assert!(intercepts(&ObjectMeta::default()).unwrap().is_empty());
        assert!(original(&ObjectMeta::default()).unwrap().is_none());
    }

    #[test]
    fn an_annotation_written_by_hand_is_an_error_that_names_it() {
        let error = intercepts(&annotated(INTERCEPTS, "mine!")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the annotation kdev.dev/intercepts can't be read")
        );
    }

    #[test]
    fn an_empty_selector_is_no_original() {
        let text = r#"{"selector":{},"manager":"kdev"}"#;
        assert!(original(&annotated(ORIGINAL, text)).unwrap().is_none());
    }
}
