//! Job logs in a terminal: every line with the name of its job, without time stamps and section markers.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::api::{Api, Job};

/// Colours that tell jobs apart.
const COLOURS: [&str; 6] = ["\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[94m"];
const RESET: &str = "\x1b[0m";

/// Bytes of a line's time stamp and stream, before its text (GitLab's timestamped logs).
const STAMP: usize = 32;

/// What was shown of each job, and what its log told about its phases.
#[derive(Default)]
pub(super) struct LogView {
    jobs: BTreeMap<u64, Shown>,
}

#[derive(Default)]
struct Shown {
    offset: u64,
    /// A line that has not ended.
    partial: Vec<u8>,
    /// Text of a line whose next entry continues it.
    line: String,
    colour: usize,
    sections: Sections,
}

/// When the sections of a log began and ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Sections {
    spans: Vec<(String, Timestamp, Option<Timestamp>)>,
}

impl Sections {
    /// The time between the first beginning and the last end of the sections whose names `wanted` likes.
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
    /// Prints what is new of a job's log.
    pub(super) async fn show(&mut self, api: &Api, job: &Job) -> anyhow::Result<()> {
        let colour = self.jobs.len();
        let known = self.jobs.get(&job.id).map_or(0, |shown| shown.offset);
        if job.trace_bytes <= known {
            return Ok(());
        }
        let shown = self.jobs.entry(job.id).or_insert_with(|| Shown { colour, ..Shown::default() });
        let bytes = api.trace(job.id, shown.offset).await?;
        shown.offset += bytes.len() as u64;
        shown.partial.extend_from_slice(&bytes);
        while let Some(end) = shown.partial.iter().position(|byte| *byte == b'\n') {
            let rest = shown.partial.split_off(end + 1);
            let line = std::mem::replace(&mut shown.partial, rest);
            shown.entry(&job.name, &String::from_utf8_lossy(&line));
        }
        if job.is_over() && !shown.line.is_empty() {
            shown.print(&job.name);
        }
        Ok(())
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

impl Shown {
    /// Takes one stamped line.
    fn entry(&mut self, job: &str, line: &str) {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let stamp = line.get(..27).and_then(|stamp| stamp.parse::<Timestamp>().ok());
        let (Some(at), Some(text)) = (stamp, line.get(STAMP..)) else {
            self.line.push_str(line);
            return self.print(job);
        };
        if line.as_bytes().get(STAMP - 1) != Some(&b'+') && !self.line.is_empty() {
            self.print(job);
        }
        if text.starts_with("section_") {
            self.sections.marker(text, at);
            return;
        }
        self.line.push_str(text.strip_prefix("\x1b[0K").unwrap_or(text));
        if text.ends_with('\r') {
            return;
        }
        self.print(job);
    }

    fn print(&mut self, job: &str) {
        let colour = COLOURS[self.colour % COLOURS.len()];
        let line = std::mem::take(&mut self.line);
        println!("{colour}{job:>12} │{RESET} {}", line.trim_end_matches('\r'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
