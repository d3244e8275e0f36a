//! What was found, and how it is shown.

use anyhow::Context as _;
use serde::Serialize;

use crate::commands::counted;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grade {
    /// It works.
    Ok,
    /// Jobs run, but something costs time, is not as it looks, or will stop working.
    Warning,
    /// Jobs will fail, or do not come.
    Error,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Name of the check, stable for scripts.
    pub(super) check: &'static str,
    pub(super) grade: Grade,
    /// What was found.
    pub(super) found: String,
    /// What to change; nothing where it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, grade: Grade::Ok, found: found.into(), change: None }
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { check, grade: Grade::Warning, found: found.into(), change: Some(change.into()) }
    }

    pub(super) fn error(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { check, grade: Grade::Error, found: found.into(), change: Some(change.into()) }
    }
}

/// Everything that was found, runner by runner; those of no runner come first, under no name.
#[derive(Debug, Default)]
pub(super) struct Report {
    parts: Vec<(String, Vec<Finding>)>,
}

/// A finding with its runner, for scripts.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    runner: &'a str,
    #[serde(flatten)]
    finding: &'a Finding,
}

impl Report {
    /// Adds findings. Whatever they quote of others, no secret that is known now is in them.
    pub(super) fn add(&mut self, runner: &str, findings: Vec<Finding>) {
        let clean = |finding: Finding| Finding {
            found: gantry_daemon::redact(None, &finding.found).into_owned(),
            change: finding.change.map(|change| gantry_daemon::redact(None, &change).into_owned()),
            ..finding
        };
        let findings = findings.into_iter().map(clean);
        match self.parts.last_mut().filter(|(name, _)| name == runner) {
            Some((_, list)) => list.extend(findings),
            None => self.parts.push((runner.to_owned(), findings.collect())),
        }
    }

    /// The worst of all.
    pub(super) fn worst(&self) -> Grade {
        self.findings().map(|line| line.finding.grade).max().unwrap_or(Grade::Ok)
    }

    fn findings(&self) -> impl Iterator<Item = Line<'_>> {
        self.parts.iter().flat_map(|(runner, list)| list.iter().map(move |finding| Line { runner, finding }))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        for (runner, findings) in &self.parts {
            if !runner.is_empty() {
                lines.push(format!("\nrunner {runner:?}"));
            }
            for finding in findings {
                let mark = match finding.grade {
                    Grade::Ok => "ok     ",
                    Grade::Warning => "warning",
                    Grade::Error => "error  ",
                };
                lines.push(format!("{mark} {}: {}", finding.check, finding.found));
                if let Some(change) = &finding.change {
                    lines.push(format!("        change: {change}"));
                }
            }
        }
        let count = |grade| self.findings().filter(|line| line.finding.grade == grade).count();
        let (errors, warnings) = (counted(count(Grade::Error), "error"), counted(count(Grade::Warning), "warning"));
        lines.push(format!("\n{errors}, {warnings}\n"));
        lines.join("\n")
    }

    /// For scripts.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        let lines: Vec<Line<'_>> = self.findings().collect();
        let text = serde_json::to_string_pretty(&lines).context("the findings cannot be written as JSON")?;
        Ok(format!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_for_people_and_for_scripts() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Grade::Ok);
        report.add("", vec![Finding::ok("proxy", "none")]);
        report.add("a", vec![Finding::warning("token", "ends soon", "renew it")]);
        report.add("a", vec![Finding::error("rights", "no create on pods", "grant it")]);
        assert_eq!(report.worst(), Grade::Error);
        let text = "ok      proxy: none\n\nrunner \"a\"\nwarning token: ends soon\n        change: renew it\n\
                    error   rights: no create on pods\n        change: grant it\n\n1 error, 1 warning\n";
        assert_eq!(report.text(), text);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json[0], serde_json::json!({"check": "proxy", "grade": "ok", "found": "none"}));
        assert_eq!(json[2]["runner"], "a");
    }
}
