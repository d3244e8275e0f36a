//! Anchors, `extends`, `!reference`, `default`, `inherit` and `include`.

use super::super::When;
use super::{PUSH, job, names, pairs, pipeline, problems, read_with};

#[test]
fn extends_merges_mappings_and_replaces_lists() {
    let job = job("
.base:
  script: [base]
  variables: {A: base, B: base}
  tags: [one, two]
.other:
  variables: {B: other, C: other}
  before_script: [other]
.middle:
  extends: .base
  variables: {D: middle}
a:
  extends: [.middle, .other]
  variables: {C: own}
  tags: [three]
");
    assert_eq!(job.script, ["base"]);
    assert_eq!(job.before_script, ["other"]);
    assert_eq!(pairs(&job), ["A=base", "B=other", "D=middle", "C=own"]);
    assert_eq!(job.tags, ["three"]);
}

#[test]
fn a_null_takes_back_what_a_template_set() {
    let job = job("
.base: {script: x, before_script: [y], when: always}
a: {extends: .base, before_script: null, when: ~}
");
    assert!(job.before_script.is_empty());
    assert_eq!(job.when, When::OnSuccess);
}

#[test]
fn wrong_extends_are_reported_once_and_their_lack_is_not() {
    assert_eq!(
        problems(
            "
.a: {extends: .b}
.b: {extends: .a}
x: {extends: .temlate}
y: {extends: .list}
.template: {script: x}
.list: [1]
"
        ),
        [
            "2: jobs:.b circular dependency detected in `extends`: .a → .b → .a",
            "4: jobs:x unknown keys in `extends` (.temlate); did you mean `.template`?",
            "5: jobs:y invalid base hashes in `extends` (.list): it is a list",
        ]
        .map(|line| line.replacen("2: jobs:.b", "3: jobs:.b", 1))
    );
    let chain: String = (0..20).fold(String::new(), |text, n| format!("{text}.t{n}: {{extends: .t{}}}\n", n + 1));
    let deep = problems(&format!("{chain}.t20: {{script: x}}\na: {{extends: .t0}}\n"));
    assert!(deep.iter().any(|line| line.contains("nesting too deep in `extends`")), "{deep:?}");
}

#[test]
fn merge_keys_follow_yaml() {
    let job = job("
.one: &one {script: one, tags: [one], when: always}
.two: &two {script: two, tags: [two], timeout: 1h}
a:
  <<: [*one, *two]
  tags: [own]
");
    assert_eq!(job.script, ["one"]);
    assert_eq!(job.tags, ["own"]);
    assert_eq!((job.when, job.timeout_seconds), (When::Always, Some(3600)));
    let twice = super::job(".one: &one {script: one}\n.two: &two {tags: [t]}\na:\n  <<: *one\n  <<: *two\n");
    assert_eq!((twice.script, twice.tags), (vec!["one".to_owned()], vec!["t".to_owned()]));
}

#[test]
fn references_take_over_any_value() {
    let job = job("
.setup:
  script: [one, two]
  rules:
    - if: $CI_COMMIT_BRANCH
      when: always
.vars: {variables: {A: a, B: b}}
.chain:
  script: [!reference [.setup, script], three]
a:
  variables: !reference [.vars, variables]
  rules: [!reference [.setup, rules]]
  script:
    - !reference [.chain, script]
    - last
  after_script: !reference [.setup, script]
");
    assert_eq!(job.script, ["one", "two", "three", "last"]);
    assert_eq!(job.after_script, ["one", "two"]);
    assert_eq!(pairs(&job), ["A=a", "B=b"]);
    assert_eq!(job.when, When::Always);
}

#[test]
fn lists_in_lists_of_needs_caches_and_services_are_one_list() {
    let pipeline = pipeline(
        "
.modules: &modules
  - {key: go, paths: [mod]}
.common:
  needs: [first]
  services: [redis, {name: mysql, alias: db}]
first: {script: x}
second: {script: x}
third:
  script: x
  cache:
    - *modules
    - {key: own, paths: [own]}
  needs: [!reference [.common, needs], {job: second, artifacts: false}]
  services: [!reference [.common, services], [postgres]]
",
    );
    let third = pipeline.jobs.iter().find(|job| job.name == "third").unwrap();
    let needs: Vec<_> = third.needs.iter().flatten().map(|need| need.job.as_str()).collect();
    let services: Vec<_> = third.services.iter().map(|service| service.name.as_str()).collect();
    let caches: Vec<_> = third.cache.iter().map(|cache| cache.key.as_str()).collect();
    assert_eq!((needs, caches), (vec!["first", "second"], vec!["go", "own"]));
    assert_eq!(services, ["redis", "mysql", "postgres"]);
}

#[test]
fn references_see_what_is_inherited() {
    let pipeline = pipeline(
        "
.base: {script: [base], variables: {A: base, B: base}}
.job:
  extends: .base
  variables: {B: job}
inherits: {script: [!reference [.job, script]], variables: !reference [.job, variables]}
.template: {script: [!reference [.late, script]]}
.late: {script: [late]}
extends: {extends: .template}
",
    );
    let [inherits, extends] = pipeline.jobs.as_slice() else { panic!("{:?}", names(&pipeline)) };
    assert_eq!(inherits.script, ["base"]);
    assert_eq!(pairs(inherits), ["A=base", "B=job"]);
    assert_eq!(extends.script, ["late"]);
}

#[test]
fn a_reference_in_a_template_replaces_as_a_whole() {
    let job = job("
.a: {variables: {A: '1', B: '2'}}
.base: {script: x, variables: !reference [.a, variables]}
job: {extends: .base, variables: {C: '3'}}
");
    assert_eq!(pairs(&job), ["C=3"], "GitLab merges before it resolves");
}

#[test]
fn references_nest_as_deep_as_scripts_may() {
    let chain = |depth: usize| {
        let links: String = (0..depth)
            .fold(String::new(), |text, n| format!("{text}.r{n}: {{script: [!reference [.r{}, script]]}}\n", n + 1));
        format!("{links}.r{depth}: {{script: [end]}}\njob: {{script: [!reference [.r0, script]]}}\n")
    };
    assert_eq!(job(&chain(8)).script, ["end"]);
    let deep = problems(&chain(9));
    assert!(
        matches!(deep.as_slice(), [one] if one.contains("nested array of strings up to 10 levels deep")),
        "{deep:?}"
    );
    let plain: String = (0..40)
        .fold(String::new(), |text, n| format!("{text}.v{n}: {{variables: !reference [.v{}, variables]}}\n", n + 1));
    let job = job(&format!(
        "{plain}.v40: {{variables: {{A: a}}}}\njob: {{script: x, variables: !reference [.v0, variables]}}\n"
    ));
    assert_eq!(pairs(&job), ["A=a"]);
}

#[test]
fn wrong_references_say_which() {
    assert_eq!(
        problems(
            "
.a: {script: [!reference [.b, script]]}
.b: {script: [!reference [.a, script]]}
x: {script: [!reference [.setup, script]]}
y: {script: !reference [.setpu]}
z: {script: !reference text}
.setup: {before_script: []}
"
        ),
        [
            "2: !reference [.b, script] refers to itself",
            "3: !reference [.a, script] refers to itself",
            "4: !reference [.setup, script] could not be found",
            "5: !reference [.setpu] could not be found; did you mean `.setup`?",
            "6: !reference should be a list of names, such as !reference [.setup, script]",
        ]
    );
}

#[test]
fn defaults_are_inherited_as_asked() {
    let pipeline = pipeline(
        "
default:
  image: debian
  before_script: [default]
  retry: 1
variables: {A: a, B: b}
all: {script: x}
own: {script: x, image: alpine, before_script: []}
unset: {script: x, image: null}
none: {script: x, inherit: {default: false, variables: false}}
some: {script: x, inherit: {default: [retry], variables: [B]}}
",
    );
    let shown: Vec<String> = pipeline
        .jobs
        .iter()
        .map(|job| {
            let image = job.image.as_ref().map_or("-", |image| image.name.as_str());
            format!("{} {image} {:?} {} {:?}", job.name, job.before_script, job.retry.max, pairs(job))
        })
        .collect();
    assert_eq!(
        shown,
        [
            r#"all debian ["default"] 1 ["A=a", "B=b"]"#,
            r#"own alpine [] 1 ["A=a", "B=b"]"#,
            r#"unset debian ["default"] 1 ["A=a", "B=b"]"#,
            "none - [] 0 []",
            r#"some - [] 1 ["B=b"]"#,
        ]
    );
}

#[test]
fn keywords_at_the_top_level_are_defaults_too() {
    let job = job("image: debian\nbefore_script: [x]\na: {script: y}");
    assert_eq!(job.image.map(|image| image.name).as_deref(), Some("debian"));
    assert_eq!(job.before_script, ["x"]);
    assert_eq!(
        problems("default: {image: a}\nimage: b\na: {script: x}"),
        ["2: image is defined in top-level and `default:` entry"]
    );
}

#[test]
fn local_files_are_included_under_the_main_file() {
    let files: &[(&str, &str)] = &[
        ("ci/one.yml", "include: ci/two.yml\na: {script: one, tags: [one]}\nvariables: {A: one, B: one}\n"),
        ("ci/two.yml", "stages: [s]\na: {stage: s, script: two}\nb: {stage: s, script: two}\n"),
        ("ci/main.yaml", "c: {stage: s, script: three}\n"),
    ];
    let yaml = "
include:
  - local: /ci/one.yml
  - local: 'ci/$CI_COMMIT_BRANCH.yaml'
  - local: never.yml
    rules: [{if: $CI_COMMIT_TAG}]
a: {tags: [main]}
variables: {B: main}
";
    let pipeline = read_with(yaml, files, PUSH).expect("a pipeline");
    assert_eq!(names(&pipeline), ["a", "b", "c"]);
    let a = pipeline.jobs.first().expect("a job");
    assert_eq!(
        (a.script.as_slice(), a.tags.as_slice(), a.stage.as_str()),
        (&["one".to_owned()][..], &["main".to_owned()][..], "s")
    );
    assert_eq!(pairs(a), ["A=one", "B=main"]);
    let places: Vec<_> = pipeline.jobs.iter().map(|job| (job.file.as_str(), job.line)).collect();
    assert_eq!(places, [(".gitlab-ci.yml", 7), ("ci/two.yml", 3), ("ci/main.yaml", 1)]);
}

#[test]
fn includes_may_be_meant_by_a_pattern() {
    let files: &[(&str, &str)] = &[
        ("ci/a.yml", "a: {script: x}\n"),
        ("ci/b.yml", "a: {script: y}\nb: {script: x}\n"),
        ("ci/deep/c.yml", "c: {script: x}\n"),
        ("ci/notes.md", ""),
    ];
    let included = |pattern: &str| {
        let yaml = format!("include: ['{pattern}']\nmain: {{script: x}}\n");
        read_with(&yaml, files, PUSH).map(|pipeline| names(&pipeline).join(" "))
    };
    assert_eq!(included("/ci/*.yml").as_deref(), Ok("a b main"));
    assert_eq!(included("ci/**.yml").as_deref(), Ok("a b c main"));
    assert_eq!(included("none/*.yml").as_deref(), Ok("main"));
}

#[test]
fn local_includes_that_cannot_be_had_are_refused_with_their_line() {
    let yaml = "
include:
  - local: missing.yml
  - local: ../x.yml
  - local: script.sh
  - loop.yml
  - bad.yml
a: {script: x}
";
    let files = &[("loop.yml", "include: /loop.yml\n"), ("bad.yml", "a: {script: x}\n b: 1\n")];
    let problems = read_with(yaml, files, PUSH).expect_err("problems");
    assert_eq!(
        problems.iter().take(3).cloned().collect::<Vec<_>>(),
        [
            ".gitlab-ci.yml:3: include `missing.yml` does not exist in the repository",
            ".gitlab-ci.yml:4: include `../x.yml` leads out of the repository",
            ".gitlab-ci.yml:5: include `script.sh` does not end in .yml or .yaml",
        ]
    );
    let rest: Vec<&str> = problems.iter().skip(3).map(String::as_str).collect();
    assert!(
        matches!(rest.as_slice(), [bad, looped]
            if bad.starts_with("bad.yml:2: invalid YAML at column")
                && looped.starts_with("loop.yml:1: include `loop.yml` includes itself: .gitlab-ci.yml → loop.yml → loop.yml")),
        "{rest:?}"
    );
}
