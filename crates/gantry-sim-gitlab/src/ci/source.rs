//! Where one entry of `include:` leads: files of this repository, of directories that stand for
//! other projects, and of those that stand for URLs. What nothing stands for is missing, and said
//! with what would help.

use super::field::Field;
use super::inputs::Values;
use super::model::{FileLookup, Repository};
use super::node::Value;
use super::problem::{At, Report};
use super::variables::{Lookup, expand, expand_all};

/// Where GitLab keeps its own templates in its repository; a directory that stands for that project
/// has them.
const TEMPLATES: (&str, &str) = ("gitlab-org/gitlab", "lib/gitlab/ci/templates");

/// Keys of an entry beside those that say what it includes.
const COMMON: &[&str] = &["rules", "inputs"];

/// Whose files a file may include with `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// This repository's.
    Own,
    /// Those of another project.
    Project(String),
    /// It comes from a URL or from a job, and has no files beside it.
    Nowhere,
}

/// One file to include.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) home: Home,
    /// The path in its project; a URL for one without a home.
    pub(super) path: String,
    /// The job whose archive has the file.
    pub(super) job: Option<String>,
    /// What a component knows of itself.
    pub(super) component: Values,
}

/// The entry cannot be used: it is wrong and reported, or missing and noted.
pub(super) enum Lost {
    Refused,
    Missing,
}

/// What an entry is resolved with.
pub(super) struct IncludeContext<'p> {
    pub(super) repository: &'p dyn Repository,
    pub(super) lookup: &'p Lookup,
    /// Whose files `local` means.
    pub(super) home: &'p Home,
}

impl Source {
    pub(super) fn new(home: Home, path: impl Into<String>) -> Self {
        Self { home, path: path.into(), job: None, component: Values::new() }
    }

    /// The name under which problems of the file are reported.
    pub(super) fn name(&self) -> String {
        match (&self.home, &self.job) {
            (Home::Project(project), _) => format!("{project}:{}", self.path),
            (_, Some(job)) => format!("{} of {job}", self.path),
            _ => self.path.clone(),
        }
    }

    /// Reads the file.
    pub(super) fn read(&self, repository: &dyn Repository) -> FileLookup {
        match (&self.home, &self.job) {
            (_, Some(job)) => repository.artifact_file(job, &self.path).into(),
            (Home::Own, None) => repository.file(&self.path).into(),
            (Home::Project(project), None) => repository.project_file(project, &self.path),
            (Home::Nowhere, None) => repository.remote_file(&self.path),
        }
    }
}

impl IncludeContext<'_> {
    /// The files that an entry stands for.
    pub(super) fn resolve(&self, field: &Field<'_>, report: &mut Report) -> Result<Vec<Source>, Lost> {
        let at = &field.node.at;
        match &field.node.value {
            Value::Text(url) if url.contains("://") => Ok(vec![self.remote(url)]),
            Value::Text(path) => self.local(at, path, report),
            Value::Map(_) => self.by_kind(field, report),
            Value::Broken => Err(Lost::Refused),
            _ => {
                field.expected(report, "a path or a hash with `local`");
                Err(Lost::Refused)
            }
        }
    }

    fn by_kind(&self, field: &Field<'_>, report: &mut Report) -> Result<Vec<Source>, Lost> {
        let text = |key: &str, report: &mut Report| field.get(key).and_then(|value| value.text(report));
        let kinds = ["local", "project", "remote", "template", "component", "artifact"];
        let Some(kind) = kinds.into_iter().find(|kind| field.get(kind).is_some()) else {
            let text = "config should have one of `local`, `project`, `remote`, `template` and `component`";
            field.problem(report, text);
            return Err(Lost::Refused);
        };
        let more: &[&str] = match kind {
            "project" => &["project", "file", "ref"],
            "remote" => &["remote", "integrity", "cache"],
            "artifact" => &["artifact", "job"],
            "local" => &["local"],
            "template" => &["template"],
            _ => &["component"],
        };
        field.map_of(report, &[more, COMMON].concat());
        let what = text(kind, report).ok_or(Lost::Refused)?;
        // Where nothing stands for the place, that is said instead.
        let is_here = match kind {
            "project" => match self.home_of(&what) {
                Home::Project(project) => !matches!(self.repository.project_file(&project, ""), FileLookup::Unmapped),
                _ => true,
            },
            _ => !matches!(self.remote(&what).read(self.repository), FileLookup::Unmapped),
        };
        for key in ["ref", "integrity", "cache"] {
            if let Some(ignored) = field.get(key).filter(|_| is_here) {
                ignored.warning(report, "is not looked at here: what stands for the place is taken as it is");
            }
        }
        match kind {
            "local" => self.local(&field.node.at, &what, report),
            "project" => self.project(field, &what, report),
            "remote" => Ok(vec![self.remote(&what)]),
            "template" => {
                let (project, directory) = TEMPLATES;
                let name = expand(&what, self.lookup);
                Ok(vec![Source::new(Home::Project(project.to_owned()), format!("{directory}/{name}"))])
            }
            "component" => self.component(field, &what, report),
            _ => {
                let Some(job) = text("job", report) else {
                    field.problem(report, "config should have the `job` that makes the artifact");
                    return Err(Lost::Refused);
                };
                let path = normal(&expand(&what, self.lookup));
                Ok(vec![Source { job: Some(job), ..Source::new(Home::Own, path) }])
            }
        }
    }

    /// A path, or a pattern with `*` (within one part of a path) and `**`.
    fn local(&self, at: &At, path: &str, report: &mut Report) -> Result<Vec<Source>, Lost> {
        let path = normal(&expand(path, self.lookup));
        let source = |path: &str| Source::new(self.home.clone(), path);
        if !path.contains('*') {
            return match self.home {
                Home::Nowhere => {
                    report.problem(at, "include", &format!("`{path}`: a file without a project has no local files"));
                    Err(Lost::Refused)
                }
                _ => Ok(vec![source(&path)]),
            };
        }
        let paths = match self.home {
            Home::Own => Some(self.repository.paths()),
            Home::Project(project) => self.repository.project_paths(project),
            Home::Nowhere => None,
        };
        let pattern = regex::escape(&path).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
        let pattern = regex::Regex::new(&format!("^{pattern}$")).map_err(|_| Lost::Refused)?;
        let paths = paths.unwrap_or_default();
        let found: Vec<Source> = paths.iter().filter(|path| pattern.is_match(path)).map(|path| source(path)).collect();
        if found.is_empty() {
            // GitLab says nothing about it.
            report.warning(at, "include", &format!("`{path}`: no file of the repository is meant by it"));
        }
        Ok(found)
    }

    fn project(&self, field: &Field<'_>, project: &str, report: &mut Report) -> Result<Vec<Source>, Lost> {
        let home = self.home_of(project);
        let Some(files) = field.get("file") else {
            field.problem(report, "config should have the `file` to include, or a list of them");
            return Err(Lost::Refused);
        };
        let files = files.text_or_texts(report).ok_or(Lost::Refused)?;
        let source = |file: String| Source::new(home.clone(), normal(&expand(&file, self.lookup)));
        Ok(files.into_iter().map(source).collect())
    }

    /// A URL; one of a raw file in a GitLab is as good as a file of the project.
    fn remote(&self, url: &str) -> Source {
        Source::new(Home::Nowhere, expand(url, self.lookup))
    }

    /// `host/group/project/name@version`: one of two files of the project.
    fn component(&self, field: &Field<'_>, address: &str, report: &mut Report) -> Result<Vec<Source>, Lost> {
        let address = expand_all(address, self.lookup);
        let parts = address.split_once('@').and_then(|(path, version)| {
            let (_, path) = path.split_once('/')?;
            let (project, name) = path.rsplit_once('/')?;
            Some((project, name, version))
        });
        let Some((project, name, version)) = parts else {
            let text = format!("component `{address}` should be written as host/group/project/name@version");
            field.problem(report, &text);
            return Err(Lost::Refused);
        };
        let home = self.home_of(project);
        let commit = self.lookup.get("CI_COMMIT_SHA").unwrap_or_default();
        let known = [("name", name), ("version", version), ("reference", version), ("sha", commit)];
        let component: Values = known.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let candidates = [format!("templates/{name}.yml"), format!("templates/{name}/template.yml")];
        let sources = candidates.map(|path| Source { component: component.clone(), ..Source::new(home.clone(), path) });
        for source in &sources {
            match source.read(self.repository) {
                FileLookup::Text(_) => return Ok(vec![source.clone()]),
                FileLookup::Nothing => {}
                FileLookup::Unmapped => return Err(missing(&field.node.at, source, report)),
            }
        }
        let [first, second] = candidates_of(&sources);
        let text = format!("component `{address}`: {project} has neither {first} nor {second}");
        report.problem(&field.node.at, "include", &text);
        Err(Lost::Refused)
    }

    /// This project's own files are at hand.
    fn home_of(&self, project: &str) -> Home {
        let project = expand(project, self.lookup);
        let project = project.trim_matches('/');
        if self.lookup.get("CI_PROJECT_PATH") == Some(project) { Home::Own } else { Home::Project(project.to_owned()) }
    }
}

fn candidates_of(sources: &[Source; 2]) -> [&str; 2] {
    sources.each_ref().map(|source| source.path.as_str())
}

/// Notes that nothing stands for a place, and says what would help.
pub(super) fn missing(at: &At, source: &Source, report: &mut Report) -> Lost {
    let (what, help) = match &source.home {
        Home::Project(project) if *project == TEMPLATES.0 && source.path.starts_with(TEMPLATES.1) => {
            let name = source.path.trim_start_matches(TEMPLATES.1).trim_start_matches('/');
            (format!("of the template {name}"), format!("--include-project {project}=DIR, a checkout of GitLab itself"))
        }
        Home::Project(project) => (format!("of the project {project}"), format!("--include-project {project}=DIR")),
        _ => (format!("of {}", source.path), "--include-remote URL=FILE".to_owned()),
    };
    report.missing_include(at, &format!("{what} needs a copy here, {help}"));
    Lost::Missing
}

/// A path from the root of its project.
pub(super) fn normal(path: &str) -> String {
    path.trim_start_matches("./").trim_start_matches('/').to_owned()
}
