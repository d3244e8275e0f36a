//! `kubectl`, for what users do with it: apply manifests and look at what became of them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Longer than any call takes but those that wait.
const LIMIT: Duration = Duration::from_secs(120);

/// The program with a cluster.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// For the cluster of a kubeconfig.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned() }
    }

    /// Whether the program is there and knows today's kustomizations.
    pub fn is_usable() -> bool {
        let output = std::process::Command::new("kubectl").args(["version", "--client", "--output=json"]).output();
        let version = output.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
        // Since 1.21 with kustomize 4, which knows components.
        let minor = version.as_ref().and_then(|version| version.pointer("/clientVersion/minor")?.as_str());
        minor.is_some_and(|minor| minor.trim_end_matches('+').parse::<u32>().is_ok_and(|minor| minor >= 21))
    }

    /// Runs it and returns what it prints.
    ///
    /// # Errors
    /// It fails, with what it complained about.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        self.feed(args, "").await
    }

    /// The same with something to read.
    ///
    /// # Errors
    /// It fails, with what it complained about.
    pub async fn feed(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("kubectl cannot be started")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.context("kubectl does not end")??;
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "kubectl {}: {complaint}", args.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
