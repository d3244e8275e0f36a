//! Pipelines from a repository's `.gitlab-ci.yml`.

use gantry_sim_gitlab::{Config, ProjectVariable};
use serde_json::{Value, json};

use crate::git::{done, git, repository};
use crate::harness::{Sim, Taken, config};

const CI: &str = "
stages: [build, test, deploy]
variables:
  GREETING: hello $CI_COMMIT_BRANCH
compile:
  stage: build
  image: alpine:3.20
  script: [make]
  retry: 1
  artifacts: {paths: [out/]}
unit:
  stage: test
  before_script: [prepare]
  script: [test]
  after_script: [clean]
lint:
  stage: test
  needs: []
  script: [lint]
  allow_failure: {exit_codes: [2]}
release:
  stage: deploy
  script: [release]
rescue:
  stage: deploy
  script: [rescue]
  when: on_failure
";

fn variable<'a>(job: &'a Taken, key: &str) -> &'a str {
    let all = job.payload["variables"].as_array().expect("a list");
    let found = all.iter().rev().find(|variable| variable["key"] == key);
    found.and_then(|variable| variable["value"].as_str()).unwrap_or_default()
}

async fn states(sim: &Sim, pipeline: &Value) -> Vec<String> {
    let shown = sim.get(&format!("/sim/pipelines/{}", pipeline["id"])).await;
    let jobs = shown["jobs"].as_array().expect("jobs").iter();
    let mut all: Vec<String> = jobs
        .map(|job| format!("{} {}", job["name"].as_str().expect("a name"), job["status"].as_str().expect("a status")))
        .collect();
    all.push(shown["status"].as_str().expect("a status").to_owned());
    all
}

async fn upload(sim: &Sim, job: &Taken) {
    let part = reqwest::multipart::Part::bytes(&b"zip"[..]).file_name("artifacts.zip");
    let form = reqwest::multipart::Form::new().part("file", part);
    let call = sim.call(reqwest::Method::POST, &format!("/api/v4/jobs/{}/artifacts", job.id));
    let answer = call.header("JOB-TOKEN", &job.token).multipart(form).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
}

#[tokio::test]
async fn stages_needs_retry_and_allowed_failures() {
    let origin = repository(&[(".gitlab-ci.yml", CI)]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let wanted = json!({"repo": "group/project", "ref": "main", "variables": {"EXTRA": "given"}});
    let (code, pipeline) = sim.post("/sim/pipelines", &wanted).await;
    assert_eq!((code, pipeline["jobs"].as_array().map(Vec::len)), (201, Some(5)), "{pipeline}");

    let compile = sim.run_next().await;
    assert_eq!(compile.payload["job_info"]["name"], "compile");
    assert_eq!(compile.payload["image"]["name"], "alpine:3.20");
    assert_eq!(variable(&compile, "GREETING"), "hello main");
    assert_eq!(variable(&compile, "EXTRA"), "given");
    assert_eq!(variable(&compile, "CI_PROJECT_PATH"), "group/project");
    assert_eq!(variable(&compile, "CI_COMMIT_TITLE"), "first");
    assert_eq!(variable(&compile, "CI_JOB_TOKEN"), compile.token);
    let lint = sim.run_next().await;
    assert_eq!(lint.payload["job_info"]["name"], "lint");
    assert_eq!(sim.ask("").await.status(), 204, "everything else waits");

    sim.finish(&compile, "failed").await;
    let again = sim.run_next().await;
    assert_eq!(again.payload["job_info"]["name"], "compile", "tried again by itself");
    upload(&sim, &again).await;
    sim.finish(&again, "success").await;
    assert_eq!(sim.put(&lint, &json!({"state": "failed", "exit_code": 2})).await.0, 200);

    let unit = sim.run_next().await;
    assert_eq!(unit.payload["steps"][0]["script"], json!(["prepare", "test"]));
    assert_eq!(unit.payload["steps"][1]["name"], "after_script");
    assert_eq!(unit.payload["dependencies"][0]["id"], json!(again.id));
    assert_eq!(unit.payload["dependencies"].as_array().map(Vec::len), Some(1));
    sim.finish(&unit, "success").await;
    let release = sim.run_next().await;
    sim.finish(&release, "success").await;
    assert_eq!(
        states(&sim, &pipeline).await,
        [
            "compile failed",
            "unit success",
            "lint failed",
            "release success",
            "rescue skipped",
            "compile success",
            "success"
        ]
    );
    assert_eq!(sim.broken().await, [""; 0]);
    sim.stop().await;
}

/// What a pipeline's job is told of its commit: branch, tag, name, and what it fetches.
async fn told(sim: &Sim, wanted: Value) -> [String; 5] {
    let (code, answer) = sim.post("/sim/pipelines", &wanted).await;
    assert_eq!(code, 201, "{answer}");
    let job = sim.run_next().await;
    sim.finish(&job, "success").await;
    let refspecs = job.payload["git_info"]["refspecs"].as_array().expect("a list");
    let named: Vec<&str> = refspecs.iter().skip(1).filter_map(Value::as_str).collect();
    let texts = ["CI_COMMIT_BRANCH", "CI_COMMIT_TAG", "CI_COMMIT_REF_NAME", "CI_COMMIT_SHA"];
    let [branch, tag, name, sha] = texts.map(|key| variable(&job, key).to_owned());
    assert_eq!(job.payload["git_info"]["sha"], sha);
    [branch, tag, name, sha, named.join(" ")]
}

#[tokio::test]
async fn a_pipeline_is_of_the_commit_that_is_asked_for() {
    let origin = repository(&[(".gitlab-ci.yml", "one: {script: [a]}")]);
    let dir = origin.path();
    let head = || done(&git(dir, &["rev-parse", "HEAD"]));
    let first = head();
    done(&git(dir, &["commit", "-q", "--allow-empty", "-m", "second"]));
    done(&git(dir, &["tag", "-a", "-m", "annotated", "v1"]));
    done(&git(dir, &["update-ref", "refs/remotes/origin/far", &first]));
    let second = head();
    done(&git(dir, &["checkout", "-q", "--detach", &first]));
    let sim = Sim::with_repo("project", dir.to_owned()).await;
    let owned = |texts: [&str; 5]| texts.map(str::to_owned);

    let of_main = owned(["main", "", "main", &second, "+refs/heads/main:refs/remotes/origin/main"]);
    assert_eq!(told(&sim, json!({"ref": "main"})).await, of_main);
    let of_tag = owned(["", "v1", "v1", &second, "+refs/tags/v1:refs/tags/v1"]);
    assert_eq!(told(&sim, json!({"ref": "v1"})).await, of_tag);
    let alone = owned(["", "", &first, &first, ""]);
    assert_eq!(told(&sim, json!({"ref": "HEAD"})).await, alone, "what is checked out, not the default branch");
    assert_eq!(told(&sim, json!({"sha": &first[..9]})).await, alone);
    let older = owned(["main", "", "main", &first, "+refs/heads/main:refs/remotes/origin/main"]);
    assert_eq!(told(&sim, json!({"ref": "main", "sha": first})).await, older);
    let far = owned(["far", "", "far", &first, "+refs/remotes/origin/far:refs/remotes/origin/far"]);
    assert_eq!(told(&sim, json!({"ref": "refs/remotes/origin/far"})).await, far);

    for unknown in [json!({"ref": "none"}), json!({"sha": "0123456789"}), json!({"sha": "main~1"})] {
        assert_eq!(sim.post("/sim/pipelines", &unknown).await.0, 404, "{unknown}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn a_failure_skips_what_follows_until_it_is_retried() {
    let origin = repository(&[(".gitlab-ci.yml", CI)]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let (code, pipeline) = sim.post("/sim/pipelines", &json!({"jobs": ["unit", "release", "rescue"]})).await;
    assert_eq!(code, 201, "{pipeline}");
    let unit = sim.run_next().await;
    sim.finish(&unit, "failed").await;
    let rescue = sim.run_next().await;
    assert_eq!(rescue.payload["job_info"]["name"], "rescue");
    sim.finish(&rescue, "success").await;
    assert_eq!(states(&sim, &pipeline).await, ["unit failed", "release skipped", "rescue success", "failed"]);
    sim.post(&format!("/sim/jobs/{}/retry", unit.id), &json!({})).await;
    let unit = sim.run_next().await;
    sim.finish(&unit, "success").await;
    assert_eq!(sim.run_next().await.payload["job_info"]["name"], "release");
    sim.stop().await;
}

#[tokio::test]
async fn bad_files_and_unknown_names_are_explained() {
    let origin = repository(&[(".gitlab-ci.yml", "test:\n  scirpt: [a]\n")]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let (code, answer) = sim.post("/sim/pipelines", &json!({"repo": "group/project", "ref": "main"})).await;
    assert_eq!(code, 422);
    assert_eq!(answer["problems"][0]["file"], ".gitlab-ci.yml");
    assert!(answer["problems"][0]["line"].as_u64().is_some_and(|line| line > 0), "{answer}");
    assert_eq!(sim.post("/sim/pipelines", &json!({"ref": "none"})).await.0, 404);
    assert_eq!(sim.post("/sim/pipelines", &json!({"repo": "none"})).await.0, 404);
    assert_eq!(sim.post("/sim/pipelines", &json!({"branch": "main"})).await.0, 400);
    sim.stop().await;
}

const DOTENV_CI: &str = "
stages: [build, test]
version:
  stage: build
  script: [build]
  artifacts: {reports: {dotenv: build.env}}
all:
  stage: test
  script: [test]
  variables: {VERSION: from the file, GIVEN: from the file}
named:
  stage: test
  needs: [version]
  script: [test]
without:
  stage: test
  needs: [{job: version, artifacts: false}]
  script: [test]
neither:
  stage: test
  dependencies: []
  script: [test]
";

async fn upload_dotenv(sim: &Sim, job: &Taken, text: &[u8]) -> (u16, String) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text).expect("packs");
    let part = reqwest::multipart::Part::bytes(gzip.finish().expect("packs")).file_name("build.env.gz");
    let path = format!("/api/v4/jobs/{}/artifacts?artifact_format=gzip&artifact_type=dotenv", job.id);
    let call = sim.call(reqwest::Method::POST, &path).header("JOB-TOKEN", &job.token);
    let form = reqwest::multipart::Form::new().part("file", part);
    let answer = call.multipart(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn dotenv_reports_become_variables_of_later_jobs() {
    let origin = repository(&[(".gitlab-ci.yml", DOTENV_CI)]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let wanted = json!({"variables": {"GIVEN": {"value": "by a person", "masked": true}}});
    assert_eq!(sim.post("/sim/pipelines", &wanted).await.0, 201);
    let version = sim.run_next().await;
    let (code, why) = upload_dotenv(&sim, &version, b"VERSION=1\n\nGIVEN=by the report\n").await;
    assert_eq!(code, 400, "GitLab takes no empty line: {why}");
    assert_eq!(upload_dotenv(&sim, &version, b"VERSION=1.2\nGIVEN=by the report\n").await.0, 201);
    sim.finish(&version, "success").await;

    for (name, expected) in [("all", "1.2"), ("named", "1.2"), ("without", ""), ("neither", "")] {
        let job = sim.run_next().await;
        assert_eq!(job.payload["job_info"]["name"], name);
        assert_eq!(variable(&job, "VERSION"), expected, "{name}");
        assert_eq!(variable(&job, "GIVEN"), "by a person", "{name}");
        assert_eq!(job.payload["dependencies"], json!([]), "a report is no archive");
    }
    assert_eq!(sim.broken().await, [""; 0], "a bad report is its author's mistake, not the runner's");
    sim.stop().await;
}

#[tokio::test]
async fn pipeline_variables_keep_their_settings_on_the_way() {
    let origin = repository(&[(".gitlab-ci.yml", "test:\n  script: [a]\n")]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    let given = json!({"variables": {"KEY": {"value": "s3cret", "masked": true, "file": true}, "N": 5}});
    assert_eq!(sim.post("/sim/pipelines", &given).await.0, 201);
    let job = sim.run_next().await;
    let all = job.payload["variables"].as_array().expect("a list");
    let find = |key: &str| all.iter().find(|variable| variable["key"] == key).cloned().unwrap_or_default();
    let expected =
        json!({"key": "KEY", "value": "s3cret", "public": false, "masked": true, "file": true, "raw": false});
    assert_eq!(find("KEY"), expected);
    assert_eq!(find("N")["value"], "5");
    assert_eq!(sim.post("/sim/pipelines", &json!({"variables": {"KEY": {"masked": true}}})).await.0, 400);
    sim.stop().await;
}

#[tokio::test]
async fn variables_of_the_project_lose_to_those_of_the_pipeline() {
    let origin = repository(&[(".gitlab-ci.yml", "test:\n  script: [a]\n  variables: {A: file, B: file}\n")]);
    let settings = |project: &str, key: &str, masked| ProjectVariable {
        project: project.to_owned(),
        key: key.to_owned(),
        value: "settings".to_owned(),
        masked,
    };
    let repos = vec![("group/project".to_owned(), origin.path().to_owned())];
    let variables = vec![
        settings("group/project", "A", true),
        settings("group/project", "B", false),
        settings("other", "C", false),
    ];
    let sim = Sim::with(Config { repos, variables, ..config() }).await;
    assert_eq!(sim.post("/sim/pipelines", &json!({"variables": {"B": "request"}})).await.0, 201);
    let job = sim.run_next().await;
    assert_eq!([variable(&job, "A"), variable(&job, "B"), variable(&job, "C")], ["settings", "request", ""]);
    let all = job.payload["variables"].as_array().expect("a list");
    assert!(all.iter().any(|variable| variable["key"] == "A" && variable["masked"] == true));
    sim.stop().await;
}
