//! Whether a job has waited in GitLab for longer than its runner's operator accepts
//! (`[[runners.monitoring.job_queuing_durations]]`).

use gantry_config::periods;
use gantry_config::settings::runner::QueuingDuration;
use gantry_core::job::JobInfo;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Asks the entry that counts `now`, for a manager whose own zone is `here`: the last one in the
/// file whose periods are now. If that is not about the job's project, no other is asked, as in
/// GitLab Runner 19.4.
pub(crate) fn is_exceeded(entries: &[QueuingDuration], job: &JobInfo, now: Timestamp, here: &TimeZone) -> bool {
    let is_now =
        |entry: &&QueuingDuration| periods::contain(&entry.periods, entry.timezone.as_ref().unwrap_or(here), now);
    let Some(entry) = entries.iter().rev().find(is_now) else { return false };
    let running = job.project_jobs_running_on_instance_runners_count.as_str();
    let is_meant = entry.jobs_running_for_project.as_ref().is_none_or(|pattern| pattern.matches(running));
    is_meant && job.time_in_queue_seconds > entry.threshold.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use gantry_config::settings::runner::QueuingDuration;
    use gantry_core::job::JobInfo;
    use jiff::tz::TimeZone;

    use super::is_exceeded;

    fn entries() -> Vec<QueuingDuration> {
        let text = r#"
            [[runners]]
              url = "https://gitlab.example.com"
              token = "glrt-x"
              executor = "kubernetes"
              [[runners.monitoring.job_queuing_durations]]
                periods = ["* * * * *"]
                threshold = "30m"
              [[runners.monitoring.job_queuing_durations]]
                periods = ["* 9-16 * * mon-fri", "0 20 * * *"]
                timezone = "Europe/Berlin"
                threshold = "90s"
                jobs_running_for_project = "^(0|1)$"
        "#;
        let loaded = gantry_config::load(text, &|_| None).expect("a file");
        assert_eq!((loaded.unusable.len(), loaded.warnings.len()), (0, 0), "{:?}", loaded.warnings);
        loaded.settings.runners.into_iter().next().expect("a runner").queuing_durations
    }

    #[test]
    fn the_last_entry_that_counts_now_is_asked() {
        // 2026-11-30 is a Monday, and Berlin an hour ahead.
        for (now, running, waited, expected) in [
            ("2026-11-30T08:00:00Z", "0", 90.0, false),
            ("2026-11-30T08:00:00Z", "0", 90.5, true),
            ("2026-11-30T08:00:00Z", "10", 9000.0, false),
            ("2026-11-30T16:00:00Z", "0", 91.0, false),
            ("2026-11-30T16:00:00Z", "10", 1801.0, true),
            ("2026-11-29T08:00:00Z", "0", 91.0, false),
            ("2026-11-29T19:00:30Z", "1", 91.0, true),
        ] {
            let job = JobInfo {
                time_in_queue_seconds: waited,
                project_jobs_running_on_instance_runners_count: running.to_owned(),
                ..JobInfo::default()
            };
            let time = now.parse().expect("a time");
            assert_eq!(is_exceeded(&entries(), &job, time, &TimeZone::UTC), expected, "{now} {running} {waited}");
        }
    }

    #[test]
    fn without_entries_nothing_is_exceeded() {
        let job = JobInfo { time_in_queue_seconds: f64::MAX, ..JobInfo::default() };
        assert!(!is_exceeded(&[], &job, jiff::Timestamp::UNIX_EPOCH, &TimeZone::UTC));
    }
}
