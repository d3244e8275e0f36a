//! Resource quotas: what a namespace uses, and whether one more object fits. What is used is
//! counted anew at each question, so it cannot go wrong; callers hold the lock that keeps two
//! creations apart.

use std::{collections::BTreeMap, convert::Infallible};

use serde_json::{Value, json};

use super::super::status::ApiError;
use crate::{
    cluster::Cluster,
    resources::{self, ResourceType, TYPES},
    store::{
        Key, Verdict,
        object::{self, at, items, text},
    },
    validation::{pod_defaults::qos_class, quantity::Quantity},
};

type Amounts = BTreeMap<String, Quantity>;

/// Refuses an object that would use more than a quota allows.
pub(crate) fn check(cluster: &Cluster, kind: &'static ResourceType, object: &Value) -> Result<(), ApiError> {
    if !kind.namespaced || kind.plural == "events" {
        return Ok(());
    }
    let (quotas, _) = cluster.store.list(resources::core("resourcequotas"), Some(object::namespace(object)));
    for quota in quotas.iter().filter(|quota| applies(quota, kind, object)) {
        let hard = hard(quota);
        let wanted: Amounts = uses(kind, object).into_iter().filter(|(name, _)| hard.contains_key(name)).collect();
        if kind.plural == "pods" {
            unspecified(cluster, quota, (kind, object), &hard)?;
        }
        let used = used(cluster, quota);
        let exceeded: Vec<&String> = wanted
            .iter()
            .filter(|(name, amount)| {
                let before = used.get(*name).copied().unwrap_or_default();
                !amount.is_zero() && before.plus(**amount) > hard.get(*name).copied().unwrap_or_default()
            })
            .map(|(name, _)| name)
            .collect();
        if !exceeded.is_empty() {
            let list = |amounts: &Amounts| {
                let all =
                    exceeded.iter().map(|name| format!("{name}={}", amounts.get(*name).copied().unwrap_or_default()));
                all.collect::<Vec<_>>().join(",")
            };
            let (wanted, used, hard) = (list(&wanted), list(&used), list(&hard));
            let name = object::name(quota);
            let why = format!("exceeded quota: {name}, requested: {wanted}, used: {used}, limited: {hard}");
            return Err(ApiError::forbidden(kind, object::name(object), &why));
        }
    }
    Ok(())
}

/// A quota of a resource makes every container say how much of it it wants.
fn unspecified(
    cluster: &Cluster,
    quota: &Value,
    (kind, pod): (&'static ResourceType, &Value),
    hard: &Amounts,
) -> Result<(), ApiError> {
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in hard.keys() {
        let Some((list, resource)) = compute(name) else { continue };
        for container in items(pod, &["spec", "initContainers"]).iter().chain(items(pod, &["spec", "containers"])) {
            if at(container, &["resources", list, resource]).is_none() {
                missing.entry(name).or_default().push(text(container, &["name"]));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = if cluster.config.version >= (1, 25) {
        let each = missing.iter().map(|(name, containers)| format!("{name} for: {}", containers.join(",")));
        each.collect::<Vec<_>>().join("; ")
    } else {
        missing.keys().copied().collect::<Vec<_>>().join(",")
    };
    let why = format!("failed quota: {}: must specify {list}", object::name(quota));
    Err(ApiError::forbidden(kind, object::name(pod), &why))
}

/// The list and the resource that a quota of computing resources is about.
fn compute(name: &str) -> Option<(&'static str, &str)> {
    let (list, resource) = match name.split_once('.') {
        Some(("limits", resource)) => ("limits", resource),
        Some(("requests", resource)) => ("requests", resource),
        _ => ("requests", name),
    };
    ["cpu", "memory", "ephemeral-storage"].contains(&resource).then_some((list, resource))
}

fn hard(quota: &Value) -> Amounts {
    let map = at(quota, &["spec", "hard"]).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), Quantity::of(value)?))).collect()
}

/// Whether a quota counts an object at all.
fn applies(quota: &Value, kind: &ResourceType, object: &Value) -> bool {
    if kind.plural != "pods" {
        return items(quota, &["spec", "scopes"]).is_empty() && at(quota, &["spec", "scopeSelector"]).is_none();
    }
    let plain = items(quota, &["spec", "scopes"]).iter().filter_map(Value::as_str).all(|scope| in_scope(object, scope));
    let selected = items(quota, &["spec", "scopeSelector", "matchExpressions"]).iter().all(|expression| {
        let scope = text(expression, &["scopeName"]);
        if scope != "PriorityClass" {
            return in_scope(object, scope) == (text(expression, &["operator"]) != "DoesNotExist");
        }
        let class = text(object, &["spec", "priorityClassName"]);
        let named = items(expression, &["values"]).iter().any(|value| value == class);
        match text(expression, &["operator"]) {
            "In" => named,
            "NotIn" => !named,
            "DoesNotExist" => class.is_empty(),
            _ => !class.is_empty(),
        }
    });
    plain && selected
}

fn in_scope(pod: &Value, scope: &str) -> bool {
    match scope {
        "Terminating" => at(pod, &["spec", "activeDeadlineSeconds"]).is_some(),
        "NotTerminating" => at(pod, &["spec", "activeDeadlineSeconds"]).is_none(),
        "BestEffort" => qos_class(pod) == "BestEffort",
        "NotBestEffort" => qos_class(pod) != "BestEffort",
        "PriorityClass" => !text(pod, &["spec", "priorityClassName"]).is_empty(),
        _ => false,
    }
}

/// Everything that one object uses.
fn uses(kind: &ResourceType, object: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    let suffix = if kind.group.is_empty() { String::new() } else { format!(".{}", kind.group) };
    amounts.insert(format!("count/{}{suffix}", kind.plural), Quantity::whole(1));
    if kind.group.is_empty() {
        amounts.insert(kind.plural.to_owned(), Quantity::whole(1));
    }
    match kind.plural {
        "pods" => {
            for list in ["requests", "limits"] {
                for resource in ["cpu", "memory", "ephemeral-storage"] {
                    let amount = pod_amount(object, list, resource);
                    if list == "requests" {
                        amounts.insert(resource.to_owned(), amount);
                    }
                    amounts.insert(format!("{list}.{resource}"), amount);
                }
            }
        }
        "services" => match text(object, &["spec", "type"]) {
            "NodePort" => drop(amounts.insert("services.nodeports".to_owned(), Quantity::whole(1))),
            "LoadBalancer" => drop(amounts.insert("services.loadbalancers".to_owned(), Quantity::whole(1))),
            _ => {}
        },
        "persistentvolumeclaims" => {
            let amount = at(object, &["spec", "resources", "requests", "storage"]).and_then(Quantity::of);
            amounts.insert("requests.storage".to_owned(), amount.unwrap_or_default());
        }
        _ => {}
    }
    amounts
}

/// What a pod needs at once: all containers together, or its hungriest init container.
fn pod_amount(pod: &Value, list: &str, resource: &str) -> Quantity {
    let each = |kind: &str| -> Vec<Quantity> {
        let all = items(pod, &["spec", kind]).iter();
        all.filter_map(|one| at(one, &["resources", list, resource]).and_then(Quantity::of)).collect()
    };
    let sum = each("containers").into_iter().fold(Quantity::default(), Quantity::plus);
    each("initContainers").into_iter().fold(sum, Quantity::at_least)
}

/// What the objects of a quota's namespace use now.
fn used(cluster: &Cluster, quota: &Value) -> Amounts {
    let hard = hard(quota);
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::default())).collect();
    for kind in TYPES.iter().filter(|kind| kind.namespaced && kind.stored && kind.plural != "events") {
        for object in cluster.store.list(kind, Some(object::namespace(quota))).0 {
            let ended = ["Succeeded", "Failed"].contains(&text(&object, &["status", "phase"]));
            if (kind.plural == "pods" && ended) || !applies(quota, kind, &object) {
                continue;
            }
            for (name, amount) in uses(kind, &object) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = sum.plus(amount);
                }
            }
        }
    }
    used
}

/// Writes into a namespace's quotas what is used.
pub(crate) fn refresh(cluster: &Cluster, namespace: &str) {
    let quotas = resources::core("resourcequotas");
    for quota in cluster.store.list(quotas, Some(namespace)).0 {
        let show = |amounts: &Amounts| -> Value {
            amounts.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect()
        };
        let status = json!({"hard": show(&hard(&quota)), "used": show(&used(cluster, &quota))});
        let done: Result<_, Infallible> =
            cluster.store.modify(&Key::of(quotas, &quota), |_| Ok(Verdict::Status(status)));
        drop(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_its_containers_or_its_hungriest_init_container() {
        let pod = json!({"spec": {
            "initContainers": [{"resources": {"requests": {"cpu": "3"}}}],
            "containers": [{"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}}],
        }});
        let uses = uses(resources::core("pods"), &pod);
        assert_eq!(uses["requests.cpu"].to_string(), "3");
        assert_eq!(uses["limits.memory"].to_string(), "1Gi");
        assert_eq!(uses["pods"], Quantity::whole(1));
        assert_eq!(uses["count/pods"], Quantity::whole(1));
    }

    #[test]
    fn scopes_choose_pods() {
        let quota = |spec: Value| json!({"spec": spec});
        let pod = json!({"spec": {"containers": [{"name": "a"}], "priorityClassName": "high"}});
        let counts = |spec: Value| applies(&quota(spec), resources::core("pods"), &pod);
        assert!(counts(json!({"scopes": ["BestEffort", "NotTerminating"]})));
        assert!(!counts(json!({"scopes": ["Terminating"]})));
        let class = |operator: &str| {
            json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}})
        };
        assert!(counts(class("In")) && !counts(class("NotIn")));
    }
}
