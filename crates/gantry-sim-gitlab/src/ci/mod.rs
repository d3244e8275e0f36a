//! Reads `.gitlab-ci.yml` into the jobs of a pipeline, as GitLab would create them.
//!
//! [`read`] is pure: it sees the text, the variables and what a [`Repository`] answers. It never
//! guesses: a keyword it cannot honour is a warning if the job stays what it is without it;
//! otherwise the job is marked as not run here, and with it those that need it. Every complaint
//! names file and line, and all of them come at once. Nothing in a file can make it panic or run
//! long: each limit is a named constant next to what it limits. Start at [`read`]; `pipeline.rs` is
//! the main path.

mod artifacts;
mod cache;
mod clause;
mod durations;
mod environment;
mod expr;
mod extends;
mod extras;
mod field;
mod glob;
mod graph;
mod image;
mod include;
mod inputs;
mod interpolate;
mod job;
mod lenient;
mod model;
mod needs;
mod node;
mod only;
mod parallel;
mod patterns;
mod pipeline;
mod problem;
mod reference;
mod rules;
mod scalar;
mod script;
mod settings;
mod source;
mod suggest;
mod trigger;
mod variables;
mod yaml;

#[cfg(test)]
mod tests;

pub use model::{
    AllowFailure, AutoCancel, CiArtifact, CiCache, CiEnvironment, CiImage, CiInput, CiJob, CiJobInput, CiLeftOut,
    CiNeed, CiNode, CiPipeline, CiRetry, CiTrigger, CiVariable, FileLookup, Repository, When,
};
pub use problem::Problem;

use problem::Report;

/// Reads a configuration into its pipeline.
///
/// # Errors
/// Everything that is wrong, ordered by place; also that `workflow:rules` or the jobs' rules leave
/// nothing to run.
pub fn read(input: &CiInput<'_>) -> Result<CiPipeline, Vec<Problem>> {
    let mut report = Report::default();
    let pipeline = build(input, &mut report);
    let (problems, warnings) = report.finish(input.file);
    match pipeline {
        Some(pipeline) if problems.is_empty() => Ok(CiPipeline { warnings, ..pipeline }),
        _ => Err(problems),
    }
}

fn build(input: &CiInput<'_>, report: &mut Report) -> Option<CiPipeline> {
    let root = include::load(input, report)?;
    let mut config = extends::apply(&include::root_map(&root), report);
    reference::resolve(&mut config, &root.at, report);
    pipeline::build(input, &config, &root.at, report)
}
