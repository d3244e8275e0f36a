//! Role-based access control: which rules apply to a user, and whether one of them covers a wish.
//! Reads roles and bindings from the store at each decision, so that a change counts at once.

use std::sync::Arc;

use serde_json::Value;

use super::{User, attributes::Attributes};
use crate::{
    resources,
    store::{Key, Store, object},
};

/// Whether the user may do that. Members of `system:masters` may do anything.
pub(crate) fn allowed(store: &Store, user: &User, wish: &Attributes) -> bool {
    user.is_master() || rules_for(store, user, &wish.namespace).iter().any(|rule| covers(rule, wish))
}

/// Every rule that holds for the user: of all cluster role bindings, and of the namespace's role
/// bindings.
pub(crate) fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut rules = Vec::new();
    let (bindings, _) = store.list(resources::any("clusterrolebindings"), None);
    for binding in bindings.iter().filter(|binding| names(binding, user)) {
        add_rules(store, binding, "", &mut rules);
    }
    if !namespace.is_empty() {
        let (bindings, _) = store.list(resources::any("rolebindings"), Some(namespace));
        for binding in bindings.iter().filter(|binding| names(binding, user)) {
            add_rules(store, binding, namespace, &mut rules);
        }
    }
    rules
}

fn add_rules(store: &Store, binding: &Arc<Value>, namespace: &str, rules: &mut Vec<Value>) {
    let name = object::text(binding, &["roleRef", "name"]);
    let key = match object::text(binding, &["roleRef", "kind"]) {
        "ClusterRole" => Key::new(resources::any("clusterroles"), "", name),
        "Role" if !namespace.is_empty() => Key::new(resources::any("roles"), namespace, name),
        _ => return,
    };
    if let Some(role) = store.get(&key) {
        rules.extend_from_slice(object::items(&role, &["rules"]));
    }
}

/// Whether a binding has the user among its subjects.
fn names(binding: &Value, user: &User) -> bool {
    object::items(binding, &["subjects"]).iter().any(|subject| {
        let name = object::text(subject, &["name"]);
        match object::text(subject, &["kind"]) {
            "User" => name == user.name,
            "Group" => user.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                // A role binding whose subject names no namespace is refused at creation, so
                // nothing is guessed here.
                let namespace = object::text(subject, &["namespace"]);
                user.name == format!("system:serviceaccount:{namespace}:{name}")
            }
            _ => false,
        }
    })
}

/// Whether one policy rule covers a wish.
pub(crate) fn covers(rule: &Value, wish: &Attributes) -> bool {
    let has = |field: &str, wanted: &str| {
        object::items(rule, &[field]).iter().filter_map(Value::as_str).any(|item| item == "*" || item == wanted)
    };
    if !has("verbs", &wish.verb) {
        return false;
    }
    if let Some(path) = &wish.path {
        return object::items(rule, &["nonResourceURLs"]).iter().filter_map(Value::as_str).any(|pattern| {
            pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
        });
    }
    let names = object::items(rule, &["resourceNames"]);
    has("apiGroups", &wish.group)
        && covers_resource(rule, wish)
        && (names.is_empty() || names.iter().any(|name| name.as_str() == Some(&wish.name)))
}

fn covers_resource(rule: &Value, wish: &Attributes) -> bool {
    let full = wish.full_resource();
    object::items(rule, &["resources"]).iter().filter_map(Value::as_str).any(|resource| {
        resource == "*"
            || resource == full
            || (!wish.subresource.is_empty() && resource.strip_prefix("*/") == Some(wish.subresource.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(verb: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "ci".to_owned(),
            name: name.to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_rule_covers_what_it_names() {
        let rule = json!({"apiGroups": [""], "resources": ["pods", "pods/exec"], "verbs": ["get", "create"]});
        assert!(covers(&rule, &wish("get", "pods", "x")));
        assert!(covers(&rule, &wish("create", "pods/exec", "x")));
        assert!(!covers(&rule, &wish("get", "pods/log", "x")));
        assert!(!covers(&rule, &wish("delete", "pods", "x")));
        assert!(!covers(&rule, &wish("get", "secrets", "x")));
        let other = Attributes { group: "apps".to_owned(), ..wish("get", "pods", "x") };
        assert!(!covers(&rule, &other));
    }

    #[test]
    fn names_and_stars() {
        let named = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"], "resourceNames": ["a"]});
        assert!(covers(&named, &wish("get", "secrets", "a")));
        assert!(!covers(&named, &wish("get", "secrets", "b")));
        assert!(!covers(&named, &wish("list", "secrets", "")));
        let star = json!({"apiGroups": ["*"], "resources": ["*/log"], "verbs": ["get"]});
        assert!(covers(&star, &wish("get", "pods/log", "x")));
        assert!(!covers(&star, &wish("get", "pods", "x")));
        let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
        assert!(covers(&all, &wish("get", "pods/log", "x")));
    }

    #[test]
    fn paths_are_covered_by_prefix() {
        let rule = json!({"nonResourceURLs": ["/healthz", "/apis/*"], "verbs": ["get"]});
        let path = |path: &str| Attributes { verb: "get".into(), path: Some(path.into()), ..Attributes::default() };
        assert!(covers(&rule, &path("/apis/apps")));
        assert!(covers(&rule, &path("/healthz")));
        assert!(!covers(&rule, &path("/version")));
    }

    #[test]
    fn bindings_reach_users_through_the_store() {
        let store = Store::new(8);
        let meta = |name: &str| json!({"namespace": "ci", "name": name});
        let role = json!({"metadata": meta("r"),
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
        let binding = json!({"metadata": meta("b"), "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "ci", "name": "runner"}]});
        store.create(resources::any("roles"), role).unwrap();
        store.create(resources::any("rolebindings"), binding).unwrap();
        let user = User::service_account("ci", "runner", "u");
        assert!(allowed(&store, &user, &wish("get", "pods", "x")));
        assert!(!allowed(&store, &user, &Attributes { namespace: "other".into(), ..wish("get", "pods", "x") }));
        assert!(!allowed(&store, &User::service_account("ci", "x", "u"), &wish("get", "pods", "x")));
        assert!(allowed(&store, &User::admin(), &wish("delete", "nodes", "x")));
    }

    #[test]
    fn refusals_are_worded_as_kubernetes_does() {
        let user = "system:serviceaccount:ns:name";
        let wish = Attributes { namespace: "ns".into(), ..wish("get", "secrets", "x") };
        assert_eq!(
            wish.refusal(user),
            r#"User "system:serviceaccount:ns:name" cannot get resource "secrets" in API group "" in the namespace "ns""#
        );
        let all = Attributes { namespace: String::new(), ..wish };
        assert!(all.refusal(user).ends_with("at the cluster scope"));
    }
}
