//! `[runners.kubernetes.affinity]`, in the words of the Kubernetes API.

use std::collections::BTreeMap;

/// Where pods should run; everything empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// `[node_affinity]`.
    pub node: NodeAffinity,
    /// `[pod_affinity]`.
    pub pod: PodAffinity,
    /// `[pod_anti_affinity]`.
    pub pod_anti: PodAffinity,
}

/// `[node_affinity]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeAffinity {
    /// `required_during_scheduling_ignored_during_execution.node_selector_terms`.
    pub required: Vec<NodeTerm>,
    /// `preferred_during_scheduling_ignored_during_execution`: weight and preference.
    pub preferred: Vec<(i32, NodeTerm)>,
}

/// A node selector term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTerm {
    /// `match_expressions`.
    pub match_expressions: Vec<Requirement>,
    /// `match_fields`.
    pub match_fields: Vec<Requirement>,
}

/// A requirement of a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// `key`.
    pub key: String,
    /// `operator`, as written.
    pub operator: String,
    /// `values`.
    pub values: Vec<String>,
}

/// `[pod_affinity]` and `[pod_anti_affinity]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAffinity {
    /// `required_during_scheduling_ignored_during_execution`.
    pub required: Vec<PodTerm>,
    /// `preferred_during_scheduling_ignored_during_execution`: weight and `pod_affinity_term`.
    pub preferred: Vec<(i32, PodTerm)>,
}

/// A pod affinity term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTerm {
    /// `label_selector`.
    pub label_selector: Option<LabelSelector>,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `topology_key`.
    pub topology_key: String,
    /// `namespace_selector`.
    pub namespace_selector: Option<LabelSelector>,
    /// `match_label_keys`.
    pub match_label_keys: Vec<String>,
    /// `mismatch_label_keys`.
    pub mismatch_label_keys: Vec<String>,
}

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `match_labels`.
    pub match_labels: BTreeMap<String, String>,
    /// `match_expressions`.
    pub match_expressions: Vec<Requirement>,
}
