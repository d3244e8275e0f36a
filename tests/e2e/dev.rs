//! `gantry dev` as a newcomer runs it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::{Process, World, http};
use nix::sys::signal::Signal;
use serde_json::Value;

pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// Longer than the start of a job takes on a busy machine, and shorter than the minute after which
/// GitLab asks for the log of a job that nobody watches.
const LIVE: Duration = Duration::from_secs(40);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("dev: the page stays after the pipeline, until Ctrl-C", page_stays),
        Test::new("dev: a detached HEAD is what is run", detached_head),
        Test::new("dev: scripts have the user's tools, and not the user's keys", own_tools),
        Test::new("dev: no job waits for a helper that is pushed", nothing_pushed),
        Test::new("dev: lines are shown while the job runs, and the end of a run shows the table", live_lines),
        Test::new("dev: the next run removes what a killed one left", leftovers),
        Test::new("dev: what `cache` keeps is there in the next run", caches_last),
        Test::new("dev: what cannot run here is left out with its reason, and the rest runs", left_out),
    ]
}

/// A repository with this pipeline on `main`, and more of it on `feature`.
pub(crate) fn repository(dir: &Path, pipeline: &str) -> anyhow::Result<PathBuf> {
    let path = dir.join("repository");
    std::fs::create_dir_all(&path)?;
    git(&path, &["init", "-q", "-b", "main"])?;
    std::fs::write(path.join(".gitlab-ci.yml"), pipeline)?;
    git(&path, &["add", "-A"])?;
    git(&path, &["commit", "-q", "-m", "on main"])?;
    git(&path, &["checkout", "-q", "-b", "feature"])?;
    git(&path, &["commit", "-q", "--allow-empty", "-m", "on the feature"])?;
    git(&path, &["checkout", "-q", "main"])?;
    Ok(path)
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(dir)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .output()?;
    ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `gantry dev` of a repository, with nothing in its directory for temporary files that is not its
/// own.
pub(crate) fn start(world: &World, dir: &Path, name: &str, args: &[&str]) -> anyhow::Result<Process> {
    start_with(world, dir, name, args, &[])
}

/// The same with more variables in its environment.
pub(crate) fn start_with(
    world: &World,
    dir: &Path,
    name: &str,
    args: &[&str],
    more: &[(&str, &str)],
) -> anyhow::Result<Process> {
    let temporary = dir.join("tmp");
    std::fs::create_dir_all(&temporary)?;
    let args: Vec<String> = ["dev"].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    let (path, temporary) = (std::env::var("PATH").unwrap_or_default(), temporary.display().to_string());
    let home = dir.display().to_string();
    let path = format!("{home}/.local/bin:{path}");
    let env = [("TMPDIR", temporary.as_str()), ("HOME", home.as_str()), ("PATH", path.as_str()), ("TERM", "xterm")];
    Process::start_with(name, dir, &world.binaries().gantry, &args, &[&env, more].concat())
}

async fn detached_head(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository =
        repository(dir.path(), "one: {script: ['echo \"it is $(git rev-parse HEAD) of $CI_COMMIT_BRANCH\"']}")?;
    git(&repository, &["checkout", "-q", "--detach", "feature"])?;
    let head = git(&repository, &["rev-parse", "HEAD"])?;
    let place = repository.display().to_string();
    for (name, args) in [("head", vec![]), ("commit", vec!["--ref", head.as_str()])] {
        let dev = start(&world, dir.path(), name, &[&["--repo", place.as_str()], args.as_slice()].concat())?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        ensure!(status.code() == Some(0) && log.contains(&format!("it is {head} of feature")), "{log}");
        ensure!(!log.contains('\x1b'), "output that is no terminal is plain: {log:?}");
        let last = log.lines().last().unwrap_or_default();
        ensure!(last == "Pipeline: success", "the summary is not the last line: {log}");
    }
    Ok(())
}

async fn own_tools(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    for (file, text) in [
        (".local/bin/own-tool", "#!/bin/sh\necho own tool of $HOME\n"),
        (".ssh/id", "key"),
        (".cargo/credentials.toml", "key"),
    ] {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().context("no parent")?)?;
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let script = "one: {script: [own-tool, 'ls -A $HOME $HOME/.cargo', 'echo x > $HOME/.local/bin/left']}";
    let repository = repository(dir.path(), script)?;
    let dev = start(&world, dir.path(), "tools", &["--repo", &repository.display().to_string()])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    let expected = format!("own tool of {}", dir.path().display());
    ensure!(status.code() == Some(0) && log.contains(&expected), "{log}");
    ensure!(!log.contains(".ssh") && !log.contains("credentials"), "secrets of the home are in sight: {log}");
    ensure!(!dir.path().join(".local/bin/left").exists(), "a job has written into the home");
    Ok(())
}

async fn nothing_pushed(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository = repository(dir.path(), "one: {script: ['echo hello']}")?;
    let args = ["--log-level", "debug", "--repo", &repository.display().to_string()];
    let dev = start(&world, dir.path(), "nothing-pushed", &args)?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0) && log.contains("helper to push"), "{log}");
    ensure!(!log.contains("pushing a helper"), "the image of the helper has none that fits: {log}");
    Ok(())
}

async fn live_lines(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    // The second line comes in the middle of the job's life, and the job ends only when it is told
    // to.
    let script =
        "one: {script: ['echo first', 'sleep 2', 'echo second', 'sleep 1000']}\ntwo: {stage: deploy, script: [a]}";
    let repository = repository(dir.path(), script)?;
    let dev = start(&world, dir.path(), "live", &["--repo", &repository.display().to_string()])?;
    dev.wait_for_line("│ second", LIVE).await?;
    dev.signal(Signal::SIGTERM)?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(143), "{status}: {log}");
    let rows: Vec<&str> = log.lines().rev().take(4).collect();
    ensure!(rows[0] == "Pipeline: canceled" && rows[2].starts_with("two") && rows[3].starts_with("one"), "{log}");
    ensure!(std::fs::read_dir(dir.path().join("tmp"))?.next().is_none(), "something is left behind");
    Ok(())
}

async fn leftovers(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository =
        repository(dir.path(), "one: {script: ['echo first', 'test -n \"$CI_COMMIT_TAG\" || sleep 1000']}")?;
    git(&repository, &["tag", "v1"])?;
    let place = repository.display().to_string();
    let count = || std::fs::read_dir(dir.path().join("tmp")).map(Iterator::count);
    let killed = start(&world, dir.path(), "killed", &["--repo", &place])?;
    killed.wait_for_line("│ first", BOUND).await?;
    killed.signal(Signal::SIGKILL)?;
    killed.wait(BOUND).await?;
    ensure!(count()? == 1, "a killed run cannot have cleaned up");
    let next = start(&world, dir.path(), "next", &["--repo", &place, "--ref", "v1"])?;
    let status = next.wait(BOUND).await?;
    ensure!(status.code() == Some(0), "{}", next.log());
    ensure!(count()? == 0, "the killed run's directory is still there");
    Ok(())
}

async fn caches_last(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "one: {cache: {key: k, paths: [deps]}, script: ['cat deps/runs || echo none yet', 'mkdir -p deps', 'echo ran >> deps/runs']}";
    let repository = repository(dir.path(), pipeline)?;
    let place = repository.display().to_string();
    for (name, count) in [("first", 0), ("second", 1), ("third", 2)] {
        let dev = start(&world, dir.path(), name, &["--repo", &place])?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        let runs = log.lines().filter(|line| line.ends_with("│ ran")).count();
        ensure!(status.code() == Some(0) && runs == count, "{runs} runs are known in {log}");
        let is_first = log.lines().any(|line| line.ends_with("│ none yet"));
        ensure!(is_first == (count == 0), "{log}");
    }
    Ok(())
}

async fn left_out(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository = repository(
        dir.path(),
        "
down: {trigger: {project: group/other}}
user: {script: [a], needs: [down]}
deploy: {script: [a], rules: [{if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH}]}
docs: {script: [a], rules: [{changes: [docs/*], exists: [docs/*]}]}
named:
  image: {name: $CI_REGISTRY_IMAGE/tool:1, pull_policy: [always, if-not-present]}
  services: [{name: $CI_REGISTRY/group/database, pull_policy: never}]
  script: [
'echo \"of $CI_DEFAULT_BRANCH\"'
]
",
    )?;
    git(&repository, &["checkout", "-q", "feature"])?;
    let place = repository.display().to_string();
    let dev = start(&world, dir.path(), "left-out", &["--repo", &place])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0) && log.contains("│ of main"), "{log}");
    let why = "down: not run here: `trigger` of the project group/other is not supported here: there is only this project (.gitlab-ci.yml:2)";
    let follows = "user: not run here: it needs down, which is not run here (.gitlab-ci.yml:3)";
    ensure!(log.lines().any(|line| line == why) && log.lines().any(|line| line == follows), "{log}");
    ensure!(log.contains("Jobs: test: down, user, named\n"), "rules are not decided: {log}");
    let asked = start(&world, dir.path(), "asked", &["--repo", &place, "--job", "down"])?;
    let status = asked.wait(BOUND).await?;
    ensure!(status.code() == Some(1) && asked.log().contains(why), "{status}: {}", asked.log());
    Ok(())
}

async fn page_stays(world: Rc<World>) -> anyhow::Result<()> {
    let args = ["dev", "--serve", "127.0.0.1:0"].map(str::to_owned);
    let dev = Process::start("dev-serve", world.dir(), &world.binaries().gantry, &args)?;
    let line = dev.wait_for_line("The page stays at http", BOUND).await?;
    let url = line.split_whitespace().find_map(|word| word.strip_suffix(':').filter(|word| word.starts_with("http")));
    let url = url.with_context(|| format!("no address in {line:?}"))?;
    let client = http::client()?;
    let page = client.get(url).send().await?.error_for_status()?.text().await?;
    ensure!(page.contains("<title>Simulated GitLab</title>"), "{page}");
    let overview: Value = client.get(format!("{url}/sim/overview")).send().await?.json().await?;
    ensure!(overview["pipelines"][0]["status"] == "success" && overview["violations"] == 0, "{overview}");
    dev.signal(Signal::SIGINT)?;
    let status = dev.wait(BOUND).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", dev.log());
    Ok(())
}
