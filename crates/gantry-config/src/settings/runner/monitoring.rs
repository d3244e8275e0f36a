//! `[[runners.monitoring.job_queuing_durations]]`: how long jobs may wait in GitLab.

use std::time::Duration;

use jiff::tz::TimeZone;
use regex::Regex;

use crate::declare::table;
use crate::key::Form;
use crate::kinds::{custom, duration_or};
use crate::periods::{self, Cron};
use crate::problem::Severity;
use crate::section::Section;

table! {
    /// An entry of `[[runners.monitoring.job_queuing_durations]]`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct QueuingDuration {
        /// When the entry counts: cron expressions with five fields, with the year behind them, or
        /// with seconds before and the year behind them. Without any it always does.
        periods: Vec<Cron> = custom("periods", Form::Texts, "", always_or_crons);
        /// The zone of the periods, such as `Europe/Berlin`; without it that of the runner.
        timezone: Option<TimeZone> = custom("timezone", Form::Text, "", timezone);
        /// The longest time that is accepted.
        threshold: Duration = duration_or("threshold", Duration::ZERO);
        /// The entry counts for jobs only of whose project so many run: what GitLab says of that,
        /// such as `5` or `50+`, matches this expression. Without it for all jobs.
        jobs_running_for_project: Option<Pattern> =
            custom("jobs_running_for_project", Form::Pattern, "", jobs_running);
    }
}

/// A regular expression. Two are equal that are written alike.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether some part of a text matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

pub(in crate::settings) fn always_or_crons(section: &Section<'_>, key: &'static str) -> Vec<Cron> {
    if section.find(key).is_none() && section.is_present() {
        return Cron::parse("* * * * *").into_iter().collect();
    }
    let mut list = Vec::new();
    for found in section.items(key, "a list of cron expressions") {
        let Some(text) = found.text() else { continue };
        match Cron::parse(&text) {
            Ok(cron) => list.push(cron),
            Err(error) => found.problem(Severity::Error, format!("{text:?} {}", described(&error))),
        }
    }
    list
}

fn described(error: &periods::CronError) -> String {
    match error {
        periods::CronError::Fields(_) => error.to_string(),
        periods::CronError::Part { .. } => format!("is no cron expression: {error}"),
    }
}

pub(in crate::settings) fn timezone(section: &Section<'_>, key: &'static str) -> Option<TimeZone> {
    let name = section.text(key)?;
    let zone = periods::zone(&name);
    if zone.is_none() {
        section.problem(Severity::Error, key, format!("{name:?} is no time zone such as Europe/Berlin or UTC"));
    }
    zone
}

fn jobs_running(section: &Section<'_>, key: &'static str) -> Option<Pattern> {
    let text = section.text(key)?;
    let pattern = Regex::new(&text).ok();
    if pattern.is_none() {
        section.problem(Severity::Error, key, format!("{text:?} is not a regular expression"));
    }
    pattern.map(Pattern)
}
