//! What a scheduler writes into a pod: the node that it gives it, by `pods/binding` too, or why
//! there is none.

use serde_json::{Value, json};

use crate::store::object::{self, text};

/// The pod as given to a node.
pub(crate) fn bound(pod: &Value, node: &str, stamp: &str) -> Value {
    let mut new = pod.clone();
    object::map_mut(&mut new, &["spec"]).insert("nodeName".to_owned(), json!(node));
    set_scheduled(&mut new, "True", None, stamp);
    new
}

/// Says in a pod whether it has a node.
pub(crate) fn set_scheduled(pod: &mut Value, status: &str, why: Option<(&str, &str)>, stamp: &str) {
    let mut condition = json!({"type": "PodScheduled", "status": status, "lastTransitionTime": stamp});
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    let conditions = object::list_mut(pod, &["status", "conditions"]);
    match conditions.iter_mut().find(|one| text(one, &["type"]) == "PodScheduled") {
        Some(old) => {
            if old["status"] == condition["status"] {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time() {
        let mut pod = json!({});
        set_scheduled(&mut pod, "False", Some(("Unschedulable", "x")), "t1");
        set_scheduled(&mut pod, "False", Some(("Unschedulable", "y")), "t2");
        assert_eq!(pod["status"]["conditions"][0]["lastTransitionTime"], "t1");
        set_scheduled(&mut pod, "True", None, "t3");
        assert_eq!(
            pod["status"]["conditions"],
            json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": "t3"}])
        );
    }
}
