//! `[[runners.monitoring.job_queuing_durations]]`: how long jobs may wait in GitLab.

use std::time::Duration;

use jiff::tz::TimeZone;
use regex::Regex;

use crate::declare::table;
use crate::key::Form;
use crate::kinds::{crons, custom, duration_or, time_zone};
use crate::periods::Cron;
use crate::problem::Severity;
use crate::section::Section;

table! {
    /// An entry of `[[runners.monitoring.job_queuing_durations]]`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct QueuingDuration {
        /// When the entry counts: cron expressions with five fields, with the year behind them, or
        /// with seconds before and the year behind them; with names (`mon`, `monday`, `jan`), the
        /// last day or working day (`L`, `LW`), the working day nearest to one (`15W`), the last or
        /// third Friday (`5L`, `5#3`), or a word for them (`@daily`). Without any it always does.
        periods: Vec<Cron> = crons("periods");
        /// The zone of the periods, such as `Europe/Berlin`; without it that of the runner.
        timezone: Option<TimeZone> = time_zone("timezone");
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

fn jobs_running(section: &Section<'_>, key: &'static str) -> Option<Pattern> {
    let text = section.text(key)?;
    let pattern = Regex::new(&text).ok();
    if pattern.is_none() {
        section.problem(Severity::Error, key, format!("{text:?} is not a regular expression"));
    }
    pattern.map(Pattern)
}
