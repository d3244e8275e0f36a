//! `gantry dev` as the place to run a pipeline at home: the work tree, choices of jobs, children,
//! variables, artifacts.

use std::rc::Rc;

use anyhow::ensure;
use gantry_tests::World;
use gantry_tests::suite::Test;
use nix::sys::signal::Signal;

use crate::dev::{BOUND, git, repository, start};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("dev: what is not committed is run, and --committed leaves it out", work_tree),
        Test::new("dev: --list and --dry-run show what would be run and why not", listed),
        Test::new("dev: a job with its needs, its variables, its artifacts, and --failed", chosen),
        Test::new("dev: child pipelines, also generated ones, and included projects", children),
        Test::new("dev: --watch runs what has changed", watched),
        Test::new("dev: artifacts of jobs that have ended are copied, also after Ctrl-C", artifacts_of_ended),
        Test::new("dev: who leaves a shell ends its job well", shell_left),
        Test::new("dev: waiting for a resource group, another try and idle services are said", told),
    ]
}

async fn work_tree(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository = repository(dir.path(), "one: {script: ['cat new || echo no new file']}")?;
    std::fs::write(repository.join("new"), "it is new\n")?;
    std::fs::write(
        repository.join(".gitlab-ci.yml"),
        "two: {services: [redis:7], script: ['cat new || echo no new file']}",
    )?;
    let before = git(&repository, &["status", "--porcelain"])?;
    let place = repository.display().to_string();
    for (name, more, expected) in
        [("tree", None, "two │ it is new"), ("commit", Some("--committed"), "one │ no new file")]
    {
        let args: Vec<&str> = ["--repo", place.as_str()].into_iter().chain(more).collect();
        let dev = start(&world, dir.path(), name, &args)?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        ensure!(status.code() == Some(0) && log.lines().any(|line| line.ends_with(expected)), "{log}");
        ensure!(log.contains("1 uncommitted change and 1 new file"), "what is run is not said: {log}");
        ensure!(!log.contains("Waiting for services"), "an image that is only a name is waited for: {log}");
    }
    ensure!(git(&repository, &["status", "--porcelain"])? == before, "the repository has changed");
    Ok(())
}

async fn listed(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "
build: {stage: build, script: [make]}
test: {script: [check], needs: [build]}
docs: {script: [x], rules: [{if: $CI_COMMIT_TAG}]}
far: {script: [x], id_tokens: {T: {aud: x}}}
";
    let place = repository(dir.path(), pipeline)?.display().to_string();
    for (flag, expected) in [
        (
            "--list",
            ["test   test   on_success  build", "far: `id_tokens` is not", "docs (test): none of its rules holds"],
        ),
        (
            "--dry-run",
            ["script        $ check", "not here      `id_tokens` is", "docs (test): none of its rules holds"],
        ),
    ] {
        let dev = start(&world, dir.path(), flag.trim_start_matches('-'), &["--repo", &place, flag])?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        ensure!(status.code() == Some(0), "{log}");
        for text in expected {
            ensure!(log.contains(text), "{text:?} is not in {log}");
        }
    }
    Ok(())
}

async fn chosen(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "
build: {stage: build, script: ['mkdir -p out', 'echo built for $FOR > out/file'], artifacts: {paths: [out]}}
other: {stage: build, script: ['echo the other one runs']}
gate: {needs: [build], when: manual, allow_failure: false, script: ['cat out/file', 'echo secret $SECRET', 'test $FOR = me']}
";
    let repository = repository(dir.path(), pipeline)?;
    std::fs::write(repository.join(".git/info/exclude"), ".gantry-variables\n")?;
    std::fs::write(repository.join(".gantry-variables"), "SECRET=swordfish-1\n")?;
    let place = repository.display().to_string();
    let files = dir.path().join("files");
    let files_arg = files.display().to_string();
    let args = ["--repo", &place, "--job", "gate", "--variable", "FOR=you", "--artifacts", &files_arg];
    let dev = start(&world, dir.path(), "chosen", &args)?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(1) && log.contains("│ built for you"), "{log}");
    ensure!(!log.contains("the other one runs"), "a job that nobody asked for has run: {log}");
    ensure!(log.contains("secret [MASKED]") && !log.contains("swordfish"), "a secret is shown: {log}");
    ensure!(std::fs::read_to_string(files.join("build/out/file"))? == "built for you\n", "the artifact is not copied");
    let again = start(&world, dir.path(), "again", &["--repo", &place, "--failed", "--variable", "FOR=me"])?;
    let status = again.wait(BOUND).await?;
    let log = again.log();
    ensure!(status.code() == Some(0) && log.contains("Jobs: build: build; test: gate\n"), "{log}");
    let third = start(&world, dir.path(), "third", &["--repo", &place, "--failed"])?;
    ensure!(third.wait(BOUND).await?.code() == Some(2), "{}", third.log());
    ensure!(third.log().contains("nothing failed in the last run"), "{}", third.log());
    Ok(())
}

async fn children(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "
include: {project: group/tools, file: ci.yml}
stages: [build, test, deploy]
make:
  stage: build
  script:
    - |
      printf '{inner: {script: [%s]}, other: {script: [a], when: manual}}' 'echo of $ASKED by $CI_PIPELINE_SOURCE' > child.yml
  artifacts: {paths: [child.yml]}
down:
  variables: {ASKED: parent}
  trigger: {include: [{artifact: child.yml, job: make}], strategy: depend}
after: {stage: deploy, script: ['echo behind the child']}
";
    let tools = dir.path().join("tools");
    std::fs::create_dir_all(&tools)?;
    std::fs::write(tools.join("ci.yml"), "shared: {stage: build, script: ['echo from the tools']}\n")?;
    let place = repository(dir.path(), pipeline)?.display().to_string();
    let mapping = format!("group/tools={}", tools.display());
    let dev = start(&world, dir.path(), "children", &["--repo", &place, "--include-project", &mapping])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0), "{log}");
    for text in ["│ from the tools", "down › inner │ of parent by parent_pipeline", "│ behind the child"] {
        ensure!(log.contains(text), "{text:?} is not in {log}");
    }
    let inner = log.find("of parent by").unwrap_or(usize::MAX);
    ensure!(log.find("behind the child").is_some_and(|after| after > inner), "the child was not waited for: {log}");
    let chosen = ["--repo", &place, "--include-project", &mapping, "--job", "down > inner"];
    let dev = start(&world, dir.path(), "chosen-child", &chosen)?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0) && log.contains("down › inner │ of parent by"), "{log}");
    ensure!(!log.contains("from the tools") && !log.contains("down › other"), "nobody has asked for them: {log}");
    Ok(())
}

async fn watched(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let repository = repository(dir.path(), "one: {script: ['cat text']}")?;
    std::fs::write(repository.join("text"), "first\n")?;
    let place = repository.display().to_string();
    let dev = start(&world, dir.path(), "watched", &["--repo", &place, "--watch"])?;
    dev.wait_for_line("waiting for a change", BOUND).await?;
    ensure!(dev.log().contains("│ first"), "{}", dev.log());
    std::fs::write(repository.join("text"), "second\n")?;
    dev.wait_for_line("│ second", BOUND).await?;
    dev.signal(Signal::SIGINT)?;
    dev.wait(BOUND).await?;
    ensure!(std::fs::read_dir(dir.path().join("tmp"))?.next().is_none(), "something is left behind");
    Ok(())
}

async fn artifacts_of_ended(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "
build: {stage: build, script: ['echo built > file'], artifacts: {paths: [file]}}
long: {script: ['echo it runs', 'sleep 1000']}
";
    let place = repository(dir.path(), pipeline)?.display().to_string();
    let files = dir.path().join("files");
    let files_arg = files.display().to_string();
    let dev = start(&world, dir.path(), "stopped", &["--repo", &place, "--artifacts", &files_arg])?;
    dev.wait_for_line("│ it runs", BOUND).await?;
    dev.signal(Signal::SIGINT)?;
    let status = dev.wait(BOUND).await?;
    ensure!(status.code() == Some(130), "{status}: {}", dev.log());
    let file = std::fs::read_to_string(files.join("build/file")).unwrap_or_default();
    ensure!(file == "built\n" && dev.log().contains("1 file of the jobs' artifacts is in"), "{file:?} {}", dev.log());
    // A file is where the directory would have to be.
    let blocked = dir.path().join("blocked");
    std::fs::write(&blocked, "")?;
    let blocked = blocked.display().to_string();
    let dev = start(&world, dir.path(), "blocked", &["--repo", &place, "--job", "build", "--artifacts", &blocked])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(1) && log.contains("the artifacts were not copied"), "{status}: {log}");
    ensure!(log.contains("Pipeline: success"), "{log}");
    Ok(())
}

async fn shell_left(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "one: {script: ['false'], artifacts: {paths: [.gitlab-ci.yml]}}";
    let place = repository(dir.path(), pipeline)?.display().to_string();
    // Nothing can be read from the standard input of the process, so that the shell ends at once.
    let dev = start(&world, dir.path(), "shell", &["--repo", &place, "--shell", "one"])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(log.contains("a shell in the container of one"), "{log}");
    ensure!(status.code() == Some(0) && log.contains("Pipeline: success"), "{status}: {log}");
    Ok(())
}

async fn told(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = "
.deploy: {resource_group: production, script: ['sleep 1']}
first: {extends: .deploy}
second: {extends: .deploy}
flaky: {retry: 1, services: ['redis:7', {name: 'docker:24-dind', alias: docker, command: ['--tls=false']}], script: ['test $CI_JOB_ID -gt 3']}
";
    let place = repository(dir.path(), pipeline)?.display().to_string();
    let dev = start(&world, dir.path(), "told", &["--repo", &place])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0), "{status}: {log}");
    for text in [
        "Services: nothing listens in docker:24-dind, redis:7",
        "waits for first, which has the resource group production",
        "flaky │ is tried again: try 2",
        "flaky: this was try 2",
    ] {
        ensure!(log.contains(text), "{text:?} is not in {log}");
    }
    Ok(())
}
