//! The table at the end: how each job ended, and where its time went.

use std::fmt::Write as _;

use super::api::{Job, Pipeline};
use super::log_view::{LogView, Sections};
use super::shown_text::elided;
use super::world::Images;
use crate::style::Style;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";

/// Columns with times.
const PHASES: [&str; 5] = ["queue", "pod start", "sources", "script", "upload"];

/// With what a shell ends that has not found a command.
const NOT_FOUND: i64 = 127;

/// Narrowest column of results; no reason of a failure is cut, as people look for it.
const RESULT_WIDTH: usize = 18;

/// Widest column of names.
const WIDEST_NAME: usize = 32;

/// One line per job, and one for the pipeline.
pub(super) fn table(pipeline: &Pipeline, view: &LogView, images: Images, style: Style) -> String {
    let jobs: Vec<&Job> = pipeline.jobs.iter().filter(|job| !job.retried).collect();
    let longest = |text: fn(&Job) -> &str, title: usize| {
        jobs.iter().map(|job| text(job).chars().count()).chain([title]).max().unwrap_or(title)
    };
    let (width, stage_width) =
        (longest(|job| &job.name, 3).min(WIDEST_NAME), longest(|job| &job.stage, 5).min(WIDEST_NAME));
    let result_width = jobs.iter().map(|job| result(job).1.chars().count()).max().unwrap_or(0).max(RESULT_WIDTH);
    let mut head = format!("{:<width$}  {:<stage_width$}  {:<result_width$}", "job", "stage", "result");
    for phase in PHASES {
        let _ = write!(head, "  {phase:>9}");
    }
    let mut text = format!("\n{}\n", style.paint(BOLD, &head));
    for job in jobs {
        let (colour, result) = result(job);
        let result = style.paint(colour, &format!("{result:<result_width$}"));
        // A name that is longer than its column has a line of its own, so that the columns stay
        // where they are.
        let name = if job.name.chars().count() > width {
            let _ = writeln!(text, "{}", job.name);
            ""
        } else {
            &job.name
        };
        let _ = write!(text, "{name:<width$}  {:<stage_width$}  {result}", elided(&job.stage, stage_width));
        let phases = if job.downstream.is_some() { [None; 5] } else { phases(job, &view.sections(job.id)) };
        for seconds in phases {
            let shown = seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2} s"));
            let _ = write!(text, "  {shown:>9}");
        }
        text.push('\n');
    }
    let notes = pipeline.jobs.iter().filter(|job| !job.retried).filter_map(|job| Some((job, job.note.as_ref()?)));
    for (number, (job, note)) in notes.enumerate() {
        let _ = writeln!(text, "{}{}: {note}", if number == 0 { "\n" } else { "" }, job.name);
    }
    for job in pipeline.jobs.iter().filter(|job| !job.retried) {
        if let Some(coverage) = job.coverage {
            let _ = writeln!(text, "{}: coverage {coverage} %", job.name);
        }
    }
    for job in pipeline.jobs.iter().filter(|job| !job.retried && job.attempt > 0) {
        let _ = writeln!(text, "{}: this was try {}", job.name, job.attempt + 1);
    }
    if images == Images::Names {
        text.push_str(&not_found(pipeline));
    }
    let colour = if pipeline.status == "success" { GREEN } else { RED };
    let _ = write!(text, "\nPipeline: {}{}\n", style.paint(colour, &pipeline.status), failures(pipeline, style));
    if pipeline.status == "manual" {
        text.push_str("It has a manual job that nobody has started: --manual starts such jobs, --job NAME one, and the page of --serve has a button.\n");
    }
    text
}

/// The failures that the word for the whole pipeline does not tell of: one that waits for a person
/// is "manual" in any case.
fn failures(pipeline: &Pipeline, style: Style) -> String {
    let counts = |job: &&Job| !job.retried && job.status == "failed" && !job.allow_failure;
    let names: Vec<&str> = pipeline.jobs.iter().filter(counts).map(|job| job.name.as_str()).collect();
    if names.is_empty() || pipeline.status == "failed" {
        return String::new();
    }
    format!(", {}", style.paint(RED, &format!("and failed: {}", names.join(", "))))
}

/// What to do about commands that an image may have and this machine has not.
fn not_found(pipeline: &Pipeline) -> String {
    let lacks = |job: &&Job| !job.retried && job.exit_code == Some(NOT_FOUND) && job.image.is_some();
    let names: Vec<&str> = pipeline.jobs.iter().filter(lacks).map(|job| job.name.as_str()).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(
        "\n{}: a command was not found. Images are only names here: install what has it, or run the jobs in their images (--images)\n",
        names.join(", ")
    )
}

/// How a job ended, and the colour of that.
pub(super) fn result(job: &Job) -> (&'static str, String) {
    match job.status.as_str() {
        "success" => (GREEN, "success".to_owned()),
        "failed" if job.allow_failure => (YELLOW, "failed (allowed)".to_owned()),
        "skipped" if job.note.is_some() => (YELLOW, "not run here".to_owned()),
        "running" if job.is_child_over => (YELLOW, "its child waits".to_owned()),
        "created" => (YELLOW, "waits for another".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_table_has_no_escape_sequences() {
        let jobs = vec![Job::sample("unit", "success"), Job::sample("a longer name", "failed")];
        let pipeline = Pipeline { status: "failed".to_owned(), jobs };
        let table = |style| table(&pipeline, &LogView::new(style), Images::Names, style);
        assert!(!table(Style::Plain).contains('\x1b') && table(Style::Colours).contains('\x1b'));
        let plain = table(Style::Plain);
        let lines: Vec<&str> = plain.lines().collect();
        assert!(lines[2].starts_with("unit           test   success "), "{plain}");
        assert_eq!(lines.last(), Some(&"Pipeline: failed"));
    }

    #[test]
    fn a_command_that_is_only_in_an_image_is_explained() {
        let job = |name: &str, exit_code, image: Option<&str>| Job {
            exit_code: Some(exit_code),
            image: image.map(str::to_owned),
            ..Job::sample(name, "failed")
        };
        let jobs = vec![
            job("lint", 127, Some("alpine")),
            job("unit", 1, Some("alpine")),
            job("own", 127, None),
            job("doc", 127, Some("a")),
        ];
        let pipeline = Pipeline { status: "failed".to_owned(), jobs };
        let table = |images| table(&pipeline, &LogView::new(Style::Plain), images, Style::Plain);
        let said = table(Images::Names);
        assert!(said.contains("\nlint, doc: a command was not found. Images are only names here"), "{said}");
        assert!(!table(Images::Here).contains("was not found"), "the image has no such command");
    }

    #[test]
    fn long_names_leave_the_columns_where_they_are() {
        let long = "compile: [linux, amd64, release, with everything]";
        let jobs = vec![Job::sample("unit", "success"), Job::sample(long, "success")];
        let pipeline = Pipeline { status: "success".to_owned(), jobs };
        let table = table(&pipeline, &LogView::new(Style::Plain), Images::Names, Style::Plain);
        let lines: Vec<&str> = table.lines().collect();
        let column = |line: &str| line.find("test ");
        assert_eq!(lines[3], long, "the whole name is there to be copied: {table}");
        assert!(column(lines[2]).is_some() && column(lines[2]) == column(lines[4]), "{table}");
        assert_eq!(elided(long, 20), "compile: […erything]");
        assert_eq!((elided("ärger", 5).as_str(), elided("ärgern", 5).as_str()), ("ärger", "är…rn"));
    }

    #[test]
    fn long_reasons_leave_the_columns_where_they_are() {
        let mut jobs = vec![Job::sample("unit", "failed"), Job::sample("lint", "success")];
        jobs[0].failure_reason = Some("runner_external_dependency_failure".to_owned());
        let pipeline = Pipeline { status: "failed".to_owned(), jobs };
        let table = table(&pipeline, &LogView::new(Style::Plain), Images::Names, Style::Plain);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].len() == lines[2].len() && lines[2].len() == lines[3].len(), "{table}");
    }

    #[test]
    fn a_failure_is_told_of_a_pipeline_that_waits() {
        let jobs = [("unit", "failed"), ("gate", "manual")].map(|(name, status)| Job::sample(name, status));
        let allowed = Job { allow_failure: true, ..Job::sample("lint", "failed") };
        let jobs = jobs.into_iter().chain([allowed]).collect();
        let pipeline = Pipeline { status: "manual".to_owned(), jobs };
        let table = table(&pipeline, &LogView::new(Style::Plain), Images::Names, Style::Plain);
        assert!(table.contains("\nPipeline: manual, and failed: unit\n"), "{table}");
    }

    #[test]
    fn a_pipeline_behind_a_manual_job_is_over() {
        let jobs = [("build", "success"), ("gate", "manual"), ("deploy", "created")];
        let mut pipeline =
            Pipeline { status: "manual".to_owned(), jobs: jobs.map(|(name, status)| Job::sample(name, status)).into() };
        assert!(pipeline.is_over());
        let table = table(&pipeline, &LogView::new(Style::Plain), Images::Names, Style::Plain);
        assert!(table.contains("test   waits for another") && table.contains("Pipeline: manual\n"), "{table}");
        pipeline.jobs.push(Job::sample("other", "running"));
        assert!(!pipeline.is_over());
    }

    #[test]
    fn a_job_that_is_not_run_here_is_none_that_was_skipped() {
        let job: Job = serde_json::from_value(serde_json::json!({
            "id": 1, "name": "down", "stage": "test", "status": "skipped", "trace_bytes": 0, "note": "not run here: why",
        }))
        .unwrap();
        let pipeline = Pipeline { status: "skipped".to_owned(), jobs: vec![job] };
        let table = table(&pipeline, &LogView::new(Style::Plain), Images::Names, Style::Plain);
        assert!(table.contains("test   not run here "), "{table}");
        assert!(table.contains("\n\ndown: not run here: why\n\nPipeline: skipped\n"), "{table}");
    }
}
