//! `needs` as written; which jobs the names stand for is decided when all jobs are known.

use super::field::Field;
use super::parallel;
use super::problem::{At, Report};
use super::yaml::Value;

/// How many jobs one job may need; GitLab's limit.
const MAX_NEEDS: usize = 50;

/// Kinds of needs that reach outside this pipeline.
const FOREIGN: &[&str] = &["pipeline", "project", "ref"];

/// One entry of `needs`.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) job: String,
    pub(super) artifacts: bool,
    pub(super) optional: bool,
    /// `parallel:matrix`: the suffixes of the instances that are meant; `None` means all.
    pub(super) suffixes: Option<Vec<String>>,
    pub(super) at: At,
}

/// Reads `needs`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Vec<Needed> {
    let Some(items) = field.list() else {
        field.expected(report, "an array of jobs");
        return Vec::new();
    };
    if items.len() > MAX_NEEDS {
        let text = format!("config: one job can only need {MAX_NEEDS} others, but {} are listed", items.len());
        field.problem(report, &text);
    }
    let fields = field.items().take(MAX_NEEDS);
    fields.filter_map(|item| one(&item.renamed(format!("{}:need", field.path)), report)).collect()
}

fn one(field: &Field<'_>, report: &mut Report) -> Option<Needed> {
    let at = field.node.at.clone();
    match &field.node.value {
        Value::Text(job) if !job.is_empty() => {
            Some(Needed { job: job.to_string(), artifacts: true, optional: false, suffixes: None, at })
        }
        Value::Map(map) => {
            if let Some(key) = FOREIGN.iter().find(|key| map.contains_key(**key)) {
                let text =
                    format!("config with `{key}` is not supported here; only jobs of this pipeline can be needed");
                field.problem(report, &text);
                return None;
            }
            field.map_of(report, &["job", "artifacts", "optional", "parallel"]);
            let artifacts = field.get("artifacts").and_then(|flag| flag.flag(report)).unwrap_or(true);
            let optional = field.get("optional").and_then(|flag| flag.flag(report)).unwrap_or(false);
            let suffixes = field.get("parallel").and_then(|parallel| {
                parallel.map_of(report, &["matrix"])?;
                let combinations = parallel::combinations(&parallel.get("matrix")?, report);
                Some(combinations.iter().map(|variables| parallel::suffix(variables)).collect())
            });
            let Some(job) = field.get("job") else {
                field.problem(report, "job can't be blank");
                return None;
            };
            Some(Needed { job: job.text(report)?, artifacts, optional, suffixes, at })
        }
        _ => {
            field.expected(report, "a job's name or a hash");
            None
        }
    }
}
