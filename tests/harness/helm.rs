//! `helm`, for what operators do with the chart: install a release, upgrade it and take it away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use crate::programs;

/// Longer than a release takes to be ready.
const LIMIT: Duration = Duration::from_secs(150);

/// The program with a cluster.
#[derive(Clone, Debug)]
pub struct Helm {
    kubeconfig: PathBuf,
}

impl Helm {
    /// For the cluster of a kubeconfig.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned() }
    }

    /// Whether the program is there.
    pub fn is_usable() -> bool {
        std::process::Command::new(program()).arg("version").output().is_ok_and(|output| output.status.success())
    }

    /// Runs it and returns what it prints.
    ///
    /// # Errors
    /// It fails, with what it complained about.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program());
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await.context("helm does not end")?;
        let output = output.context("helm cannot be started")?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "helm {}: {complaint}{printed}", args.join(" "));
        Ok(printed.into_owned())
    }
}

/// What `tests/cluster/program` has built, else what is on the `PATH`.
fn program() -> PathBuf {
    programs::built("helm").unwrap_or_else(|| "helm".into())
}
