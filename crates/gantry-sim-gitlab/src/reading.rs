//! From a checkout to the plan of its pipeline: what is known beforehand, and `.gitlab-ci.yml` read
//! where it blocks nobody. Used for pipelines that people ask for and for those that jobs start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ci::{self, CiInput, CiPipeline, Problem};
use crate::copies::Copies;
use crate::limits;
use crate::repo::{Checkout, NoText};
use crate::tasks;
use crate::tree::Tree;
use crate::variables;

/// The configuration of a project.
pub(crate) const CI_FILE: &str = ".gitlab-ci.yml";

/// What is to be read.
pub(crate) struct Reading {
    pub(crate) checkout: Arc<Checkout>,
    pub(crate) copies: Arc<Copies>,
    /// Everything that `rules` and `include` may refer to.
    pub(crate) known: Vec<(String, String)>,
    /// Values for the inputs of the configuration.
    pub(crate) inputs: Vec<(String, String)>,
    /// A configuration instead of the repository's own: its name and its text.
    pub(crate) config: Option<(String, String)>,
    /// The archives that the configuration may include files of, by job.
    pub(crate) archives: HashMap<String, PathBuf>,
}

/// Why there is no plan.
pub(crate) enum Unread {
    Invalid(Vec<Problem>),
    NotInTime,
}

/// Reads the plan.
pub(crate) async fn read(reading: Reading) -> Result<CiPipeline, Unread> {
    let task = tasks::blocking(move || read_blocking(&reading));
    match tokio::time::timeout(limits::GIT_QUESTION, task).await {
        Ok(Ok(Ok(plan))) => Ok(plan),
        Ok(Ok(Err(problems))) => Err(Unread::Invalid(problems)),
        Ok(Err(_)) | Err(_) => Err(Unread::NotInTime),
    }
}

fn read_blocking(reading: &Reading) -> Result<CiPipeline, Vec<Problem>> {
    let checkout = &reading.checkout;
    let sha = &checkout.revision.sha;
    let (file, yaml) = match &reading.config {
        Some((file, yaml)) => (file.as_str(), yaml.clone()),
        None => (CI_FILE, checkout.repo.text(sha, CI_FILE).map_err(|why| vec![unreadable(sha, why)])?),
    };
    let tree = Tree::new(checkout, &reading.copies, &reading.archives);
    let (variables, inputs) = (reading.known.as_slice(), reading.inputs.as_slice());
    ci::read(&CiInput { yaml: &yaml, file, variables, inputs, repository: &tree })
}

/// What is said of a commit without a configuration that can be read.
fn unreadable(sha: &str, why: NoText) -> Problem {
    let (line, message) = match why {
        NoText::Missing => (1, format!("commit {sha} has no such file")),
        NoText::TooLarge(bytes) => (1, format!("has {bytes} bytes; at most {} are read", limits::CI_FILE)),
        NoText::NotUtf8 { line } => (line, "is not UTF-8 from here on: save it as UTF-8".to_owned()),
    };
    Problem { file: CI_FILE.to_owned(), line, message }
}

/// What `rules` and `include` may refer to before the pipeline is there.
pub(crate) fn predefined(url: &str, checkout: &Checkout, origin: &variables::Origin<'_>) -> Vec<(String, String)> {
    let mut all = variables::server(url);
    all.extend(variables::checkout(url, checkout));
    all.extend(variables::pipeline(url, &checkout.repo.name, origin));
    all.into_iter().map(|variable| (variable.key, variable.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_file_is_said() {
        let said = |why| unreadable("1a2b", why).to_string();
        assert_eq!(said(NoText::Missing), ".gitlab-ci.yml:1: commit 1a2b has no such file");
        assert_eq!(said(NoText::TooLarge(2_000_000)), ".gitlab-ci.yml:1: has 2000000 bytes; at most 1048576 are read");
        assert_eq!(said(NoText::NotUtf8 { line: 3 }), ".gitlab-ci.yml:3: is not UTF-8 from here on: save it as UTF-8");
    }
}
