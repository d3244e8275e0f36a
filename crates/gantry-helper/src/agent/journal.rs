//! The trace on disk: rendered bytes are appended to a file that is never changed, where manager
//! connections read them.
//!
//! A disk that is full must not make a job end without a word: what cannot be written is kept in
//! memory instead and counts like the rest. The engine ends the job then, so that this stays small.

use std::fs::File;
use std::io::{self, Write as _};

use bytes::Bytes;
use gantry_core::{NoteLevel, Verdict};
use gantry_trace::line;
use gantry_trace::{Options, RefusedMasks, Stream, Trace};
use gantry_wire::plan::{HEAD_SECTION, TracePlan};
use jiff::Timestamp;

use super::published::TraceFile;

const TOO_MANY_MASKS: &str = "the job adds more masks (::add-mask::) than there may be, and those after the 200th, or beyond 64 KiB, are not masked";

const TOO_SHORT_MASK: &str =
    "a value of ::add-mask:: has less than 8 bytes, and is not masked: it would also be part of other words";

/// Why the file of the trace is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceFileError {
    /// It cannot be written.
    #[error("the job log cannot be written in the pod: {0}; the node or the pod has used up its ephemeral storage")]
    Unwritable(#[source] io::Error),
    /// Somebody else has written to it or cut it.
    #[error(
        "the file of the job log in the helper container was changed by something else there, and a part of the log is lost: look at the \
         hooks pre_get_sources_script and post_get_sources_script, and at what git is configured to run"
    )]
    Changed,
}

/// The trace of the job.
pub(crate) struct Journal {
    trace: Trace,
    file: Option<File>,
    in_file: u64,
    in_memory: Vec<u8>,
    /// Somebody else has changed the file.
    changed: bool,
    /// Why the file is of no use any more, until somebody has asked.
    trouble: Option<TraceFileError>,
    sections: bool,
    /// The log says that there are too many masks.
    told_of_masks: RefusedMasks,
    /// The section that the head has left open, until it is closed.
    open_in_head: Option<&'static str>,
    rendered: Vec<u8>,
}

impl Journal {
    /// Begins the trace in its file.
    pub(crate) fn begin(file: &TraceFile, plan: &TracePlan) -> Self {
        let options = Options {
            masks: plan.masks.clone(),
            token_prefixes: plan.token_prefixes.clone(),
            timestamps: plan.timestamps,
            limit: plan.limit_bytes,
        };
        let mut rendered = Vec::new();
        let trace = Trace::new(options, &plan.head, &mut rendered);
        let (file, trouble) = match file.create() {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(TraceFileError::Unwritable(error))),
        };
        let open_in_head = (plan.sections && plan.head.contains(HEAD_SECTION)).then_some(HEAD_SECTION);
        let (in_file, in_memory, sections) = (0, Vec::new(), plan.sections);
        let (changed, told_of_masks) = (false, RefusedMasks::default());
        let mut journal =
            Self { trace, file, in_file, in_memory, changed, trouble, sections, told_of_masks, open_in_head, rendered };
        journal.append();
        journal
    }

    /// Output of the job.
    pub(crate) fn output(&mut self, bytes: &[u8]) {
        self.write(Stream::JobOut, bytes);
        let refused = self.trace.take_refused_masks();
        if refused.too_many && !std::mem::replace(&mut self.told_of_masks.too_many, true) {
            self.note(NoteLevel::Warning, TOO_MANY_MASKS);
        }
        if refused.too_short && !std::mem::replace(&mut self.told_of_masks.too_short, true) {
            self.note(NoteLevel::Warning, TOO_SHORT_MASK);
        }
    }

    /// A line of the agent.
    pub(crate) fn note(&mut self, level: NoteLevel, text: &str) {
        self.write(Stream::RunnerOut, line::note(level, text).as_bytes());
    }

    /// The last line.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.write(Stream::RunnerOut, line::verdict(verdict).as_bytes());
    }

    /// A line of the manager, which is about waiting and trouble (GitLab Runner 19.4 uses this
    /// stream for those).
    pub(crate) fn manager_note(&mut self, level: NoteLevel, text: &str) {
        self.write(Stream::RunnerErr, line::note(level, text).as_bytes());
    }

    /// A line of a service's log.
    pub(crate) fn service(&mut self, service: u8, text: &str) {
        self.write(Stream::ServiceOut(service), format!("{text}\n").as_bytes());
    }

    /// Begins a section, with its title.
    pub(crate) fn section_start(&mut self, name: &str, title: &str) {
        self.end_head();
        if self.sections {
            self.write(Stream::RunnerOut, line::section_start(name, Timestamp::now().as_second()).as_bytes());
        }
        if !title.is_empty() {
            self.write(Stream::RunnerOut, line::section_title(title).as_bytes());
        }
    }

    /// Ends a section; held back text of the job comes before it.
    pub(crate) fn section_end(&mut self, name: &str) {
        self.trace.flush(Timestamp::now(), &mut self.rendered);
        self.append();
        if self.sections {
            self.write(Stream::RunnerOut, line::section_end(name, Timestamp::now().as_second()).as_bytes());
        }
    }

    /// Ends the section that the head has left open, if it has.
    pub(crate) fn end_head(&mut self) {
        if let Some(name) = self.open_in_head.take() {
            self.section_end(name);
        }
    }

    /// Shows unfinished lines.
    pub(crate) fn flush_partial(&mut self) {
        self.trace.flush_partial(&mut self.rendered);
        self.append();
    }

    /// Whether there are unfinished lines.
    pub(crate) fn has_partial(&self) -> bool {
        self.trace.has_partial()
    }

    /// Ends the trace: its length, and its CRC-32 unless a part of it is lost.
    pub(crate) fn close(&mut self) -> (u64, Option<u32>) {
        self.trace.close(Timestamp::now(), &mut self.rendered);
        self.append();
        (self.trace.len(), (!self.changed).then(|| self.trace.crc32()))
    }

    /// Bytes in the file, and the bytes after them.
    pub(crate) fn extent(&self) -> (u64, Bytes) {
        let in_memory = if self.in_memory.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&self.in_memory) };
        (self.in_file, in_memory)
    }

    /// Whether the file has failed: output of the job is of no use any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.file.is_none()
    }

    /// Why the file has failed, once. Looks whether it still has the length that it was given.
    pub(crate) fn take_trouble(&mut self) -> Option<TraceFileError> {
        let has_length = |file: &File| file.metadata().is_ok_and(|meta| !meta.is_file() || meta.len() == self.in_file);
        if self.file.as_ref().is_some_and(|file| !has_length(file)) {
            self.changed = true;
            self.trouble = Some(TraceFileError::Changed);
            self.file = None;
        }
        self.trouble.take()
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.trace.write(stream, Timestamp::now(), bytes, &mut self.rendered);
        self.append();
    }

    /// Moves what is rendered to the file, or where that fails to memory, in order.
    fn append(&mut self) {
        let mut rest = self.rendered.as_slice();
        while let Some(file) = &mut self.file
            && !rest.is_empty()
        {
            match file.write(rest) {
                Ok(count) if count > 0 => {
                    self.in_file += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => {
                    let error = outcome.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    self.trouble = Some(TraceFileError::Unwritable(error));
                    self.file = None;
                }
            }
        }
        self.in_memory.extend_from_slice(rest);
        self.rendered.clear();
    }
}

/// The trace of a job that prints these pieces, in its file; its length and its sum. For
/// benchmarks.
pub fn journal_alone<'a>(
    file: &TraceFile,
    plan: &TracePlan,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (u64, Option<u32>) {
    let mut journal = Journal::begin(file, plan);
    for piece in pieces {
        journal.output(piece);
    }
    journal.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_the_head_ends_before_the_next_one_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let head = "section_start:1:prepare_executor\r\x1b[0K";
        let mut journal = Journal::begin(&TraceFile::named(path.clone()), &TracePlan { head: head.into(), ..plan() });
        journal.section_start("prepare_script", "");
        journal.section_end("prepare_script");
        journal.close();
        let text = std::fs::read_to_string(&path).unwrap();
        let names: Vec<&str> = text.split("section_").skip(1).map(|part| part.split('\r').next().unwrap()).collect();
        let kinds: Vec<String> =
            names.iter().map(|name| name.split(':').step_by(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            kinds,
            ["start prepare_executor", "end prepare_executor", "start prepare_script", "end prepare_script"]
        );
    }

    fn plan() -> TracePlan {
        TracePlan {
            head: "head\n".into(),
            masks: vec!["hunter2".into()],
            token_prefixes: Vec::new(),
            timestamps: false,
            sections: true,
            limit_bytes: 1 << 20,
            debug_trace: false,
        }
    }

    #[test]
    fn what_is_rendered_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let mut journal = Journal::begin(&TraceFile::named(path.clone()), &plan());
        journal.output(b"it is hunter2\n");
        journal.note(NoteLevel::Info, "Job succeeded");
        let (length, _) = journal.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "head\nit is [MASKED]\n\x1b[32;1mJob succeeded\x1b[0;m\n");
        assert_eq!((length, journal.extent().0), (text.len() as u64, text.len() as u64));
    }

    #[test]
    fn a_file_that_somebody_else_changed_is_noticed_at_once_and_once() {
        for change in [0, 3, 4096] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("trace");
            let mut journal = Journal::begin(&TraceFile::named(path.clone()), &plan());
            journal.output(b"one line\n");
            assert!(journal.take_trouble().is_none() && !journal.is_broken());
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(change).unwrap();
            assert!(matches!(journal.take_trouble(), Some(TraceFileError::Changed)));
            assert!(journal.take_trouble().is_none() && journal.is_broken());
            journal.note(NoteLevel::Error, "last words");
            let (length, sum) = journal.close();
            assert_eq!(sum, None, "it is not what GitLab will have");
            let (in_file, in_memory) = journal.extent();
            assert_eq!(in_file + in_memory.len() as u64, length);
        }
    }

    #[test]
    fn a_full_disk_is_noticed_and_loses_nothing() {
        let mut journal = Journal::begin(&TraceFile::named("/dev/full".into()), &plan());
        let trouble = journal.take_trouble();
        let full = |error: &io::Error| error.raw_os_error() == Some(nix::libc::ENOSPC);
        assert!(matches!(&trouble, Some(TraceFileError::Unwritable(error)) if full(error)), "{trouble:?}");
        assert!(journal.is_broken());
        journal.note(NoteLevel::Plain, "last words");
        let (length, crc) = journal.close();
        let (in_file, in_memory) = journal.extent();
        assert_eq!((in_file, in_memory.len() as u64), (0, length));
        assert!(in_memory.starts_with(b"head\n"));
        assert_ne!(crc, Some(0));
    }
}
