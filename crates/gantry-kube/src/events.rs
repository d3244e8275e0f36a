//! What a cluster's events say about one pod. Some causes are nowhere else: a volume that cannot be mounted leaves the pod's own status as it
//! is for one that starts.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use crate::{Cluster, error::ApiError, facts::Words, limits, pods::PodRef, retry};

impl Cluster {
    /// The newest warnings about `pod`, the oldest of them first, each once. Needs `list` on `events`, which no job depends on. Tried once.
    ///
    /// # Errors
    /// They cannot be read, for want of the right for instance.
    pub async fn pod_warnings(&self, pod: &PodRef) -> Result<Vec<Words>, ApiError> {
        let events: Api<Event> = Api::namespaced(self.client().clone(), self.namespace());
        let about = format!("involvedObject.uid={},type=Warning", pod.uid);
        let params = ListParams::default().fields(&about).limit(limits::EVENTS);
        Ok(newest(retry::once(events.list(&params)).await?.items))
    }
}

fn newest(mut events: Vec<Event>) -> Vec<Words> {
    events.sort_by_key(seen);
    let mut warnings: Vec<Words> = Vec::new();
    for event in events {
        let words = Words { reason: event.reason.unwrap_or_default(), message: event.message.unwrap_or_default() };
        warnings.retain(|other| *other != words);
        warnings.push(words);
    }
    warnings.split_off(warnings.len().saturating_sub(limits::WARNINGS))
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

    #[test]
    fn the_newest_warnings_are_told_once_each() {
        let event = |second: u32, message: &str| {
            let stamp = format!("2026-01-02T03:04:{second:02}Z");
            let event = json!({"metadata": {}, "involvedObject": {}, "reason": "FailedMount", "message": message, "lastTimestamp": stamp});
            serde_json::from_value(event).unwrap()
        };
        let told = newest(vec![event(9, "a"), event(1, "b"), event(2, "a"), event(3, "c"), event(0, "d")]);
        let messages: Vec<&str> = told.iter().map(|words| words.message.as_str()).collect();
        assert_eq!(messages, ["b", "c", "a"]);
    }
}
