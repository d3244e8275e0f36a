//! Authentication and authorization of a request.

use http::{HeaderMap, header};

use super::{call::Call, status::ApiError};
use crate::{
    auth::{User, attributes::Attributes, rbac},
    cluster::Cluster,
};

/// Who asks. A request without a valid token is refused: this server has no anonymous users.
pub(crate) fn user(cluster: &Cluster, headers: &HeaderMap) -> Result<User, ApiError> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(ApiError::unauthorized)?;
    let now = cluster.clock.now().as_second();
    let user = cluster.tokens.user(&cluster.store, token, now).ok_or_else(ApiError::unauthorized)?;
    impersonated(cluster, headers, user)
}

/// `kubectl --as`: acting as somebody else, for those who may `impersonate`.
fn impersonated(cluster: &Cluster, headers: &HeaderMap, user: User) -> Result<User, ApiError> {
    let Some(name) = headers.get("impersonate-user").and_then(|value| value.to_str().ok()) else { return Ok(user) };
    let wish = Attributes {
        verb: "impersonate".to_owned(),
        resource: "users".to_owned(),
        name: name.to_owned(),
        ..Attributes::default()
    };
    if !rbac::allowed(&cluster.store, &user, &wish) {
        return Err(ApiError::unauthorized_wish(&wish, &user.name));
    }
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let mut other = match account {
        Some((namespace, account)) => User::service_account(namespace, account, ""),
        None => User { name: name.to_owned(), uid: String::new(), groups: vec!["system:authenticated".to_owned()] },
    };
    let groups = headers.get_all("impersonate-group");
    other.groups.extend(groups.iter().filter_map(|value| value.to_str().ok()).map(str::to_owned));
    Ok(other)
}

/// Refuses what the user may not do.
pub(crate) fn check(call: &Call, wish: &Attributes) -> Result<(), ApiError> {
    if rbac::allowed(&call.cluster.store, &call.user, wish) {
        Ok(())
    } else {
        Err(ApiError::unauthorized_wish(wish, &call.user.name))
    }
}
