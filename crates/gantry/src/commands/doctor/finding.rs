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

/// Where text for people goes.
pub(super) type Show = Box<dyn FnMut(&str) -> anyhow::Result<()>>;

/// Everything that was found, runner by runner; those of no runner come first, under no name.
#[derive(Default)]
pub(super) struct Report {
    parts: Vec<(String, Vec<Finding>)>,
    /// Shows each finding as it comes, since the next check may take minutes.
    show: Option<Show>,
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
    /// One that people read while it is made.
    pub(super) fn shown(show: Show) -> Self {
        Self { show: Some(show), ..Self::default() }
    }

    /// Adds findings. Whatever they quote of others, no secret that is known now is in them.
    ///
    /// # Errors
    /// They cannot be shown.
    pub(super) fn add(&mut self, runner: &str, findings: Vec<Finding>) -> anyhow::Result<()> {
        let clean = |finding: Finding| Finding {
            found: gantry_daemon::redact(None, &finding.found).into_owned(),
            change: finding.change.map(|change| gantry_daemon::redact(None, &change).into_owned()),
            ..finding
        };
        let findings: Vec<Finding> = findings.into_iter().map(clean).collect();
        if self.parts.last().is_none_or(|(name, _)| name != runner) {
            if !runner.is_empty() {
                self.show(&format!("\nrunner {runner:?}\n"))?;
            }
            self.parts.push((runner.to_owned(), Vec::new()));
        }
        self.show(&findings.iter().map(text).collect::<String>())?;
        if let Some((_, list)) = self.parts.last_mut() {
            list.extend(findings);
        }
        Ok(())
    }

    fn show(&mut self, text: &str) -> anyhow::Result<()> {
        self.show.as_mut().map_or(Ok(()), |show| show(text))
    }

    /// The worst of all.
    pub(super) fn worst(&self) -> Grade {
        self.findings().map(|line| line.finding.grade).max().unwrap_or(Grade::Ok)
    }

    fn findings(&self) -> impl Iterator<Item = Line<'_>> {
        self.parts.iter().flat_map(|(runner, list)| list.iter().map(move |finding| Line { runner, finding }))
    }

    /// The last line for people.
    ///
    /// # Errors
    /// It cannot be shown.
    pub(super) fn sum_up(&mut self) -> anyhow::Result<()> {
        let count = |grade| self.findings().filter(|line| line.finding.grade == grade).count();
        let (errors, warnings) = (counted(count(Grade::Error), "error"), counted(count(Grade::Warning), "warning"));
        self.show(&format!("\n{errors}, {warnings}\n"))
    }

    /// For scripts.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        let lines: Vec<Line<'_>> = self.findings().collect();
        let text = serde_json::to_string_pretty(&lines).context("the findings cannot be written as JSON")?;
        Ok(format!("{text}\n"))
    }
}

/// For people.
fn text(finding: &Finding) -> String {
    let mark = match finding.grade {
        Grade::Ok => "ok     ",
        Grade::Warning => "warning",
        Grade::Error => "error  ",
    };
    let change = finding.change.as_ref().map(|change| format!("        change: {change}\n"));
    format!("{mark} {}: {}\n{}", finding.check, finding.found, change.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_report_for_people_and_for_scripts() {
        let seen = Rc::new(RefCell::new(String::new()));
        let sees = Rc::clone(&seen);
        let mut report = Report::shown(Box::new(move |text| {
            sees.borrow_mut().push_str(text);
            Ok(())
        }));
        assert_eq!(report.worst(), Grade::Ok);
        report.add("", vec![Finding::ok("proxy", "none")]).unwrap();
        assert_eq!(*seen.borrow(), "ok      proxy: none\n", "before the next check begins");
        report.add("a", vec![Finding::warning("token", "ends soon", "renew it")]).unwrap();
        report.add("a", vec![Finding::error("rights", "no create on pods", "grant it")]).unwrap();
        assert_eq!(report.worst(), Grade::Error);
        report.sum_up().unwrap();
        let text = "ok      proxy: none\n\nrunner \"a\"\nwarning token: ends soon\n        change: renew it\n\
                    error   rights: no create on pods\n        change: grant it\n\n1 error, 1 warning\n";
        assert_eq!(*seen.borrow(), text);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json[0], serde_json::json!({"check": "proxy", "grade": "ok", "found": "none"}));
        assert_eq!(json[2]["runner"], "a");
    }
}
