use tempfile::TempDir;

use super::*;

/// Runs git as somebody, without anybody's configuration.
fn run(dir: &Path, args: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"])
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn commit(dir: &Path, text: &str) -> String {
    run(dir, &["commit", "-q", "--allow-empty", "-m", text]);
    run(dir, &["rev-parse", "HEAD"])
}

/// `main` with two commits, of which the first has a tag, and `feature` with one more.
struct Sample {
    dir: TempDir,
    first: String,
    second: String,
    feature: String,
}

fn sample() -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    run(path, &["init", "-q", "-b", "main"]);
    let first = commit(path, "first");
    run(path, &["tag", "-a", "-m", "a tag", "v1"]);
    let second = commit(path, "second");
    run(path, &["checkout", "-q", "-b", "feature"]);
    let feature = commit(path, "on the feature");
    run(path, &["checkout", "-q", "main"]);
    Sample { dir, first, second, feature }
}

fn found(dir: &Path, wanted: Option<&str>) -> (String, String) {
    let revision = Revision::find(dir, wanted).unwrap();
    (revision.title(), revision.sha)
}

#[test]
fn what_is_checked_out_is_run() {
    let sample = sample();
    let dir = sample.dir.path();
    assert_eq!(found(dir, None), ("branch main".to_owned(), sample.second.clone()));
    run(dir, &["checkout", "-q", "--detach", "feature"]);
    assert_eq!(found(dir, None), ("branch feature".to_owned(), sample.feature));
    assert_eq!(found(dir, Some("HEAD")), found(dir, None));
    run(dir, &["checkout", "-q", "v1"]);
    assert_eq!(found(dir, None), ("tag v1".to_owned(), sample.first));
    let loose = commit(dir, "of nobody");
    let revision = Revision::find(dir, None).unwrap();
    assert_eq!((revision.full_ref, revision.sha), (None, loose));
    assert!(revision.note.is_some_and(|note| note.contains("CI_COMMIT_BRANCH")));
}

#[test]
fn a_ref_is_a_branch_a_tag_or_any_commit() {
    let sample = sample();
    let dir = sample.dir.path();
    for (wanted, title, sha) in [
        ("feature", "branch feature", &sample.feature),
        ("refs/heads/feature", "branch feature", &sample.feature),
        ("v1", "tag v1", &sample.first),
        ("v1^{}", "branch main", &sample.first),
        ("HEAD~1", "branch main", &sample.first),
        (&sample.second[..8], "branch main", &sample.second),
        (&sample.feature, "branch feature", &sample.feature),
    ] {
        assert_eq!(found(dir, Some(wanted)), (title.to_owned(), sha.clone()), "{wanted}");
    }
    for unknown in ["none", "--all", "0123456789", ""] {
        let error = Revision::find(dir, Some(unknown)).unwrap_err();
        assert!(error.starts_with("has no branch, tag or commit"), "{unknown}: {error}");
    }
}

#[test]
fn clones_work_trees_and_remote_branches() {
    let sample = sample();
    let origin = sample.dir.path();
    let clones = tempfile::tempdir().unwrap();
    let url = format!("file://{}", origin.display());
    run(clones.path(), &["clone", "-q", "--depth", "1", "--no-single-branch", &url, "shallow"]);
    let shallow = clones.path().join("shallow");
    assert_eq!(found(&shallow, None), ("branch main".to_owned(), sample.second));
    for wanted in ["feature", "origin/feature", sample.feature.as_str()] {
        assert_eq!(found(&shallow, Some(wanted)), ("branch feature".to_owned(), sample.feature.clone()), "{wanted}");
    }
    run(origin, &["worktree", "add", "-q", "--detach", "tree", "feature"]);
    assert_eq!(found(&origin.join("tree"), None), ("branch feature".to_owned(), sample.feature));
}

#[test]
fn an_empty_repository_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["init", "-q", "-b", "trunk"]);
    let error = Revision::find(dir.path(), None).unwrap_err();
    assert_eq!(error, "has no commit yet: commit something on trunk first");
}
