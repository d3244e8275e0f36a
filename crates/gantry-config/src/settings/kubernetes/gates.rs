//! Which variables of jobs the settings do not let through.

use gantry_core::job_variables;

use super::KubernetesSettings;

impl KubernetesSettings {
    /// The key that would let jobs set a variable, where that key is not set.
    pub fn closed_gate(&self, variable: &str) -> Option<&'static str> {
        let gates = &self.gates;
        let gates = [
            ("KUBERNETES_NAMESPACE_OVERWRITE", "namespace_overwrite_allowed", gates.namespace.is_some()),
            (
                "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE",
                "service_account_overwrite_allowed",
                gates.service_account.is_some(),
            ),
            ("KUBERNETES_BEARER_TOKEN", "bearer_token_overwrite_allowed", gates.bearer_token),
            ("KUBERNETES_NODE_SELECTOR_*", "node_selector_overwrite_allowed", gates.node_selector.is_some()),
            ("KUBERNETES_NODE_TOLERATIONS_*", "node_tolerations_overwrite_allowed", gates.node_tolerations.is_some()),
            ("KUBERNETES_POD_LABELS_*", "pod_labels_overwrite_allowed", gates.pod_labels.is_some()),
            ("KUBERNETES_POD_ANNOTATIONS_*", "pod_annotations_overwrite_allowed", gates.pod_annotations.is_some()),
        ];
        let known = job_variables::find(variable)?.name;
        let closed = gates.into_iter().find(|(name, _, is_open)| *name == known && !is_open);
        let mut ceilings = self.resources.ceilings();
        closed.map(|(_, gate, _)| gate).or_else(|| {
            let closed = ceilings.find(|ceiling| ceiling.variable == known && ceiling.value.is_none());
            closed.map(|ceiling| ceiling.key)
        })
    }
}
