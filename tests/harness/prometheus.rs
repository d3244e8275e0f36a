//! A Prometheus that scrapes one address, from Debian's package.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::http;
use crate::process::Process;
use crate::until::until;

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// A running Prometheus. Ends with its owner.
#[derive(Debug)]
pub struct Prometheus {
    http: reqwest::Client,
    url: String,
    _process: Process,
}

impl Prometheus {
    /// Whether the program is there.
    pub fn is_usable() -> bool {
        std::process::Command::new("prometheus").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Starts it, with its files in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(dir: &Path, target: &str) -> anyhow::Result<Self> {
        let config = dir.join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n  - job_name: runner\n    scrape_interval: 1s\n    static_configs:\n      - targets: [\"{target}\"]\n"
        );
        std::fs::write(&config, text)?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        drop(listener);
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("prometheus").display()),
            format!("--web.listen-address={address}"),
        ];
        let process = Process::start("prometheus", dir, Path::new("prometheus"), &args)?;
        let prometheus = Self { http: http::client()?, url: format!("http://{address}"), _process: process };
        until("Prometheus to be ready", START, async || {
            let answer = prometheus.http.get(format!("{}/-/ready", prometheus.url)).send().await;
            Ok(match answer {
                Ok(answer) if answer.status().is_success() => Ok(()),
                other => Err(format!("{other:?}")),
            })
        })
        .await?;
        Ok(prometheus)
    }

    /// The value of a query that gives one, if there is any data.
    ///
    /// # Errors
    /// It does not answer, or gives more than one.
    pub async fn query(&self, query: &str) -> anyhow::Result<Option<f64>> {
        let request = self.http.get(format!("{}/api/v1/query", self.url)).query(&[("query", query)]);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let result = answer.pointer("/data/result").and_then(Value::as_array).context("an answer without a result")?;
        anyhow::ensure!(result.len() <= 1, "{query} has more than one value: {answer}");
        let value = result.first().and_then(|one| one.pointer("/value/1")?.as_str());
        value.map(str::parse).transpose().context("no number")
    }
}
