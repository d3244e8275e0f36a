//! `PartialObjectMetadata`: an object without what makes it one of its type.

use serde_json::{Value, json};

use crate::patch::managed::unpack;

/// Only what is common to objects of all types.
pub(crate) fn metadata_only(object: &Value) -> Value {
    let mut shown =
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]});
    unpack(&mut shown["metadata"]);
    shown
}
