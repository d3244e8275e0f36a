//! `[runners.kubernetes.autoscaler]`: pods that do nothing and keep room on nodes for those of
//! jobs.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::declare::table;
use crate::key::Form;
use crate::kinds::{crons, custom, duration_or, object_names, positive, switch, tables, text_or, time_zone};
use crate::periods::Cron;
use crate::problem::Severity;
use crate::section::Section;

/// The class that pause pods have where no other is named; the runner makes it (GitLab Runner
/// 19.4).
pub const PAUSE_CLASS: &str = "gitlab-runner-idle-capacity";

table! {
    /// `[runners.kubernetes.autoscaler]`. Without a policy there are no pause pods.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Autoscaler {
        /// Most pause pods at once.
        max_pause_pods: Option<u32> = positive("max_pause_pods");
        /// Image of pause pods.
        pause_pod_image: String = text_or("pause_pod_image", "registry.k8s.io/pause:3.10");
        /// Priority class of pause pods, which must be lower than that of job pods. The default is
        /// made with the value -1 where it is missing and the runner may `create` priority classes.
        pause_pod_priority_class_name: String = text_or("pause_pod_priority_class_name", PAUSE_CLASS);
        /// Names of Secrets with registry credentials for pause pods.
        pause_pod_image_pull_secrets: Vec<String> = object_names("pause_pod_image_pull_secrets");
        /// How many pause pods there are and when: of those whose periods are now the last one
        /// counts.
        policies: Vec<PausePolicy> = tables("policy");
    }
}

table! {
    /// An entry of `[[runners.kubernetes.autoscaler.policy]]`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct PausePolicy {
        /// When the entry counts, as cron expressions like those of `job_queuing_durations`;
        /// without any always.
        periods: Vec<Cron> = crons("periods");
        /// The zone of the periods, such as `Europe/Berlin`; without it that of the runner.
        timezone: Option<TimeZone> = time_zone("timezone");
        /// Pause pods at least.
        idle_count: u32 = custom("idle_count", Form::Positive, "0", |section: &Section<'_>, key| {
            section.positive(key).unwrap_or(0)
        });
        /// How long fewer pause pods must have been enough before some are removed.
        idle_time: Duration = duration_or("idle_time", Duration::from_mins(5));
        /// Pause pods for each running job of the runner, rounded up; 0 for none beyond
        /// `idle_count`.
        scale_factor: f64 = custom("scale_factor", Form::Decimal, "0", scale_factor);
        /// Most pause pods that `scale_factor` asks for.
        scale_factor_limit: Option<u32> = positive("scale_factor_limit");
    }
    unread {
        /// Prefer idle machines.
        switch("preemptive_mode").never("pause pods always give way to job pods");
    }
}

fn scale_factor(section: &Section<'_>, key: &'static str) -> f64 {
    let factor = section.decimal(key).unwrap_or(0.0);
    if !(0.0..=MOST).contains(&factor) {
        section.problem(Severity::Error, key, format!("{factor} is not from 0 to {MOST}"));
        return 0.0;
    }
    factor
}

/// A hundred pause pods for each job are a mistake.
const MOST: f64 = 100.0;
