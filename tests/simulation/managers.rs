//! The managers of a world: real daemons, started, told to leave, and killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_daemon::{
    App, BindError, Ended, HelperBinaries, HelperBinary, Life, Options, Outside, Signal, signal_channel, until,
};
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::Wire;
use crate::gitlab::Line;
use crate::tasks;

/// A helper that nobody executes; its size is what matters.
const HELPER: [u8; 5000] = [b'h'; 5000];

/// The clock on the wall when a world begins, in milliseconds since 1970: the same in each.
const EPOCH_MS: u64 = 1_790_000_000_000;

/// What managers reach, instead of the network.
pub(crate) struct InMemory {
    pub(crate) line: Arc<Line>,
    pub(crate) wire: Arc<Wire>,
    /// When the world began.
    pub(crate) begun: Instant,
}

impl Outside for InMemory {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::with_transport(options, Arc::clone(&self.line) as _)
    }

    fn cluster(
        &self,
        _access: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        let client = self.wire.client();
        async move { Ok(Cluster::from_client(client, namespace, selector)) }.boxed()
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        async { Ok(None) }.boxed()
    }

    fn unix_ms(&self) -> u64 {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        EPOCH_MS.saturating_add(since)
    }
}

/// A manager that runs.
pub(crate) struct Manager {
    pub(crate) name: String,
    life: Life,
    signals: mpsc::Sender<Signal>,
    ended: JoinHandle<Option<Ended>>,
    /// It was told to go.
    leaves: AtomicBool,
}

impl Manager {
    pub(crate) async fn start(
        name: String,
        config: PathBuf,
        outside: Arc<InMemory>,
        registration: &str,
    ) -> anyhow::Result<Self> {
        let options = Options {
            config,
            listen_address: None,
            helper: HelperBinaries::new().with("x86_64", HelperBinary::new(HELPER.to_vec())),
            on_log_settings: Box::new(|_| {}),
            registration_token: Some(registration.into()),
            built_at: String::new(),
            outside,
        };
        let app = App::build(options).await.context("a manager does not start")?;
        let life = Life::default();
        let (signals, receiver) = signal_channel();
        let process = life.clone();
        let ended = tasks::spawn(async move {
            let ended = until(process.clone(), app.run(receiver)).await;
            // The process ends when its main function does, whatever else it was doing.
            process.end();
            ended
        });
        Ok(Self { name, life, signals, ended, leaves: AtomicBool::new(false) })
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.life.end();
    }

    /// As `kill -STOP` does.
    pub(crate) fn freeze(&self) -> Life {
        self.life.freeze();
        self.life.clone()
    }

    /// As the kubelet does before it replaces a pod.
    pub(crate) fn terminate(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        let _ = self.signals.try_send(Signal::Stop("SIGTERM"));
    }

    /// As an operator does who can wait.
    pub(crate) fn drain(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        let _ = self.signals.try_send(Signal::Drain);
    }

    /// Whether it asks for jobs.
    pub(crate) fn takes_jobs(&self) -> bool {
        !self.leaves.load(Ordering::Relaxed) && !self.has_ended()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_finished()
    }
}

/// Writes the managers' configuration.
pub(crate) fn configure(path: &Path, url: &str, token: &str, concurrent: usize) -> anyhow::Result<()> {
    let text = format!(
        "concurrent = {concurrent}\ncheck_interval = 3\n\n[[runners]]\nname = \"sim\"\nurl = \"{url}\"\ntoken = \"{token}\"\n\
         executor = \"kubernetes\"\n[runners.kubernetes]\nhost = \"https://kube.invalid\"\nnamespace = \"default\"\n\
         helper_image = \"helper:1\"\npod_termination_grace_period_seconds = 30\n"
    );
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
