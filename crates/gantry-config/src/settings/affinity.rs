//! `[runners.kubernetes.affinity]`, in the words of the Kubernetes API.

use std::collections::BTreeMap;

use crate::declare::{Declared, Kind, Table as _, table};
use crate::key::Form;
use crate::kinds::{checked, custom, optional_table, table, tables, tables_into, texts};
use crate::names::{LABEL_NAME, LABEL_VALUE, is_dns_label, is_label_name, is_label_value};
use crate::problem::Severity;
use crate::section::Section;

table! {
    /// Where pods should run; everything empty by default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Affinity {
        /// By properties of nodes.
        node: NodeAffinity = table("node_affinity");
        /// Near other pods.
        pod: PodAffinity = table("pod_affinity");
        /// Away from other pods.
        pod_anti: PodAffinity = table("pod_anti_affinity");
    }
}

table! {
    /// `[node_affinity]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodeAffinity {
        /// Nodes must match one of these terms.
        required: Vec<NodeTerm> = tables("required_during_scheduling_ignored_during_execution.node_selector_terms");
        /// Nodes that match are preferred.
        preferred: Vec<(i32, NodeTerm)> =
            tables_into::<PreferredNode, _>("preferred_during_scheduling_ignored_during_execution", |section| {
                let PreferredNode { weight, term } = PreferredNode::read(section);
                Some((weight, term))
            });
    }
}

table! {
    /// A preference for nodes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PreferredNode {
        /// How much it counts, from 1 to 100.
        weight: i32 = custom("weight", Form::FromOne, "", weight);
        /// What nodes should match.
        term: NodeTerm = table("preference");
    }
}

table! {
    /// A node selector term.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NodeTerm {
        /// Requirements for labels of the node.
        match_expressions: Vec<Requirement> = requirements("match_expressions", check_label);
        /// Requirements for fields of the node.
        match_fields: Vec<Requirement> = requirements("match_fields", check_field);
    }
}

table! {
    /// A requirement of a selector.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Requirement {
        /// The label, or the field.
        key: String = custom("key", Form::Text, "", |section, key| section.required(key, "a requirement"));
        /// How it is compared; `Gt` and `Lt` are for nodes only.
        operator: String = custom("operator", Form::Words(OPERATORS.to_vec()), "", operator);
        /// What it is compared with.
        values: Vec<String> = custom("values", Form::Texts, "", values);
    }
}

table! {
    /// `[pod_affinity]` and `[pod_anti_affinity]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PodAffinity {
        /// All of these terms must hold.
        required: Vec<PodTerm> = tables("required_during_scheduling_ignored_during_execution");
        /// Terms that are preferred.
        preferred: Vec<(i32, PodTerm)> =
            tables_into::<PreferredPod, _>("preferred_during_scheduling_ignored_during_execution", |section| {
                let PreferredPod { weight, term } = PreferredPod::read(section);
                Some((weight, term))
            });
    }
}

table! {
    /// A preference for the neighbourhood of pods.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PreferredPod {
        /// How much it counts, from 1 to 100.
        weight: i32 = custom("weight", Form::FromOne, "", weight);
        /// Which pods, and how near.
        term: PodTerm = table("pod_affinity_term");
    }
}

table! {
    /// A pod affinity term.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PodTerm {
        /// Labels of the other pods.
        label_selector: Option<LabelSelector> = optional_table("label_selector");
        /// Their namespaces.
        namespaces: Vec<String> = custom("namespaces", Form::Texts, "", |section: &Section<'_>, key| {
            checked(section, key, |name| (!is_dns_label(name)).then(|| (Severity::Error, format!("{name:?} cannot be a namespace"))))
        });
        /// The label of nodes that says what is near.
        topology_key: String = custom("topology_key", Form::Text, "", topology_key);
        /// Labels of their namespaces.
        namespace_selector: Option<LabelSelector> = optional_table("namespace_selector");
        /// Labels in which the pods must be like this one (Kubernetes 1.31).
        match_label_keys: Vec<String> = texts("match_label_keys");
        /// Labels in which they must differ (Kubernetes 1.31).
        mismatch_label_keys: Vec<String> = texts("mismatch_label_keys");
    }
}

table! {
    /// A label selector.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LabelSelector {
        /// Labels and their values.
        match_labels: BTreeMap<String, String> = custom("match_labels", Form::TextMap, "", match_labels);
        /// Requirements for labels.
        match_expressions: Vec<Requirement> = requirements("match_expressions", check_unordered);
    }
}

/// Declares requirements that are checked.
fn requirements(
    key: &'static str,
    check: impl Fn(&Section<'_>, &Requirement),
) -> Declared<impl Kind<Value = Vec<Requirement>>> {
    tables_into::<Requirement, _>(key, move |section| {
        let requirement = Requirement::read(section);
        check(section, &requirement);
        Some(requirement)
    })
}

/// Labels of pods and namespaces have no order (Kubernetes API).
fn check_unordered(section: &Section<'_>, requirement: &Requirement) {
    if matches!(requirement.operator.as_str(), "Gt" | "Lt") {
        let message = "is only for labels of nodes: use In, NotIn, Exists or DoesNotExist";
        section.problem(Severity::Error, "operator", message);
    }
    check_label(section, requirement);
}

/// Nodes have one field (Kubernetes API).
fn check_field(section: &Section<'_>, requirement: &Requirement) {
    let Requirement { key, operator, values } = requirement;
    if !key.is_empty() && key != "metadata.name" {
        let message = format!("{key:?} is not metadata.name, the one field that nodes are chosen by");
        section.problem(Severity::Error, "key", message);
    }
    let is_one = matches!(operator.as_str(), "In" | "NotIn") && values.len() == 1;
    if !operator.is_empty() && !is_one {
        section.problem(Severity::Error, "operator", "must be In or NotIn, with one value, for a field");
    }
}

fn check_label(section: &Section<'_>, requirement: &Requirement) {
    if !requirement.key.is_empty() && !is_label_name(&requirement.key) {
        section.problem(Severity::Error, "key", format!("{:?} {LABEL_NAME}", requirement.key));
    }
    for found in section.items("values", "a list of strings") {
        if let Some(value) = found.text().filter(|value| !is_label_value(value)) {
            found.problem(Severity::Error, format!("{value:?} {LABEL_VALUE}"));
        }
    }
}

fn match_labels(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let labels = section.text_map(key);
    for (name, found) in section.entries(key) {
        if !is_label_name(&name) {
            found.problem(Severity::Error, LABEL_NAME);
        } else if let Some(value) = labels.get(&name).filter(|value| !is_label_value(value)) {
            found.problem(Severity::Error, format!("{value:?} {LABEL_VALUE}"));
        }
    }
    labels
}

fn topology_key(section: &Section<'_>, key: &'static str) -> String {
    let name = section.required(key, "nearness to other pods");
    if !name.is_empty() && !is_label_name(&name) {
        section.problem(Severity::Error, key, format!("{name:?} {LABEL_NAME}"));
    }
    name
}

const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];

fn operator(section: &Section<'_>, key: &'static str) -> String {
    let operator = section.required(key, "a requirement");
    if !operator.is_empty() && !OPERATORS.contains(&operator.as_str()) {
        let message = format!("{operator:?} is not one of {}", OPERATORS.join(", "));
        section.problem(Severity::Error, key, message);
    }
    operator
}

/// How many there must be depends on the operator (Kubernetes API).
fn values(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let values = section.texts(key);
    let wrong = match (section.text_or_empty("operator").as_str(), values.as_slice()) {
        ("In" | "NotIn", []) => Some("is empty, and this operator needs values"),
        ("Exists" | "DoesNotExist", [_, ..]) => Some("is not empty, and this operator has no values"),
        ("Gt" | "Lt", [one]) if one.parse::<i64>().is_ok() => None,
        ("Gt" | "Lt", _) => Some("must be one whole number as a text"),
        _ => None,
    };
    if let Some(message) = wrong.filter(|_| section.is_present()) {
        section.problem(Severity::Error, key, message);
    }
    values
}

/// From 1 to 100 (Kubernetes API).
fn weight(section: &Section<'_>, key: &'static str) -> i32 {
    let weight = section.int(key).unwrap_or(0);
    if section.is_present() && !(1..=100).contains(&weight) {
        section.problem(Severity::Error, key, "must be from 1 to 100");
    }
    i32::try_from(weight).unwrap_or(0)
}
