//! Whether a pod's quantities fit together. An API server refuses what does not, in words that name
//! neither variable nor key: the settings alone were checked when they were read, and what a job
//! has chosen is checked here.

use std::collections::BTreeMap;

use gantry_config::Quantity;
use gantry_wire::layout::{BUILD, HELPER};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use crate::PlanError;

/// Checks a pod that is complete.
///
/// # Errors
/// A container asks for more than it may have, or than the pod has.
pub(crate) fn check(spec: &api::PodSpec) -> Result<(), PlanError> {
    let pod = spec.resources.clone().unwrap_or_default();
    for container in &spec.containers {
        let Some(resources) = &container.resources else { continue };
        let wrong = |what: String, resource: &str, keys: &[&str]| {
            let place = format!("the container {:?} of the pod", container.name);
            let family = family(&container.name);
            let names = keys.iter().map(|key| named(family, resource, key)).collect::<Vec<_>>().join(" or ");
            Err(PlanError::Configuration(format!("{place} {what}, and no cluster takes such a pod: change {names}")))
        };
        for (resource, limit) in quantities(resources.limits.as_ref()) {
            if let Some(request) = quantity(resources.requests.as_ref(), resource).filter(|request| *request > limit) {
                return wrong(
                    format!("requests {request} of {resource}, more than its limit {limit}"),
                    resource,
                    &["request", "limit"],
                );
            }
            if let Some(most) = quantity(pod.limits.as_ref(), resource).filter(|most| limit > *most) {
                return wrong(
                    format!("has the limit {limit} for {resource}, more than the limit {most} of the pod"),
                    resource,
                    &["limit"],
                );
            }
        }
    }
    for (resource, request) in quantities(pod.requests.as_ref()) {
        let shown = |key| named(POD, resource, key);
        if let Some(limit) = quantity(pod.limits.as_ref(), resource).filter(|limit| request > *limit) {
            return Err(PlanError::Configuration(format!(
                "the pod requests {request} of {resource}, more than its limit {limit}, and no cluster takes such a pod: change {} or {}",
                shown("request"),
                shown("limit")
            )));
        }
    }
    // Without a request the pod's is that of its containers, which its limit must hold.
    for resource in ["cpu", "memory"] {
        let request = quantity(pod.requests.as_ref(), resource).map(|most| ("request", most));
        let limit = || quantity(pod.limits.as_ref(), resource).map(|most| ("limit", most));
        let together: i128 = spec.containers.iter().map(|container| asked(container, resource)).sum();
        if let Some((key, most)) = request.or_else(limit).filter(|(_, most)| most.nanos() < together) {
            return Err(PlanError::Configuration(format!(
                "the pod has the {key} {most} for {resource}, less than its containers request together, and no cluster takes such a pod: \
                 change {}",
                named(POD, resource, key)
            )));
        }
    }
    Ok(())
}

/// What an API server takes for a container's request, in billionths: its limit where it has none.
fn asked(container: &api::Container, resource: &str) -> i128 {
    let resources = container.resources.as_ref();
    let request = resources.and_then(|own| quantity(own.requests.as_ref(), resource));
    let limit = || resources.and_then(|own| quantity(own.limits.as_ref(), resource));
    request.or_else(limit).map_or(0, |quantity| quantity.nanos())
}

type Quantities = BTreeMap<String, Written>;

fn quantities(written: Option<&Quantities>) -> impl Iterator<Item = (&str, Quantity)> {
    written.into_iter().flatten().filter_map(|(name, text)| Some((name.as_str(), Quantity::parse(&text.0).ok()?)))
}

fn quantity(written: Option<&Quantities>, resource: &str) -> Option<Quantity> {
    Quantity::parse(&written?.get(resource)?.0).ok()
}

/// What keys and variables of the pod's own quantities begin with.
const POD: &str = "pod_";

/// What those of a container begin with.
fn family(container: &str) -> &'static str {
    match container {
        BUILD => "",
        HELPER => "helper_",
        _ => "service_",
    }
}

/// The key of a quantity and its variable.
fn named(family: &str, resource: &str, key: &str) -> String {
    let key = format!("{family}{}_{key}", resource.replace('-', "_"));
    format!("KUBERNETES_{} ({key} in the runner's config)", key.to_uppercase())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(pod: &Value, containers: &[(&str, Value)]) -> String {
        let containers: Vec<Value> =
            containers.iter().map(|(name, resources)| json!({"name": name, "resources": resources})).collect();
        let spec = serde_json::from_value(json!({"containers": containers, "resources": pod})).unwrap();
        check(&spec).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_no_cluster_takes_is_refused_with_its_names() {
        let nothing = json!({});
        let more = json!({"requests": {"cpu": "4"}, "limits": {"cpu": "2"}});
        let large = json!({"limits": {"memory": "4Gi", "ephemeral-storage": "1Gi"}});
        let cases = [
            (&nothing, vec![("build", more.clone())]),
            (
                &nothing,
                vec![("db", json!({"requests": {"ephemeral-storage": "2Gi"}, "limits": {"ephemeral-storage": "1Gi"}}))],
            ),
            (&json!({"limits": {"memory": "2Gi"}}), vec![("build", nothing.clone()), ("helper", large.clone())]),
            (&more, vec![]),
            (
                &json!({"limits": {"memory": "3Gi"}}),
                vec![
                    ("build", json!({"requests": {"memory": "2Gi"}})),
                    ("helper", json!({"limits": {"memory": "2Gi"}})),
                ],
            ),
            (
                &json!({"requests": {"cpu": "1"}}),
                vec![("build", json!({"limits": {"cpu": "600m"}})), ("db", json!({"requests": {"cpu": "500m"}}))],
            ),
        ];
        let lines: Vec<String> = cases.iter().map(|(pod, containers)| said(pod, containers)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_fits_is_taken() {
        let fits = [
            (json!({}), json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2000m"}})),
            (json!({"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}}), json!({"requests": {"cpu": "2"}})),
            (json!({"requests": {"memory": "1Gi"}}), json!({"limits": {"nvidia.com/gpu": "1"}})),
        ];
        for (pod, build) in fits {
            assert_eq!(said(&pod, &[("build", build.clone()), ("helper", json!({}))]), "", "{pod} {build}");
        }
    }
}
