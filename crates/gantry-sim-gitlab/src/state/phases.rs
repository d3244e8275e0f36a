//! Where a job's time went: the phases between its queue and its end, from its own times and from
//! the sections of its log. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::job::Job;

/// Length of a time stamp at the beginning of a line (GitLab's timestamped logs).
const STAMP: usize = 27;

/// Phases after the pod has started, and how the names of their sections begin.
const SECTIONS: [(&str, &[&str]); 3] = [
    ("sources", &["get_sources", "restore_cache", "download_artifacts"]),
    ("script", &["step_", "after_script"]),
    ("upload", &["archive_cache", "upload_artifacts"]),
];

/// The section that stands for nothing but the agent's first word.
const AGENT: &str = "prepare_script";

impl Job {
    /// `[{"name", "from", "to"}]` in order; `to` is null for one that goes on.
    pub(crate) fn phases(&self) -> Value {
        let markers = markers(self.trace.from(0));
        let first = |names: &[&str]| {
            let begins = |name: &str| names.iter().any(|wanted| name.starts_with(wanted));
            markers.iter().find(|(is_start, name, _)| *is_start && begins(name)).map(|(.., at)| *at)
        };
        let agent = first(&[AGENT, "get_sources", "step_"]).or(self.finished_at);
        let mut phases = Vec::new();
        let mut add = |name: &str, from: Option<Timestamp>, to: Option<Timestamp>| {
            if let Some(from) = from {
                phases.push(json!({"name": name, "from": from, "to": to}));
            }
        };
        add("queued", self.queued_at, self.started_at.or(self.finished_at));
        add("pod", self.started_at, agent);
        for (phase, names) in SECTIONS {
            let begins = |name: &str| names.iter().any(|wanted| name.starts_with(wanted));
            let last = markers.iter().rev().find(|(_, name, _)| begins(name));
            let to = last.and_then(|(is_start, _, at)| (!is_start).then_some(*at)).or(self.finished_at);
            add(phase, first(names), to);
        }
        Value::Array(phases)
    }
}

/// The beginnings (`true`) and ends of sections, in order.
fn markers(log: &[u8]) -> Vec<(bool, &str, Timestamp)> {
    let lines = log.split(|byte| *byte == b'\n').filter(|line| line.len() > STAMP);
    let marker = |line| {
        let line = std::str::from_utf8(line).ok()?;
        let (at, text) = (line.get(..STAMP)?, line.get(STAMP..)?);
        let (kind, rest) = text.split_once("section_")?.1.split_once(':')?;
        let name = rest.split_once(':')?.1;
        let end = name.find(['\r', '[']).unwrap_or(name.len());
        let is_start = match kind {
            "start" => true,
            "end" => false,
            _ => return None,
        };
        Some((is_start, name.get(..end)?, at.parse().ok()?))
    };
    lines.filter_map(marker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_by_their_markers() {
        let log = "2026-01-31T12:00:00.500000Z 00O section_start:1:step_script[collapsed=true]\r\x1b[0K\n\
                   2026-01-31T12:00:01.000000Z 01O a line with section_x: in it\n\
                   2026-01-31T12:00:02.500000Z 00O section_end:3:step_script\r\x1b[0K\n\
                   no stamp section_end:3:step_script\r\n";
        let found = markers(log.as_bytes());
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(
            found,
            [(true, "step_script", at("2026-01-31T12:00:00.5Z")), (false, "step_script", at("2026-01-31T12:00:02.5Z"))]
        );
    }
}
