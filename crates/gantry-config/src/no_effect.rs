//! Keys that are understood and do nothing yet: one warning each, where leaving them out would change what happens. This list is the one
//! place to shorten when such a key begins to work.

use toml::de::{DeTable, DeValue};

use crate::problem::Severity;
use crate::report::Report;
use crate::section::join;

/// Key paths, with `runners` standing for every entry, and what is done in spite of them.
const NO_EFFECT_YET: [(&[&str], &str); 16] = [
    (&["session_server", "listen_address"], "there are no interactive terminals"),
    (&["gantry", "fleet"], "managers do not take over each other's jobs"),
    (&["gantry", "ticket_key"], "pods carry no ticket"),
    (&["runners", "cache", "Type"], "caches are not kept between jobs"),
    (&["runners", "monitoring"], "queuing times are not watched"),
    (&["runners", "proxy_exec"], "commands are run directly"),
    (&["runners", "prepare_timeout"], "only poll_timeout limits how long a pod may take to start"),
    (&["runners", "get_sources_timeout"], "getting the sources may take as long as the job"),
    (&["runners", "experimental", "boot_verify", "enabled"], "the runner is polled at once"),
    (
        &["runners", "kubernetes", "pod_spec"],
        "jobs are refused where FF_USE_ADVANCED_POD_SPEC_CONFIGURATION is on, rather than run without the patches",
    ),
    (&["runners", "kubernetes", "bearer_token_overwrite_allowed"], "jobs that set KUBERNETES_BEARER_TOKEN are refused"),
    (&["runners", "kubernetes", "autoscaler"], "no pause pods are made"),
    (&["runners", "kubernetes", "namespace_per_job"], "jobs are refused, rather than run in a shared one"),
    (
        &["runners", "kubernetes", "resource_availability_check_max_attempts"],
        "nothing is waited for before a pod is made",
    ),
    (&["runners", "kubernetes", "retry_limits"], "errors of the API server are retried by their kind"),
    (&["runners", "kubernetes", "pod_disruption_budget"], "none is made"),
];

/// Adds the warnings for a file.
pub(crate) fn report(report: &Report<'_>, root: &DeTable<'_>) {
    for (path, instead) in &NO_EFFECT_YET {
        walk(report, root, (path, String::new()), instead);
    }
}

fn walk(report: &Report<'_>, table: &DeTable<'_>, (keys, path): (&[&str], String), instead: &str) {
    let Some((key, rest)) = keys.split_first() else { return };
    for (name, value) in table.iter().filter(|(name, _)| name.get_ref().eq_ignore_ascii_case(key)) {
        let path = join(&path, name.get_ref());
        if rest.is_empty() {
            if !is_blank(value.get_ref()) {
                let message = format!("accepted, has no effect yet: {instead}");
                report.add(Severity::Warning, value.span().start, &path, message);
            }
            continue;
        }
        match value.get_ref() {
            DeValue::Table(table) => walk(report, table, (rest, path), instead),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    if let DeValue::Table(table) = element.get_ref() {
                        walk(report, table, (rest, format!("{path}[{index}]")), instead);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a value says nothing: the reference writes many empty tables when it saves.
fn is_blank(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => text.is_empty(),
        DeValue::Boolean(value) => !value,
        DeValue::Integer(value) => value.as_str() == "0",
        DeValue::Array(array) => array.iter().all(|element| is_blank(element.get_ref())),
        DeValue::Table(table) => table.values().all(|value| is_blank(value.get_ref())),
        DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}
