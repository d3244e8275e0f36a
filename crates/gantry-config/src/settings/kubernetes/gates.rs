//! Which variables of jobs the settings let through.

use gantry_core::job_variables;

use super::{Gates, KubernetesSettings};
use crate::settings::resources::ceiling;

/// A variable, the key that lets jobs set it, and whether that is set.
type Gate = (&'static str, &'static str, fn(&Gates) -> bool);

const GATES: [Gate; 7] = [
    ("KUBERNETES_NAMESPACE_OVERWRITE", "namespace_overwrite_allowed", |gates| gates.namespace.is_some()),
    ("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "service_account_overwrite_allowed", |gates| {
        gates.service_account.is_some()
    }),
    ("KUBERNETES_BEARER_TOKEN", "bearer_token_overwrite_allowed", |gates| gates.bearer_token),
    ("KUBERNETES_NODE_SELECTOR_*", "node_selector_overwrite_allowed", |gates| gates.node_selector.is_some()),
    ("KUBERNETES_NODE_TOLERATIONS_*", "node_tolerations_overwrite_allowed", |gates| gates.node_tolerations.is_some()),
    ("KUBERNETES_POD_LABELS_*", "pod_labels_overwrite_allowed", |gates| gates.pod_labels.is_some()),
    ("KUBERNETES_POD_ANNOTATIONS_*", "pod_annotations_overwrite_allowed", |gates| gates.pod_annotations.is_some()),
];

fn find(variable: &str) -> Option<&'static Gate> {
    let known = job_variables::find(variable)?.name;
    GATES.iter().find(|(name, ..)| *name == known)
}

/// The key that lets jobs set a variable, or says the most that they may ask for by it.
pub fn gate(variable: &str) -> Option<&'static str> {
    find(variable).map(|(_, key, _)| *key).or_else(|| ceiling(job_variables::find(variable)?.name))
}

impl KubernetesSettings {
    /// The key that would let jobs set a variable, where that key is not set.
    pub fn closed_gate(&self, variable: &str) -> Option<&'static str> {
        let key = gate(variable)?;
        let has_ceiling = || self.resources.ceilings().any(|ceiling| ceiling.key == key && ceiling.value.is_some());
        let is_open = find(variable).map_or_else(has_ceiling, |(.., is_open)| is_open(&self.gates));
        (!is_open).then_some(key)
    }
}
