//! `environment`: nothing is deployed here, but a job's script sees the variables that say where
//! to.

use super::field::Field;
use super::model::CiEnvironment;
use super::node::Value;
use super::problem::Report;

const KEYS: &[&str] =
    &["name", "url", "on_stop", "action", "auto_stop_in", "kubernetes", "deployment_tier", "rollback_job"];
const ACTIONS: &[&str] = &["start", "prepare", "stop", "verify", "access"];
const TIERS: &[&str] = &["production", "staging", "testing", "development", "other"];

/// Reads `environment`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<CiEnvironment> {
    field.warning(report, "makes no deployment here; only its variables are set");
    let action = || "start".to_owned();
    if let Value::Text(name) = &field.node.value {
        return Some(CiEnvironment { name: name.to_string(), url: None, action: action(), tier: None });
    }
    if field.node.as_map().is_none() {
        field.expected(report, "a hash or a string");
        return None;
    }
    field.map_of(report, KEYS)?;
    for key in ["on_stop", "auto_stop_in", "kubernetes", "rollback_job"] {
        if let Some(ignored) = field.get(key) {
            ignored.warning(report, "has no effect here: nothing is deployed");
        }
    }
    let Some(name) = field.get("name") else {
        field.problem(report, "config should have a `name`");
        return None;
    };
    let tier = field.get("deployment_tier");
    Some(CiEnvironment {
        name: name.text(report)?,
        url: field.get("url").and_then(|url| url.text(report)),
        action: field.get("action").and_then(|action| action.one_of(report, ACTIONS)).unwrap_or_else(action),
        tier: tier.and_then(|tier| match tier.as_text() {
            Some(text) if text.contains('$') => Some(text.to_owned()),
            _ => tier.one_of(report, TIERS),
        }),
    })
}
