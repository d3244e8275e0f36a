//! Reads on what processes print that have outlived their script.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::process::output::Output;
use crate::tasks;

/// Where the output of a script goes once the script has ended and others still hold it open. If
/// nobody read it, they would die of it.
#[derive(Clone, Debug)]
pub(super) struct Background(mpsc::Sender<Bytes>);

impl Background {
    pub(super) fn new(to: mpsc::Sender<Bytes>) -> Self {
        Self(to)
    }

    /// Reads `output` to its end, whenever that comes.
    pub(super) fn adopt(&self, mut output: Output) {
        let to = self.0.clone();
        tasks::detach(async move {
            while let Some(piece) = output.next().await {
                let _ = to.send(piece).await;
            }
        });
    }
}
