//! `only` and `except`, the older way to say when a job exists: refs, pipeline sources and
//! conditions.

use regex::Regex;

use super::clause::Changes;
use super::expr::Expr;
use super::field::Field;
use super::model::Repository;
use super::node::Value;
use super::problem::Report;
use super::rules;
use super::variables::Lookup;

/// Refs that name a pipeline source, and the value of `CI_PIPELINE_SOURCE` for each.
const SOURCES: &[(&str, &str)] = &[
    ("api", "api"),
    ("chat", "chat"),
    ("external", "external"),
    ("external_pull_requests", "external_pull_request_event"),
    ("merge_requests", "merge_request_event"),
    ("pipelines", "pipeline"),
    ("pushes", "push"),
    ("schedules", "schedule"),
    ("triggers", "trigger"),
    ("web", "web"),
];

/// One of the two keywords, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    refs: Option<Vec<Ref>>,
    variables: Option<Vec<Expr>>,
    changes: Option<Changes>,
    /// `kubernetes: active`: there is no cluster that GitLab deploys to.
    cluster: bool,
}

/// One entry of `refs`.
#[derive(Clone, Debug)]
struct Ref {
    /// What stands behind an `@`: the entry is about this project only.
    project: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Branches,
    Tags,
    Source(&'static str),
    Name(String),
    Pattern(Regex),
}

impl Policy {
    /// Reads `only` or `except`.
    pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Self {
        match &field.node.value {
            Value::Map(_) => {
                field.map_of(report, &["refs", "variables", "changes", "kubernetes"]);
                let cluster = field.get("kubernetes");
                if let Some(condition) = &cluster {
                    condition.warning(report, "is never true here: there is no cluster that GitLab deploys to");
                }
                Self {
                    refs: field.get("refs").map(|list| read_refs(&list, report)),
                    variables: field.get("variables").map(|list| read_conditions(&list, report)),
                    changes: field.get("changes").and_then(|changes| Changes::read(&changes, report)),
                    cluster: cluster.is_some(),
                }
            }
            _ => Self { refs: Some(read_refs(field, report)), ..Self::default() },
        }
    }

    /// `only`: every condition given holds.
    pub(super) fn includes(&self, lookup: &Lookup, repository: &dyn Repository, report: &mut Report) -> bool {
        !self.cluster
            && self.refs.as_ref().is_none_or(|refs| any_ref(refs, lookup))
            && self.variables.as_ref().is_none_or(|list| list.iter().any(|expr| expr.holds(lookup)))
            && self.changes.as_ref().is_none_or(|changes| changes.hold(lookup, repository, report))
    }

    /// `except`: any condition given holds.
    pub(super) fn excludes(&self, lookup: &Lookup, repository: &dyn Repository, report: &mut Report) -> bool {
        self.refs.as_ref().is_some_and(|refs| any_ref(refs, lookup))
            || self.variables.as_ref().is_some_and(|list| list.iter().any(|expr| expr.holds(lookup)))
            || self.changes.as_ref().is_some_and(|changes| changes.hold(lookup, repository, report))
    }
}

/// GitLab's default for a job without `rules`, `only` and `except`: pipelines of branches and tags.
pub(super) fn default_only() -> Policy {
    let refs = [Kind::Branches, Kind::Tags].map(|kind| Ref { project: None, kind });
    Policy { refs: Some(refs.into()), ..Policy::default() }
}

fn read_refs(field: &Field<'_>, report: &mut Report) -> Vec<Ref> {
    let mut refs = Vec::new();
    for text in field.text_or_texts(report).unwrap_or_default() {
        let (text, project) = match text.split_once('@') {
            Some((text, project)) => (text, Some(project.to_owned())),
            None => (text.as_str(), None),
        };
        let source = SOURCES.iter().find(|(name, _)| *name == text).map(|(_, source)| *source);
        let kind = match (text, source) {
            ("branches", _) => Kind::Branches,
            ("tags", _) => Kind::Tags,
            (_, Some(source)) => Kind::Source(source),
            _ => match report.patterns.literal(text) {
                Some(Ok(regex)) => Kind::Pattern(regex),
                Some(Err(error)) => {
                    field.problem(report, &error);
                    continue;
                }
                None => Kind::Name(text.to_owned()),
            },
        };
        refs.push(Ref { project, kind });
    }
    refs
}

fn read_conditions(field: &Field<'_>, report: &mut Report) -> Vec<Expr> {
    if field.list().is_none() {
        field.expected(report, "an array of expressions");
    }
    field.items().filter_map(|item| rules::expression(&item, report)).collect()
}

fn any_ref(refs: &[Ref], lookup: &Lookup) -> bool {
    let filled = |name: &str| lookup.get(name).filter(|value| !value.is_empty());
    let name = filled("CI_COMMIT_REF_NAME").or(filled("CI_COMMIT_TAG")).or(filled("CI_COMMIT_BRANCH")).unwrap_or("");
    let source = filled("CI_PIPELINE_SOURCE").unwrap_or("push");
    let is_tag = filled("CI_COMMIT_TAG").is_some();
    let is_branch = !is_tag && (filled("CI_COMMIT_BRANCH").is_some() || source != "merge_request_event");
    let is_meant = |one: &Ref| match &one.kind {
        Kind::Branches => is_branch,
        Kind::Tags => is_tag,
        Kind::Source(wanted) => *wanted == source,
        Kind::Pattern(regex) => regex.is_match(name),
        Kind::Name(wanted) => wanted == name,
    };
    let here = filled("CI_PROJECT_PATH");
    refs.iter().any(|one| one.project.as_deref().is_none_or(|project| here == Some(project)) && is_meant(one))
}
