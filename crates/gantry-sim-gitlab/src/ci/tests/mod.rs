//! Tests of the reader through its one entry point.

mod absent;
mod golden;
mod graph;
mod includes;
mod jobs;
mod keywords;
mod layout;
mod merging;
mod presence;
mod problems;
mod robust;
mod sample;

use std::rc::Rc;

use super::{CiInput, CiJob, CiPipeline, FileLookup, Repository, read};

/// Variables of a push to `main`.
const PUSH: &[(&str, &str)] = &[
    ("CI_COMMIT_BRANCH", "main"),
    ("CI_COMMIT_REF_NAME", "main"),
    ("CI_DEFAULT_BRANCH", "main"),
    ("CI_PIPELINE_SOURCE", "push"),
    ("CI_PROJECT_PATH", "group/project"),
];

type Files<'a> = &'a [(&'a str, &'a str)];

/// A repository with these files, and what of it changed: since the last push, and since `main`.
#[derive(Default)]
struct Tree<'a> {
    files: Files<'a>,
    changed: Option<&'a [&'a str]>,
    since_main: &'a [&'a str],
    /// Files of other projects: project, path, text.
    projects: &'a [(&'a str, &'a str, &'a str)],
    /// Files of URLs.
    urls: Files<'a>,
}

impl Repository for Tree<'_> {
    fn file(&self, path: &str) -> Option<String> {
        self.files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    fn paths(&self) -> Rc<[String]> {
        self.files.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn changed(&self) -> Option<Rc<[String]>> {
        self.changed.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect())
    }

    fn changed_since(&self, git_ref: &str) -> Option<Rc<[String]>> {
        (git_ref == "main").then(|| self.since_main.iter().map(|path| (*path).to_owned()).collect())
    }

    fn project_file(&self, project: &str, path: &str) -> FileLookup {
        let mut files = self.projects.iter().filter(|(name, ..)| *name == project).peekable();
        if files.peek().is_none() {
            return FileLookup::Unmapped;
        }
        files.find(|(_, name, _)| *name == path).map(|(.., text)| (*text).to_owned()).into()
    }

    fn project_paths(&self, project: &str) -> Option<Rc<[String]>> {
        let files = self.projects.iter().filter(|(name, ..)| *name == project);
        let paths: Vec<String> = files.map(|(_, path, _)| (*path).to_owned()).collect();
        (!paths.is_empty()).then(|| paths.into())
    }

    fn remote_file(&self, url: &str) -> FileLookup {
        let file = self.urls.iter().find(|(name, _)| *name == url);
        file.map_or(FileLookup::Unmapped, |(_, text)| FileLookup::Text((*text).to_owned()))
    }
}

/// Reads `yaml` with other files and variables; problems come as lines of text.
fn read_with(yaml: &str, files: Files<'_>, variables: &[(&str, &str)]) -> Result<CiPipeline, Vec<String>> {
    read_in(yaml, &Tree { files, ..Tree::default() }, variables)
}

fn read_in(yaml: &str, tree: &Tree<'_>, variables: &[(&str, &str)]) -> Result<CiPipeline, Vec<String>> {
    let variables: Vec<(String, String)> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let input = CiInput { yaml, file: ".gitlab-ci.yml", variables: &variables, inputs: &[], repository: tree };
    read(&input).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// The pipeline of a push to `main`.
fn pipeline(yaml: &str) -> CiPipeline {
    read_with(yaml, &[], PUSH).unwrap_or_else(|problems| panic!("{}", problems.join("\n")))
}

/// The only job of a pipeline without warnings.
fn job(yaml: &str) -> CiJob {
    let pipeline = pipeline(yaml);
    assert_eq!(pipeline.warnings, []);
    let [job] = <[CiJob; 1]>::try_from(pipeline.jobs).unwrap_or_else(|jobs| panic!("{} jobs", jobs.len()));
    job
}

/// What is wrong, each line without the file's name.
fn problems(yaml: &str) -> Vec<String> {
    let problems = read_with(yaml, &[], PUSH).err().unwrap_or_default();
    problems.iter().map(|line| line.trim_start_matches(".gitlab-ci.yml:").to_owned()).collect()
}

fn warnings(pipeline: &CiPipeline) -> Vec<String> {
    pipeline.warnings.iter().map(|warning| format!("{}: {}", warning.line, warning.message)).collect()
}

fn names(pipeline: &CiPipeline) -> Vec<&str> {
    pipeline.jobs.iter().map(|job| job.name.as_str()).collect()
}

fn pairs(job: &CiJob) -> Vec<String> {
    job.variables.iter().map(|variable| format!("{}={}", variable.key, variable.value)).collect()
}
