//! Realistic files, read as a whole and compared with a readable account of what came out.

use std::fmt::Write;

use super::super::{CiJob, CiPipeline};
use super::{PUSH, read_with};

const TEMPLATES: &str = include_str!("golden/templates.yml");

#[test]
fn a_service_on_its_default_branch() {
    check(include_str!("golden/service.yml"), include_str!("golden/service.txt"), PUSH);
}

#[test]
fn a_service_on_a_tag() {
    let tag = [("CI_COMMIT_TAG", "v1.2"), ("CI_COMMIT_REF_NAME", "v1.2"), ("CI_DEFAULT_BRANCH", "main")];
    check(include_str!("golden/service.yml"), include_str!("golden/service-tag.txt"), &tag);
}

#[test]
fn an_older_file() {
    check(include_str!("golden/old.yml"), include_str!("golden/old.txt"), PUSH);
}

fn check(yaml: &str, expected: &str, variables: &[(&str, &str)]) {
    let files = [("ci/templates.yml", TEMPLATES), ("Cargo.lock", "version = 4\n")];
    let pipeline = read_with(yaml, &files, variables).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    let shown = show(&pipeline);
    assert!(shown == expected, "the pipeline is now:\n{shown}");
}

fn show(pipeline: &CiPipeline) -> String {
    let mut out = format!("pipeline {:?}\nstages {}\n", pipeline.name, pipeline.stages.join(", "));
    for warning in &pipeline.warnings {
        let _ = writeln!(out, "warning {warning}");
    }
    for job in &pipeline.jobs {
        show_job(&mut out, job);
    }
    out
}

fn show_job(out: &mut String, job: &CiJob) {
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{key}{value}");
    };
    line("\n", format!("{} ({}, {}:{})", job.name, job.stage, job.file, job.line));
    line("  when: ", format!("{:?} {:?} allow_failure {:?}", job.when, job.start_in_seconds, job.allow_failure));
    line(
        "  image: ",
        job.image.as_ref().map_or("-".to_owned(), |image| format!("{} {:?}", image.name, image.entrypoint)),
    );
    for service in &job.services {
        line("  service: ", format!("{} {:?} {:?}", service.name, service.alias, service.variables.len()));
    }
    for variable in &job.variables {
        line("  variable: ", format!("{}={}", variable.key, variable.value));
    }
    for (name, script) in [("before", &job.before_script), ("script", &job.script), ("after", &job.after_script)] {
        for text in script {
            line(&format!("  {name}: "), text.clone());
        }
    }
    for artifact in &job.artifacts {
        let name = artifact.name.as_deref().unwrap_or("-");
        let expire = artifact.expire_in.as_deref().unwrap_or("-");
        line(
            "  artifact: ",
            format!("{} {name} {:?} {} {expire}", artifact.artifact_type, artifact.paths, artifact.when),
        );
    }
    for cache in &job.cache {
        line("  cache: ", format!("{} {:?} {}", cache.key, cache.paths, cache.policy));
    }
    if let Some(names) = &job.dependencies {
        line("  dependencies: ", names.join(", "));
    }
    if let Some(needs) = &job.needs {
        line("  needs: ", needs.iter().map(|need| need.job.as_str()).collect::<Vec<_>>().join(", "));
    }
    let node = job.parallel.map(|node| (node.index, node.total));
    let more = (&job.tags, job.timeout_seconds, job.retry.max, node, job.interruptible);
    line("  more: ", format!("{more:?}"));
}
