//! The many settings of `gantry sim gitlab` that only testers of runners change: the
//! administrator's, and the times of the protocol. Only arguments: what they mean is in the
//! simulator.

use std::time::Duration;

use clap::Args;
use gantry_sim_gitlab::{CloneToken, RateLimits, Settings, Timing, TokenAccess};

/// What the administrator of a GitLab sets.
#[derive(Debug, Args)]
#[command(next_help_heading = "What an administrator sets")]
pub(crate) struct SettingsArgs {
    /// Let jobs of OTHER clone PROJECT; by default a job can clone its own project only. May be
    /// repeated
    #[arg(long = "allow-job-token", value_name = "PROJECT=OTHER", value_parser = token_access)]
    token_access: Vec<TokenAccess>,
    /// Access token that may clone PROJECT, with any user name; may be repeated
    #[arg(long = "clone-token", value_name = "TOKEN=PROJECT", value_parser = clone_token)]
    clone_tokens: Vec<CloneToken>,
    /// Personal access token that resets runner tokens by id
    #[arg(long, value_name = "glpat-…")]
    access_token: Option<String>,
    /// How long runner tokens live, such as 10m; for ever if absent
    #[arg(long, value_name = "TIME", value_parser = duration)]
    runner_token_lifetime: Option<Duration>,
    /// Requests for jobs per minute and runner token; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = RateLimits::default().job_requests)]
    rate_job_requests: u32,
    /// Parts of a log per minute and job token; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = RateLimits::default().log_patches)]
    rate_log_patches: u32,
    /// Other requests about a job per minute and job token; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = RateLimits::default().job_updates)]
    rate_job_updates: u32,
    /// Largest log; a job with a larger one is dropped
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().log_limit)]
    log_limit: u64,
    /// Largest artifact
    #[arg(long, value_name = "BYTES", default_value_t = Settings::default().artifact_limit)]
    artifact_limit: u64,
    /// Refuse artifacts (405)
    #[arg(long)]
    no_artifacts: bool,
    /// Answer direct downloads of artifacts with a redirect to an object storage
    #[arg(long)]
    object_storage: bool,
    /// Ask for the whole log again if its checksum is wrong (412), as older versions did
    #[arg(long)]
    reset_broken_logs: bool,
}

impl SettingsArgs {
    pub(crate) fn settings(self) -> Settings {
        Settings {
            rate_limits: RateLimits {
                job_requests: self.rate_job_requests,
                log_patches: self.rate_log_patches,
                job_updates: self.rate_job_updates,
            },
            log_limit: self.log_limit,
            artifact_limit: self.artifact_limit,
            artifacts: !self.no_artifacts,
            object_storage: self.object_storage,
            reset_broken_logs: self.reset_broken_logs,
            runner_token_lifetime: self.runner_token_lifetime,
            access_token: self.access_token,
            token_access: self.token_access,
            clone_tokens: self.clone_tokens,
        }
    }
}

/// Times of the protocol.
#[derive(Debug, Args)]
#[command(next_help_heading = "Times, such as 90, 1.5s, 200ms, 15m or 1h; the defaults are GitLab's")]
pub(crate) struct TimingArgs {
    /// Longest hold of a request for jobs [default: 50s, and not more]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    long_poll: Option<Duration>,
    /// A job that is handed out and not acknowledged fails after this, and is tried again [default:
    /// 2m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    acknowledge_within: Option<Duration>,
    /// Pause between parts of a log that somebody reads [default: 3s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    watched_interval: Option<Duration>,
    /// Pause between parts of a log that nobody reads [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_interval: Option<Duration>,
    /// How long a log counts as read after it was read [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    watched_for: Option<Duration>,
    /// How long a final state waits for the rest of the log [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    final_wait: Option<Duration>,
    /// A running job is dropped when nothing was noted of it for so long [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    silence: Option<Duration>,
    /// How often signs of life are noted [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    note_every: Option<Duration>,
    /// A job is dropped so long after its time-out [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    overtime: Option<Duration>,
    /// How long a job's token outlives its time-out [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    token_leeway: Option<Duration>,
    /// A job that no runner could take fails after this [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pending_unmatched: Option<Duration>,
    /// A job that no runner took fails after this [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pending_matched: Option<Duration>,
    /// A final state is answered 202 so long after the last part of the log [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    log_flush: Option<Duration>,
    /// How long a part of a log locks it; another part meanwhile is answered 409 [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    log_write: Option<Duration>,
}

impl TimingArgs {
    pub(crate) fn timing(&self) -> Timing {
        let usual = Timing::default();
        Timing {
            long_poll: self.long_poll.unwrap_or(usual.long_poll),
            acknowledge_within: self.acknowledge_within.unwrap_or(usual.acknowledge_within),
            trace_interval_watched: self.watched_interval.unwrap_or(usual.trace_interval_watched),
            trace_interval_idle: self.idle_interval.unwrap_or(usual.trace_interval_idle),
            watched_for: self.watched_for.unwrap_or(usual.watched_for),
            final_wait: self.final_wait.unwrap_or(usual.final_wait),
            silence: self.silence.unwrap_or(usual.silence),
            note_every: self.note_every.unwrap_or(usual.note_every),
            overtime: self.overtime.unwrap_or(usual.overtime),
            token_leeway: self.token_leeway.unwrap_or(usual.token_leeway),
            pending_unmatched: self.pending_unmatched.unwrap_or(usual.pending_unmatched),
            pending_matched: self.pending_matched.unwrap_or(usual.pending_matched),
            log_flush: self.log_flush.unwrap_or(usual.log_flush),
            log_write: self.log_write.unwrap_or(usual.log_write),
        }
    }
}

fn token_access(text: &str) -> Result<TokenAccess, String> {
    match text.split_once('=') {
        Some((project, by)) if !project.is_empty() && !by.is_empty() => {
            Ok(TokenAccess { project: project.to_owned(), by: by.to_owned() })
        }
        _ => Err("write PROJECT=OTHER, such as group/library=group/app".to_owned()),
    }
}

fn clone_token(text: &str) -> Result<CloneToken, String> {
    match text.split_once('=') {
        Some((token, project)) if !token.is_empty() && !project.is_empty() => {
            Ok(CloneToken { token: token.to_owned(), project: project.to_owned() })
        }
        _ => Err("write TOKEN=PROJECT, such as glpat-mine=group/library".to_owned()),
    }
}

/// Longest time that can be given: a year. Longer ones would only make sums of times overflow.
const LONGEST: f64 = 366.0 * 24.0 * 3600.0;

/// A number with a unit; without one it is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number of seconds, or one with ms, s, m or h behind it".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "write a number, such as 90 or 1.5s".to_owned())?;
    let seconds = number * factor;
    if seconds > LONGEST {
        return Err("at most a year".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, milliseconds) in
            [("90", 90_000), ("1.5s", 1500), ("200ms", 200), ("15m", 900_000), ("1 h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "-1", "1d", "1.2.3s", "99999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
