//! Questions about rights and identity: access reviews, rules reviews, `kubectl auth whoami`.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    access,
    call::{Call, object_response},
    request::Target,
    status::ApiError,
};
use crate::{
    auth::{User, attributes::Attributes, rbac},
    store::object::{at, items, text},
};

/// Answers a review; nothing is stored.
pub(crate) fn answer(call: &Call, target: &Target, body: Option<Value>) -> Result<Response, ApiError> {
    if target.verb != "create" || !target.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    let mut review = body.filter(Value::is_object).ok_or_else(|| ApiError::bad_request("the body is not an object"))?;
    let status = match target.kind.plural {
        "selfsubjectaccessreviews" => verdict(call, &call.user, &review)?,
        "subjectaccessreviews" => verdict(call, &subject(&review), &review)?,
        "selfsubjectrulesreviews" => rules(call, text(&review, &["spec", "namespace"]))?,
        "selfsubjectreviews" => json!({"userInfo": {
            "username": call.user.name, "uid": call.user.uid, "groups": call.user.groups,
        }}),
        _ => return Err(ApiError::no_such_path()),
    };
    review["kind"] = json!(target.kind.kind);
    review["apiVersion"] = json!(target.kind.api_version());
    if review.get("metadata").is_none() {
        review["metadata"] = json!({"creationTimestamp": null});
    }
    review["status"] = status;
    Ok(object_response(StatusCode::CREATED, &review))
}

fn subject(review: &Value) -> User {
    let name = text(review, &["spec", "user"]).to_owned();
    let groups = items(review, &["spec", "groups"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    User { name, uid: text(review, &["spec", "uid"]).to_owned(), groups }
}

fn verdict(call: &Call, user: &User, review: &Value) -> Result<Value, ApiError> {
    let wish = if let Some(wish) = at(review, &["spec", "resourceAttributes"]) {
        let word = |key: &str| text(wish, &[key]).to_owned();
        Attributes {
            verb: word("verb"),
            group: word("group"),
            resource: word("resource"),
            subresource: word("subresource"),
            namespace: word("namespace"),
            name: word("name"),
            path: None,
        }
    } else if let Some(wish) = at(review, &["spec", "nonResourceAttributes"]) {
        let path = Some(text(wish, &["path"]).to_owned());
        Attributes { verb: text(wish, &["verb"]).to_owned(), path, ..Attributes::default() }
    } else {
        return Err(ApiError::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    };
    if rbac::allowed(&call.cluster.store, user, &wish) {
        Ok(json!({"allowed": true, "reason": if user.is_master() { "" } else { "RBAC: allowed by a role binding" }}))
    } else {
        Ok(json!({"allowed": false}))
    }
}

fn rules(call: &Call, namespace: &str) -> Result<Value, ApiError> {
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let mut rules = rbac::rules_for(&call.cluster.store, &call.user, namespace);
    if call.user.is_master() {
        rules.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        rules.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        rules.into_iter().partition(|rule| !items(rule, &["nonResourceURLs"]).is_empty());
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

/// Everybody who has a token may ask about themselves.
pub(crate) fn check(call: &Call, wish: &Attributes) -> Result<(), ApiError> {
    if wish.verb == "create" && wish.resource.starts_with("selfsubject") { Ok(()) } else { access::check(call, wish) }
}
