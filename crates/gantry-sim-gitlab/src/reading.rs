//! From a checkout to the plan of its pipeline: what is known beforehand, and `.gitlab-ci.yml` read
//! where it blocks nobody. Used for pipelines that people ask for and for those that jobs start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ci::{self, CiInput, CiPipeline, Problem};
use crate::copies::Copies;
use crate::limits;
use crate::repo::Checkout;
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
    let own = if reading.config.is_none() { checkout.repo.file(sha, CI_FILE) } else { None };
    let (file, yaml) = match (&reading.config, &own) {
        (Some((file, yaml)), _) => (file.as_str(), yaml),
        (None, Some(yaml)) => (CI_FILE, yaml),
        (None, None) => {
            let most = limits::CI_FILE;
            let message = format!("commit {sha} has no such file, or it is no text, or larger than {most} bytes");
            return Err(vec![Problem { file: CI_FILE.to_owned(), line: 1, message }]);
        }
    };
    let tree = Tree::new(checkout, &reading.copies, &reading.archives);
    let (variables, inputs) = (reading.known.as_slice(), reading.inputs.as_slice());
    ci::read(&CiInput { yaml, file, variables, inputs, repository: &tree })
}

/// What `rules` and `include` may refer to before the pipeline is there.
pub(crate) fn predefined(url: &str, checkout: &Checkout, origin: &variables::Origin<'_>) -> Vec<(String, String)> {
    let mut all = variables::server(url);
    all.extend(variables::checkout(url, checkout));
    all.extend(variables::pipeline(url, &checkout.repo.name, origin));
    all.into_iter().map(|variable| (variable.key, variable.value)).collect()
}
