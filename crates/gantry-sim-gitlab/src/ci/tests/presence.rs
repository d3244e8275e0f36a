//! Whether jobs exist: `rules`, `workflow`, `only` and `except`.

use super::super::{AllowFailure, When};
use super::{PUSH, names, pairs, pipeline, problems, read_with, warnings};

const TAG: &[(&str, &str)] =
    &[("CI_COMMIT_TAG", "v1.0"), ("CI_COMMIT_REF_NAME", "v1.0"), ("CI_PIPELINE_SOURCE", "push")];

fn present(yaml: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let pipeline = read_with(yaml, &[], variables).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    names(&pipeline).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_first_rule_that_holds_decides() {
    let pipeline = pipeline(
        "
variables: {MODE: fast}
a:
  script: x
  rules:
    - if: $CI_COMMIT_TAG
      when: never
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH && $MODE == 'fast'
      when: delayed
      start_in: 10 minutes
      allow_failure: true
      interruptible: true
      variables: {EXTRA: '1', MODE: slow}
    - when: manual
left-out: {script: x, rules: [{if: $CI_COMMIT_TAG}]}
never: {script: x, rules: [{when: never}]}
inherits-when: {script: x, when: on_failure, rules: [{if: $CI_COMMIT_BRANCH}]}
",
    );
    assert_eq!(names(&pipeline), ["a", "inherits-when"]);
    let [a, inherits] = pipeline.jobs.as_slice() else { panic!() };
    assert_eq!((a.when, a.start_in_seconds, a.interruptible), (When::Delayed, Some(600), true));
    assert_eq!(a.allow_failure, AllowFailure::Yes);
    assert_eq!(pairs(a), ["MODE=slow", "EXTRA=1"]);
    assert_eq!(inherits.when, When::OnFailure);
}

#[test]
fn changes_and_exists_are_assumed_with_a_warning() {
    let pipeline = pipeline(
        "
a:
  script: x
  rules:
    - if: $CI_COMMIT_BRANCH
      changes: [src/**]
    - exists: [Dockerfile]
",
    );
    assert_eq!(names(&pipeline), ["a"]);
    assert_eq!(
        warnings(&pipeline),
        [
            "6: jobs:a:rules:rule:changes is not evaluated here; it is treated as true",
            "7: jobs:a:rules:rule:exists is not evaluated here; it is treated as true",
        ]
    );
}

#[test]
fn rules_can_replace_needs() {
    let pipeline = pipeline(
        "
build: {stage: build, script: x}
lint: {stage: build, script: x}
test:
  script: x
  needs: [lint]
  rules:
    - if: $CI_COMMIT_BRANCH
      needs: [build]
",
    );
    let test = pipeline.jobs.last().expect("a job");
    let needs: Vec<&str> = test.needs.iter().flatten().map(|need| need.job.as_str()).collect();
    assert_eq!(needs, ["build"]);
}

#[test]
fn rules_see_matrix_variables() {
    let yaml = "
a:
  script: x
  parallel: {matrix: [{OS: [linux, mac]}]}
  rules: [{if: $OS == 'mac'}]
";
    assert_eq!(present(yaml, PUSH), ["a: [mac]"]);
}

#[test]
fn workflow_rules_filter_the_pipeline_and_give_variables() {
    let yaml = "
workflow:
  name: 'Pipeline of $CI_COMMIT_BRANCH'
  rules:
    - if: $CI_COMMIT_TAG
      when: never
    - if: $CI_COMMIT_BRANCH
      variables: {DEPLOY: 'yes'}
a: {script: x, rules: [{if: $DEPLOY == 'yes'}]}
";
    let pipeline = pipeline(yaml);
    assert_eq!(pipeline.name.as_deref(), Some("Pipeline of $CI_COMMIT_BRANCH"));
    assert_eq!(pipeline.jobs.iter().flat_map(pairs).collect::<Vec<_>>(), ["DEPLOY=yes"]);
    assert_eq!(
        read_with(yaml, &[], TAG).expect_err("filtered"),
        [".gitlab-ci.yml:5: pipeline filtered out by workflow rules"]
    );
}

#[test]
fn only_and_except_know_refs_sources_and_conditions() {
    let yaml = "
always: {script: x}
branches: {script: x, only: [branches]}
tags: {script: x, only: [tags]}
name: {script: x, only: [main]}
project: {script: x, only: ['main@group/project', 'main@other/project']}
pattern: {script: x, only: ['/^v\\d/']}
push: {script: x, only: {refs: [pushes], variables: ['$CI_COMMIT_BRANCH == \"main\"']}}
scheduled: {script: x, only: schedules}
not-main: {script: x, except: [main]}
not-tags: {script: x, except: {refs: [tags], variables: [$NOTHING]}}
";
    assert_eq!(present(yaml, PUSH), ["always", "branches", "name", "project", "push", "not-tags"]);
    assert_eq!(present(yaml, TAG), ["always", "tags", "pattern", "not-main"]);
}

#[test]
fn a_pipeline_without_jobs_says_why() {
    assert_eq!(
        problems("a: {script: x, only: [tags]}\n"),
        ["1: the pipeline would be empty: `rules` or `only`/`except` leave out every job"]
    );
    assert_eq!(
        problems(".a: {script: x}\nvariables: {A: b}\n"),
        ["1: jobs config should contain at least one visible job"]
    );
    assert_eq!(
        problems("a: {stage: .pre, script: x}\n"),
        ["1: the pipeline would only have jobs in `.pre` and `.post`; it needs one in another stage"]
    );
}
