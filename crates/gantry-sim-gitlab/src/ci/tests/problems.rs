//! What the reader says about wrong files: the right line, and all problems at once.

use super::problems;

#[test]
fn every_problem_of_a_file_is_reported_with_its_line() {
    assert_eq!(
        problems(
            "
stages: [build, test]
variables:
  FLAG: true
  LIST: [a]
compile:
  stage: biuld
  script: make
  artefacts:
    paths: [out]
check:
  scrpt: make check
  when: sometimes
  timeout: soon
  parallel: 0
  retry: 3
publish:
  stage: deploy
  script:
    - echo version: 1
    - 5
  allow_failure: maybe
  tags: docker
  cache: {paths: x}
  start_in: 1 hour
  only: [main]
  rules: [{if: '$A ==', whenn: always}]
image2: debian
"
        ),
        [
            "5: variables:LIST definition must be either a string or a hash, but this is a list",
            "7: jobs:compile job: chosen stage biuld does not exist; available stages are .pre, build, test, .post; did you mean `build`?",
            "9: jobs:compile config contains unknown keys: artefacts; did you mean `artifacts`?",
            "11: jobs:check config should implement a script: keyword",
            "12: jobs:check config contains unknown keys: scrpt; did you mean `script`?",
            "13: jobs:check:when should be one of: on_success, on_failure, always, manual, delayed; `sometimes` is not",
            "14: jobs:check:timeout config should be a duration, such as `1h 30m`; `soon` is not one",
            "15: jobs:check:parallel config should be between 1 and 200, but this is 0",
            "16: jobs:check:retry config should be between 0 and 2, but this is 3",
            "18: jobs:publish job: chosen stage deploy does not exist; available stages are .pre, build, test, .post",
            "20: jobs:publish:script config should be a string or a nested array of strings up to 10 levels deep; a line with `: ` in it is a hash unless it is quoted",
            "21: jobs:publish:script config should be a string or a nested array of strings up to 10 levels deep, but this is a number",
            "22: jobs:publish:allow_failure config should be a hash or a boolean value, but this is a string",
            "23: jobs:publish:tags config should be an array of strings, but this is a string",
            "24: jobs:publish:cache:paths config should be an array of strings, but this is a string",
            "25: jobs:publish config key may not be used with `rules`: start_in",
            "26: jobs:publish config key may not be used with `rules`: only",
            "27: jobs:publish:rules:rule config contains unknown keys: whenn; did you mean `when`?",
            "27: jobs:publish:rules:rule:if invalid expression syntax: it ends where a value is expected",
            "28: jobs:image2 config should be a hash, but this is a string; did you mean `image`?",
        ]
    );
}

#[test]
fn what_jobs_alone_have_is_named_as_that_in_default() {
    assert_eq!(
        problems("default: {rules: [], stage: build}\na: {script: x}\n"),
        [
            "1: default config contains unknown keys: rules; jobs have `rules` each for itself, or by `extends`",
            "1: default config contains unknown keys: stage; jobs have `stage` each for itself, or by `extends`",
        ]
    );
}

#[test]
fn a_text_that_needs_quotes_is_named_as_that() {
    let said = problems("a:\n  script:\n    - curl -H 'Accept: text/html' --data \"x: y\" z\n");
    let hint = "; a text with a colon and a blank in it must stand between quotes, or below a `|`";
    assert!(
        said.len() == 1 && said[0].starts_with("3: invalid YAML at column ") && said[0].ends_with(hint),
        "{said:?}"
    );
}

#[test]
fn a_problem_in_default_is_reported_once() {
    assert_eq!(
        problems("default: {timeout: never, tagz: [a]}\na: {script: x}\nb: {script: x}\n"),
        [
            "1: default config contains unknown keys: tagz; did you mean `tags`?",
            "1: default:timeout config should be a duration, such as `1h 30m`; `never` is not one",
        ]
    );
}

#[test]
fn files_that_are_no_configuration_say_so() {
    let cases = [
        ("", "1: the file is empty; it should hold at least one job"),
        ("# only a comment\n", "1: the file is empty; it should hold at least one job"),
        ("just text\n", "1: the file should be a mapping with jobs, but this is a string"),
        ("\n- a\n", "2: the file should be a mapping with jobs, but this is a list"),
        ("spec: {inputs: {a: {}}}\n---\na: {script: x}\n", "1: spec:inputs `a` has no default and is not given"),
        ("a: {script: x}\n---\nb: {script: x}\n", "3: a second YAML document is not read; remove the `---`"),
    ];
    for (yaml, expected) in cases {
        assert_eq!(problems(yaml), [expected], "{yaml:?}");
    }
}

#[test]
fn inputs_of_jobs_have_fitting_defaults() {
    for (inputs, expected) in [
        ("{n: {type: number}}", "1: jobs:a:inputs:n config must have a default value"),
        ("{n: {type: number, default: x}}", "1: inputs `n` should be of the type number, but it is a string"),
        ("{n: {default: x, options: [y]}}", "1: inputs `n` should be one of: y; `x` is not"),
        ("{n: {default: x, regex: '^v'}}", "1: inputs `n` should match ^v; `x` does not"),
        ("{n: {default: x, rules: []}}", "1: jobs:a:inputs:n config contains unknown keys: rules"),
    ] {
        assert_eq!(problems(&format!("a: {{script: x, inputs: {inputs}}}\n")), [expected], "{inputs}");
    }
}

#[test]
fn syntax_errors_have_lines() {
    let syntax = problems("a:\n  script: x\n bad: y\n");
    assert!(matches!(syntax.as_slice(), [one] if one.starts_with("3: invalid YAML at column")), "{syntax:?}");
    assert_eq!(
        problems("a: {script: x}\nb: &b [*b]\n? [c]\n: 1\n"),
        [
            "2: this alias lies inside the value it stands for",
            "2: jobs:b config should be a hash, but this is a list",
            "3: a key should be a string, but this is a list",
            "3: jobs:(unreadable) config should be a hash, but this is a number",
        ]
    );
}

#[test]
fn values_inside_long_forms_are_checked() {
    assert_eq!(
        problems(
            "
a:
  script: x
  image: {nam: debian}
  services: [{name: x, entrypoint: run}, 5]
  retry: {max: 1, when: [runner_sytem_failure]}
  artifacts: {when: never, expire_in: later, reports: {junt: x}}
  cache: {key: a/b, policy: pull-psh}
  hooks: {post: x}
  inherit: {default: [imge]}
b:
  script: []
  parallel: {matrix: []}
  needs: a
  when: delayed
"
        ),
        [
            "4: jobs:a:image config contains unknown keys: nam; did you mean `name`?",
            "4: jobs:a:image name can't be blank",
            "5: jobs:a:services:service:entrypoint config should be an array of strings, but this is a string",
            "5: jobs:a:services:service config should be a hash or a string, but this is a number",
            "6: jobs:a:retry:when contains an unknown failure reason: runner_sytem_failure; did you mean `runner_system_failure`?",
            "7: jobs:a:artifacts:expire_in config should be a duration or `never`; `later` is neither",
            "7: jobs:a:artifacts:when should be one of: on_success, on_failure, always; `never` is not",
            "7: jobs:a:artifacts:reports config contains unknown keys: junt; did you mean `junit`?",
            "8: jobs:a:cache:key config should contain neither `/` nor only dots",
            "8: jobs:a:cache:policy should be one of: pull-push, push, pull; `pull-psh` is not; did you mean `pull-push`?",
            "9: jobs:a:hooks config contains unknown keys: post",
            "10: jobs:a:inherit:default config contains unknown values: imge; did you mean `image`?",
            "12: jobs:b:script can't be blank",
            "13: jobs:b:parallel:matrix config can't be blank",
            "14: jobs:b:needs config should be an array of jobs, but this is a string",
            "15: jobs:b start in should be a duration, because `when` is `delayed`",
        ]
    );
}

#[test]
fn a_report_that_gitlab_has_taken_out_is_named_with_its_successor() {
    assert_eq!(
        problems("a: {script: x, artifacts: {reports: {cobertura: c.xml}}}\n"),
        ["1: jobs:a:artifacts:reports config contains unknown keys: cobertura; \
          write `coverage_report`, with `coverage_format: cobertura` and `path`"]
    );
}

#[test]
fn a_job_that_starts_a_pipeline_runs_nothing_itself() {
    let said = |keys: &str| problems(&format!("a: {{trigger: {{include: c.yml}}, {keys}}}\n"));
    assert_eq!(said("script: x"), ["1: jobs:a config: these keys cannot be used together: script, trigger"]);
    assert_eq!(said("run: [{name: x}]"), ["1: jobs:a config: these keys cannot be used together: run, trigger"]);
    for key in [
        "tags: [x]",
        "image: x",
        "before_script: [x]",
        "artifacts: {paths: [x]}",
        "retry: 1",
        "cache: {paths: [x]}",
        "services: [x]",
        "timeout: 1h",
    ] {
        let name = key.split(':').next().unwrap_or_default();
        let said = said(key);
        let expected =
            format!("1: jobs:a config contains unknown keys: {name}; a job with `trigger` runs nothing itself");
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{said:?}");
    }
    let mirror = problems("a: {needs: {pipeline: x/y}, image: x}\n");
    assert!(mirror.len() == 1 && mirror[0].contains("a job with `needs:pipeline` runs nothing itself"), "{mirror:?}");
}

#[test]
fn variables_in_a_circle_are_named() {
    let circle = "1: jobs:a circular variable reference detected: [\"A\", \"B\"]";
    let of = |list: &str| format!("a: {{script: x, variables: {{{list}}}}}\n");
    assert_eq!(problems(&of("X: $A, A: '1$B', B: '2${A}', C: $X")), [circle]);
    for fine in [
        "PATH: '/x:$PATH'",
        "A: $B, B: $C, C: $D$E, D: $E, E: ''",
        "A: $B, B: {value: $A, expand: false}",
        "A: $B, B: $$A",
        "A: $B, B: '${A'",
    ] {
        super::pipeline(&of(fine));
    }
}

#[test]
fn dates_need_quotes() {
    assert_eq!(
        problems("a: {script: x, variables: {WHEN: 2024-01-02, AT: 2024-01-02 10:00:00, OK: '2024-01-02'}}\n"),
        [
            "1: Tried to load unspecified class: Date; 2024-01-02 is a date to GitLab: put it in quotes",
            "1: Tried to load unspecified class: Time; 2024-01-02 10:00:00 is a time to GitLab: put it in quotes",
        ]
    );
}
