//! Bytes of a job in, masked, stamped and limited trace out. The trace is rendered here once;
//! whoever ships it later never changes a byte.
//!
//! Nothing here does IO, knows a clock or starts a task, and no text of a secret ever appears in an
//! error or a `Debug` output. Each stream of a job passes, in this order, `commands` (output of the
//! job alone), [`masking`], [`url_params`], [`prefixes`], [`utf8`] and [`stamping`]; all streams
//! then meet in [`limit`], which also counts and sums what is emitted. UTF-8 is repaired before
//! lines are stamped, and not after as in GitLab Runner 19.4, so that a long line is never cut
//! inside a character.

use std::sync::Arc;

use gantry_core::Secret;
use jiff::Timestamp;

mod commands;
mod forms;
mod limit;
pub mod line;
mod masking;
mod matcher;
mod pipe;
mod prefixes;
mod stamping;
mod url_params;
mod utf8;

pub use prefixes::default_token_prefixes;

use commands::{Commands, Part};
use limit::Ledger;
use pipe::{Pipe, Rules};

/// What the trace of one job looks like. Chosen by the plan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Values to mask. Blanks around them are ignored, empty ones too.
    pub masks: Vec<Secret>,
    /// The complete list of token prefixes, as [`default_token_prefixes`] gives it.
    pub token_prefixes: Vec<String>,
    /// Whether every line begins with a time stamp (`FF_TIMESTAMPS`).
    pub timestamps: bool,
    /// Largest size of the trace in bytes, without the notice that it was reached; 0 means
    /// [`gantry_core::limits::DEFAULT_OUTPUT_LIMIT`].
    pub limit: u64,
}

/// Where bytes come from. Masking, UTF-8 and lines are kept apart by stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `00O`: the runner's own lines.
    RunnerOut,
    /// `00E`: the runner's own lines about waiting and trouble.
    RunnerErr,
    /// `01O`: standard output of the job, and its standard error where the two are merged.
    JobOut,
    /// `01E`: standard error of the job.
    JobErr,
    /// `0fO` and up: standard output of the n-th service, counted from 0.
    ServiceOut(u8),
    /// `0fE` and up: standard error of the n-th service, counted from 0.
    ServiceErr(u8),
}

/// Values that a job may add, and their bytes together: each byte costs some hundred of memory, and
/// each value a new automaton.
const MOST_ADDED: usize = 200;
const MOST_ADDED_BYTES: usize = 64 * 1024;

/// Bytes that a value has at least, as for masked variables of GitLab: a shorter one would also be
/// part of words, numbers and escapes all over the log.
const SHORTEST_ADDED: usize = 8;

/// Why masks that a job has asked for are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedMasks {
    /// There are as many as there may be.
    pub too_many: bool,
    /// One is shorter than 8 bytes.
    pub too_short: bool,
}

/// The number of the first service's stream (GitLab Runner 19.4).
const FIRST_SERVICE: u8 = 0x0f;

impl Stream {
    /// The stream's number in line headers. Services beyond the 241st share the last number.
    pub fn number(self) -> u8 {
        match self {
            Self::RunnerOut | Self::RunnerErr => 0,
            Self::JobOut | Self::JobErr => 1,
            Self::ServiceOut(index) | Self::ServiceErr(index) => FIRST_SERVICE.saturating_add(index),
        }
    }

    /// `O` or `E`.
    pub fn letter(self) -> u8 {
        match self {
            Self::RunnerOut | Self::JobOut | Self::ServiceOut(_) => b'O',
            Self::RunnerErr | Self::JobErr | Self::ServiceErr(_) => b'E',
        }
    }

    /// Whether the job itself writes it: it may add masks there.
    pub fn is_of_job(self) -> bool {
        matches!(self, Self::JobOut)
    }

    /// Whether the lines are the runner's own, which may pass the limit by a little.
    pub fn is_runner(self) -> bool {
        self.number() == 0
    }
}

/// The trace of one job: what is emitted, in `out` of each call, is final and never changes.
#[derive(Debug)]
pub struct Trace {
    options: Options,
    rules: Arc<Rules>,
    /// Of the job's output, where its standard error is merged with it.
    commands: Commands,
    /// Values that the job has added.
    added: Vec<Secret>,
    refused_masks: RefusedMasks,
    pipes: Vec<(Stream, Pipe)>,
    ledger: Ledger,
    rendered: Vec<u8>,
}

impl Trace {
    /// A trace that begins with `head`: lines that the manager has already rendered and perhaps
    /// sent. They are appended to `out` unchanged, and count for offset, checksum and limit.
    pub fn new(options: Options, head: &str, out: &mut Vec<u8>) -> Self {
        let mut ledger = Ledger::new(options.limit);
        ledger.head(head, out);
        Self {
            rules: Arc::new(Rules::new(options.clone())),
            options,
            commands: Commands::default(),
            added: Vec::new(),
            refused_masks: RefusedMasks::default(),
            pipes: Vec::new(),
            ledger,
            rendered: Vec::new(),
        }
    }

    /// Takes bytes of `stream` and appends to `out` what is final now. Text is held back only while
    /// it can be the beginning of a masked value or of a character and, with time stamps, until its
    /// line ends.
    pub fn write(&mut self, stream: Stream, now: Timestamp, bytes: &[u8], out: &mut Vec<u8>) {
        if !stream.is_of_job() {
            return self.put(stream, now, bytes, out);
        }
        let mut commands = std::mem::take(&mut self.commands);
        commands.push(bytes, |part| self.take(stream, now, part, out));
        self.commands = commands;
    }

    fn take(&mut self, stream: Stream, now: Timestamp, part: Part<'_>, out: &mut Vec<u8>) {
        match part {
            Part::Text(text) => self.put(stream, now, text, out),
            Part::Mask(value) => self.add_mask(&String::from_utf8_lossy(&value)),
        }
    }

    fn put(&mut self, stream: Stream, now: Timestamp, bytes: &[u8], out: &mut Vec<u8>) {
        let index = self.pipe_of(stream);
        let Some((_, pipe)) = self.pipes.get_mut(index) else { return };
        pipe.write(now, bytes, &mut self.rendered);
        self.emit(stream, out);
    }

    /// Masks a value in everything that is decided from now on.
    fn add_mask(&mut self, value: &str) {
        let value = value.trim();
        if value.is_empty() || self.added.iter().any(|known| known.expose() == value) {
            return;
        }
        if value.len() < SHORTEST_ADDED {
            self.refused_masks.too_short = true;
            return;
        }
        let length: usize = self.added.iter().map(|known| known.expose().len()).sum();
        if self.added.len() >= MOST_ADDED || length + value.len() > MOST_ADDED_BYTES {
            self.refused_masks.too_many = true;
            return;
        }
        self.added.push(Secret::new(value));
        self.rules = Arc::new(Rules::new(Options {
            masks: self.options.masks.iter().chain(&self.added).cloned().collect(),
            ..self.options.clone()
        }));
        for (_, pipe) in &mut self.pipes {
            pipe.change_rules(&self.rules);
        }
    }

    /// Which masks of the job were refused since this was asked last.
    pub fn take_refused_masks(&mut self) -> RefusedMasks {
        std::mem::take(&mut self.refused_masks)
    }

    /// The end of a stage: everything held back in any stream is decided and appended to `out`. A
    /// masked value that has begun but not ended is then no longer one.
    pub fn flush(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        let mut commands = std::mem::take(&mut self.commands);
        commands.flush(|part| self.take(Stream::JobOut, now, part, out));
        self.commands = commands;
        for index in 0..self.pipes.len() {
            let Some((stream, pipe)) = self.pipes.get_mut(index) else { break };
            let stream = *stream;
            pipe.flush(now, stream.is_runner(), &mut self.rendered);
            self.emit(stream, out);
        }
    }

    /// To be called after some quiet time: unfinished lines are appended to `out` as entries whose
    /// next one is marked as their continuation. What may be the beginning of a masked value stays
    /// held back. Does nothing without time stamps.
    pub fn flush_partial(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.pipes.len() {
            let Some((stream, pipe)) = self.pipes.get_mut(index) else { break };
            let stream = *stream;
            pipe.flush_partial(&mut self.rendered);
            self.emit(stream, out);
        }
    }

    /// Whether [`Trace::flush_partial`] would emit something.
    pub fn has_partial(&self) -> bool {
        self.pipes.iter().any(|(_, pipe)| pipe.has_partial())
    }

    /// The end of the trace: as [`Trace::flush`], and whatever is written afterwards is dropped.
    pub fn close(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        self.flush(now, out);
        self.ledger.close();
    }

    /// Bytes emitted so far, head included: GitLab's `bytesize`.
    pub fn len(&self) -> u64 {
        self.ledger.len()
    }

    /// Whether nothing was emitted yet.
    pub fn is_empty(&self) -> bool {
        self.ledger.len() == 0
    }

    /// CRC-32 (IEEE) of all bytes emitted so far, head included.
    pub fn crc32(&self) -> u32 {
        self.ledger.crc32()
    }

    fn pipe_of(&mut self, stream: Stream) -> usize {
        if let Some(index) = self.pipes.iter().position(|(known, _)| *known == stream) {
            return index;
        }
        self.pipes.push((stream, Pipe::new(stream, &self.rules)));
        self.pipes.len() - 1
    }

    fn emit(&mut self, stream: Stream, out: &mut Vec<u8>) {
        self.ledger.append(stream.is_runner(), &self.rendered, out);
        self.rendered.clear();
    }
}

#[cfg(test)]
mod tests;
