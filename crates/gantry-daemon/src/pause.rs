//! Pause pods (`[runners.kubernetes.autoscaler]`): one Deployment for each runner of each manager,
//! of which only the number of pods changes. Everything is decided in memory; the API server is
//! asked when the number changes, and once in [`HEARTBEAT`].

use std::sync::Arc;
use std::time::Duration;

use gantry_config::periods;
use gantry_config::settings::kubernetes::Autoscaler;
use gantry_kube::{ApiError, Fault};
use gantry_plan::ANNOTATION_PAUSE_HEARTBEAT;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::events::{
    LeftPausePodsRemoved, PauseClassNotMade, PausePodsFailed, PausePodsLeft, PausePodsScaled, Said as _,
};
use crate::metrics::of;
use crate::runner::Runner;
use crate::tasks;

/// How often the number is decided (GitLab Runner 19.4).
const LOOK: Duration = Duration::from_secs(10);

/// How often the Deployment is written although nothing has changed: others see that its manager
/// lives, and we how many pods it has.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// How long a Deployment is left alone whose manager says nothing (GitLab Runner 19.4).
const LEFT: i64 = 60 * 60;

/// How often such Deployments are looked for.
const SEARCH: Duration = Duration::from_mins(60);

/// How long a manager that ends waits for the removal.
const REMOVAL: Duration = Duration::from_secs(5);

/// Keeps the pause pods of a runner until it stops, if it should have any; and removes what nobody
/// keeps any more, which only a manager that was killed leaves.
pub(crate) fn keep(runner: &Arc<Runner>, stop: &CancellationToken) {
    let (runner, stop) = (Arc::clone(runner), stop.clone());
    let tracker = runner.shared.jobs.clone();
    tasks::spawn(tracker.track_future(async move {
        let name = gantry_plan::pause_name(&runner.settings, &runner.shared.system_id);
        let before = runner.shared.pause_names.of(name);
        let _only_one = before.lock().await;
        let mut keeper = Keeper::new(&runner);
        // On the heap: it is large, and lives as long as the runner.
        stop.run_until_cancelled(Box::pin(keeper.run())).await;
        keeper.remove().await;
    }));
}

struct Keeper<'r> {
    runner: &'r Runner,
    level: Level,
    /// When the Deployment was written last, and with how many pods.
    written: Option<(Instant, u32)>,
    class: Class,
    /// What went wrong last, which is said once.
    trouble: Option<String>,
}

/// How far the priority class is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Unmade,
    Refused,
    /// It is there, or somebody else's business.
    There,
}

impl<'r> Keeper<'r> {
    fn new(runner: &'r Runner) -> Self {
        Self { runner, level: Level::default(), written: None, class: Class::Unmade, trouble: None }
    }

    async fn run(&mut self) {
        let has_policies = self.has_policies();
        loop {
            let found = self.remove_left().await;
            if !has_policies {
                // Most runners have no such pods and no right to look for them, and need none.
                let may_not = found.is_err_and(|error| error.fault == Fault::Forbidden);
                if may_not {
                    return;
                }
                sleep(SEARCH).await;
                continue;
            }
            if let Err(error) = found {
                self.failed("get_deployment", &error);
            }
            let searched = Instant::now();
            while searched.elapsed() < SEARCH {
                self.turn().await;
                sleep(LOOK).await;
            }
        }
    }

    fn has_policies(&self) -> bool {
        !self.runner.settings.kubernetes.autoscaler.policies.is_empty()
    }

    /// Makes the priority class, unless that has been done.
    async fn make_class(&mut self) {
        let class = gantry_plan::pause_class(&self.runner.settings).filter(|_| self.class != Class::There);
        let Some(class) = class else { return };
        match self.runner.cluster().create_priority_class(&class).await {
            Ok(()) => self.class = Class::There,
            Err(error) => {
                if std::mem::replace(&mut self.class, Class::Refused) == Class::Unmade {
                    PauseClassNotMade(&error).say();
                }
            }
        }
    }

    /// Removes what managers of the fleet have left that are gone.
    ///
    /// # Errors
    /// It cannot be looked for.
    async fn remove_left(&mut self) -> Result<(), ApiError> {
        let (cluster, settings) = (self.runner.cluster(), &self.runner.settings);
        let own = gantry_plan::pause_name(settings, &self.runner.shared.system_id);
        let fleet = self.runner.fleet(cluster.namespace());
        let found = cluster.list_deployments(&gantry_plan::pause_selector()).await?;
        let now = Timestamp::now().as_second();
        for deployment in found.into_iter().filter(|found| gantry_plan::pause_is_of(found, settings, &fleet)) {
            let heartbeat =
                deployment.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION_PAUSE_HEARTBEAT));
            let at = heartbeat.and_then(|text| text.parse::<Timestamp>().ok());
            let name = deployment.metadata.name.unwrap_or_default();
            let is_left = if name == own {
                // An earlier life of this manager has left it.
                !self.has_policies()
            } else {
                at.is_some_and(|at| now - at.as_second() > LEFT)
            };
            if is_left {
                LeftPausePodsRemoved(&name).say();
                if let Err(error) = cluster.delete_deployment(&name).await {
                    self.failed("apply_state", &error);
                }
            } else if name == own && self.written.is_none() {
                // It gets the number of pods of now.
                let pods = deployment.spec.and_then(|spec| spec.replicas).and_then(|pods| u32::try_from(pods).ok());
                self.written = Some((Instant::now(), pods.unwrap_or(0)));
            }
        }
        Ok(())
    }

    async fn turn(&mut self) {
        let shared = &self.runner.shared;
        let autoscaler = &self.runner.settings.kubernetes.autoscaler;
        let jobs = shared.running.count_of(&self.runner.labels);
        let (wanted, idle_time) = wanted(autoscaler, jobs, Timestamp::now(), &TimeZone::system());
        let pods = self.level.next(wanted, idle_time, Instant::now());
        let labels = of(&self.runner.labels);
        shared.metrics.pause_pods_desired.with_label_values(&labels).set(i64::from(pods));
        let is_written = self.written.is_some_and(|(at, written)| written == pods && at.elapsed() < HEARTBEAT);
        if is_written || (self.written.is_none() && pods == 0) {
            return;
        }
        self.make_class().await;
        let heartbeat = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (settings, cluster) = (&self.runner.settings, self.runner.cluster());
        let fleet = self.runner.fleet(cluster.namespace());
        let deployment = gantry_plan::pause_deployment(settings, (&shared.system_id, &fleet), pods, &heartbeat);
        match cluster.apply_deployment(&deployment).await {
            Ok(found) => {
                let ready = found.status.and_then(|status| status.ready_replicas).unwrap_or(0);
                shared.metrics.pause_pods_current.with_label_values(&labels).set(i64::from(ready));
                let before = self.written.replace((Instant::now(), pods)).map_or(0, |(_, before)| before);
                if before != pods {
                    let runner = &self.runner.labels;
                    PausePodsScaled { runner: &runner.name, before, pods, jobs }.tell(&shared.metrics, runner);
                }
                self.trouble = None;
            }
            Err(error) => self.failed("apply_state", &error),
        }
    }

    fn failed(&mut self, reason: &'static str, error: &ApiError) {
        let (runner, text) = (&self.runner.labels, error.to_string());
        let is_said = self.trouble.as_ref() == Some(&text);
        let failed = PausePodsFailed { runner: &runner.name, reason, error, is_said };
        failed.tell(&self.runner.shared.metrics, runner);
        self.trouble = Some(text);
    }

    async fn remove(&mut self) {
        if self.written.is_none() {
            return;
        }
        let name = gantry_plan::pause_name(&self.runner.settings, &self.runner.shared.system_id);
        match timeout(REMOVAL, self.runner.cluster().delete_deployment(&name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.failed("apply_state", &error),
            Err(_) => PausePodsLeft(&name).say(),
        }
    }
}

/// How many pause pods a runner with so many jobs should have now, and how long fewer must have
/// been enough before some go, for a manager whose own zone is `here`.
fn wanted(autoscaler: &Autoscaler, jobs: usize, now: Timestamp, here: &TimeZone) -> (u32, Duration) {
    let policies = autoscaler.policies.iter().rev();
    let is_now =
        |zone: &Option<TimeZone>, list: &[periods::Cron]| periods::contain(list, zone.as_ref().unwrap_or(here), now);
    let Some(policy) = policies.into_iter().find(|policy| is_now(&policy.timezone, &policy.periods)) else {
        return (0, NO_POLICY);
    };
    let jobs = f64::from(u32::try_from(jobs).unwrap_or(u32::MAX));
    let scaled = whole((policy.scale_factor * jobs).ceil());
    let scaled = scaled.min(policy.scale_factor_limit.unwrap_or(u32::MAX));
    let most = autoscaler.max_pause_pods.unwrap_or(u32::MAX);
    (policy.idle_count.max(scaled).min(most), policy.idle_time)
}

/// How long pause pods stay when no policy counts any more (GitLab Runner 19.4).
const NO_POLICY: Duration = Duration::from_mins(5);

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded before")]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// How many there are: more at once, fewer when fewer have been enough for long.
#[derive(Debug, Default)]
struct Level {
    pods: u32,
    fewer_since: Option<Instant>,
}

impl Level {
    fn next(&mut self, wanted: u32, idle_time: Duration, now: Instant) -> u32 {
        let is_fewer = wanted < self.pods;
        let since = if is_fewer { *self.fewer_since.get_or_insert(now) } else { now };
        if !is_fewer || now.saturating_duration_since(since) >= idle_time {
            *self = Self { pods: wanted, fewer_since: None };
        }
        self.pods
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_config::settings::kubernetes::Autoscaler;
    use jiff::tz::TimeZone;
    use tokio::time::Instant;

    use super::{Level, wanted};

    fn autoscaler(more: &str) -> Autoscaler {
        let text = format!(
            "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-x\"\nexecutor = \"kubernetes\"\n\
             [runners.kubernetes.autoscaler]\n{more}"
        );
        let loaded = gantry_config::load(&text, &|_| None).expect("a file");
        assert_eq!((loaded.unusable.len(), loaded.warnings.len()), (0, 0), "{:?}", loaded.warnings);
        loaded.settings.runners.into_iter().next().expect("a runner").kubernetes.autoscaler
    }

    #[test]
    fn policies_say_how_many() {
        let settings = autoscaler(
            "max_pause_pods = 8\n\
             [[runners.kubernetes.autoscaler.policy]]\nidle_count = 1\n\
             [[runners.kubernetes.autoscaler.policy]]\nperiods = [\"* 8-17 * * mon-fri\"]\ntimezone = \"Europe/Berlin\"\n\
             idle_count = 2\nidle_time = \"10m\"\nscale_factor = 0.5\nscale_factor_limit = 5\n",
        );
        // 2026-11-30 is a Monday, and Berlin an hour ahead.
        for (now, jobs, expected) in [
            ("2026-11-30T06:59:59Z", 30, (1, 5)),
            ("2026-11-30T07:00:00Z", 0, (2, 10)),
            ("2026-11-30T07:00:00Z", 5, (3, 10)),
            ("2026-11-30T07:00:00Z", 30, (5, 10)),
            ("2026-11-29T07:00:00Z", 30, (1, 5)),
        ] {
            let (pods, idle_time) = wanted(&settings, jobs, now.parse().expect("a time"), &TimeZone::UTC);
            assert_eq!((pods, idle_time.as_secs() / 60), expected, "{now} {jobs}");
        }
        let bounded = autoscaler("max_pause_pods = 3\n[[runners.kubernetes.autoscaler.policy]]\nscale_factor = 2\n");
        let (pods, _) = wanted(&bounded, 30, jiff::Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert_eq!(pods, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_more_at_once_and_fewer_after_a_while() {
        let (mut level, start, minute) = (Level::default(), Instant::now(), Duration::from_mins(1));
        let mut at = |wanted, minutes: u32| level.next(wanted, 5 * minute, start + minutes * minute);
        assert_eq!([at(3, 0), at(1, 1), at(1, 5)], [3, 3, 3]);
        assert_eq!(at(3, 5), 3, "as many as before start the time anew");
        assert_eq!([at(2, 6), at(1, 10), at(2, 11), at(0, 12)], [3, 3, 2, 2]);
        assert_eq!(at(7, 12), 7);
    }
}
