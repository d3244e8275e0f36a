//! The build container's shell: starts scripts, stops everything that lives, and keeps reading what
//! processes print that have outlived their script.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use gantry_core::error_chain::chain;
use gantry_wire::shim::Run;
use gantry_wire::usage::Usage;
use tokio::sync::mpsc;

use super::background::Background;
use super::oom;
use super::running::Running;
use super::usage::Meter;
use crate::limits::BACKGROUND_OUTPUT;
use crate::ports::Shell;
use crate::process::reaper::Reaper;
use crate::process::{script, shell};

/// The container's own shell and processes.
pub(super) struct ContainerShell {
    reaper: Reaper,
    background: Background,
    output: mpsc::Receiver<Bytes>,
    meter: Meter,
}

impl ContainerShell {
    pub(super) fn new(reaper: Reaper) -> Self {
        let (sender, output) = mpsc::channel(BACKGROUND_OUTPUT);
        Self { reaper, background: Background::new(sender), output, meter: Meter::new(Path::new("/sys/fs/cgroup")) }
    }
}

impl Shell for ContainerShell {
    type Process = Running;

    fn path(&self) -> Option<String> {
        shell::find().map(|path| path.to_string_lossy().into_owned())
    }

    fn start(&mut self, run: &Run) -> Result<Running, String> {
        let shell = if run.posix_shell { shell::find_posix().or_else(shell::find) } else { shell::find() };
        let Some(shell) = shell else {
            return Err(format!("there is no shell in this image: looked for {}", shell::candidates()));
        };
        let script = script::Script {
            shell,
            text: run.script.expose(),
            environment: &run.environment,
            inherits: true,
            directory: run.directory.as_ref(),
        };
        let started = script::start(&self.reaper, &script).map_err(|error| chain(&error))?;
        Ok(Running::new(started, &self.reaper, self.background.clone()))
    }

    fn oom_kills(&self) -> u64 {
        oom::kills()
    }

    fn usage(&mut self) -> Option<Usage> {
        self.meter.read()
    }

    fn background_output(&mut self) -> impl Future<Output = Bytes> + Send {
        let next = self.output.recv();
        // Never the end: `self` holds a sender.
        async move { next.await.unwrap_or_default() }
    }
}
