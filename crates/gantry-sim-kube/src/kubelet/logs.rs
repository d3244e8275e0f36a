//! Container logs: one file per container, in the format of container runtimes (time, stream, whole
//! or part of a line, text), bounded in size. Reading gives lines back; following is the API
//! server's business.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
};

use crate::{clock, clock::Clock, container::Output, kubelet_state::Taps};

/// Longest piece of a line in one record, as in container runtimes.
const PIECE: usize = 16 << 10;
/// A container's log is started anew at this size, so a container that prints without end cannot
/// fill the disk. Real kubelets rotate at 10 MiB.
const MAX_LOG: u64 = 10 << 20;

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    file: Mutex<(File, u64)>,
    path: PathBuf,
    clock: Clock,
}

impl Log {
    /// Opens a log for a new run of a container, keeping that of the run before.
    pub(crate) async fn create(path: PathBuf, clock: Clock) -> io::Result<Arc<Self>> {
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        // A new file rather than a truncated one: who follows the old one reads it to its end.
        let _ = tokio::fs::rename(&path, previous(&path)).await;
        let file = OpenOptions::new().create(true).append(true).open(&path).await?;
        Ok(Arc::new(Self { file: Mutex::new((file, 0)), path, clock }))
    }

    async fn write(&self, stream: &str, piece: &[u8], whole: bool) -> io::Result<()> {
        let mut record = Vec::with_capacity(piece.len() + 64);
        let mark = if whole { "F" } else { "P" };
        record.extend_from_slice(format!("{} {stream} {mark} ", clock::stamp_nanos(self.clock.now())).as_bytes());
        record.extend_from_slice(piece);
        record.push(b'\n');
        let mut file = self.file.lock().await;
        if file.1 + record.len() as u64 > MAX_LOG {
            let _ = tokio::fs::remove_file(&self.path).await;
            *file = (OpenOptions::new().create(true).append(true).open(&self.path).await?, 0);
        }
        file.0.write_all(&record).await?;
        file.1 += record.len() as u64;
        file.0.flush().await
    }

    /// Copies an output into the log, and to those who listen, until it ends. Trouble with the log
    /// never stops the container.
    pub(crate) async fn pump(self: Arc<Self>, stream: &'static str, mut output: Output, taps: &Taps) {
        let mut pending: Vec<u8> = Vec::new();
        let mut buffer = vec![0; PIECE];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            taps.pass(&buffer[..length]).await;
            pending.extend_from_slice(&buffer[..length]);
            let mut start = 0;
            while let Some(end) = pending[start..].iter().position(|byte| *byte == b'\n') {
                let _ = self.write(stream, &pending[start..start + end], true).await;
                start += end + 1;
            }
            pending.drain(..start);
            while pending.len() >= PIECE {
                let piece: Vec<u8> = pending.drain(..PIECE).collect();
                let _ = self.write(stream, &piece, false).await;
            }
        }
        if !pending.is_empty() {
            let _ = self.write(stream, &pending, false).await;
        }
    }
}

/// Where the log of the run before is kept.
pub(crate) fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous")
}

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub(crate) stamp: String,
    pub(crate) text: Vec<u8>,
    /// False for a piece of a line that goes on.
    pub(crate) whole: bool,
}

impl LogLine {
    fn read(record: &[u8]) -> Option<Self> {
        let mut parts = record.splitn(4, |byte| *byte == b' ');
        let stamp = String::from_utf8(parts.next()?.to_vec()).ok()?;
        let (_stream, mark, text) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { stamp, text: text.to_vec(), whole: mark == b"F" })
    }
}

/// The complete records of a log from an offset on, and the offset after them.
pub(crate) async fn read_lines(path: &Path, offset: u64) -> io::Result<(Vec<LogLine>, u64)> {
    use tokio::io::AsyncSeekExt;
    let mut file = File::open(path).await?;
    // A log that was started anew is shorter than what was read of the old one.
    let offset = if file.metadata().await?.len() < offset { 0 } else { offset };
    file.seek(io::SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG).read_to_end(&mut bytes).await?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let lines = bytes[..end].split(|byte| *byte == b'\n').filter_map(LogLine::read).collect();
    Ok((lines, offset + end as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_pumped_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/a.log");
        let log = Log::create(path.clone(), Clock::start()).await.unwrap();
        let text: &'static [u8] = b"one\n\ntwo words\nrest";
        Arc::clone(&log).pump("stdout", Box::pin(text), &Taps::default()).await;
        let (lines, offset) = read_lines(&path, 0).await.unwrap();
        let texts: Vec<&[u8]> = lines.iter().map(|line| line.text.as_slice()).collect();
        assert_eq!(texts, [&b"one"[..], b"", b"two words", b"rest"]);
        assert!(lines[0].whole && !lines[3].whole);
        assert_eq!(read_lines(&path, offset).await.unwrap().0, []);
    }
}
