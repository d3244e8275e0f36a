//! Admission by policy: what a namespace's limit ranges, quotas and security level make of a new
//! object, and what priority classes make of a pod. Each file is one admission plug-in of a real
//! API server, with its words.

mod limits;
mod priority;
pub(crate) mod quota;
mod security;

pub(crate) use limits::range_defaults;
pub(crate) use security::warnings;

use serde_json::Value;

use super::status::ApiError;
use crate::{cluster::Cluster, resources::ResourceType, store::object};

/// Completes a new pod, before it is validated.
pub(crate) fn complete(cluster: &Cluster, kind: &'static ResourceType, pod: &mut Value) -> Result<(), ApiError> {
    priority::resolve(cluster, kind, pod)?;
    limits::fill(cluster, pod);
    Ok(())
}

/// Refuses a new object that is valid and not allowed here.
pub(crate) fn judge(cluster: &Cluster, kind: &'static ResourceType, object: &Value) -> Result<(), ApiError> {
    if kind.plural == "pods" {
        limits::check(cluster, kind, object)?;
        security::enforce(cluster, kind, object)?;
        if let Some(why) = cluster.faults.quota(object::namespace(object)) {
            return Err(ApiError::forbidden(kind, object::name(object), &why));
        }
    }
    quota::check(cluster, kind, object)
}
