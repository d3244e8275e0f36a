//! The table at the end: how each job ended, and where its time went.

use std::fmt::Write as _;

use super::api::{Job, Pipeline};
use super::log_view::{LogView, Sections};

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Columns with times.
const PHASES: [&str; 5] = ["queue", "pod start", "sources", "script", "upload"];

/// One line per job, and one for the pipeline.
pub(super) fn table(pipeline: &Pipeline, view: &LogView) -> String {
    let jobs: Vec<&Job> = pipeline.jobs.iter().filter(|job| !job.retried).collect();
    let width = jobs.iter().map(|job| job.name.chars().count()).chain([3]).max().unwrap_or(3);
    let stage_width = jobs.iter().map(|job| job.stage.chars().count()).chain([5]).max().unwrap_or(5);
    let mut text = format!("\n{BOLD}{:<width$}  {:<stage_width$}  {:<18}", "job", "stage", "result");
    for phase in PHASES {
        let _ = write!(text, "  {phase:>9}");
    }
    let _ = writeln!(text, "{RESET}");
    for job in jobs {
        let (colour, result) = result(job);
        let _ = write!(text, "{:<width$}  {:<stage_width$}  {colour}{result:<18}{RESET}", job.name, job.stage);
        for seconds in phases(job, &view.sections(job.id)) {
            let shown = seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            let _ = write!(text, "  {shown:>9}");
        }
        text.push('\n');
    }
    let colour = if pipeline.status == "success" { GREEN } else { RED };
    let _ = write!(text, "\nPipeline: {colour}{}{RESET}", pipeline.status);
    text
}

fn result(job: &Job) -> (&'static str, String) {
    match job.status.as_str() {
        "success" => (GREEN, "success".to_owned()),
        "failed" if job.allow_failure => (YELLOW, "failed (allowed)".to_owned()),
        "failed" => (RED, job.failure_reason.clone().unwrap_or_else(|| "failed".to_owned())),
        other => (YELLOW, other.to_owned()),
    }
}

/// Seconds per phase, as far as times and log tell.
fn phases(job: &Job, sections: &Sections) -> [Option<f64>; 5] {
    let between = |from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>| {
        Some(to?.duration_since(from?).as_secs_f64().max(0.0))
    };
    let begun = sections.start(|name| name == "prepare_executor").or(job.started_at);
    let agent = sections.start(|name| name == "prepare_script").or(job.finished_at);
    [
        between(job.queued_at, begun),
        between(begun, agent),
        sections.seconds(|name| matches!(name, "get_sources" | "download_artifacts")),
        sections.seconds(|name| name.starts_with("step_") || name == "after_script"),
        sections.seconds(|name| name.starts_with("upload_artifacts")),
    ]
}
