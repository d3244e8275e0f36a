//! `gantry dev --cluster`: the pipeline of a repository in the cluster of a kubeconfig, served from
//! this machine.

use std::rc::Rc;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::IMAGE;
use gantry_tests::{Process, World};
use nix::sys::signal::Signal;

use crate::dev::{BOUND, repository, start_with};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "dev: --cluster runs a pipeline in the kubeconfig's cluster, with sources and artifacts of here",
            whole,
        ),
        Test::new("dev: --cluster ends its pods with Ctrl-C", interrupted),
        Test::new("dev: --cluster says what is wrong before it starts anything", refused),
    ]
}

/// `gantry dev --cluster` in a namespace of its own.
fn in_cluster(world: &World, place: &str, name: &str, more: &[&str]) -> anyhow::Result<Process> {
    let dir = std::path::Path::new(place).parent().unwrap_or(world.dir());
    let namespace = world.namespace_name(name);
    let kubeconfig = world.cluster().kubeconfig().display().to_string();
    let host = world.cluster().host.to_string();
    let own = ["--repo", place, "--cluster", "--namespace", &namespace, "--helper-image", "helper:1"];
    // The rest is found out by the program itself, but where it is known that the way to the API
    // server is not the pods' way back.
    let advertised: &[&str] =
        if std::env::var_os("GANTRY_TEST_HOST").is_some() { &["--advertise", &host] } else { &[] };
    start_with(world, dir, name, &[&own, advertised, more].concat(), &[("KUBECONFIG", &kubeconfig)])
}

async fn whole(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = format!(
        "
default: {{image: '{IMAGE}'}}
build: {{stage: build, script: ['echo built of $(cat text) > file'], artifacts: {{paths: [file]}}}}
test: {{services: [{{name: '{IMAGE}', alias: db, command: [sleep, '60']}}], script: ['cat file', 'echo pod $HOSTNAME']}}
"
    );
    let repository = repository(dir.path(), &pipeline)?;
    std::fs::write(repository.join("text"), "what is not committed\n")?;
    let place = repository.display().to_string();
    let namespace = world.namespace("dev-whole");
    world.kube.account(&namespace).await?;
    let files = dir.path().join("files");
    let dev = in_cluster(&world, &place, "dev-whole", &["--artifacts", &files.display().to_string()])?;
    let status = dev.wait(BOUND).await?;
    let log = dev.log();
    ensure!(status.code() == Some(0), "{status}: {log}");
    ensure!(log.contains(&format!("in namespace {namespace} of https://")), "it is not said where: {log}");
    ensure!(log.contains("test │ built of what is not committed") && log.contains("test │ pod runner-"), "{log}");
    ensure!(!log.contains("only names") && !log.contains("nothing listens"), "images are real there: {log}");
    let copied = std::fs::read_to_string(files.join("build/file")).unwrap_or_default();
    ensure!(copied == "built of what is not committed\n", "{copied:?}: {log}");
    removed(&world, &namespace).await
}

/// Every pod is gone, or goes when its grace period is over.
async fn removed(world: &World, namespace: &str) -> anyhow::Result<()> {
    let pods = world.kube.pods(namespace).await?;
    ensure!(pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_string()), "pods are left: {pods:?}");
    Ok(())
}

async fn interrupted(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let pipeline = format!("one: {{image: '{IMAGE}', script: ['echo it runs', 'sleep 1000']}}");
    let place = repository(dir.path(), &pipeline)?.display().to_string();
    let namespace = world.namespace("dev-interrupted");
    world.kube.account(&namespace).await?;
    let dev = in_cluster(&world, &place, "dev-interrupted", &[])?;
    dev.wait_for_line("│ it runs", BOUND).await?;
    ensure!(world.kube.pods(&namespace).await?.len() == 1, "the pod of the job is not where it was wanted");
    dev.signal(Signal::SIGINT)?;
    let status = dev.wait(BOUND).await?;
    ensure!(status.code() == Some(130) && dev.log().contains("Pipeline: canceled"), "{status}: {}", dev.log());
    removed(&world, &namespace).await
}

async fn refused(world: Rc<World>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(world.dir())?;
    let place = repository(dir.path(), "one: {script: [a]}")?.display().to_string();
    let given = world.cluster().kubeconfig().display().to_string();
    let nowhere = dir.path().join("nothing-there").display().to_string();
    let closed = dir.path().join("closed");
    let text = "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {token: t}}],
        clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}],
        contexts: [{name: c, context: {cluster: c, user: u}}]}";
    std::fs::write(&closed, text)?;
    let closed = closed.display().to_string();
    for (name, kubeconfig, args, expected) in [
        (
            "no-file",
            &nowhere,
            vec!["--cluster"],
            "--cluster: the kubeconfig (KUBECONFIG or ~/.kube/config) cannot be used",
        ),
        ("no-context", &given, vec!["--cluster=nope"], "nope"),
        ("no-server", &closed, vec!["--cluster"], "--cluster: https://127.0.0.1:1 cannot be used"),
        ("no-address", &given, vec!["--cluster", "--advertise", "http://x"], "--advertise \"http://x\" is no address"),
    ] {
        let args = [&["--repo", place.as_str()], args.as_slice()].concat();
        let dev = start_with(&world, dir.path(), name, &args, &[("KUBECONFIG", kubeconfig)])?;
        let status = dev.wait(BOUND).await?;
        let log = dev.log();
        ensure!(status.code() == Some(2) && log.contains(expected), "{name}: {status}: {log}");
    }
    Ok(())
}
