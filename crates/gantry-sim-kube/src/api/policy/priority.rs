//! Priority classes: a pod's class gives it a number, by which the scheduler preempts.

use serde_json::{Value, json};

use super::super::status::ApiError;
use crate::{
    cluster::Cluster,
    resources::{self, ResourceType},
    store::{
        Key,
        object::{self, map_mut, text},
    },
};

/// Fills in a pod's priority from its class, or from the class that is the default.
pub(super) fn resolve(cluster: &Cluster, kind: &'static ResourceType, pod: &mut Value) -> Result<(), ApiError> {
    let classes = resources::any("priorityclasses");
    let name = text(pod, &["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let (all, _) = cluster.store.list(classes, None);
        all.into_iter().find(|class| class["globalDefault"] == Value::Bool(true))
    } else {
        let found = cluster.store.get(&Key::new(classes, "", &name));
        if found.is_none() {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(ApiError::forbidden(kind, object::name(pod), &why));
        }
        found
    };
    let Some(class) = class else { return Ok(()) };
    let spec = map_mut(pod, &["spec"]);
    spec.insert("priorityClassName".to_owned(), json!(object::name(&class)));
    spec.insert("priority".to_owned(), class["value"].clone());
    if let Some(policy) = class.get("preemptionPolicy") {
        spec.insert("preemptionPolicy".to_owned(), policy.clone());
    }
    Ok(())
}
