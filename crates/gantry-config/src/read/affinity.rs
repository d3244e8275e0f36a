//! `[runners.kubernetes.affinity]`.

use crate::problem::Severity;
use crate::section::Section;
use crate::settings::affinity::{Affinity, LabelSelector, NodeAffinity, NodeTerm, PodAffinity, PodTerm, Requirement};

const REQUIRED: &str = "required_during_scheduling_ignored_during_execution";
const PREFERRED: &str = "preferred_during_scheduling_ignored_during_execution";

pub(super) fn read(section: &Section<'_>) -> Affinity {
    Affinity {
        node: section.section("node_affinity", |table| NodeAffinity {
            required: table.section(REQUIRED, |required| required.sections("node_selector_terms", node_term)),
            preferred: table
                .sections(PREFERRED, |preferred| (weight(preferred), preferred.section("preference", node_term))),
        }),
        pod: section.section("pod_affinity", pod_affinity),
        pod_anti: section.section("pod_anti_affinity", pod_affinity),
    }
}

fn node_term(section: &Section<'_>) -> NodeTerm {
    NodeTerm {
        match_expressions: section.sections("match_expressions", requirement),
        match_fields: section.sections("match_fields", requirement),
    }
}

fn requirement(section: &Section<'_>) -> Requirement {
    Requirement {
        key: section.text_or_empty("key"),
        operator: section.text_or_empty("operator"),
        values: section.texts("values"),
    }
}

fn pod_affinity(section: &Section<'_>) -> PodAffinity {
    PodAffinity {
        required: section.sections(REQUIRED, pod_term),
        preferred: section
            .sections(PREFERRED, |preferred| (weight(preferred), preferred.section("pod_affinity_term", pod_term))),
    }
}

fn pod_term(section: &Section<'_>) -> PodTerm {
    PodTerm {
        label_selector: section.section("label_selector", selector),
        namespaces: section.texts("namespaces"),
        topology_key: section.text_or_empty("topology_key"),
        namespace_selector: section.section("namespace_selector", selector),
        match_label_keys: section.texts("match_label_keys"),
        mismatch_label_keys: section.texts("mismatch_label_keys"),
    }
}

fn selector(section: &Section<'_>) -> Option<LabelSelector> {
    let selector = LabelSelector {
        match_labels: section.text_map("match_labels"),
        match_expressions: section.sections("match_expressions", requirement),
    };
    section.is_present().then_some(selector)
}

/// From 1 to 100 (Kubernetes API).
fn weight(section: &Section<'_>) -> i32 {
    let weight = section.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        section.problem(Severity::Error, "weight", "must be from 1 to 100");
    }
    i32::try_from(weight).unwrap_or(0)
}
