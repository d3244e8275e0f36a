//! Limit ranges: defaults for containers that name no resources, and bounds for those that do.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::super::status::ApiError;
use crate::{
    cluster::Cluster,
    resources::{self, ResourceType},
    store::object::{self, at, items, list_mut, map_mut, text},
    validation::quantity::Quantity,
};

/// Where the defaults that were given are written down.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Fills in what a limit range leaves to be concluded: a container's default is the maximum, its
/// default request the default, or the minimum.
pub(crate) fn range_defaults(range: &mut Value) {
    for item in list_mut(range, &["spec", "limits"]).iter_mut().filter(|item| text(item, &["type"]) == "Container") {
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(amounts) = item.get(from).and_then(Value::as_object).cloned() else { continue };
            let filled = map_mut(item, &[to]);
            for (name, amount) in amounts {
                filled.entry(name).or_insert(amount);
            }
        }
    }
}

/// The limits of a namespace.
fn limits(cluster: &Cluster, namespace: &str) -> Vec<Value> {
    let (ranges, _) = cluster.store.list(resources::core("limitranges"), Some(namespace));
    ranges.iter().flat_map(|range| items(range, &["spec", "limits"]).to_vec()).collect()
}

/// Gives a pod the defaults of its namespace.
pub(super) fn fill(cluster: &Cluster, pod: &mut Value) {
    for limit in limits(cluster, object::namespace(pod)).iter().filter(|limit| text(limit, &["type"]) == "Container") {
        fill_from(pod, limit);
    }
}

/// Refuses a pod that is out of its namespace's bounds.
pub(super) fn check(cluster: &Cluster, kind: &'static ResourceType, pod: &Value) -> Result<(), ApiError> {
    let limits = limits(cluster, object::namespace(pod));
    let mut problems = Vec::new();
    for limit in &limits {
        match text(limit, &["type"]) {
            "Container" => {
                let all = items(pod, &["spec", "initContainers"]).iter().chain(items(pod, &["spec", "containers"]));
                all.for_each(|container| {
                    judge(limit, "Container", &|list, name| amount(container, list, name), &mut problems);
                });
            }
            "Pod" => judge(limit, "Pod", &|list, name| total(pod, list, name), &mut problems),
            _ => {}
        }
    }
    // What several containers do is told once.
    let mut told = HashSet::new();
    problems.retain(|problem| told.insert(problem.clone()));
    let why = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden(kind, object::name(pod), &why))
}

fn amount(container: &Value, list: &str, name: &str) -> Option<Quantity> {
    at(container, &["resources", list, name]).and_then(Quantity::of)
}

/// The sum of a pod's containers; `None` if one of them says nothing.
fn total(pod: &Value, list: &str, name: &str) -> Option<Quantity> {
    let all = items(pod, &["spec", "containers"]).iter().map(|container| amount(container, list, name));
    // Sums are told in powers of 1,000, whatever they were added up from.
    all.reduce(|one, other| Some(one?.plus(other?))).flatten().map(Quantity::decimal)
}

fn fill_from(pod: &mut Value, limit: &Value) {
    let mut told = Vec::new();
    for list in ["containers", "initContainers"] {
        if at(pod, &["spec", list]).is_none() {
            continue;
        }
        for container in list_mut(pod, &["spec", list]) {
            let name = text(container, &["name"]).to_owned();
            for (from, to, what) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                let empty = Map::new();
                let defaults = limit.get(from).and_then(Value::as_object).unwrap_or(&empty);
                let filled = if defaults.is_empty() { continue } else { map_mut(container, &["resources", to]) };
                let new: Vec<&String> = defaults.keys().filter(|name| !filled.contains_key(*name)).collect();
                for name in &new {
                    filled.insert((*name).clone(), defaults[*name].clone());
                }
                if !new.is_empty() {
                    let new: Vec<&str> = new.iter().map(|name| name.as_str()).collect();
                    told.push(format!("{} {what} for container {name}", new.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let text = format!("LimitRanger plugin set: {}", told.join("; "));
        map_mut(pod, &["metadata", "annotations"]).insert(ANNOTATION.to_owned(), json!(text));
    }
}

type Amounts<'a> = &'a dyn Fn(&str, &str) -> Option<Quantity>;

fn judge(limit: &Value, what: &str, amounts: Amounts<'_>, problems: &mut Vec<String>) {
    let bounds = |field: &str| -> Vec<(String, Quantity)> {
        let map = limit.get(field).and_then(Value::as_object);
        let all = map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), Quantity::of(value)?)));
        all.collect()
    };
    for (name, least) in bounds("min") {
        let start = format!("minimum {name} usage per {what} is {least}");
        match (amounts("requests", &name), amounts("limits", &name)) {
            (None, _) => problems.push(format!("{start}.  No request is specified")),
            (Some(request), _) if request < least => problems.push(format!("{start}, but request is {request}")),
            (_, Some(most)) if most < least => problems.push(format!("{start}, but limit is {most}")),
            _ => {}
        }
    }
    for (name, most) in bounds("max") {
        let start = format!("maximum {name} usage per {what} is {most}");
        match (amounts("requests", &name), amounts("limits", &name)) {
            (_, None) => problems.push(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if limit > most => problems.push(format!("{start}, but limit is {limit}")),
            (Some(request), _) if request > most => problems.push(format!("{start}, but request is {request}")),
            _ => {}
        }
    }
    for (name, ratio) in bounds("maxLimitRequestRatio") {
        let (Some(request), Some(limit)) = (amounts("requests", &name), amounts("limits", &name)) else { continue };
        if request.is_zero() {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with six digits")]
        let (found, allowed) = (limit.millis() as f64 / request.millis() as f64, ratio.millis() as f64 / 1000.0);
        if found > allowed {
            problems.push(format!(
                "{name} max limit to request ratio per {what} is {ratio}, but provided ratio is {found:.6}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_from_each_other() {
        let mut range =
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        range_defaults(&mut range);
        assert_eq!(range["spec"]["limits"][0]["default"], json!({"cpu": "2"}));
        assert_eq!(range["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
        let mut pod =
            json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1"}}}, {"name": "b"}]}});
        fill_from(&mut pod, &range["spec"]["limits"][0]);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["cpu"], "1");
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"]["cpu"], "2");
        let told = pod["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
        assert!(told.starts_with("LimitRanger plugin set: cpu, memory request for container a; cpu"), "{told}");
    }

    #[test]
    fn bounds_are_told_in_kubernetes_words() {
        let limit = json!({"max": {"cpu": "1"}, "min": {"memory": "10Mi"}, "maxLimitRequestRatio": {"cpu": "2"}});
        let container = json!({"resources": {"limits": {"cpu": "4"}, "requests": {"cpu": "1", "memory": "1Mi"}}});
        let mut problems = Vec::new();
        judge(&limit, "Container", &|list, name| amount(&container, list, name), &mut problems);
        assert_eq!(
            problems,
            [
                "minimum memory usage per Container is 10Mi, but request is 1Mi",
                "maximum cpu usage per Container is 1, but limit is 4",
                "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000",
            ]
        );
    }
}
