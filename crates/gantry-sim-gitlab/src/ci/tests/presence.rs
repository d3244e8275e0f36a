//! Whether jobs exist: `rules`, `workflow`, `only` and `except`.

use super::super::{AllowFailure, AutoCancel, When};
use super::{PUSH, Tree, names, pairs, pipeline, problems, read_in, read_with, warnings};

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

/// The jobs of a push to `main` that changed `README.md` and `src/a/b.rs`, in a repository with a
/// few files.
fn present_in(yaml: &str) -> Vec<String> {
    let files = [("Dockerfile", ""), ("README.md", ""), ("docs/a/guide.md", ""), ("src/main.rs", "")];
    let tree = Tree {
        files: &files,
        changed: Some(&["README.md", "src/a/b.rs"]),
        since_main: &["docs/a/guide.md"],
        ..Tree::default()
    };
    let pipeline = read_in(yaml, &tree, PUSH).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    assert_eq!(pipeline.warnings, []);
    names(&pipeline).into_iter().map(str::to_owned).collect()
}

#[test]
fn changes_are_those_of_the_push() {
    let yaml = "
variables: {DIR: src, SUB: $DIR/a}
always: {script: x}
readme: {script: x, rules: [{changes: ['*.md']}]}
guide: {script: x, rules: [{changes: ['docs/**/*']}]}
sources: {script: x, rules: [{changes: {paths: ['src/**/*.{c,rs}']}}]}
variable: {script: x, rules: [{changes: [$DIR/**/*]}]}
nested: {script: x, rules: [{changes: [$SUB/*]}]}
unknown: {script: x, rules: [{changes: [$NONE/*]}]}
one-level: {script: x, rules: [{changes: ['src/*']}]}
both: {script: x, rules: [{if: $CI_COMMIT_TAG, changes: ['*.md']}]}
since-main: {script: x, rules: [{changes: {paths: ['docs/**/*'], compare_to: $CI_DEFAULT_BRANCH}}]}
not-since-main: {script: x, rules: [{changes: {paths: ['*.md'], compare_to: main}}]}
older: {script: x, only: {changes: ['*.md']}}
older-not: {script: x, except: {changes: ['*.md']}}
";
    assert_eq!(present_in(yaml), ["always", "readme", "sources", "variable", "nested", "since-main", "older"]);
}

#[test]
fn without_a_push_everything_counts_as_changed() {
    let yaml = "a: {script: x, rules: [{changes: [nothing]}]}\nb: {script: x, except: {changes: [nothing]}}\n";
    assert_eq!(present(yaml, PUSH), ["a"]);
}

#[test]
fn exists_asks_for_files_and_directories_of_the_commit() {
    let yaml = "
variables: {DIR: docs}
always: {script: x}
file: {script: x, rules: [{exists: [Dockerfile]}]}
missing: {script: x, rules: [{exists: [Makefile, 'dockerfile']}]}
one-of: {script: x, rules: [{exists: [Makefile, README.md]}]}
pattern: {script: x, rules: [{exists: {paths: ['**/*.rs']}}]}
directory: {script: x, rules: [{exists: [$DIR/]}]}
directories: {script: x, rules: [{exists: ['d*/a/']}]}
no-directory: {script: x, rules: [{exists: [docs]}]}
no-pattern: {script: x, rules: [{exists: ['*.rs']}]}
never: {script: x, rules: [{exists: [Dockerfile], when: never}, {when: always}]}
";
    assert_eq!(present_in(yaml), ["always", "file", "one-of", "pattern", "directory", "directories"]);
}

#[test]
fn what_changes_and_exists_cannot_mean_is_reported() {
    let many = "x, ".repeat(51);
    let yaml = format!(
        "
a: {{script: x, rules: [{{changes: {{paths: [x], compare_to: gone}}}}]}}
b: {{script: x, rules: [{{changes: {{compare_to: main}}}}]}}
c: {{script: x, rules: [{{exists: [{many}]}}]}}
d: {{script: x, rules: [{{exists: Dockerfile}}]}}
"
    );
    assert_eq!(
        problems(&yaml),
        [
            "2: rules:changes:compare_to is not a valid ref: there is no gone here, or nothing in common with it",
            "3: jobs:b:rules:rule:changes config should have `paths`",
            "4: jobs:c:rules:rule:exists has too many entries (maximum 50)",
            "5: jobs:d:rules:rule:exists config should be an array of strings, but this is a string",
        ]
    );
}

#[test]
fn rules_see_what_is_predefined_for_the_job() {
    let yaml = "
a: {script: x, parallel: 2, rules: [{if: $CI_JOB_NAME == 'a 2/2' && $CI_JOB_STAGE == 'test' && $CI_NODE_TOTAL == '2'}]}
b: {script: x, rules: [{if: $CI_NODE_INDEX}]}
";
    assert_eq!(present(yaml, PUSH), ["a 2/2"]);
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
fn a_text_that_is_no_pattern_is_searched_the_wrong_way_round() {
    let pipeline = pipeline("a: {script: x, rules: [{if: \"$CI_COMMIT_BRANCH =~ 'on main'\"}]}\n");
    assert_eq!(names(&pipeline), ["a"]);
    assert_eq!(
        warnings(&pipeline),
        ["1: jobs:a:rules:rule:if `on main` is no /pattern/, so GitLab asks whether it contains the left side"]
    );
    assert_eq!(present("a: {script: x, rules: [{if: '$CI_COMMIT_BRANCH =~ \"/^ma/\"'}]}", PUSH), ["a"]);
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
      auto_cancel: {on_new_commit: none}
a: {script: x, rules: [{if: $DEPLOY == 'yes'}]}
";
    let pipeline = pipeline(yaml);
    assert_eq!(pipeline.name.as_deref(), Some("Pipeline of main"));
    assert_eq!(pipeline.auto_cancel, AutoCancel::Never);
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
pattern-here: {script: x, only: ['/^ma/@group/project', '//@other/project']}
any-here: {script: x, only: ['//@group/project']}
any-elsewhere: {script: x, only: ['//@other/project', branches@other/project]}
push: {script: x, only: {refs: [pushes], variables: ['$CI_COMMIT_BRANCH == \"main\"']}}
scheduled: {script: x, only: schedules}
not-main: {script: x, except: [main]}
not-tags: {script: x, except: {refs: [tags], variables: [$NOTHING]}}
";
    assert_eq!(
        present(yaml, PUSH),
        ["always", "branches", "name", "project", "pattern-here", "any-here", "push", "not-tags"]
    );
    assert_eq!(present(yaml, TAG), ["always", "tags", "pattern", "not-main"]);
}

/// As GitLab reserves neither name, and people have jobs of them.
#[test]
fn default_and_workflow_are_jobs_where_they_have_a_script() {
    let pipeline =
        pipeline("default: {stage: build, image: own, script: make}\nworkflow: {script: y}\na: {script: x}\n");
    assert_eq!(names(&pipeline), ["default", "workflow", "a"]);
    let image = |index: usize| pipeline.jobs[index].image.as_ref().map(|image| image.name.as_str());
    assert_eq!((image(0), image(2)), (Some("own"), None), "no other job has what it has");
}

#[test]
fn a_pipeline_without_jobs_says_why() {
    assert_eq!(
        problems("a: {script: x, only: [tags]}\n"),
        ["1: the pipeline would be empty: `rules` or `only`/`except` leave out every job \
          (a: `only` does not hold (.gitlab-ci.yml:1))"]
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
