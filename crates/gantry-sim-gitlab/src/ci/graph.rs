//! `needs` and `dependencies` between the jobs that exist: names are looked up, order and cycles are checked.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::job::Draft;
use super::model::{CiJob, CiNeed};
use super::needs::Needed;
use super::problem::{At, Report};

/// How many needs and dependencies all jobs together may have once parallel jobs are counted one by one.
const MAX_EDGES: usize = 200_000;

/// A job that exists, with the needs that apply to it.
pub(super) struct Planned {
    /// Which draft it is an instance of.
    pub(super) draft: usize,
    pub(super) job: CiJob,
    pub(super) needs: Option<Vec<Needed>>,
}

/// Names by which jobs can be found.
struct Names<'d> {
    drafts: IndexMap<&'d str, &'d Draft>,
    /// The full names of the instances that exist, by the job's name.
    instances: HashMap<String, Vec<String>>,
    stages: HashMap<&'d str, usize>,
}

/// Fills in `needs` and `dependencies` and orders the jobs; `None` if there are too many of them.
pub(super) fn connect(
    drafts: &[Draft],
    planned: Vec<Planned>,
    stages: &[String],
    report: &mut Report,
) -> Option<Vec<CiJob>> {
    let mut names = Names {
        drafts: drafts.iter().map(|draft| (draft.name.as_str(), draft)).collect(),
        instances: HashMap::new(),
        stages: stages.iter().enumerate().map(|(index, stage)| (stage.as_str(), index)).collect(),
    };
    for one in &planned {
        if let Some(draft) = drafts.get(one.draft) {
            names.instances.entry(draft.name.clone()).or_default().push(one.job.name.clone());
        }
    }
    let mut edges = 0_usize;
    let mut jobs = Vec::new();
    for mut one in planned {
        let Some(draft) = drafts.get(one.draft) else { continue };
        if let Some(needs) = &one.needs {
            let resolved: Vec<CiNeed> = needs.iter().flat_map(|need| names.need(draft, need, report)).collect();
            edges = edges.saturating_add(resolved.len());
            one.job.needs = Some(resolved);
        }
        if let Some(names) = names.dependencies(draft, one.needs.as_deref(), report) {
            edges = edges.saturating_add(names.len());
            one.job.dependencies = Some(names);
        }
        if edges > MAX_EDGES {
            report.problem(&draft.at, "", &format!("the jobs have more than {MAX_EDGES} needs and dependencies"));
            return None;
        }
        jobs.push((draft.at.clone(), one.job));
    }
    report_cycle(&jobs, report);
    let mut jobs: Vec<CiJob> = jobs.into_iter().map(|(_, job)| job).collect();
    jobs.sort_by_key(|job| names.stages.get(job.stage.as_str()).copied().unwrap_or(usize::MAX));
    Some(jobs)
}

impl Names<'_> {
    fn stage(&self, draft: &Draft) -> Option<usize> {
        self.stages.get(draft.stage.as_str()).copied()
    }

    /// The jobs that one entry of `needs` stands for.
    fn need(&self, draft: &Draft, need: &Needed, report: &mut Report) -> Vec<CiNeed> {
        let path = format!("jobs:{}:needs", draft.name);
        let Some(target) = self.drafts.get(need.job.as_str()) else {
            if !need.optional {
                let hint = self.hint(&need.job, report);
                report.problem(&need.at, &path, &format!("undefined need: {}{hint}", need.job));
            }
            return Vec::new();
        };
        if self.stage(target) > self.stage(draft) {
            let text = format!("need {} is not defined in current or prior stages", need.job);
            report.problem(&need.at, &path, &text);
            return Vec::new();
        }
        let present = self.instances.get(&need.job).map(Vec::as_slice).unwrap_or_default();
        let wanted: Vec<&String> = match &need.suffixes {
            None => present.iter().collect(),
            Some(suffixes) => {
                let wanted: HashSet<String> = suffixes.iter().map(|suffix| format!("{}{suffix}", need.job)).collect();
                present.iter().filter(|name| wanted.contains(*name)).collect()
            }
        };
        if wanted.is_empty() && !need.optional {
            let text = if need.suffixes.is_some() && !present.is_empty() {
                format!("no instance of {} has these matrix values", need.job)
            } else {
                format!("needs {}, but its rules leave it out of this pipeline; add `optional: true`", need.job)
            };
            report.problem(&need.at, &path, &text);
        }
        let artifacts = need.artifacts;
        let optional = need.optional;
        wanted.into_iter().map(|job| CiNeed { job: job.clone(), artifacts, optional }).collect()
    }

    /// The jobs that `dependencies` stand for. Jobs that rules leave out are left out here too, as in GitLab.
    fn dependencies(&self, draft: &Draft, needs: Option<&[Needed]>, report: &mut Report) -> Option<Vec<String>> {
        let path = format!("jobs:{}:dependencies", draft.name);
        let mut names = Vec::new();
        for depended in draft.dependencies.as_ref()? {
            let job = &depended.job;
            let needed = needs.map(|needs| needs.iter().any(|need| need.job == *job));
            let text = match self.drafts.get(job.as_str()) {
                None => Some(format!("undefined dependency: {job}{}", self.hint(job, report))),
                Some(_) if needed == Some(false) => Some(format!("the {job} should be part of needs")),
                Some(target) if self.stage(target) > self.stage(draft) => {
                    Some(format!("dependency {job} is not defined in current or prior stages"))
                }
                Some(target) if self.stage(target) == self.stage(draft) && needed.is_none() => Some(format!(
                    "dependency {job} is in the same stage; it has to be in an earlier one, or in `needs`"
                )),
                Some(_) => None,
            };
            match text {
                Some(text) => report.problem(&depended.at, &path, &text),
                None => names.extend(self.instances.get(job).into_iter().flatten().cloned()),
            }
        }
        Some(names)
    }

    fn hint(&self, name: &str, report: &mut Report) -> String {
        report.hint(name, self.drafts.keys().copied())
    }
}

/// Reports one cycle of needs, if there is any.
fn report_cycle(jobs: &[(At, CiJob)], report: &mut Report) {
    let mut waiting: HashMap<&str, Vec<&str>> = HashMap::new();
    for (_, job) in jobs {
        let needs = job.needs.iter().flatten().map(|need| need.job.as_str()).collect();
        waiting.insert(&job.name, needs);
    }
    // Take away jobs whose needs are all gone until nothing changes; what is left has a cycle.
    let mut needed_by: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (name, needs) in &waiting {
        open.insert(name, needs.len());
        for need in needs {
            needed_by.entry(need).or_default().push(name);
        }
    }
    let mut free: Vec<&str> = open.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    while let Some(name) = free.pop() {
        waiting.remove(name);
        for user in needed_by.get(name).into_iter().flatten() {
            if let Some(count) = open.get_mut(user) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(user);
                }
            }
        }
    }
    let Some((at, first)) = jobs.iter().find(|(_, job)| waiting.contains_key(job.name.as_str())) else { return };
    // From a job that is left, every step leads to another one that is left, so a name comes up twice.
    let mut path: Vec<&str> = vec![&first.name];
    let mut seen: HashSet<&str> = HashSet::from([first.name.as_str()]);
    while let Some(next) =
        path.last().and_then(|last| waiting.get(last)?.iter().find(|name| waiting.contains_key(*name)))
    {
        let start = path.iter().position(|name| name == next);
        path.push(next);
        if !seen.insert(next) {
            path.drain(..start.unwrap_or(0));
            break;
        }
    }
    report.problem(at, "jobs", &format!("needs form a cycle: {}", path.join(" → ")));
}
