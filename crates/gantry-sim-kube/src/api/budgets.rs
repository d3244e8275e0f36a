//! Disruption budgets: how many pods of a selector may be evicted now. The status is computed when
//! it is asked for and kept up to date by the controllers.

use serde_json::{Value, json};

use super::status::ApiError;
use crate::{
    cluster::Cluster,
    resources,
    store::{
        object::{self, items, text},
        selector::LabelSelector,
    },
};

/// Refuses the eviction of a pod that its budget does not allow.
pub(crate) fn check(cluster: &Cluster, pod: &Value) -> Result<(), ApiError> {
    let (budgets, _) = cluster.store.list(resources::any("poddisruptionbudgets"), Some(object::namespace(pod)));
    let mine: Vec<_> = budgets.iter().filter(|budget| selects(budget, pod)).collect();
    match mine.as_slice() {
        [] => Ok(()),
        [budget] => {
            let status = status(cluster, budget);
            if status["disruptionsAllowed"].as_u64().unwrap_or(0) > 0 {
                return Ok(());
            }
            let name = object::name(budget);
            let (wanted, found) = (&status["desiredHealthy"], &status["currentHealthy"]);
            Err(ApiError::budget(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                &format!("The disruption budget {name} needs {wanted} healthy pods and has {found} currently"),
            ))
        }
        _ => Err(ApiError::plain(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )),
    }
}

fn selects(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    selector.is_object() && LabelSelector::of(selector).matches(pod)
}

/// The status of a budget as it is now.
pub(crate) fn status(cluster: &Cluster, budget: &Value) -> Value {
    let (pods, _) = cluster.store.list(resources::core("pods"), Some(object::namespace(budget)));
    let pods: Vec<&Value> = pods
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| selects(budget, pod) && !["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"])))
        .collect();
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let healthy = pods
        .iter()
        .filter(|pod| !object::is_terminating(pod) && items(pod, &["status", "conditions"]).iter().any(is_ready))
        .count() as u64;
    let expected = pods.len() as u64;
    let desired = match (budget["spec"].get("maxUnavailable"), budget["spec"].get("minAvailable")) {
        (Some(most), _) => expected.saturating_sub(share(most, expected)),
        (None, Some(least)) => share(least, expected),
        (None, None) => 1.min(expected),
    };
    json!({
        "expectedPods": expected, "currentHealthy": healthy, "desiredHealthy": desired,
        "disruptionsAllowed": healthy.saturating_sub(desired),
        "observedGeneration": budget["metadata"]["generation"].as_u64().unwrap_or(1),
    })
}

/// A number, or a percentage of all, rounded up.
pub(crate) fn share(value: &Value, all: u64) -> u64 {
    match value {
        Value::String(text) => {
            let percent: u64 = text.trim_end_matches('%').parse().unwrap_or(0);
            all.saturating_mul(percent).div_ceil(100)
        }
        number => number.as_u64().unwrap_or(0),
    }
}
