//! Clone and fetch with real git.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::harness::Sim;

/// Runs git without anybody's configuration.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.current_dir(directory).args(arguments);
    for (key, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.com"),
        ("GIT_COMMITTER_NAME", "A"),
        ("GIT_COMMITTER_EMAIL", "a@example.com"),
        ("no_proxy", "*"),
    ] {
        command.env(key, value);
    }
    command.output().expect("git starts")
}

pub(crate) fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A work tree with one commit on `main`.
pub(crate) fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    done(&git(directory.path(), &["init", "-q", "-b", "main"]));
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("a file");
    }
    done(&git(directory.path(), &["add", "."]));
    done(&git(directory.path(), &["commit", "-q", "-m", "first\n\nwhy"]));
    directory
}

#[expect(clippy::disallowed_methods, reason = "git must not block the server under test")]
async fn in_thread(directory: &Path, arguments: &[&str]) -> Output {
    let directory = directory.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || git(&directory, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[tokio::test]
async fn a_job_fetches_its_commit_as_the_payload_says() {
    let origin = repository(&[("a.txt", "one")]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    sim.post("/sim/jobs", &json!({"repo": "group/project"})).await;
    let job = sim.take().await;
    let info = &job.payload["git_info"];
    let sha = info["sha"].as_str().expect("a sha");
    // The branch moves on before the job fetches.
    done(&git(origin.path(), &["commit", "-q", "--allow-empty", "--amend", "-m", "second"]));

    let clone = tempfile::tempdir().expect("a directory");
    done(&git(clone.path(), &["init", "-q"]));
    let mut arguments = vec!["fetch", "-q", "--depth", "20", info["repo_url"].as_str().expect("a URL")];
    arguments.extend(info["refspecs"].as_array().expect("a list").iter().filter_map(|refspec| refspec.as_str()));
    done(&in_thread(clone.path(), &arguments).await);
    done(&git(clone.path(), &["checkout", "-q", sha]));
    assert_eq!(std::fs::read_to_string(clone.path().join("a.txt")).expect("the file"), "one");

    let push =
        in_thread(clone.path(), &["push", "-q", info["repo_url"].as_str().expect("a URL"), "HEAD:refs/heads/x"]).await;
    assert!(!push.status.success());
    sim.put(&job, &json!({"state": "running"})).await;
    sim.finish(&job, "success").await;
    let late = in_thread(clone.path(), &arguments).await;
    assert!(!late.status.success(), "the token ends with the job");
    sim.stop().await;
}

#[tokio::test]
async fn a_name_without_its_ending_leads_to_the_full_one() {
    let origin = repository(&[("a.txt", "one")]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    sim.post("/sim/jobs", &json!({"repo": "group/project"})).await;
    let job = sim.run_next().await;
    let url = job.payload["git_info"]["repo_url"].as_str().expect("a URL").trim_end_matches(".git").to_owned();
    let clone = tempfile::tempdir().expect("a directory");
    done(&in_thread(clone.path(), &["clone", "-q", &url, "here"]).await);
    assert!(clone.path().join("here/a.txt").exists());
    let unknown = in_thread(clone.path(), &["clone", "-q", &format!("{url}s"), "there"]).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("not found"));
    sim.stop().await;
}

#[tokio::test]
async fn only_the_token_of_a_job_opens_a_repository() {
    let origin = repository(&[("a.txt", "one")]);
    let sim = Sim::with_repo("project", origin.path().join(".git")).await;
    let path = "/project.git/info/refs?service=git-upload-pack";
    let call =
        |user: &str, password: &str| sim.call(reqwest::Method::GET, path).basic_auth(user, Some(password)).send();
    let refused = call("gitlab-ci-token", "wrong").await.expect("an answer");
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("www-authenticate"));
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    assert_eq!(call("root", &job.token).await.expect("an answer").status(), 401);
    assert_eq!(call("gitlab-ci-token", &job.token).await.expect("an answer").status(), 200);
    let other = sim.call(reqwest::Method::GET, "/other.git/info/refs?service=git-upload-pack").send();
    assert_eq!(other.await.expect("an answer").status(), 404);
    sim.stop().await;
}
