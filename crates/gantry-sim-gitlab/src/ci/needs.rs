//! `needs` as written; which jobs the names stand for is decided when all jobs are known.

use super::field::Field;
use super::model::CiVariable;
use super::node::Value;
use super::parallel;
use super::problem::{At, Report};

/// How many jobs one job may need; GitLab's limit.
const MAX_NEEDS: usize = 50;

/// Kinds of needs that reach outside this pipeline.
const FOREIGN: &[&str] = &["project", "ref"];

/// One entry of `needs`.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    pub(super) job: String,
    pub(super) artifacts: bool,
    pub(super) optional: bool,
    /// `parallel:matrix`: the values of the instances that are meant; `None` means all.
    pub(super) matrix: Option<Vec<Vec<CiVariable>>>,
    pub(super) at: At,
}

/// What a job needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    pub(super) jobs: Vec<Needed>,
    /// Artifacts of the parent pipeline: the text that names the pipeline, and the job.
    pub(super) upstream: Vec<(String, String)>,
    /// Needs that reach outside this pipeline: where the first stands, and why it cannot be had.
    pub(super) foreign: Option<(At, String)>,
}

impl Needs {
    /// Nothing but artifacts of the parent: GitLab then keeps the order of stages.
    pub(super) fn is_only_upstream(&self) -> bool {
        self.jobs.is_empty() && !self.upstream.is_empty()
    }
}

impl Needed {
    /// The same with the values of a matrix job in place of `$[[ matrix.NAME ]]`; the error is a
    /// name that it has not.
    pub(super) fn for_instance(&self, own: &[CiVariable]) -> Result<Self, String> {
        let mut needed = self.clone();
        // As in GitLab: only a job with a matrix of its own has such values.
        if own.is_empty() {
            return Ok(needed);
        }
        needed.job = parallel::interpolate(&self.job, own)?;
        for variable in needed.matrix.iter_mut().flatten().flatten() {
            variable.value = parallel::interpolate(&variable.value, own)?;
        }
        Ok(needed)
    }

    /// The suffixes of the instances that are meant; `None` means all.
    pub(super) fn suffixes(&self) -> Option<Vec<String>> {
        let combinations = self.matrix.as_ref()?;
        Some(combinations.iter().map(|variables| parallel::suffix(variables)).collect())
    }
}

/// Reads `needs`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Needs {
    let mut needs = Needs::default();
    let items = match &field.node.value {
        Value::Map(_) => vec![Field::new(field.node, field.path.clone())],
        Value::List(_) => field.flat_items(),
        _ => {
            field.expected(report, "an array of jobs");
            return needs;
        }
    };
    if items.len() > MAX_NEEDS {
        let text = format!("config: one job can only need {MAX_NEEDS} others, but {} are listed", items.len());
        field.problem(report, &text);
    }
    for item in items.into_iter().take(MAX_NEEDS) {
        let foreign = item.node.as_map().and_then(|map| FOREIGN.iter().find(|key| map.contains_key(**key)));
        match foreign {
            Some(key) => {
                let text = format!("`needs` with `{key}` is not supported here: there is only this pipeline");
                needs.foreign.get_or_insert((item.node.at.clone(), text));
            }
            None if item.has("pipeline") => upstream(&item, &mut needs, report),
            None => needs.jobs.extend(one(&item.renamed(format!("{}:need", field.path)), report)),
        }
    }
    needs
}

/// Whether an entry stands for a whole pipeline: a job without a script then mirrors its state.
pub(super) fn mirrors(field: &Field<'_>) -> bool {
    let is_pipeline = |item: &Field<'_>| item.has("pipeline") && !item.has("job");
    is_pipeline(field) || field.flat_items().iter().any(is_pipeline)
}

/// `pipeline` with a `job`: its artifacts. Alone it mirrors the state of another project's
/// pipeline.
fn upstream(item: &Field<'_>, needs: &mut Needs, report: &mut Report) {
    item.map_of(report, &["pipeline", "job", "artifacts"]);
    let text = |key: &str, report: &mut Report| item.get(key).and_then(|value| value.plain(report));
    if let (Some(pipeline), Some(job)) = (text("pipeline", report), text("job", report)) {
        let artifacts = item.get("artifacts").and_then(|flag| flag.flag(report)).unwrap_or(true);
        needs.upstream.extend(artifacts.then_some((pipeline, job)));
    } else {
        let text = "`needs` with the `pipeline` of a project is not supported here: there is only this project";
        needs.foreign.get_or_insert((item.node.at.clone(), text.to_owned()));
    }
}

fn one(field: &Field<'_>, report: &mut Report) -> Option<Needed> {
    let at = field.node.at.clone();
    match &field.node.value {
        Value::Text(job) if !job.is_empty() => {
            Some(Needed { job: job.to_string(), artifacts: true, optional: false, matrix: None, at })
        }
        Value::Map(_) => {
            field.map_of(report, &["job", "artifacts", "optional", "parallel"]);
            let artifacts = field.get("artifacts").and_then(|flag| flag.flag(report)).unwrap_or(true);
            let optional = field.get("optional").and_then(|flag| flag.flag(report)).unwrap_or(false);
            let matrix = field.get("parallel").and_then(|parallel| {
                parallel.map_of(report, &["matrix"])?;
                Some(parallel::combinations(&parallel.get("matrix")?, report))
            });
            let Some(job) = field.get("job") else {
                field.problem(report, "job can't be blank");
                return None;
            };
            Some(Needed { job: job.text(report)?, artifacts, optional, matrix, at })
        }
        _ => {
            field.expected(report, "a job's name or a hash");
            None
        }
    }
}
