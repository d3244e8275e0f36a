//! The trace on disk: rendered bytes are appended to a file that is never changed, where manager connections read them.
//!
//! A disk that is full must not make a job end without a word: what cannot be written is kept in memory instead and counts like the rest.
//! The engine ends the job then, so that this stays small.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;
use gantry_core::Verdict;
use gantry_trace::line::{self, Level};
use gantry_trace::{Options, Stream, Trace};
use gantry_wire::frame::NoteLevel;
use gantry_wire::plan::{HEAD_SECTION, TracePlan};
use jiff::Timestamp;

/// The trace of the job.
pub(crate) struct Journal {
    trace: Trace,
    file: Option<File>,
    in_file: u64,
    in_memory: Vec<u8>,
    /// Why the file could not be written, until somebody has asked.
    trouble: Option<io::Error>,
    sections: bool,
    /// The section that the head has left open, until it is closed.
    open_in_head: Option<&'static str>,
    rendered: Vec<u8>,
}

impl Journal {
    /// Begins the trace in a new file at `path`.
    pub(crate) fn begin(path: &Path, plan: &TracePlan) -> Self {
        let options = Options {
            masks: plan.masks.clone(),
            token_prefixes: plan.token_prefixes.clone(),
            timestamps: plan.timestamps,
            limit: plan.limit_bytes,
        };
        let mut rendered = Vec::new();
        let trace = Trace::new(options, &plan.head, &mut rendered);
        let (file, trouble) = match OpenOptions::new().append(true).create(true).mode(0o600).open(path) {
            Ok(file) => {
                // Offsets count from the first byte of this trace. What cannot be cut was empty.
                let _ = file.set_len(0);
                (Some(file), None)
            }
            Err(error) => (None, Some(error)),
        };
        let open_in_head = (plan.sections && plan.head.contains(HEAD_SECTION)).then_some(HEAD_SECTION);
        let (in_file, in_memory, sections) = (0, Vec::new(), plan.sections);
        let mut journal = Self { trace, file, in_file, in_memory, trouble, sections, open_in_head, rendered };
        journal.append();
        journal
    }

    /// Output of the job.
    pub(crate) fn output(&mut self, bytes: &[u8]) {
        self.write(Stream::JobOut, bytes);
    }

    /// A line of the agent.
    pub(crate) fn note(&mut self, level: NoteLevel, text: &str) {
        self.write(Stream::RunnerOut, line::note(shown(level), text).as_bytes());
    }

    /// The last line.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.write(Stream::RunnerOut, line::verdict(verdict).as_bytes());
    }

    /// A line of the manager, which is about waiting and trouble (GitLab Runner 19.4 uses this stream for those).
    pub(crate) fn manager_note(&mut self, level: NoteLevel, text: &str) {
        self.write(Stream::RunnerErr, line::note(shown(level), text).as_bytes());
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

    /// Ends the trace: its length and CRC-32.
    pub(crate) fn close(&mut self) -> (u64, u32) {
        self.trace.close(Timestamp::now(), &mut self.rendered);
        self.append();
        (self.trace.len(), self.trace.crc32())
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

    /// Why the file has failed, once.
    pub(crate) fn take_trouble(&mut self) -> Option<io::Error> {
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
                    self.trouble = outcome.err().or_else(|| Some(io::ErrorKind::WriteZero.into()));
                    self.file = None;
                }
            }
        }
        self.in_memory.extend_from_slice(rest);
        self.rendered.clear();
    }
}

fn shown(level: NoteLevel) -> Level {
    match level {
        NoteLevel::Plain => Level::Plain,
        NoteLevel::Info => Level::Info,
        NoteLevel::Warning => Level::Warning,
        NoteLevel::Error => Level::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_the_head_ends_before_the_next_one_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let head = "section_start:1:prepare_executor\r\x1b[0K";
        let mut journal = Journal::begin(&path, &TracePlan { head: head.into(), ..plan() });
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
        let mut journal = Journal::begin(&path, &plan());
        journal.output(b"it is hunter2\n");
        journal.note(NoteLevel::Info, "Job succeeded");
        let (length, _) = journal.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "head\nit is [MASKED]\n\x1b[32;1mJob succeeded\x1b[0;m\n");
        assert_eq!((length, journal.extent().0), (text.len() as u64, text.len() as u64));
    }

    #[test]
    fn a_full_disk_is_noticed_and_loses_nothing() {
        let mut journal = Journal::begin(Path::new("/dev/full"), &plan());
        assert_eq!(journal.take_trouble().unwrap().raw_os_error(), Some(nix::libc::ENOSPC));
        assert!(journal.is_broken());
        journal.note(NoteLevel::Plain, "last words");
        let (length, crc) = journal.close();
        let (in_file, in_memory) = journal.extent();
        assert_eq!((in_file, in_memory.len() as u64), (0, length));
        assert!(in_memory.starts_with(b"head\n"));
        assert_ne!(crc, 0);
    }
}
