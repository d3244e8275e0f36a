//! What a pipeline knows about its repository: the default branch, what changed, and the variables
//! that say so.

use std::path::Path;

use serde_json::{Value, json};

use crate::git::{done, git, repository};
use crate::harness::{Sim, Taken};

const CI: &str = "
always: {script: [a]}
docs: {script: [a], rules: [{changes: ['docs/**/*']}]}
docker: {script: [a], rules: [{exists: [Dockerfile]}]}
deploy: {script: [a], rules: [{if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH}]}
since-v1: {script: [a], rules: [{changes: {paths: [src.c], compare_to: v1}}]}
";

/// Changes a file and commits.
fn commit(directory: &Path, file: &str, text: &str) -> String {
    let path = directory.join(file);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, text).expect("a file");
    done(&git(directory, &["add", "."]));
    done(&git(directory, &["commit", "-q", "-m", file]));
    done(&git(directory, &["rev-parse", "HEAD"]))
}

fn names(pipeline: &Value) -> Vec<&str> {
    let jobs = pipeline["jobs"].as_array().expect("jobs").iter();
    jobs.map(|job| job["name"].as_str().expect("a name")).collect()
}

fn variable<'a>(job: &'a Taken, key: &str) -> Option<&'a str> {
    let all = job.payload["variables"].as_array().expect("a list");
    all.iter().rev().find(|variable| variable["key"] == key)?["value"].as_str()
}

#[tokio::test]
async fn a_pipeline_is_about_what_its_push_brought() {
    let origin = repository(&[(".gitlab-ci.yml", CI), ("Dockerfile", ""), ("src.c", "")]);
    let dir = origin.path();
    done(&git(dir, &["tag", "-a", "v1", "-m", "the first\n\nin full"]));
    let first = done(&git(dir, &["rev-parse", "HEAD"]));
    let second = commit(dir, "docs/guide.md", "1");
    done(&git(dir, &["branch", "unchanged"]));
    done(&git(dir, &["checkout", "-q", "-b", "feature"]));
    commit(dir, "src.c", "1");
    let feature = commit(dir, "other.c", "1");
    let sim = Sim::with_repo("group/project", dir.to_owned()).await;
    let make = async |git_ref: &str| {
        let (code, pipeline) = sim.post("/sim/pipelines", &json!({"repo": "group/project", "ref": git_ref})).await;
        assert_eq!(code, 201, "{pipeline}");
        assert_eq!(pipeline["warnings"], json!([]));
        pipeline
    };
    let take = async || {
        let job = sim.run_next().await;
        sim.finish(&job, "success").await;
        job
    };

    // The default branch is compared with the commit before, although another branch is checked
    // out.
    assert_eq!(names(&make("main").await), ["always", "docs", "docker", "deploy"]);
    let main = take().await;
    assert_eq!(variable(&main, "CI_DEFAULT_BRANCH"), Some("main"));
    assert_eq!(variable(&main, "CI_COMMIT_BEFORE_SHA"), Some(first.as_str()));
    assert_eq!(main.payload["git_info"]["before_sha"], json!(first));
    for _ in 0..3 {
        take().await;
    }

    // Another branch with where it left the default branch.
    assert_eq!(names(&make("feature").await), ["always", "docker", "since-v1"]);
    let job = take().await;
    assert_eq!(
        (variable(&job, "CI_COMMIT_SHA"), variable(&job, "CI_COMMIT_BEFORE_SHA")),
        (Some(&*feature), Some(&*second))
    );
    for _ in 0..2 {
        take().await;
    }

    // A branch without a commit of its own is new: everything counts as changed. So it is for tags.
    assert_eq!(names(&make("unchanged").await), ["always", "docs", "docker"]);
    assert_eq!(variable(&take().await, "CI_COMMIT_BEFORE_SHA"), Some(&*"0".repeat(40)));
    for _ in 0..2 {
        take().await;
    }
    assert_eq!(names(&make("v1").await), ["always", "docs", "docker"]);
    let tag = take().await;
    assert_eq!(variable(&tag, "CI_COMMIT_TAG"), Some("v1"));
    assert_eq!(variable(&tag, "CI_COMMIT_TAG_MESSAGE"), Some("the first\n\nin full"));
    assert_eq!(variable(&tag, "CI_COMMIT_BRANCH"), None);
    sim.stop().await;
}

#[tokio::test]
async fn a_clone_has_the_default_branch_of_its_origin() {
    let origin = repository(&[(".gitlab-ci.yml", CI)]);
    done(&git(origin.path(), &["checkout", "-q", "-b", "trunk"]));
    commit(origin.path(), "src.c", "1");
    let clone = tempfile::tempdir().expect("a directory");
    let from = origin.path().to_str().expect("a path");
    done(&git(clone.path(), &["clone", "-q", from, "."]));
    done(&git(clone.path(), &["checkout", "-q", "-b", "feature"]));
    commit(clone.path(), "docs/a", "1");
    // Only what was fetched of it is there.
    done(&git(clone.path(), &["branch", "-q", "-D", "trunk"]));
    let sim = Sim::with_repo("group/project", clone.path().to_owned()).await;
    let (code, refused) = sim.post("/sim/pipelines", &json!({"ref": "feature"})).await;
    let why = "rules:changes:compare_to is not a valid ref: there is no v1 here, or nothing in common with it";
    assert_eq!((code, &refused["problems"][0]["message"]), (422, &json!(why)));
    done(&git(clone.path(), &["tag", "v1", "HEAD^"]));
    let (code, pipeline) = sim.post("/sim/pipelines", &json!({"ref": "feature"})).await;
    assert_eq!(code, 201, "{pipeline}");
    assert_eq!(names(&pipeline), ["always", "docs"]);
    let job = sim.run_next().await;
    assert_eq!(variable(&job, "CI_DEFAULT_BRANCH"), Some("trunk"));
    sim.stop().await;
}

#[tokio::test]
async fn predefined_variables_make_names_of_images_and_of_environments() {
    let yaml = "
test:
  image: $CI_REGISTRY_IMAGE/tool:1
  services: ['${CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX}/redis:7', $CI_TEMPLATE_REGISTRY_HOST/a]
  environment: {name: review/$CI_COMMIT_REF_SLUG, url: 'https://$CI_ENVIRONMENT_SLUG.example.com'}
  script: [a]
";
    let origin = repository(&[(".gitlab-ci.yml", yaml)]);
    let sim = Sim::with_repo("Group/sub/project", origin.path().to_owned()).await;
    let (code, pipeline) = sim.post("/sim/pipelines", &json!({})).await;
    assert_eq!(code, 201, "{pipeline}");
    let warnings = pipeline["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "the one about the environment: {warnings:?}");
    let job = sim.run_next().await;
    let value = |key: &str| variable(&job, key).unwrap_or_else(|| panic!("no {key}"));
    let host = value("CI_SERVER_HOST");
    assert_eq!(value("CI_REGISTRY"), format!("{host}:5050"));
    assert_eq!(value("CI_REGISTRY_IMAGE"), format!("{host}:5050/group/sub/project"));
    assert_eq!(value("CI_REGISTRY_USER"), "gitlab-ci-token");
    assert_eq!(value("CI_REGISTRY_PASSWORD"), job.token);
    assert_eq!(value("CI_DEPENDENCY_PROXY_PASSWORD"), job.token);
    let server = value("CI_DEPENDENCY_PROXY_SERVER");
    assert_eq!(value("CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX"), format!("{server}/group/dependency_proxy/containers"));
    let direct = value("CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX");
    assert_eq!(direct, format!("{server}/group/sub/dependency_proxy/containers"));
    assert_eq!(value("CI_PAGES_URL"), format!("http://group.pages.{host}/project"));
    assert_eq!((value("CI_ENVIRONMENT_NAME"), value("CI_ENVIRONMENT_TIER")), ("review/main", "development"));
    assert_eq!(value("CI_ENVIRONMENT_URL"), format!("https://{}.example.com", value("CI_ENVIRONMENT_SLUG")));
    let all = job.payload["variables"].as_array().expect("a list");
    let secret = |key: &str| all.iter().any(|one| one["key"] == key && one["masked"] == true && one["public"] == false);
    assert!(secret("CI_REGISTRY_PASSWORD") && secret("CI_DEPENDENCY_PROXY_PASSWORD"));
    sim.stop().await;
}
