//! Files of other places, inputs and components.

use super::super::{CiInput, read};
use super::{PUSH, Tree, names, read_in, read_with};

const TOOLS: &[(&str, &str, &str)] = &[
    ("group/tools", "ci/all.yml", "include: [{local: ci/lint.yml}, {local: 'ci/parts/*.yml'}]\n"),
    ("group/tools", "ci/lint.yml", ".lint: {script: lint}\nlint: {extends: .lint}\n"),
    ("group/tools", "ci/parts/a.yml", "part: {script: x}\n"),
    ("group/tools", "ci/wrong.yml", "wrong: {script: x, image: {}}\n"),
    (
        "group/tools",
        "templates/deploy.yml",
        "spec:\n  inputs:\n    to: {options: [qa, live]}\n    jobs: {type: array, default: [a, b]}\n    many: {type: number, default: 2}\n---\n\
         'to $[[ inputs.to ]]':\n  needs: $[[ inputs.jobs ]]\n  parallel: $[[ inputs.many ]]\n  script: deploy\n",
    ),
];

#[test]
fn files_of_a_mapped_project_include_their_own_neighbours() {
    let tree = Tree { projects: TOOLS, ..Tree::default() };
    let yaml = "include: {project: group/tools, file: /ci/all.yml}\nmine: {extends: .lint}\n";
    let pipeline = read_in(yaml, &tree, PUSH).expect("a pipeline");
    assert_eq!(names(&pipeline), ["lint", "part", "mine"]);
    assert_eq!(pipeline.jobs[0].file, "group/tools:ci/lint.yml");
    let yaml = "include: {project: group/tools, file: ci/wrong.yml}\n";
    let problems = read_in(yaml, &tree, PUSH).expect_err("a problem");
    assert_eq!(problems, ["group/tools:ci/wrong.yml:1: jobs:wrong:image name can't be blank"]);
    let yaml = "include: {project: group/tools, file: none.yml}\na: {script: x}\n";
    let problems = read_in(yaml, &tree, PUSH).expect_err("a problem");
    assert_eq!(
        problems,
        [".gitlab-ci.yml:1: include `none.yml` does not exist in the directory that stands for group/tools"]
    );
}

#[test]
fn a_component_gets_its_inputs_checked() {
    let tree = Tree { projects: TOOLS, ..Tree::default() };
    let component = "component: $CI_SERVER_FQDN/group/tools/deploy@1.0";
    let jobs = "a: {stage: build, script: x}\nb: {stage: build, script: x}\n";
    let yaml = format!("include: [{{{component}, inputs: {{to: qa}}}}]\n{jobs}");
    let pipeline = read_in(&yaml, &tree, PUSH).expect("a pipeline");
    assert_eq!(names(&pipeline), ["a", "b", "to qa 1/2", "to qa 2/2"]);
    let needs: Vec<&str> = pipeline.jobs[2].needs.iter().flatten().map(|need| need.job.as_str()).collect();
    assert_eq!(needs, ["a", "b"]);
    assert_eq!(pipeline.jobs[2].line, 7, "lines are those of the file");
    for (inputs, problem) in [
        ("{}", "group/tools:templates/deploy.yml:3: spec:inputs `to` has no default and is not given"),
        ("{to: mars}", ".gitlab-ci.yml:1: inputs `to` should be one of: qa, live; `mars` is not"),
        ("{to: qa, many: x}", ".gitlab-ci.yml:1: inputs `many` should be of the type number, but it is a string"),
        ("{to: qa, none: x}", ".gitlab-ci.yml:1: inputs has `none`, which `spec:inputs` of the file does not know"),
    ] {
        let yaml = format!("include: [{{{component}, inputs: {inputs}}}]\n{jobs}");
        let problems = read_in(&yaml, &tree, PUSH).expect_err("a problem");
        assert!(problems[0].starts_with(problem), "{problems:?}");
    }
}

#[test]
fn inputs_of_the_file_itself_are_given_as_texts() {
    let yaml = "spec: {inputs: {n: {type: number, default: 1}, all: {type: boolean, default: false}}}\n---\n\
                a: {script: x, parallel: $[[ inputs.n ]], interruptible: $[[ inputs.all ]]}\n";
    let read = |inputs: &[(&str, &str)]| {
        let inputs: Vec<(String, String)> = inputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let tree = Tree::default();
        let variables = [("CI_COMMIT_BRANCH".to_owned(), "main".to_owned())];
        read(&CiInput { yaml, file: ".gitlab-ci.yml", variables: &variables, inputs: &inputs, repository: &tree })
    };
    assert_eq!(names(&read(&[]).expect("a pipeline")), ["a 1/1"]);
    let given = read(&[("n", "2"), ("all", "true")]).expect("a pipeline");
    assert_eq!((names(&given), given.jobs[0].interruptible), (vec!["a 1/2", "a 2/2"], true));
    assert!(read(&[("n", "many")]).is_err());
}

#[test]
fn a_raw_url_and_a_file_with_inputs_are_included() {
    let urls =
        &[("https://example.com/ci.yml", "spec: {inputs: {n: {default: d}}}\n---\n'j $[[ inputs.n ]]': {script: x}\n")];
    let tree = Tree { urls, ..Tree::default() };
    let yaml = "include: [{remote: 'https://example.com/ci.yml', inputs: {n: one}}, 'https://example.com/ci.yml']\n";
    let pipeline = read_in(yaml, &tree, PUSH).expect("a pipeline");
    assert_eq!(names(&pipeline), ["j one", "j d"]);
}

#[test]
fn children_are_read_as_what_they_are_made_of() {
    let yaml = "
a:
  trigger:
    include: [{local: child.yml, inputs: {n: 1}}, {artifact: made.yml, job: maker}]
    strategy: depend
    forward: {pipeline_variables: true}
maker: {stage: build, script: x}
";
    let pipeline = read_with(yaml, &[], PUSH).expect("a pipeline");
    let trigger = pipeline.jobs.last().and_then(|job| job.trigger.clone()).expect("a trigger");
    assert_eq!(
        trigger.config,
        r#"{"include":[{"inputs":{"n":1},"local":"child.yml"},{"artifact":"made.yml","job":"maker"}]}"#
    );
    assert_eq!(trigger.artifacts_of, ["maker"]);
    assert!(trigger.depends && trigger.forwards_yaml_variables && trigger.forwards_pipeline_variables);
}

#[test]
fn jobs_that_rules_leave_out_are_named_with_the_reason() {
    let yaml = "
a: {script: x}
b: {script: x, rules: [{if: $CI_COMMIT_TAG}]}
c:
  script: x
  rules:
    - if: $CI_COMMIT_BRANCH
      when: never
d: {script: x, only: [tags]}
e: {script: x, except: [main]}
";
    let pipeline = read_with(yaml, &[], PUSH).expect("a pipeline");
    let why: Vec<String> = pipeline.left_out.iter().map(|job| format!("{}: {}", job.name, job.why)).collect();
    assert_eq!(
        why,
        [
            "b: none of its rules holds (.gitlab-ci.yml:3)",
            "c: the rule in .gitlab-ci.yml:7 says `when: never`",
            "d: `only` does not hold (.gitlab-ci.yml:9)",
            "e: `except` holds (.gitlab-ci.yml:10)",
        ]
    );
}

#[test]
fn an_array_is_given_with_commas_or_as_json() {
    let yaml = "spec: {inputs: {list: {type: array}}}\n---\na: {script: x, tags: $[[ inputs.list ]]}\n";
    let read = |list: &str| {
        let inputs = [("list".to_owned(), list.to_owned())];
        let tree = Tree::default();
        read(&CiInput { yaml, file: ".gitlab-ci.yml", variables: &[], inputs: &inputs, repository: &tree })
    };
    for (list, tags) in
        [("x, y z", ["x", "y z"]), (r#"["x","y z"]"#, ["x", "y z"]), (r#" ["a,b", "c\"d"]"#, ["a,b", "c\"d"])]
    {
        assert_eq!(read(list).expect("a pipeline").jobs[0].tags, tags, "{list}");
    }
    for wrong in ["[x, y]", "[\"x\"", "[]]"] {
        let said = read(wrong).expect_err("no JSON")[0].to_string();
        assert!(said.contains("`list` begins with `[` and is no JSON: "), "{said}");
    }
}
