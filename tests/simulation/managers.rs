//! The managers of a world: real daemons, started, told to leave, and killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_daemon::{
    App, BindError, Ended, HelperBinaries, HelperBinary, Options, Outside, Signal, signal_channel, until,
};
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Wire;
use crate::gitlab::Line;
use crate::tasks;

/// A helper that nobody executes; its size is what matters.
const HELPER: [u8; 5000] = [b'h'; 5000];

/// What managers reach, instead of the network.
pub(crate) struct InMemory {
    pub(crate) line: Arc<Line>,
    pub(crate) wire: Arc<Wire>,
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
}

/// A manager that runs.
pub(crate) struct Manager {
    life: CancellationToken,
    signals: mpsc::Sender<Signal>,
    ended: JoinHandle<Option<Ended>>,
    /// It was told to go.
    leaves: AtomicBool,
}

impl Manager {
    pub(crate) async fn start(config: &Path, outside: Arc<InMemory>) -> anyhow::Result<Self> {
        let options = Options {
            config: config.to_owned(),
            listen_address: None,
            helper: HelperBinaries::new().with("x86_64", HelperBinary::new(HELPER.to_vec())),
            on_log_settings: Box::new(|_| {}),
            outside,
        };
        let app = App::build(options).await.context("a manager does not start")?;
        let life = CancellationToken::new();
        let (signals, receiver) = signal_channel();
        let process = life.clone();
        let ended = tasks::spawn(async move {
            let ended = until(process.clone(), app.run(receiver)).await;
            // The process ends when its main function does, whatever else it was doing.
            process.cancel();
            ended
        });
        Ok(Self { life, signals, ended, leaves: AtomicBool::new(false) })
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&self) {
        self.leaves.store(true, Ordering::Relaxed);
        self.life.cancel();
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
pub(crate) fn configure(directory: &Path, url: &str, token: &str, concurrent: usize) -> anyhow::Result<PathBuf> {
    let path = directory.join("config.toml");
    let text = format!(
        "concurrent = {concurrent}\ncheck_interval = 3\n\n[[runners]]\nname = \"sim\"\nurl = \"{url}\"\ntoken = \"{token}\"\n\
         executor = \"kubernetes\"\n[runners.kubernetes]\nhost = \"https://kube.invalid\"\nnamespace = \"default\"\n\
         helper_image = \"helper:1\"\npod_termination_grace_period_seconds = 30\n"
    );
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}
