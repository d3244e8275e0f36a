//! `needs` and `dependencies` between jobs.

use super::{PUSH, names, pipeline, problems, read_with};

#[test]
fn needs_have_a_short_and_a_long_form() {
    let pipeline = pipeline(
        "
a: {stage: build, script: x}
b: {stage: build, script: x, needs: []}
c:
  script: x
  needs:
    - a
    - {job: b, artifacts: false}
    - {job: gone, optional: true}
    - {job: tagged, optional: true}
  dependencies: [a]
tagged: {stage: build, script: x, only: [tags]}
",
    );
    assert_eq!(names(&pipeline), ["a", "b", "c"]);
    let [a, b, c] = pipeline.jobs.as_slice() else { panic!() };
    assert_eq!((a.needs.clone(), b.needs.clone()), (None, Some(Vec::new())));
    let needs: Vec<_> = c.needs.iter().flatten().map(|need| (need.job.as_str(), need.artifacts)).collect();
    assert_eq!(needs, [("a", true), ("b", false)]);
    assert_eq!(c.dependencies.as_deref(), Some(&["a".to_owned()][..]));
}

#[test]
fn a_single_need_may_stand_without_a_list() {
    let pipeline = pipeline("a: {stage: build, script: x}\nb: {script: x, needs: {job: a, artifacts: false}}\n");
    let needs: Vec<_> = pipeline.jobs.iter().flat_map(|job| job.needs.iter().flatten()).collect();
    assert!(matches!(needs.as_slice(), [one] if one.job == "a" && !one.artifacts), "{needs:?}");
}

#[test]
fn parallel_jobs_are_needed_all_or_by_their_matrix() {
    let pipeline = pipeline(
        "
n: {stage: build, script: x, parallel: 2}
m: {stage: build, script: x, parallel: {matrix: [{OS: [a, b, c]}]}}
t:
  script: x
  needs:
    - n
    - {job: m, parallel: {matrix: [{OS: [a, c]}]}}
d: {script: x, dependencies: [n]}
",
    );
    let t = pipeline.jobs.iter().find(|job| job.name == "t").expect("a job");
    let needs: Vec<&str> = t.needs.iter().flatten().map(|need| need.job.as_str()).collect();
    assert_eq!(needs, ["n 1/2", "n 2/2", "m: [a]", "m: [c]"]);
    let d = pipeline.jobs.iter().find(|job| job.name == "d").expect("a job");
    assert_eq!(d.dependencies, Some(vec!["n 1/2".to_owned(), "n 2/2".to_owned()]));
}

#[test]
fn an_instance_can_be_needed_by_its_full_name() {
    let pipeline = pipeline(
        "
build: {stage: build, script: x, parallel: {matrix: [{OS: [win, mac], CPU: [intel, amd]}]}}
n: {stage: build, script: x, parallel: 2}
t: {script: x, needs: ['build: [win, amd]', {job: n 2/2, artifacts: false}]}
d: {script: x, dependencies: ['build: [mac, intel]', n 1/2]}
both: {script: x, needs: [build], dependencies: ['build: [win, amd]']}
",
    );
    let find = |name: &str| pipeline.jobs.iter().find(|job| job.name == name).expect("a job");
    let needs: Vec<_> = find("t").needs.iter().flatten().map(|need| (need.job.as_str(), need.artifacts)).collect();
    assert_eq!(needs, [("build: [win, amd]", true), ("n 2/2", false)]);
    assert_eq!(find("d").dependencies, Some(vec!["build: [mac, intel]".to_owned(), "n 1/2".to_owned()]));
    assert_eq!(find("both").dependencies, Some(vec!["build: [win, amd]".to_owned()]));
    assert_eq!(
        problems(
            "
b: {stage: build, script: x, parallel: {matrix: [{OS: [win, mac]}]}, rules: [{if: $OS == 'win'}]}
t: {script: x, needs: ['b: [mac]']}
u: {script: x, needs: ['b: [bsd]']}
v: {script: x, needs: ['b: [win]'], dependencies: [b]}
w: {script: x, needs: [{job: 'b: [mac]', optional: true}]}
"
        ),
        [
            "3: jobs:t:needs needs b: [mac], but its rules leave it out of this pipeline; add `optional: true`",
            "4: jobs:u:needs undefined need: b: [bsd]",
            "5: jobs:v:dependencies the b should be part of needs",
        ]
    );
}

#[test]
fn a_matrix_job_can_need_the_instance_with_its_own_values() {
    let pipeline = pipeline(
        "
build: {stage: build, script: x, parallel: {matrix: [{OS: [win, mac], CPU: [intel, amd]}]}}
test:
  script: x
  parallel: {matrix: [{SYSTEM: [win, mac]}]}
  needs: [{job: build, parallel: {matrix: [{OS: ['$[[ matrix.SYSTEM ]]'], CPU: [amd]}]}}]
check:
  script: x
  parallel: {matrix: [{OS: [win]}]}
  needs: ['build: [$[[matrix.OS]], intel]']
",
    );
    let needs: Vec<String> = pipeline
        .jobs
        .iter()
        .flat_map(|job| job.needs.iter().flatten().map(|need| format!("{} → {}", job.name, need.job)))
        .collect();
    assert_eq!(
        needs,
        ["test: [win] → build: [win, amd]", "test: [mac] → build: [mac, amd]", "check: [win] → build: [win, intel]",]
    );
    let wrong = problems(
        "
b: {stage: build, script: x, parallel: {matrix: [{OS: [win]}]}}
t: {script: x, parallel: {matrix: [{A: [x]}]}, needs: [{job: b, parallel: {matrix: [{OS: ['$[[ matrix.OS ]]']}]}}]}
",
    );
    assert_eq!(wrong.first().map(String::as_str), Some("3: jobs:t:needs 'OS' does not exist in matrix configuration"));
}

#[test]
fn wrong_names_and_orders_are_reported() {
    assert_eq!(
        problems(
            "
build: {stage: build, script: x, needs: [deploy]}
tagged: {stage: build, script: x, only: [tags]}
one: {script: x, needs: [biuld, tagged]}
two: {script: x, dependencies: [later, one, nothing]}
three: {script: x, needs: [build], dependencies: [tagged]}
deploy: {stage: deploy, script: x}
later: {stage: deploy, script: x}
"
        ),
        [
            "2: jobs:build:needs need deploy is not defined in current or prior stages",
            "4: jobs:one:needs undefined need: biuld; did you mean `build`?",
            "4: jobs:one:needs needs tagged, but its rules leave it out of this pipeline; add `optional: true`",
            "5: jobs:two:dependencies dependency later is not defined in current or prior stages",
            "5: jobs:two:dependencies dependency one is in the same stage; it has to be in an earlier one, or in `needs`",
            "5: jobs:two:dependencies undefined dependency: nothing",
            "6: jobs:three:dependencies the tagged should be part of needs",
        ]
    );
}

#[test]
fn cycles_are_shown_as_a_path() {
    assert_eq!(
        problems(
            "
start: {script: x, needs: [a]}
a: {script: x, needs: [b]}
b: {script: x, needs: [c]}
c: {script: x, needs: [a]}
free: {script: x, needs: []}
"
        ),
        ["2: jobs needs form a cycle: a → b → c → a"]
    );
    assert_eq!(problems("a: {script: x, needs: [a]}"), ["1: jobs needs form a cycle: a → a"]);
}

#[test]
fn dependencies_bring_no_artifacts_that_needs_leave_out() {
    let yaml = "
a: {script: x}
b: {script: x}
c: {script: x, needs: [{job: a, artifacts: false}, b], dependencies: [a, b]}
d: {script: x, needs: [{job: a, artifacts: false}], dependencies: [a]}
";
    let pipeline = pipeline(yaml);
    let of = |index: usize| pipeline.jobs[index].dependencies.clone();
    assert_eq!((of(2), of(3)), (Some(vec!["b".to_owned()]), Some(Vec::new())));
}

#[test]
fn a_job_of_the_same_stage_can_be_needed() {
    let yaml = "a: {script: x}\nb: {script: x, needs: [a], dependencies: [a]}\n";
    assert!(read_with(yaml, &[], PUSH).is_ok());
}
