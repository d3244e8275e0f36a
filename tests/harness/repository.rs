//! The repository that jobs of the tests check out.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Name under which GitLab serves it.
pub const NAME: &str = "group/project";

/// The pipeline of its main branch.
const PIPELINE: &str = include_str!("repository/gitlab-ci.yml");

/// Commits of its main branch: more than a shallow fetch takes.
pub const COMMITS: usize = 5;

/// Makes the repository: a few commits on `main`, a branch and a tag.
///
/// # Errors
/// git does not work.
pub fn create(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("project");
    std::fs::create_dir(&path)?;
    git(&path, &["init", "-q", "-b", "main"])?;
    std::fs::write(path.join(".gitlab-ci.yml"), PIPELINE)?;
    for number in 1..=COMMITS {
        std::fs::write(path.join("number.txt"), format!("{number}\n"))?;
        git(&path, &["add", "-A"])?;
        git(&path, &["commit", "-q", "-m", &format!("commit {number}")])?;
    }
    git(&path, &["tag", "v1"])?;
    git(&path, &["checkout", "-q", "-b", "topic"])?;
    std::fs::write(path.join("topic.txt"), "of the branch\n")?;
    git(&path, &["add", "-A"])?;
    git(&path, &["commit", "-q", "-m", "on the branch"])?;
    make_large(&path)?;
    git(&path, &["checkout", "-q", "main"])?;
    Ok(path)
}

/// Bytes of the branches that fetching takes long enough to be measured of.
pub const LARGE: usize = 4_000_000;

/// Two branches with a history of their own, which no other test fetches: `large`, whose content no
/// compression makes smaller, and `large-next`, which has one small commit more.
fn make_large(path: &Path) -> anyhow::Result<()> {
    git(path, &["checkout", "-q", "--orphan", "large"])?;
    git(path, &["rm", "-q", "-r", "-f", "."])?;
    let mut state: u64 = 1;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).to_le_bytes()
    });
    std::fs::write(path.join("noise"), noise.flatten().take(LARGE).collect::<Vec<u8>>())?;
    for (branch, content) in [("large", "first\n"), ("large-next", "second\n")] {
        std::fs::write(path.join("word.txt"), content)?;
        git(path, &["checkout", "-q", "-B", branch])?;
        git(path, &["add", "-A"])?;
        git(path, &["commit", "-q", "-m", content.trim()])?;
    }
    Ok(())
}

fn git(dir: &Path, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|key| (key, "Test")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|key| (key, "test@example.com")))
        .status()
        .context("git cannot be started")?;
    anyhow::ensure!(status.success(), "git {args:?} failed");
    Ok(())
}
