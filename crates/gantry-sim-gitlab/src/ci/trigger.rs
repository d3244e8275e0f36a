//! `trigger`: jobs that start a pipeline of the same project. Those of other projects cannot be
//! started here.

use super::field::Field;
use super::model::CiTrigger;
use super::node::{Node, Value};
use super::problem::Report;

const KEYS: &[&str] = &["include", "project", "branch", "strategy", "forward", "inputs"];
const FORWARD: &[&str] = &["yaml_variables", "pipeline_variables"];
const STRATEGIES: &[&str] = &["depend", "mirror"];

/// How many files one child's configuration may be made of; GitLab's limit.
const MAX_FILES: usize = 3;

/// What `trigger` asks for.
pub(super) enum Triggered {
    Child(CiTrigger),
    /// A pipeline that cannot be started here: why.
    NotHere(String),
}

/// Reads `trigger`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Triggered> {
    if let Value::Text(project) = &field.node.value {
        return Some(other_project(project));
    }
    field.map_of(report, KEYS)?;
    if let Some(branch) = field.get("branch") {
        branch.text(report);
    }
    let strategy = field.get("strategy").and_then(|strategy| strategy.one_of(report, STRATEGIES));
    let flags = forwarded(field, report);
    let Some(include) = field.get("include") else {
        let Some(project) = field.get("project") else {
            field.problem(report, "config should have `include` or `project`");
            return None;
        };
        return Some(other_project(&project.text(report)?));
    };
    if field.has("project") {
        field.problem(report, "config should have either `include` or `project`, not both");
        return None;
    }
    let count = include.list().map_or(1, <[Node]>::len);
    if count == 0 || count > MAX_FILES {
        include.problem(report, &format!("config should have 1 to {MAX_FILES} files"));
    }
    let inputs = field.get("inputs");
    let inputs = inputs.as_ref().and_then(|inputs| inputs.map(report));
    let inputs = inputs.into_iter().flatten().map(|(name, entry)| (name.clone(), entry.value.inline()));
    Some(Triggered::Child(CiTrigger {
        config: serde_json::json!({"include": include.node.json()}).to_string(),
        artifacts_of: artifacts_of(&include),
        inputs: inputs.collect(),
        depends: strategy.is_some(),
        forwards_yaml_variables: flags[0].unwrap_or(true),
        forwards_pipeline_variables: flags[1].unwrap_or(false),
    }))
}

fn other_project(project: &str) -> Triggered {
    Triggered::NotHere(format!("of the project {project} is not supported here: there is only this project"))
}

fn forwarded(field: &Field<'_>, report: &mut Report) -> [Option<bool>; 2] {
    let Some(forward) = field.get("forward") else { return [None; 2] };
    forward.map_of(report, FORWARD);
    ["yaml_variables", "pipeline_variables"].map(|key| forward.get(key).and_then(|flag| flag.flag(report)))
}

/// The jobs that make files of the child's configuration.
fn artifacts_of(include: &Field<'_>) -> Vec<String> {
    let single = std::slice::from_ref(include.node);
    let items = include.list().unwrap_or(single).iter().map(|item| Field::new(item, ""));
    items.filter(|item| item.has("artifact")).filter_map(|item| Some(item.get("job")?.as_text()?.to_owned())).collect()
}
