//! Jobs that exist but are not run here.

use super::{CiPipeline, PUSH, pipeline, problems, read_with, warnings};

fn absent(pipeline: &CiPipeline) -> Vec<String> {
    let absent = pipeline.jobs.iter().filter_map(|job| Some(format!("{}: {}", job.name, job.not_here.as_ref()?)));
    absent.collect()
}

fn run(pipeline: &CiPipeline) -> Vec<&str> {
    pipeline.jobs.iter().filter(|job| job.not_here.is_none()).map(|job| job.name.as_str()).collect()
}

#[test]
fn what_cannot_be_honoured_leaves_out_only_its_job() {
    let pipeline = pipeline(
        "
down: {trigger: {project: group/other}}
steps: {run: [{name: x}]}
secret:
  script: x
  secrets: {A: {vault: a/b}}
  id_tokens: {T: {aud: x}}
elsewhere: {script: x, needs: [{project: a/b, job: c, ref: main, artifacts: true}]}
mirror: {needs: {pipeline: a/b}, rules: [{if: $CI_COMMIT_BRANCH}]}
mirrors: {needs: [{pipeline: a/b}]}
not-today: {script: x, id_tokens: {T: {aud: x}}, rules: [{when: never}]}
one: {script: echo runs}
",
    );
    assert_eq!(run(&pipeline), ["one"]);
    assert_eq!(
        absent(&pipeline),
        [
            "down: `trigger` of the project group/other is not supported here: there is only this project (.gitlab-ci.yml:2)",
            "steps: `run` is not supported here; use `script` (.gitlab-ci.yml:3)",
            "secret: `secrets` is not supported here: there is no secret store (.gitlab-ci.yml:6); \
             `id_tokens` is not supported here: there is nobody to issue the tokens (.gitlab-ci.yml:7)",
            "elsewhere: `needs` with `project` is not supported here: there is only this pipeline (.gitlab-ci.yml:8)",
            "mirror: `needs` with the `pipeline` of a project is not supported here: there is only this project (.gitlab-ci.yml:9)",
            "mirrors: `needs` with the `pipeline` of a project is not supported here: there is only this project (.gitlab-ci.yml:10)",
        ]
    );
}

#[test]
fn what_needs_such_a_job_is_left_out_too() {
    let pipeline = pipeline(
        "
down: {stage: build, trigger: group/other}
user: {script: x, needs: [down]}
user-of-user: {script: x, needs: [{job: user}]}
reader: {script: x, dependencies: [down]}
optional: {script: x, needs: [{job: down, optional: true}, one]}
by-rule: {script: x, rules: [{if: $CI_COMMIT_BRANCH, needs: [down]}]}
later: {stage: deploy, script: x}
one: {stage: build, script: x}
",
    );
    assert_eq!(run(&pipeline), ["one", "optional", "later"]);
    assert_eq!(
        absent(&pipeline).iter().skip(1).cloned().collect::<Vec<_>>(),
        [
            "user: it needs down, which is not run here (.gitlab-ci.yml:3)",
            "user-of-user: it needs user, which is not run here (.gitlab-ci.yml:4)",
            "reader: it needs down, which is not run here (.gitlab-ci.yml:5)",
            "by-rule: it needs down, which is not run here (.gitlab-ci.yml:7)",
        ]
    );
    let optional = pipeline.jobs.iter().find(|job| job.name == "optional").expect("a job");
    assert_eq!(optional.needs.iter().flatten().map(|need| need.job.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn tokens_in_the_defaults_are_those_of_every_job_that_inherits_them() {
    let pipeline = pipeline(
        "
default: {id_tokens: {T: {aud: x}}}
a: {script: x}
b: {script: x, inherit: {default: false}}
c: {trigger: {include: c.yml}}
",
    );
    assert_eq!(run(&pipeline), ["b", "c"], "what starts a pipeline needs no token");
    assert_eq!(
        absent(&pipeline),
        ["a: `id_tokens` is not supported here: there is nobody to issue the tokens (.gitlab-ci.yml:2)"]
    );
}

#[test]
fn a_rule_about_another_project_leaves_out_its_job_only_if_it_matters() {
    let yaml = "
a: {script: x, rules: [{exists: {paths: [x], project: a/b, ref: main}}]}
b: {script: x, rules: [{if: $CI_COMMIT_TAG, exists: {paths: [x], project: a/b}}, {when: always}]}
c: {script: x, rules: [{when: always}, {exists: {paths: [x], project: a/b}}]}
";
    let pipeline = read_with(yaml, &[], PUSH).expect("a pipeline");
    assert_eq!(run(&pipeline), ["b", "c"]);
    assert_eq!(
        absent(&pipeline),
        ["a: `exists:project` needs a copy of the project here, --include-project PROJECT=DIR (.gitlab-ci.yml:2)"]
    );
}

#[test]
fn a_missing_include_is_named_with_what_may_be_wrong_because_of_it() {
    let yaml = "stages: [test]\ninclude:\n  - {project: a/b, file: x.yml}\n";
    assert_eq!(
        problems(yaml),
        [
            "1: jobs config should contain at least one visible job",
            "3: include of the project a/b needs a copy here, --include-project a/b=DIR; what it defines is missing",
        ]
    );
}

#[test]
fn an_include_that_cannot_be_had_leaves_out_only_what_may_depend_on_it() {
    let pipeline = pipeline(
        "
include:
  - {project: group/other, file: x.yml}
  - remote: https://example.com/x.yml
  - https://example.com/y.yml
  - template: Go.gitlab-ci.yml
  - component: example.com/a/b/c@1
  - {template: Never.yml, rules: [{when: never}]}
stages: [build, test]
default: {tags: !reference [.shared, tags]}
own: {script: x}
extends: {extends: .theirs}
.base: {extends: [.theirs]}
by-template: {extends: .base, script: x}
refers: {script: [!reference [.setup, script], x]}
override: {variables: {A: b}}
needs: {script: x, needs: [theirs]}
optional: {script: x, needs: [{job: theirs, optional: true}, own]}
depends: {script: x, dependencies: [theirs]}
early: {stage: build, script: x, needs: [extends]}
late: {extends: .theirs, needs: [behind]}
behind: {stage: review, script: x, needs: [own]}
",
    );
    assert_eq!(run(&pipeline), ["own", "optional", "behind"]);
    assert_eq!(pipeline.stages, [".pre", "build", "test", "review", ".post"]);
    let from = "is not here: it may be in the include of .gitlab-ci.yml:3";
    let mut absent = absent(&pipeline);
    absent.sort();
    let script = from.trim_start_matches("is not here: ");
    assert_eq!(
        absent,
        [
            format!("by-template: it extends .theirs, which {from} (.gitlab-ci.yml:14)"),
            format!("depends: it needs theirs, which {from} (.gitlab-ci.yml:19)"),
            "early: it needs extends, which is not run here (.gitlab-ci.yml:20)".to_owned(),
            format!("extends: it extends .theirs, which {from} (.gitlab-ci.yml:12)"),
            format!("late: it extends .theirs, which {from} (.gitlab-ci.yml:21)"),
            format!("needs: it needs theirs, which {from} (.gitlab-ci.yml:17)"),
            format!("override: it has no script here: {script} (.gitlab-ci.yml:16)"),
            format!("refers: it refers to .setup, script, which {from} (.gitlab-ci.yml:15)"),
        ]
    );
    let tail = "; what it defines is missing";
    let url = "--include-remote URL=FILE";
    let gitlab = "--include-project gitlab-org/gitlab=DIR, a checkout of GitLab itself";
    assert_eq!(
        warnings(&pipeline),
        [
            format!("3: include of the project group/other needs a copy here, --include-project group/other=DIR{tail}"),
            format!("4: include of https://example.com/x.yml needs a copy here, {url}{tail}"),
            format!("5: include of https://example.com/y.yml needs a copy here, {url}{tail}"),
            format!("6: include of the template Go.gitlab-ci.yml needs a copy here, {gitlab}{tail}"),
            format!("7: include of the project a/b needs a copy here, --include-project a/b=DIR{tail}"),
            format!("10: default is read without a part: it refers to .shared, tags, which {from}"),
            "22: the stage review is not defined here: it may be in the include of .gitlab-ci.yml:3".to_owned(),
        ]
    );
}
