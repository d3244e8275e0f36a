//! A real OpenBao, in its dev mode: everything in memory, unsealed, and with a root token that is
//! known.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::http;
use crate::process::Process;
use crate::programs;
use crate::until::until;

/// How long it may take to start, on a busy machine.
const START: Duration = Duration::from_secs(60);

const ROOT_TOKEN: &str = "root-of-the-test";

/// A running OpenBao. Ends with its owner.
#[derive(Debug)]
pub struct OpenBao {
    http: reqwest::Client,
    /// `http://host:port`.
    pub url: String,
    process: Process,
}

impl OpenBao {
    /// Whether the program is there.
    pub fn is_usable() -> bool {
        programs::built("bao").is_some()
    }

    /// Starts one, with its log in `dir`, and waits until it can be used.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(name: &str, dir: &Path) -> anyhow::Result<Self> {
        let program = programs::built("bao").context("`.ci/run stores` builds OpenBao")?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        drop(listener);
        let args = ["server", "-dev", "-dev-no-store-token"].map(str::to_owned);
        let own = [format!("-dev-root-token-id={ROOT_TOKEN}"), format!("-dev-listen-address={address}")];
        let process = Process::start(name, dir, &program, &[&args[..], &own].concat())?;
        let bao = Self { http: http::client()?, url: format!("http://{address}"), process };
        until("OpenBao to be ready", START, async || {
            Ok(match bao.http.get(format!("{}/v1/sys/health", bao.url)).send().await {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
                other => Err(format!("{other:?}\n{}", bao.process.log())),
            })
        })
        .await?;
        Ok(bao)
    }

    /// Asks something as root, in a namespace or, with an empty one, outside of all.
    ///
    /// # Errors
    /// It is refused.
    pub async fn ask(&self, method: Method, namespace: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url));
        request = request.header("X-Vault-Token", ROOT_TOKEN).json(body);
        if !namespace.is_empty() {
            request = request.header("X-Vault-Namespace", namespace);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? })
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(START).await.map(drop)
    }
}
