//! `changes` and `exists`: what rules ask about the repository.

use super::field::Field;
use super::glob::Glob;
use super::model::Repository;
use super::node::Value;
use super::problem::{At, Report};
use super::variables::{Lookup, expand, expand_all};

/// How many paths or patterns one of them may have; GitLab's limit.
const MAX_PATTERNS: usize = 50;

/// `changes`.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    paths: Vec<String>,
    compare_to: Option<(String, At)>,
}

/// `exists`.
#[derive(Clone, Debug)]
pub(super) struct Exists {
    paths: Vec<String>,
    /// Where `project` stands, and which it is.
    project: Option<(String, At)>,
}

impl Changes {
    /// Reads the list of paths, or `paths` with `compare_to`.
    pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Self> {
        let compare_to = field.get("compare_to");
        let paths = paths(field, &["paths", "compare_to"], report)?;
        let compare_to = compare_to.and_then(|git_ref| Some((git_ref.text(report)?, git_ref.node.at.clone())));
        Some(Self { paths, compare_to })
    }

    /// Whether any of the files is among those that changed.
    pub(super) fn hold(&self, lookup: &Lookup, repository: &dyn Repository, report: &mut Report) -> bool {
        let changed = match &self.compare_to {
            None => repository.changed(),
            Some((git_ref, at)) => {
                let git_ref = expand_all(git_ref, lookup);
                let changed = repository.changed_since(&git_ref);
                if changed.is_none() {
                    let text = format!("is not a valid ref: there is no {git_ref} here, or nothing in common with it");
                    report.problem(at, "rules:changes:compare_to", &text);
                }
                changed
            }
        };
        changed.is_none_or(|changed| self.among(&changed, lookup, report))
    }

    /// Whether any of these files is meant.
    fn among(&self, changed: &[String], lookup: &Lookup, report: &mut Report) -> bool {
        if !report.may_compare(changed.len().saturating_mul(self.paths.len())) {
            return true;
        }
        let globs: Vec<Glob> = self.paths.iter().map(|path| Glob::new(&expand_all(path, lookup))).collect();
        changed.iter().any(|path| globs.iter().any(|glob| glob.matches(path)))
    }
}

impl Exists {
    /// Reads the list of paths, or `paths` with `project`.
    pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Self> {
        let project = field.get("project").and_then(|name| Some((name.text(report)?, name.node.at.clone())));
        if let Some(git_ref) = field.get("ref") {
            git_ref
                .warning(report, "is not looked at here: the directory that stands for the project is taken as it is");
        }
        Some(Self { paths: paths(field, &["paths", "project", "ref"], report)?, project })
    }

    /// Whether any of the files or, with a slash at the end, directories is there; the error is why
    /// that cannot be told.
    pub(super) fn holds(
        &self,
        lookup: &Lookup,
        repository: &dyn Repository,
        report: &mut Report,
    ) -> Result<bool, (&At, &'static str)> {
        let files = match &self.project {
            None => repository.paths(),
            Some((project, at)) => {
                let project = expand(project, lookup);
                let is_own = lookup.get("CI_PROJECT_PATH") == Some(project.as_str());
                let files = if is_own { Some(repository.paths()) } else { repository.project_paths(&project) };
                files.ok_or((at, "`exists:project` needs a copy of the project here, --include-project PROJECT=DIR"))?
            }
        };
        let wanted: Vec<String> = self.paths.iter().map(|path| expand(path, lookup)).collect();
        let is_there = |wanted: &String| {
            let directory = wanted.strip_suffix('/');
            files.iter().any(|file| match directory {
                Some(directory) => file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
                None => file == wanted,
            })
        };
        if wanted.iter().any(is_there) {
            return Ok(true);
        }
        let patterns: Vec<&String> = wanted.iter().filter(|path| path.contains(['*', '?', '[', '{', '\\'])).collect();
        if !report.may_compare(files.len().saturating_mul(patterns.len())) {
            return Ok(true);
        }
        let globs: Vec<Glob> = patterns.into_iter().map(|pattern| Glob::new(pattern)).collect();
        let has_directories = self.paths.iter().any(|path| path.ends_with('/'));
        Ok(files.iter().any(|file| {
            let above = file.char_indices().filter(|(_, c)| *c == '/' && has_directories);
            let directories = above.filter_map(|(index, _)| file.get(..=index));
            std::iter::once(file.as_str()).chain(directories).any(|path| globs.iter().any(|glob| glob.matches(path)))
        }))
    }
}

/// The paths of either form; `long` are the keys of the long one.
fn paths(field: &Field<'_>, long: &[&str], report: &mut Report) -> Option<Vec<String>> {
    let list = match &field.node.value {
        Value::Map(_) => {
            field.map_of(report, long);
            let Some(list) = field.get("paths") else {
                field.problem(report, "config should have `paths`");
                return None;
            };
            list
        }
        _ => field.clone(),
    };
    let paths = list.texts(report)?;
    if paths.len() > MAX_PATTERNS {
        list.problem(report, &format!("has too many entries (maximum {MAX_PATTERNS})"));
    }
    Some(paths)
}
