//! `needs` and `dependencies` between the jobs that exist: names are looked up, order and cycles
//! are checked.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::job::Draft;
use super::model::{CiJob, CiNeed, CiVariable};
use super::needs::Needed;
use super::problem::{At, Report};

/// How many needs and dependencies all jobs together may have once parallel jobs are counted one by
/// one.
const MAX_EDGES: usize = 200_000;

/// A job that exists, with the needs that apply to it.
pub(super) struct Planned {
    /// Which draft it is an instance of.
    pub(super) draft: usize,
    pub(super) job: CiJob,
    pub(super) needs: Option<Vec<Needed>>,
    /// The values of a matrix job.
    pub(super) matrix: Vec<CiVariable>,
}

/// Names by which jobs can be found.
struct Names<'d> {
    drafts: IndexMap<&'d str, &'d Draft>,
    /// The jobs that have instances with names of their own, by these names.
    full: HashMap<String, &'d Draft>,
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
        full: drafts.iter().flat_map(|draft| full_names(draft).map(move |name| (name, draft))).collect(),
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
        if let Some(needs) = &mut one.needs {
            interpolate(draft, needs, &one.matrix, report);
            let firm_needs = needs.iter().filter(|need| !need.optional).map(|need| &need.job);
            one.job.not_here = one.job.not_here.or_else(|| names.lack(draft, firm_needs, report));
            let resolved: Vec<CiNeed> = needs.iter().flat_map(|need| names.need(draft, need, report)).collect();
            edges = edges.saturating_add(resolved.len());
            one.job.needs = Some(resolved);
        }
        let wanted = draft.dependencies.iter().flatten().map(|depended| &depended.job);
        one.job.not_here = one.job.not_here.or_else(|| names.lack(draft, wanted, report));
        if let Some(mut depended) = names.dependencies(draft, one.needs.as_deref(), report) {
            edges = edges.saturating_add(depended.len());
            // Both must want them: what `needs` leaves out with `artifacts: false` stays out.
            if let Some(needs) = &one.job.needs {
                let with: HashSet<&str> =
                    needs.iter().filter(|need| need.artifacts).map(|need| need.job.as_str()).collect();
                depended.retain(|name| with.contains(name.as_str()));
            }
            one.job.dependencies = Some(depended);
        }
        if edges > MAX_EDGES {
            report.problem(&draft.at, "", &format!("the jobs have more than {MAX_EDGES} needs and dependencies"));
            return None;
        }
        jobs.push((draft.at.clone(), one.job));
    }
    report_cycle(&jobs, report);
    let mut jobs: Vec<CiJob> = jobs.into_iter().map(|(_, job)| job).collect();
    leave_out_dependants(&mut jobs);
    jobs.sort_by_key(|job| names.stages.get(job.stage.as_str()).copied().unwrap_or(usize::MAX));
    Some(jobs)
}

/// The names of a job's instances, if they have their own.
fn full_names(draft: &Draft) -> impl Iterator<Item = String> + '_ {
    let named = draft.instances.iter().filter(|instance| !instance.suffix.is_empty());
    named.map(|instance| format!("{}{}", draft.name, instance.suffix))
}

/// The names of a job's instances, or its own.
fn all_names(draft: &Draft) -> Vec<String> {
    let names: Vec<String> = full_names(draft).collect();
    if names.is_empty() { vec![draft.name.clone()] } else { names }
}

/// Puts the values of a matrix job into its needs.
fn interpolate(draft: &Draft, needs: &mut [Needed], matrix: &[CiVariable], report: &mut Report) {
    for need in needs {
        match need.for_instance(matrix) {
            Ok(interpolated) => *need = interpolated,
            Err(name) => {
                let path = format!("jobs:{}:needs", draft.name);
                report.problem(&need.at, &path, &format!("'{name}' does not exist in matrix configuration"));
            }
        }
    }
}

/// What needs a job that is not run here, or its artifacts, is not run here either; where the need
/// is optional, it is as if the job did not exist.
fn leave_out_dependants(jobs: &mut [CiJob]) {
    let mut users: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, job) in jobs.iter().enumerate() {
        let needs = || job.needs.iter().flatten();
        let needed = needs().filter(|need| !need.optional).map(|need| &need.job);
        let is_optional = |name: &String| needs().any(|need| need.optional && need.job == *name);
        for name in needed.chain(job.dependencies.iter().flatten().filter(|name| !is_optional(name))) {
            users.entry(name.clone()).or_default().push(index);
        }
    }
    let mut gone: HashSet<String> = HashSet::new();
    let mut open: Vec<String> = jobs.iter().filter(|job| job.not_here.is_some()).map(|job| job.name.clone()).collect();
    while let Some(name) = open.pop() {
        for index in users.get(&name).into_iter().flatten() {
            if let Some(job) = jobs.get_mut(*index).filter(|job| job.not_here.is_none()) {
                job.not_here = Some(format!("it needs {name}, which is not run here ({}:{})", job.file, job.line));
                open.push(job.name.clone());
            }
        }
        gone.insert(name);
    }
    for needs in jobs.iter_mut().filter_map(|job| job.needs.as_mut()) {
        needs.retain(|need| !(need.optional && gone.contains(&need.job)));
    }
}

impl<'d> Names<'d> {
    /// Whether a job is in a later stage than another; of one whose stage is not known that is not
    /// said.
    fn is_later(&self, target: &Draft, draft: &Draft) -> bool {
        let known = !target.is_lacking && !draft.is_lacking;
        known && self.stage(target) > self.stage(draft)
    }

    fn stage(&self, draft: &Draft) -> Option<usize> {
        self.stages.get(draft.stage.as_str()).copied()
    }

    /// A job that is nowhere, if it may be that of a missing include.
    fn lack<'n>(&self, draft: &Draft, mut names: impl Iterator<Item = &'n String>, report: &Report) -> Option<String> {
        let whence = report.may_be_included()?;
        let name = names.find(|name| self.find(name).is_none())?;
        Some(format!("it needs {name}, which is not here: {whence} ({})", draft.at))
    }

    /// The job that a name stands for, and whether the name is that of one instance.
    fn find(&self, name: &str) -> Option<(&'d Draft, bool)> {
        let job = self.drafts.get(name).map(|draft| (*draft, false));
        job.or_else(|| self.full.get(name).map(|draft| (*draft, true)))
    }

    /// The instances that exist of what a name stands for.
    fn present<'n>(&'n self, target: &Draft, instance: Option<&'n str>) -> impl Iterator<Item = &'n String> {
        let all = self.instances.get(&target.name).into_iter().flatten();
        all.filter(move |name| instance.is_none_or(|wanted| wanted == name.as_str()))
    }

    /// The jobs that one entry of `needs` stands for.
    fn need(&self, draft: &Draft, need: &Needed, report: &mut Report) -> Vec<CiNeed> {
        let path = format!("jobs:{}:needs", draft.name);
        let Some((target, is_instance)) = self.find(&need.job) else {
            if !need.optional && report.may_be_included().is_none() {
                let hint = self.hint(&need.job, report);
                report.problem(&need.at, &path, &format!("undefined need: {}{hint}", need.job));
            }
            return Vec::new();
        };
        if self.is_later(target, draft) {
            let text = format!("need {} is not defined in current or prior stages", need.job);
            report.problem(&need.at, &path, &text);
            return Vec::new();
        }
        let mut wanted: Vec<&String> = self.present(target, is_instance.then_some(need.job.as_str())).collect();
        let exists = !wanted.is_empty();
        let suffixes = need.suffixes().filter(|_| !is_instance);
        if let Some(suffixes) = &suffixes {
            let names: HashSet<String> = suffixes.iter().map(|suffix| format!("{}{suffix}", need.job)).collect();
            wanted.retain(|name| names.contains(*name));
        }
        if wanted.is_empty() && !need.optional {
            let text = if suffixes.is_some() && exists {
                format!("no instance of {} has these matrix values", need.job)
            } else {
                format!("needs {}, but its rules leave it out of this pipeline; add `optional: true`", need.job)
            };
            report.problem(&need.at, &path, &text);
        }
        let (artifacts, optional) = (need.artifacts, need.optional);
        wanted.into_iter().map(|job| CiNeed { job: job.clone(), artifacts, optional }).collect()
    }

    /// Every name that an entry of `needs` covers, whether rules leave the job out or not.
    fn covered(&self, need: &Needed) -> Vec<String> {
        match (self.find(&need.job), need.suffixes()) {
            (Some((target, false)), Some(suffixes)) if !suffixes.is_empty() => {
                suffixes.iter().map(|suffix| format!("{}{suffix}", target.name)).collect()
            }
            (Some((target, false)), _) => all_names(target),
            _ => vec![need.job.clone()],
        }
    }

    /// The jobs that `dependencies` stand for. Jobs that rules leave out are left out here too, as
    /// in GitLab.
    fn dependencies(&self, draft: &Draft, needs: Option<&[Needed]>, report: &mut Report) -> Option<Vec<String>> {
        let path = format!("jobs:{}:dependencies", draft.name);
        let needed: Option<HashSet<String>> =
            needs.map(|needs| needs.iter().flat_map(|need| self.covered(need)).collect());
        let mut names = Vec::new();
        for depended in draft.dependencies.as_ref()? {
            let job = &depended.job;
            let found = self.find(job);
            let is_needed = |target: &Draft, is_instance: bool| {
                let wanted = if is_instance { vec![job.clone()] } else { all_names(target) };
                needed.as_ref().map(|needed| wanted.iter().all(|name| needed.contains(name)))
            };
            let text = match found {
                None => Some(format!("undefined dependency: {job}{}", self.hint(job, report))),
                Some((target, one)) if is_needed(target, one) == Some(false) => {
                    Some(format!("the {job} should be part of needs"))
                }
                Some((target, _)) if self.is_later(target, draft) => {
                    Some(format!("dependency {job} is not defined in current or prior stages"))
                }
                Some((target, _)) if self.stage(target) == self.stage(draft) && needed.is_none() => Some(format!(
                    "dependency {job} is in the same stage; it has to be in an earlier one, or in `needs`"
                )),
                Some(_) => None,
            };
            match (text, found) {
                (Some(_), None) if report.may_be_included().is_some() => {}
                (Some(text), _) => report.problem(&depended.at, &path, &text),
                (None, Some((target, one))) => {
                    names.extend(self.present(target, one.then_some(job.as_str())).cloned());
                }
                (None, None) => {}
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
    // From a job that is left, every step leads to another one that is left, so a name comes up
    // twice.
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
