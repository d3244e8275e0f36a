//! What is done to the node on which the pods are: that of the simulated cluster, or that of
//! `tests/cluster/up`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::World;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Between two looks whether the kubelet is back.
const LOOK: Duration = Duration::from_millis(200);

/// Runs a command there, as root, and returns what it prints.
pub(crate) fn run(world: &World, command: &[&str]) -> anyhow::Result<String> {
    let enter = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/enter").display().to_string();
    let enter = if world.cluster().is_given() { vec![enter.as_str()] } else { Vec::new() };
    let words = [&enter, command].concat();
    let (program, args) = words.split_first().context("no command")?;
    let output = Command::new(program).args(args).output().with_context(|| (*program).to_owned())?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends the kubelet, which is away for so long, and comes back.
pub(crate) async fn restart_kubelet(world: &World, away: Duration) -> anyhow::Result<()> {
    if !world.cluster().is_given() {
        let order = json!({"kind": "kubelet-restart", "seconds": away.as_secs()});
        let (status, answer) = world.kube.ask(Method::POST, "/sim/faults", Some(&order)).await?;
        ensure!(status.is_success(), "{answer}");
        sleep(away).await;
        return Ok(());
    }
    // Whoever takes its place ends too.
    let back = Instant::now() + away;
    run(world, &["pkill", "-KILL", "-x", "kubelet"])?;
    while Instant::now() < back {
        sleep(LOOK).await;
        let _ = run(world, &["pkill", "-KILL", "-x", "kubelet"]);
    }
    Ok(())
}
