//! Reads on what processes print that have outlived their script.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::limits::OUTPUT_CHUNK;
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
    pub(super) fn adopt(&self, mut output: pipe::Receiver) {
        let to = self.0.clone();
        tasks::detach(async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(OUTPUT_CHUNK);
                match output.read_buf(&mut buffer).await {
                    Ok(count) if count > 0 => drop(to.send(buffer.split().freeze()).await),
                    _ => return,
                }
            }
        });
    }
}
