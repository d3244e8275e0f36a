//! What each keyword of a job becomes.

use super::super::{AllowFailure, CiNode, When};
use super::{job, names, pairs, pipeline, warnings};

#[test]
fn a_minimal_job_gets_the_defaults() {
    let job = job("hello:\n  script: echo hi\n");
    assert_eq!((job.name.as_str(), job.stage.as_str(), job.line), ("hello", "test", 1));
    assert_eq!(job.script, ["echo hi"]);
    assert_eq!(
        (job.image, job.dependencies, job.needs, job.timeout_seconds, job.parallel),
        (None, None, None, None, None)
    );
    assert_eq!((job.when, job.allow_failure, job.interruptible), (When::OnSuccess, AllowFailure::No, false));
    assert_eq!(job.file, ".gitlab-ci.yml");
}

/// Only a document of its own in front of the others is a header.
#[test]
fn a_job_may_be_named_spec() {
    assert_eq!(names(&pipeline("spec: {script: rspec}\nlint: {script: x}\n")), ["spec", "lint"]);
}

#[test]
fn default_stages_are_gitlabs_and_named_ones_lie_between_pre_and_post() {
    assert_eq!(pipeline("a: {script: x}").stages, [".pre", "build", "test", "deploy", ".post"]);
    let named = pipeline("stages: [one, two]\nb: {stage: two, script: x}\na: {stage: one, script: x}\n");
    assert_eq!(named.stages, [".pre", "one", "two", ".post"]);
    assert_eq!(names(&named), ["a", "b"]);
}

#[test]
fn scripts_are_flattened_and_keep_their_order() {
    let job = job("
.setup: &setup
  - one
  - [two, [three]]
a:
  before_script: [*setup]
  script:
    - *setup
    - |
      if true; then
        echo yes
      fi
    - 'quoted: colon'
  after_script: last
");
    assert_eq!(job.before_script, ["one", "two", "three"]);
    assert_eq!(job.script, ["one", "two", "three", "if true; then\n  echo yes\nfi\n", "quoted: colon"]);
    assert_eq!(job.after_script, ["last"]);
}

#[test]
fn images_and_services_have_a_short_and_a_long_form() {
    let job = job("
a:
  image:
    name: debian:12
    entrypoint: ['']
    pull_policy: [always, if-not-present]
    docker: {user: root, platform: linux/arm64}
    kubernetes: {user: 1001}
  services:
    - redis:7
    - name: postgres:16
      alias: db,database
      command: [postgres, -c, fsync=off]
      entrypoint: [/entry]
      pull_policy: never
      variables: {POSTGRES_PASSWORD: x}
  script: x
");
    let image = job.image.expect("an image");
    assert_eq!(image.name, "debian:12");
    assert_eq!(image.entrypoint, [""]);
    assert_eq!(image.pull_policy, ["always", "if-not-present"]);
    assert_eq!(image.docker_user.as_deref(), Some("root"));
    assert_eq!(image.docker_platform.as_deref(), Some("linux/arm64"));
    assert_eq!(image.kubernetes_user.as_deref(), Some("1001"));
    let [redis, postgres] = job.services.as_slice() else { panic!("{:?}", job.services) };
    assert_eq!((redis.name.as_str(), redis.alias.as_deref()), ("redis:7", None));
    assert_eq!(postgres.alias.as_deref(), Some("db,database"));
    assert_eq!(postgres.command, ["postgres", "-c", "fsync=off"]);
    assert_eq!(postgres.entrypoint, ["/entry"]);
    assert_eq!(postgres.pull_policy, ["never"]);
    assert_eq!(postgres.variables.len(), 1);
}

#[test]
fn images_that_nobody_can_pull_are_told() {
    let pipeline = super::read_with(
        "
variables: {PROJECT: group/$SUB, SUB: tool, BAD: 'a b'}
good: {script: x, image: '$CI_REGISTRY/$PROJECT:$CI_JOB_ID'}
unset: {script: x, image: '${REGISTRY}/tool:1'}
spoilt: {script: x, image: debian, services: ['tool:$BAD']}
upper: {script: x, image: Debian}
",
        &[],
        &[("CI_COMMIT_BRANCH", "main"), ("CI_REGISTRY", "localhost:5050")],
    );
    assert_eq!(
        warnings(&pipeline.expect("a pipeline")),
        [
            "4: jobs:unset:image `${REGISTRY}/tool:1` is no image name unless something sets $REGISTRY before the job starts",
            "5: jobs:spoilt:services `tool:$BAD` becomes `tool:a b`, which is no image name",
            "6: jobs:upper:image `Debian` is no image name",
        ]
    );
}

#[test]
fn variables_have_values_of_every_allowed_kind() {
    let pipeline = pipeline(
        "
variables:
  TEXT: a
  NUMBER: 42
  OCTAL: 0644
  QUOTED: 'true'
  VERSION: 1.10
  HALF: 1.5
  FLAG: true
  ANSWER: yes
  EMPTY:
  CLOCK: 12:30
  LONG: {value: true}
  RAW: {value: '$x', expand: false}
  CHOICE: {value: b, options: [a, b], description: which}
  NOTHING: {description: to be filled in}
a:
  variables: {TEXT: own, LATE: z}
  script: x
",
    );
    let job = pipeline.jobs.first().expect("a job");
    let expected = [
        "TEXT=own",
        "NUMBER=42",
        "OCTAL=420",
        "QUOTED=true",
        "VERSION=1.1",
        "HALF=1.5",
        "FLAG=true",
        "ANSWER=true",
        "EMPTY=",
        "CLOCK=45000",
        "LONG=true",
        "RAW=$x",
        "CHOICE=b",
        "NOTHING=",
        "LATE=z",
    ];
    assert_eq!(pairs(job), expected);
    let raw: Vec<&str> = job.variables.iter().filter(|one| !one.expand).map(|one| one.key.as_str()).collect();
    assert_eq!(raw, ["RAW"]);
    assert_eq!(
        warnings(&pipeline),
        [
            "5: variables:OCTAL is read as the number 420; quote it to keep 0644",
            "7: variables:VERSION is read as the number 1.1; quote it to keep 1.10",
            "10: variables:ANSWER is read as the boolean true; quote it to keep yes",
            "12: variables:CLOCK is read as the number 45000; quote it to keep 12:30",
        ]
    );
}

#[test]
fn artifacts_become_an_archive_and_one_entry_for_each_report() {
    let job = job("
a:
  script: x
  artifacts:
    name: $CI_JOB_NAME
    paths: [out/, '*.log']
    exclude: [out/tmp]
    when: always
    expire_in: 1 week
    reports:
      junit: report.xml
      dotenv: [a.env, b.env]
      coverage_report: {coverage_format: cobertura, path: cov.xml}
      sast: gl.json
");
    let shown: Vec<String> = job
        .artifacts
        .iter()
        .map(|a| format!("{} {} {} {:?} {:?}", a.artifact_type, a.format, a.when, a.name, a.paths))
        .collect();
    assert_eq!(
        shown,
        [
            r#"archive zip always Some("$CI_JOB_NAME") ["out/", "*.log"]"#,
            r#"junit gzip always Some("junit.xml") ["report.xml"]"#,
            r#"dotenv gzip always Some(".env") ["a.env", "b.env"]"#,
            r#"cobertura gzip always Some("cobertura-coverage.xml") ["cov.xml"]"#,
            r#"sast raw always Some("gl-sast-report.json") ["gl.json"]"#,
        ]
    );
    assert!(job.artifacts.iter().all(|artifact| artifact.expire_in.as_deref() == Some("1 week")));
    assert_eq!(job.artifacts.first().map(|archive| archive.exclude.clone()), Some(vec!["out/tmp".to_owned()]));
}

#[test]
fn caches_have_keys_of_text_or_files() {
    let yaml = "
a:
  script: x
  cache:
    - paths: [one]
    - key: $CI_COMMIT_REF_SLUG
      fallback_keys: [main]
      policy: $POLICY
      when: always
      paths: [two]
    - key: {files: [lock], prefix: p}
      untracked: true
    - key: {files: [missing]}
      policy: pull
";
    let read = |content: &str| {
        let pipeline = super::read_with(yaml, &[("lock", content)], super::PUSH).expect("a pipeline");
        pipeline.jobs.first().expect("a job").cache.clone()
    };
    let cache = read("1");
    let keys: Vec<&str> = cache.iter().map(|cache| cache.key.as_str()).collect();
    assert!(
        matches!(keys.as_slice(), ["default", "$CI_COMMIT_REF_SLUG", files, "default"] if files.starts_with("p-")),
        "{keys:?}"
    );
    let policies: Vec<&str> = cache.iter().map(|cache| cache.policy.as_str()).collect();
    assert_eq!(policies, ["pull-push", "$POLICY", "pull-push", "pull"]);
    assert_eq!(cache, read("1"), "the same content gives the same key");
    assert_ne!(cache, read("2"), "another content gives another key");
}

#[test]
fn the_remaining_keywords_are_read() {
    let job = job("
a:
  script: x
  tags: ['$KIND', plain]
  variables: {KIND: docker}
  timeout: 1h 30m
  retry: {max: 2, when: [script_failure, api_failure], exit_codes: 137}
  allow_failure: {exit_codes: [3, 4]}
  when: delayed
  start_in: 30 minutes
  interruptible: true
  hooks: {pre_get_sources_script: [echo pre]}
");
    assert_eq!(job.tags, ["docker", "plain"]);
    assert_eq!(job.timeout_seconds, Some(5400));
    assert_eq!((job.retry.max, job.retry.when.len(), job.retry.exit_codes), (2, 2, vec![137]));
    assert_eq!(job.allow_failure, AllowFailure::ExitCodes(vec![3, 4]));
    assert_eq!((job.when, job.start_in_seconds), (When::Delayed, Some(1800)));
    assert!(job.interruptible);
    assert_eq!(job.pre_get_sources_script, ["echo pre"]);
}

#[test]
fn a_job_has_inputs_with_their_defaults() {
    let job = job("
a:
  script: 'echo ${{ job.inputs.suite }}'
  inputs:
    suite: {default: unit, options: [unit, e2e], description: Which tests}
    count: {type: number, default: 5}
    share: {type: number, default: 0.5}
    slow: {type: boolean, default: false}
    tags: {type: array, default: [a, 1]}
    version: {default: v1.2, regex: '^v\\d'}
");
    let inputs: Vec<_> = job.inputs.iter().map(|input| (&*input.name, &*input.kind, input.content.clone())).collect();
    let expected = [
        ("suite", "string", serde_json::json!("unit")),
        ("count", "number", serde_json::json!(5)),
        ("share", "number", serde_json::json!(0.5)),
        ("slow", "boolean", serde_json::json!(false)),
        ("tags", "array", serde_json::json!(["a", 1])),
        ("version", "string", serde_json::json!("v1.2")),
    ];
    assert_eq!(inputs, expected);
    assert_eq!(job.script, ["echo ${{ job.inputs.suite }}"]);
    assert_eq!(job.not_here, None);
}

#[test]
fn manual_jobs_are_allowed_to_fail_unless_they_say_otherwise() {
    assert_eq!(job("a: {script: x, when: manual}").allow_failure, AllowFailure::Yes);
    assert_eq!(job("a: {script: x, when: manual, allow_failure: false}").allow_failure, AllowFailure::No);
    assert_eq!(job("a: {script: x, rules: [{when: manual}]}").allow_failure, AllowFailure::No);
}

#[test]
fn parallel_jobs_are_numbered() {
    let pipeline = pipeline("a: {script: x, parallel: 3}");
    assert_eq!(names(&pipeline), ["a 1/3", "a 2/3", "a 3/3"]);
    let places: Vec<_> = pipeline.jobs.iter().map(|job| job.parallel).collect();
    assert_eq!(places, [1, 2, 3].map(|index| Some(CiNode { index, total: 3 })));
}

#[test]
fn one_instance_is_a_parallel_job_too() {
    let job = job("a: {script: x, parallel: 1}");
    assert_eq!((job.name.as_str(), job.parallel), ("a 1/1", Some(CiNode { index: 1, total: 1 })));
}

#[test]
fn instances_with_the_same_values_are_one_and_the_last_wins() {
    let pipeline = pipeline("a: {script: x, parallel: {matrix: [{A: [x]}, {B: [x]}]}}");
    assert_eq!(names(&pipeline), ["a: [x]"]);
    assert_eq!(pipeline.jobs.iter().flat_map(pairs).collect::<Vec<_>>(), ["B=x"]);
    assert_eq!(warnings(&pipeline), ["1: jobs:a:parallel:matrix has the values: [x] twice; the last ones win"]);
}

#[test]
fn a_matrix_names_its_instances_and_sets_their_variables() {
    let pipeline = pipeline(
        "
a:
  script: x
  tags: [$OS]
  parallel:
    matrix:
      - OS: [linux, mac]
        VERSION: [1, 2]
      - OS: bsd
",
    );
    assert_eq!(names(&pipeline), ["a: [linux, 1]", "a: [linux, 2]", "a: [mac, 1]", "a: [mac, 2]", "a: [bsd]"]);
    let last = pipeline.jobs.last().expect("a job");
    assert_eq!(
        (pairs(last), last.tags.clone(), last.parallel),
        (vec!["OS=bsd".to_owned()], vec!["bsd".to_owned()], Some(CiNode { index: 5, total: 5 }))
    );
}

#[test]
fn keywords_that_only_other_parts_of_gitlab_act_on_are_warnings() {
    let pipeline = pipeline(
        "
a:
  script: x
  environment: production
  coverage: /\\d+/
  resource_group: one
  pages: true
  artifacts:
    paths: [public]
    expose_as: site
",
    );
    assert_eq!(
        warnings(&pipeline),
        [
            "4: jobs:a:environment makes no deployment here; only its variables are set",
            "7: jobs:a:pages publishes nothing here: there are no Pages; the directory is an artifact",
            "10: jobs:a:artifacts:expose_as has no effect here",
        ]
    );
}

#[test]
fn the_classic_pages_job_publishes_a_directory() {
    let paths = |keys: &str| {
        let pipeline = pipeline(&format!("pages: {{script: x, {keys}}}\n"));
        let paths = pipeline.jobs[0].artifacts.iter().flat_map(|one| one.paths.clone()).collect::<Vec<_>>();
        (paths.join(" "), warnings(&pipeline))
    };
    let nothing = "publishes nothing here: there are no Pages; the directory is an artifact";
    assert_eq!(paths("stage: test"), ("public".to_owned(), vec![format!("1: jobs:pages {nothing}")]));
    assert_eq!(paths("artifacts: {paths: [a]}").0, "a public");
    assert_eq!(paths("artifacts: {paths: [public]}").0, "public");
    assert_eq!(paths("publish: dist").0, "dist");
    assert_eq!(paths("pages: false"), (String::new(), Vec::new()));
}

#[test]
fn every_reason_of_gitlab_can_be_tried_again() {
    for reason in ["runner_provisioning_timeout", "ci_quota_exceeded", "trace_size_exceeded", "builds_disabled"] {
        assert_eq!(job(&format!("a: {{script: x, retry: {{max: 1, when: [{reason}]}}}}\n")).retry.when, [reason]);
    }
}

#[test]
fn a_description_may_be_a_number() {
    pipeline("variables: {V: {value: x, description: 5}}\na: {script: x}\n");
}
