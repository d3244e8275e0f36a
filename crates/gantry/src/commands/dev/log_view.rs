//! Job logs in a terminal: every line with the name of its job, without time stamps and section
//! markers. What it costs grows with the length of the log and with nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::api::{Api, Job, Pipeline};
use super::shown_text::elided;
use crate::commands::stamped_line::StampedLine;
use crate::style::Style;

/// Colours that tell jobs apart.
const COLOURS: [&str; 6] = ["\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[94m"];

/// Columns for the names of jobs: few names are shorter, and of longer ones the middle is left out.
const NAMES: std::ops::RangeInclusive<usize> = 8..=32;

/// What was shown of each job, and what its log told about its phases.
pub(super) struct LogView {
    style: Style,
    width: usize,
    jobs: BTreeMap<u64, ShownLog>,
}

#[derive(Default)]
struct ShownLog {
    offset: u64,
    /// A line that has not ended.
    partial: Vec<u8>,
    /// Text of a line whose next entry continues it.
    line: String,
    sections: Sections,
}

/// When the sections of a log began and ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    spans: Vec<(String, Timestamp, Option<Timestamp>)>,
}

impl Sections {
    /// The time between the first beginning and the last end of the sections whose names `wanted`
    /// likes.
    pub(super) fn seconds(&self, wanted: impl Fn(&str) -> bool) -> Option<f64> {
        let spans: Vec<_> = self.spans.iter().filter(|(name, ..)| wanted(name)).collect();
        let first = spans.iter().map(|(_, start, _)| *start).min()?;
        let last = spans.iter().filter_map(|(.., end)| *end).max()?;
        Some((last.duration_since(first)).as_secs_f64())
    }

    /// The beginning of the first section that `wanted` likes.
    pub(super) fn start(&self, wanted: impl Fn(&str) -> bool) -> Option<Timestamp> {
        self.spans.iter().filter(|(name, ..)| wanted(name)).map(|(_, start, _)| *start).min()
    }

    fn marker(&mut self, text: &str, at: Timestamp) {
        let mut parts = text.split(':');
        let (kind, name) = (parts.next(), parts.nth(1).unwrap_or_default());
        let name = name.split(['\r', '[']).next().unwrap_or_default();
        match kind {
            Some("section_start") => self.spans.push((name.to_owned(), at, None)),
            Some("section_end") => {
                if let Some(span) = self.spans.iter_mut().rev().find(|(other, ..)| other == name) {
                    span.2 = Some(at);
                }
            }
            _ => {}
        }
    }
}

impl LogView {
    pub(super) fn new(style: Style) -> Self {
        Self { style, width: *NAMES.start(), jobs: BTreeMap::new() }
    }

    /// Makes room for the names of these jobs. It never becomes narrower, so that later lines stand
    /// below earlier ones.
    pub(super) fn fit(&mut self, pipeline: &Pipeline) {
        let longest = pipeline.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(0);
        self.width = self.width.max(longest.min(*NAMES.end()));
    }

    /// What is new of a job's log, as lines to print.
    pub(super) async fn news(&mut self, api: &Api, job: &Job) -> anyhow::Result<String> {
        let known = self.jobs.get(&job.id).map_or(0, |shown| shown.offset);
        let mut lines = Vec::new();
        if job.trace_bytes > known {
            let bytes = api.trace(job.id, known).await?;
            self.jobs.entry(job.id).or_default().take(&bytes, &mut lines);
        }
        if job.is_over()
            && self.is_complete(job)
            && let Some(shown) = self.jobs.get_mut(&job.id)
        {
            shown.finish(&mut lines);
        }
        let mut text = String::new();
        for line in lines {
            text.push_str(&self.line(job, &self.style.line(&line)));
        }
        Ok(text)
    }

    /// A line about a job.
    pub(super) fn line(&self, job: &Job, text: &str) -> String {
        let width = self.width;
        let colour = COLOURS[usize::try_from(job.id).unwrap_or_default() % COLOURS.len()];
        let mut line = self.style.paint(colour, &format!("{:>width$} │", elided(&job.name, width)));
        let _ = writeln!(line, " {text}");
        line
    }

    /// Whether all there is of a job's log was shown.
    pub(super) fn is_complete(&self, job: &Job) -> bool {
        job.trace_bytes <= self.jobs.get(&job.id).map_or(0, |shown| shown.offset)
    }

    /// What a job's log told about its phases.
    pub(super) fn sections(&self, job: u64) -> Sections {
        self.jobs.get(&job).map(|shown| shown.sections.clone()).unwrap_or_default()
    }
}

impl ShownLog {
    /// Takes the next bytes of the log.
    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        self.offset += bytes.len() as u64;
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            self.entry(&String::from_utf8_lossy(&line), lines);
        }
        self.partial.extend_from_slice(rest);
    }

    /// Takes one stamped line.
    fn entry(&mut self, line: &str, lines: &mut Vec<String>) {
        let Some(StampedLine { at, continues, text }) = StampedLine::read(line) else {
            self.line.push_str(line);
            return self.print(lines);
        };
        if !continues && !self.line.is_empty() {
            self.print(lines);
        }
        let text = match marker(text) {
            Some((marker, "")) => return self.sections.marker(marker, at),
            Some((marker, header)) => {
                self.sections.marker(marker, at);
                header
            }
            None => text,
        };
        let text = text.strip_prefix("\x1b[0K").unwrap_or(text);
        if text.ends_with('\r') {
            // The next entry is written over it.
            text.clone_into(&mut self.line);
            return;
        }
        self.line.push_str(text);
        self.print(lines);
    }

    /// The log has ended, with or without an end of its last line.
    fn finish(&mut self, lines: &mut Vec<String>) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.entry(&String::from_utf8_lossy(&line), lines);
        }
        if !self.line.is_empty() {
            self.print(lines);
        }
    }

    fn print(&mut self, lines: &mut Vec<String>) {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_end_matches('\r');
        // A terminal would write what follows a carriage return over the name of the job.
        lines.push(line.rsplit('\r').next().unwrap_or_default().to_owned());
    }
}

/// The marker of a section that a text begins with, and what follows it. Other texts may begin with
/// the same word.
fn marker(text: &str) -> Option<(&str, &str)> {
    let (marker, rest) = text.split_once('\r')?;
    let (kind, named) = marker.split_once(':')?;
    let (time, name) = named.split_once(':')?;
    let is_marker = matches!(kind, "section_start" | "section_end")
        && !time.is_empty()
        && time.bytes().all(|byte| byte.is_ascii_digit())
        && !name.is_empty();
    is_marker.then(|| (marker, rest.strip_prefix("\x1b[0K").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_of_sections_are_no_lines() {
        let log =
            ["section_results pass=3", "section_1", "section_start:1:my\r\x1b[0KHeader", "section_end:2:my\r\x1b[0K"]
                .map(|text| format!("2026-01-02T03:04:05.000000Z 01O {text}\n"));
        assert_eq!(shown(&[&log.concat()]), ["section_results pass=3", "section_1", "Header"]);
    }

    #[test]
    fn markers_become_spans() {
        let mut sections = Sections::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        sections.marker("section_start:1:get_sources\r\x1b[0K", at(1));
        sections.marker("section_end:4:get_sources\r\x1b[0K", at(4));
        sections.marker("section_start:5:step_script[collapsed=true]\r", at(5));
        assert_eq!(sections.seconds(|name| name == "get_sources"), Some(3.0));
        assert_eq!(sections.seconds(|name| name == "step_script"), None);
        assert_eq!(sections.start(|name| name == "step_script"), Some(at(5)));
    }

    fn shown(pieces: &[&str]) -> Vec<String> {
        let (mut shown, mut lines) = (ShownLog::default(), Vec::new());
        for piece in pieces {
            shown.take(piece.as_bytes(), &mut lines);
        }
        shown.finish(&mut lines);
        lines
    }

    #[test]
    fn lines_are_the_same_however_the_log_is_cut() {
        let log = "2026-01-02T03:04:05.000000Z 00O one\n2026-01-02T03:04:05.000000Z 00O tw\n2026-01-02T03:04:05.000000Z 00O+o\n\
                   2026-01-02T03:04:05.000000Z 00O 10%\r\n2026-01-02T03:04:05.000000Z 00O+100%\nunstamped\n\
                   2026-01-02T03:04:05.000000Z 00O the end";
        let whole = shown(&[log]);
        assert_eq!(whole, ["one", "tw", "o", "100%", "unstamped", "the end"]);
        for cut in 0..log.len() {
            assert_eq!(shown(&[&log[..cut], &log[cut..]]), whole, "cut at {cut}");
        }
    }
}
