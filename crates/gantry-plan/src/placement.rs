//! Where a pod runs, which names it resolves, and what happens around its containers: settings of
//! the config in the words of the Kubernetes API. Nothing here decides anything.

use std::collections::BTreeMap;

use gantry_config::settings::affinity::{Affinity, LabelSelector, NodeTerm, PodAffinity, PodTerm, Requirement};
use gantry_config::settings::pod::{ContainerLifecycle, DnsConfig, DnsPolicy, HttpGet, LifecycleHandler};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// `dnsPolicy`, which is always written.
pub(crate) fn dns_policy(policy: Option<DnsPolicy>) -> &'static str {
    match policy {
        None | Some(DnsPolicy::ClusterFirst) => "ClusterFirst",
        Some(DnsPolicy::None) => "None",
        Some(DnsPolicy::Default) => "Default",
        Some(DnsPolicy::ClusterFirstWithHostNet) => "ClusterFirstWithHostNet",
    }
}

/// `dnsConfig`.
pub(crate) fn dns_config(config: &DnsConfig) -> Option<api::PodDNSConfig> {
    let option = |(name, value): &(String, Option<String>)| api::PodDNSConfigOption {
        name: Some(name.clone()),
        value: value.clone(),
    };
    (*config != DnsConfig::default()).then(|| api::PodDNSConfig {
        nameservers: filled(&config.nameservers),
        searches: filled(&config.searches),
        options: some(config.options.iter().map(option).collect()),
    })
}

/// `tolerations`: `key=value` tolerates that taint, `key` every value of it, an empty key
/// everything.
pub(crate) fn tolerations(configured: &BTreeMap<String, String>) -> Option<Vec<api::Toleration>> {
    let toleration = |(key, effect): (&String, &String)| {
        let effect = (!effect.is_empty()).then(|| effect.clone());
        match key.split_once('=') {
            Some((key, value)) => api::Toleration {
                key: Some(key.to_owned()),
                operator: Some("Equal".to_owned()),
                value: Some(value.to_owned()),
                effect,
                ..Default::default()
            },
            None => api::Toleration {
                key: (!key.is_empty()).then(|| key.clone()),
                operator: Some("Exists".to_owned()),
                effect,
                ..Default::default()
            },
        }
    };
    some(configured.iter().map(toleration).collect())
}

/// `affinity`; `None` where nothing is configured.
pub(crate) fn affinity(configured: &Affinity) -> Option<api::Affinity> {
    let Affinity { node, pod, pod_anti } = configured;
    let preferred = |(weight, term): &(i32, NodeTerm)| api::PreferredSchedulingTerm {
        weight: *weight,
        preference: node_term(term),
    };
    let node = (!node.required.is_empty() || !node.preferred.is_empty()).then(|| api::NodeAffinity {
        required_during_scheduling_ignored_during_execution: (!node.required.is_empty())
            .then(|| api::NodeSelector { node_selector_terms: node.required.iter().map(node_term).collect() }),
        preferred_during_scheduling_ignored_during_execution: some(node.preferred.iter().map(preferred).collect()),
    });
    let pod = (*pod != PodAffinity::default()).then(|| {
        let (required, preferred) = pod_terms(pod);
        api::PodAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        }
    });
    let pod_anti = (*pod_anti != PodAffinity::default()).then(|| {
        let (required, preferred) = pod_terms(pod_anti);
        api::PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: required,
            preferred_during_scheduling_ignored_during_execution: preferred,
        }
    });
    (node.is_some() || pod.is_some() || pod_anti.is_some()).then_some(api::Affinity {
        node_affinity: node,
        pod_affinity: pod,
        pod_anti_affinity: pod_anti,
    })
}

fn node_term(term: &NodeTerm) -> api::NodeSelectorTerm {
    let requirement = |requirement: &Requirement| api::NodeSelectorRequirement {
        key: requirement.key.clone(),
        operator: requirement.operator.clone(),
        values: filled(&requirement.values),
    };
    api::NodeSelectorTerm {
        match_expressions: some(term.match_expressions.iter().map(requirement).collect()),
        match_fields: some(term.match_fields.iter().map(requirement).collect()),
    }
}

type PodTerms = (Option<Vec<api::PodAffinityTerm>>, Option<Vec<api::WeightedPodAffinityTerm>>);

fn pod_terms(affinity: &PodAffinity) -> PodTerms {
    let weighted = |(weight, term): &(i32, PodTerm)| api::WeightedPodAffinityTerm {
        weight: *weight,
        pod_affinity_term: pod_term(term),
    };
    (some(affinity.required.iter().map(pod_term).collect()), some(affinity.preferred.iter().map(weighted).collect()))
}

fn pod_term(term: &PodTerm) -> api::PodAffinityTerm {
    api::PodAffinityTerm {
        label_selector: term.label_selector.as_ref().map(selector),
        namespaces: filled(&term.namespaces),
        topology_key: term.topology_key.clone(),
        namespace_selector: term.namespace_selector.as_ref().map(selector),
        match_label_keys: filled(&term.match_label_keys),
        mismatch_label_keys: filled(&term.mismatch_label_keys),
    }
}

fn selector(selector: &LabelSelector) -> meta::LabelSelector {
    let requirement = |requirement: &Requirement| meta::LabelSelectorRequirement {
        key: requirement.key.clone(),
        operator: requirement.operator.clone(),
        values: filled(&requirement.values),
    };
    meta::LabelSelector {
        match_labels: (!selector.match_labels.is_empty()).then(|| selector.match_labels.clone()),
        match_expressions: some(selector.match_expressions.iter().map(requirement).collect()),
    }
}

/// `lifecycle` of helper, build and services.
pub(crate) fn lifecycle(configured: &ContainerLifecycle) -> Option<api::Lifecycle> {
    (*configured != ContainerLifecycle::default()).then(|| api::Lifecycle {
        post_start: configured.post_start.as_ref().map(handler),
        pre_stop: configured.pre_stop.as_ref().map(handler),
        ..Default::default()
    })
}

/// Whether a hook is a command, which has the environment of its container.
pub(crate) fn runs_hook(configured: &ContainerLifecycle) -> bool {
    let hooks = [&configured.post_start, &configured.pre_stop];
    hooks.into_iter().flatten().any(|hook| matches!(hook, LifecycleHandler::Exec(_)))
}

fn handler(handler: &LifecycleHandler) -> api::LifecycleHandler {
    let mut made = api::LifecycleHandler::default();
    match handler {
        LifecycleHandler::Exec(command) => made.exec = Some(api::ExecAction { command: filled(command) }),
        LifecycleHandler::HttpGet(get) => made.http_get = Some(http_get(get)),
        LifecycleHandler::TcpSocket { host, port } => {
            made.tcp_socket = Some(api::TCPSocketAction { host: host.clone(), port: IntOrString::Int((*port).into()) });
        }
    }
    made
}

fn http_get(get: &HttpGet) -> api::HTTPGetAction {
    let header = |(name, value): &(String, String)| api::HTTPHeader { name: name.clone(), value: value.clone() };
    api::HTTPGetAction {
        host: get.host.clone(),
        http_headers: some(get.headers.iter().map(header).collect()),
        path: get.path.clone(),
        port: IntOrString::Int(get.port.into()),
        scheme: get.scheme.clone(),
    }
}

/// A list, unless there is nothing in it.
fn filled(list: &[String]) -> Option<Vec<String>> {
    some(list.to_vec())
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
