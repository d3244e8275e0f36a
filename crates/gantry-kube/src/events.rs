//! What a cluster's events say about one pod. Some causes are nowhere else: a volume that cannot be
//! mounted leaves the pod's own status as it is for one that starts.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::{
    Cluster,
    error::ApiError,
    facts::{self, Words},
    limits,
    pods::PodRef,
    retry,
};

/// Something that a component of the cluster has said about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodEvent {
    /// Whether it is a warning.
    pub is_warning: bool,
    /// The container that it is about, if it is about one.
    pub container: Option<String>,
    /// Reason and message.
    pub words: Words,
}

impl Cluster {
    /// The events of `pod` in the order in which they happened last, each once. Needs `list` on
    /// `events`, which no job depends on. Tried once.
    ///
    /// # Errors
    /// They cannot be read, for want of the right for instance.
    pub async fn pod_events(&self, pod: &PodRef) -> Result<Vec<PodEvent>, ApiError> {
        let events: Api<Event> = Api::namespaced(self.client().clone(), self.namespace());
        let about = format!("involvedObject.uid={}", pod.uid);
        let params = ListParams::default().fields(&about).limit(limits::EVENTS);
        Ok(in_order(retry::once(events.list(&params)).await?.items))
    }
}

/// What events say about a pod that does not start, as lines for the job log: its newest warnings,
/// and how far the pulls of its images are.
pub fn explanations(events: &[PodEvent]) -> Vec<String> {
    let warnings: Vec<String> =
        events.iter().filter(|event| event.is_warning).map(|event| facts::line(&event.words)).collect();
    let mut lines = warnings[warnings.len().saturating_sub(limits::WARNINGS)..].to_vec();
    lines.extend(events.iter().filter(|event| is_newest_pull(event, events)).map(pull_line));
    lines
}

/// The finished pulls among events: image, time and size.
pub fn pulls(events: &[PodEvent]) -> Vec<String> {
    let is_pulled =
        |event: &&PodEvent| event.words.reason == "Pulled" && event.words.message.starts_with("Successfully");
    events.iter().filter(is_pulled).map(pull_line).collect()
}

/// Whether an event is the last word about the image of its container. That an image was there
/// already is not worth a line.
fn is_newest_pull(event: &PodEvent, events: &[PodEvent]) -> bool {
    let is_pull = |event: &PodEvent| matches!(event.words.reason.as_str(), "Pulling" | "Pulled" | "Failed" | "BackOff");
    let last = events.iter().rfind(|other| is_pull(other) && other.container == event.container);
    let is_told = event.words.reason == "Pulling" || event.words.message.starts_with("Successfully");
    is_told && !event.is_warning && is_pull(event) && last == Some(event)
}

fn pull_line(event: &PodEvent) -> String {
    match &event.container {
        Some(container) => format!("{} (container {container}): {}", event.words.reason, event.words.message),
        None => format!("{}: {}", event.words.reason, event.words.message),
    }
}

fn in_order(mut events: Vec<Event>) -> Vec<PodEvent> {
    // Many have one second: what the API server has stored last is the newest of them.
    events.sort_by_key(|event| (seen(event), stored(event)));
    let mut told: Vec<PodEvent> = Vec::new();
    for event in events {
        let event = PodEvent {
            is_warning: event.type_.as_deref() == Some("Warning"),
            container: event.involved_object.field_path.as_deref().and_then(container),
            words: Words { reason: event.reason.unwrap_or_default(), message: event.message.unwrap_or_default() },
        };
        told.retain(|other| *other != event);
        told.push(event);
    }
    told
}

fn stored(event: &Event) -> Option<u64> {
    event.metadata.resource_version.as_ref()?.parse().ok()
}

/// The container in a path such as `spec.containers{build}` (Kubernetes API).
fn container(path: &str) -> Option<String> {
    let (_, name) = path.strip_suffix('}')?.split_once('{')?;
    Some(name.to_owned())
}

/// When it happened last. Components write one or the other.
fn seen(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(second: u32, (kind, reason, message): (&str, &str, &str), container: Option<&str>) -> Event {
        let stamp = format!("2026-01-02T03:04:{second:02}Z");
        let path = container.map(|name| format!("spec.containers{{{name}}}"));
        let object = json!({"fieldPath": path});
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": object, "type": kind, "reason": reason, "message": message, "lastTimestamp": stamp,
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_warnings_are_told_once_each() {
        let warning = |second, message| event(second, ("Warning", "FailedMount", message), None);
        let all = in_order(vec![warning(9, "a"), warning(1, "b"), warning(2, "a"), warning(3, "c"), warning(0, "d")]);
        assert_eq!(explanations(&all), [r#"FailedMount: "b""#, r#"FailedMount: "c""#, r#"FailedMount: "a""#]);
    }

    #[test]
    fn of_a_pull_the_last_word_is_told() {
        let pulling = event(1, ("Normal", "Pulling", "Pulling image \"a\""), Some("build"));
        let other = event(1, ("Normal", "Pulled", "Container image \"h\" already present on machine"), Some("helper"));
        let pulled = event(
            4,
            ("Normal", "Pulled", "Successfully pulled image \"a\" in 3s. Image size: 7 bytes."),
            Some("build"),
        );
        let first = in_order(vec![pulling.clone(), other.clone()]);
        assert_eq!(explanations(&first), [r#"Pulling (container build): Pulling image "a""#]);
        let then = in_order(vec![pulled, pulling, other]);
        let line = r#"Pulled (container build): Successfully pulled image "a" in 3s. Image size: 7 bytes."#;
        assert_eq!((explanations(&then), pulls(&then)), (vec![line.to_owned()], vec![line.to_owned()]));
    }
}
