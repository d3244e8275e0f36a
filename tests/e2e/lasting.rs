//! Builds directories that outlive their pods: what one job leaves there for the next.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    PLANTS
        .into_iter()
        .enumerate()
        .map(|(number, (what, plant))| {
            Test::new(format!("lasting: {what}"), move |world| planted(world, number, plant))
        })
        .collect()
}

/// What a job does to the project's directory, in which `evil` is a repository whose hooks and
/// settings write a mark.
const PLANTS: [(&str, &str); 9] = [
    ("nothing but settings and hooks", "cp -r evil/hooks .git/; cat evil/config >> .git/config"),
    ("a linked repository", "rm -rf .git; ln -s $PWD.evil .git"),
    ("a repository elsewhere", "rm -rf .git; echo gitdir: $PWD.evil > .git"),
    ("a common directory", "echo $PWD.evil > .git/commondir"),
    ("a configuration that is a directory", "rm .git/config; mkdir -p .git/config/x"),
    ("a work tree that is a file", "cd ..; rm -rf project; touch project"),
    ("a work tree that is a link", "cd ..; mv project q; ln -s q project"),
    ("an empty HEAD", ": > .git/HEAD"),
    ("a broken index and locks", "echo x > .git/index; touch .git/index.lock .git/shallow.lock"),
];

/// A repository like the project's own, with programs to run.
const EVIL: &str = "mark=$CI_BUILDS_DIR/mark; cp -r .git evil
    for key in core.fsmonitor core.sshCommand core.pager credential.helper core.askPass; do
        git config --file evil/config $key \"echo ran $key >> $mark; true\"
    done
    for hook in post-checkout reference-transaction pre-auto-gc post-index-change; do
        printf '#!/bin/sh\\necho ran %s >> %s\\n' $hook $mark > evil/hooks/$hook; chmod 755 evil/hooks/$hook
    done
    git config --file evil/config core.hooksPath $PWD.evil/hooks; cp -r evil $PWD.evil";

async fn planted(world: Rc<World>, number: usize, plant: &str) -> anyhow::Result<()> {
    let name = format!("lasting-{number}");
    // A directory of the node: of this machine, or of one that is somebody else's and keeps an
    // empty one.
    let directory = if world.cluster().is_given() {
        format!("/tmp/gantry-e2e-{}-{name}", std::process::id())
    } else {
        world.dir().join(format!("{name}-builds")).display().to_string()
    };
    let volume = format!(
        "    [[runners.kubernetes.volumes.host_path]]\n      name = \"builds\"\n      mount_path = \"/builds\"\n      \
         host_path = \"{directory}\"\n"
    );
    let runner = Runner::start(&world, &RunnerOptions { kubernetes: volume, ..RunnerOptions::new(&name) }).await?;
    let run = async |lines: &[&str]| {
        let mut job = script(lines);
        job["repo"] = json!("group/project");
        job["image"] = json!({"name": "git:2"});
        job["variables"] = json!([{"key": "GIT_STRATEGY", "value": "fetch"}]);
        world.run_on(&runner, &job, BOUND).await
    };
    let (job, log) = run(&["mkdir -p .git/hooks", EVIL, plant]).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let marked = "cat $CI_BUILDS_DIR/mark 2>/dev/null || echo no mark";
    let (job, log) = run(&["cat number.txt", marked, "git status --short", "echo status ok"]).await?;
    let clean = "rm -rf $CI_BUILDS_DIR/* $CI_BUILDS_DIR/.??*; cd /";
    let cleaned = run(&[clean]).await.map(drop);
    ensure!(job.status == "success" && log.contains("\n5\n") && log.contains("\nno mark\n"), "{job:?}\n{log}");
    ensure!(log.contains("\nstatus ok\n") && !log.contains("Retrying"), "{log}");
    cleaned
}
