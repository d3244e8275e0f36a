//! Where the output of a stage goes: to the engine, as what the stage's own task says.

use bytes::Bytes;
use gantry_core::NoteLevel;
use tokio::sync::mpsc;

use crate::event::{Event, StageEvent};

/// Where a stage's output goes. Sending waits while the engine is busy, which slows down the tool
/// that writes.
#[derive(Clone, Debug)]
pub struct Outlet {
    events: mpsc::Sender<Event>,
    task: u64,
}

impl Outlet {
    pub(crate) fn new(events: mpsc::Sender<Event>, task: u64) -> Self {
        Self { events, task }
    }

    /// Tells the engine. An engine that is gone needs to know nothing.
    pub(crate) async fn send(&self, event: StageEvent) {
        let _ = self.events.send(Event::Stage { task: self.task, event }).await;
    }

    /// Output of a tool.
    pub async fn output(&self, bytes: Bytes) {
        self.send(StageEvent::Output(bytes)).await;
    }

    /// A green line, as the scripts of the reference print them.
    pub async fn notice(&self, text: &str) {
        self.output(format!("\x1b[32;1m{text}\x1b[0;m\n").into()).await;
    }

    /// A plain line.
    pub async fn plain(&self, text: &str) {
        self.output(format!("{text}\n").into()).await;
    }

    /// A warning about what other stages see too: once for the job.
    pub(crate) async fn warning_once(&self, text: String) {
        self.send(StageEvent::WarningOnce(text)).await;
    }

    /// A warning of the runner.
    pub async fn warning(&self, text: impl Into<String>) {
        self.send(StageEvent::Note(NoteLevel::Warning, text.into())).await;
    }
}
