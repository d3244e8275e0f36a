//! Pause pods (`[runners.kubernetes.autoscaler]`): one Deployment for each runner of each manager,
//! of which only the number of pods changes. Everything is decided in memory; the API server is
//! asked when the number changes, and once in [`HEARTBEAT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_config::settings::kubernetes::Autoscaler;
use gantry_config::{RunnerSettings, periods};
use gantry_kube::{ApiError, Fault};
use gantry_plan::ANNOTATION_PAUSE_HEARTBEAT;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::events::{
    LeftPausePodsRemoved, PauseClassNotMade, PausePodsFailed, PausePodsLeft, PausePodsScaled, Said as _,
};
use crate::member::Shared;
use crate::metrics::of;
use crate::runner::Runner;
use crate::tasks;

/// How often the number is decided (GitLab Runner 19.4).
const LOOK: Duration = Duration::from_secs(10);

/// How often the Deployment is written although nothing has changed: others see that its manager
/// lives, and we how many pods it has.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// How long a Deployment is left alone whose manager says nothing (GitLab Runner 19.4).
const LEFT: Duration = Duration::from_mins(60);

/// How often such Deployments are looked for.
const SEARCH: Duration = Duration::from_mins(60);

/// How long a manager that ends waits for the removal.
const REMOVAL: Duration = Duration::from_secs(5);

/// From now on these are all entries: what one without policies finds under its name may be that
/// of another with the same token, also before that one runs.
pub(crate) fn expect<'a>(shared: &Shared, entries: impl Iterator<Item = &'a RunnerSettings>) {
    let with_policies = entries.filter(|settings| has_policies(settings));
    shared.pause_names.want(with_policies.map(|settings| kept_name(shared, settings)));
}

/// Keeps the pause pods of a runner until it stops, if it should have any; and removes what nobody
/// keeps any more, which only a manager that was killed leaves, as long as it may list Deployments.
pub(crate) fn keep(runner: &Arc<Runner>, stop: &CancellationToken) {
    let (runner, stop) = (Arc::clone(runner), stop.clone());
    // Not among the jobs: a manager that has none is idle, whatever it keeps.
    let tracker = runner.shared.pause_keepers.clone();
    // Its last words about the pods come before its series are forgotten.
    let known = runner.shared.running.knows(&runner.labels, &runner.shared.metrics);
    tasks::spawn(tracker.track_future(async move {
        let mut keeper = Keeper::new(&runner);
        // On the heap, as `run` is: both are large, and live as long as the runner.
        if !has_policies(&runner.settings) {
            drop(known);
            stop.run_until_cancelled(Box::pin(keeper.search())).await;
            return;
        }
        let kept = keeper.kept();
        let Some(_only_one) = stop.run_until_cancelled(kept.lock()).await else { return };
        stop.run_until_cancelled(Box::pin(keeper.run())).await;
        keeper.remove().await;
        drop(known);
    }));
}

fn has_policies(settings: &RunnerSettings) -> bool {
    !settings.kubernetes.autoscaler.policies.is_empty()
}

/// The Deployment of an entry, which is also that of others with its token in its namespace.
fn kept_name(shared: &Shared, settings: &RunnerSettings) -> String {
    let host = settings.kubernetes.host.as_deref().unwrap_or_default();
    let namespace = gantry_plan::namespace(&settings.kubernetes).name;
    format!("{host} {namespace} {}", gantry_plan::pause_name(settings, &shared.system_id))
}

struct Keeper<'r> {
    runner: &'r Runner,
    level: Level,
    heartbeats: Heartbeats,
    /// When the Deployment was written last, and with how many pods.
    written: Option<(Instant, u32)>,
    /// It was asked for, and may be there although no answer has come.
    may_exist: bool,
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
        Self {
            runner,
            level: Level::default(),
            heartbeats: Heartbeats::default(),
            written: None,
            may_exist: false,
            class: Class::Unmade,
            trouble: None,
        }
    }

    /// What to hold while one looks after the Deployment.
    fn kept(&self) -> Arc<Mutex<()>> {
        self.runner.shared.pause_names.of(kept_name(&self.runner.shared, &self.runner.settings))
    }

    /// What a runner without policies does. Most of them may not look for Deployments,
    /// and need none.
    async fn search(&mut self) {
        let kept = self.kept();
        loop {
            let found = {
                // Not while another entry makes and counts them. That one searches as well.
                let _only_one = kept.lock().await;
                self.remove_left().await
            };
            if found.is_err_and(|error| error.fault == Fault::Forbidden) {
                return;
            }
            sleep(SEARCH).await;
        }
    }

    async fn run(&mut self) {
        loop {
            if let Err(error) = self.remove_left().await {
                self.failed("get_deployment", &error);
            }
            let searched = Instant::now();
            while searched.elapsed() < SEARCH {
                self.turn().await;
                sleep(LOOK).await;
            }
        }
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
        let found: Vec<_> =
            found.into_iter().filter(|found| gantry_plan::pause_is_of(found, settings, &fleet)).collect();
        let shared = &self.runner.shared;
        let is_wanted = shared.pause_names.is_wanted(&kept_name(shared, settings));
        let now = Instant::now();
        let heartbeats = found.iter().filter_map(|found| {
            let text = found.metadata.annotations.as_ref()?.get(ANNOTATION_PAUSE_HEARTBEAT)?;
            Some((found.metadata.name.as_deref()?, text.as_str()))
        });
        self.heartbeats.look(heartbeats, now);
        for deployment in found {
            let name = deployment.metadata.name.unwrap_or_default();
            let is_left = if name == own {
                // An earlier life of this manager has left it.
                !is_wanted
            } else {
                self.heartbeats.are_silent(&name, now)
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
        let has_none = self.written.is_none() && !self.may_exist;
        if is_written || (has_none && pods == 0) {
            return;
        }
        self.make_class().await;
        let heartbeat = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let (settings, cluster) = (&self.runner.settings, self.runner.cluster());
        let fleet = self.runner.fleet(cluster.namespace());
        let deployment = gantry_plan::pause_deployment(settings, (&shared.system_id, &fleet), pods, &heartbeat);
        let may_exist = std::mem::replace(&mut self.may_exist, true);
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
            Err(error) => {
                self.may_exist = may_exist || error.fault.is_transient();
                self.failed("apply_state", &error);
            }
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
        if self.written.is_none() && !self.may_exist {
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

/// What managers have said last of their Deployments, and since when that is the same by our own
/// clock: theirs may be wrong.
#[derive(Debug, Default)]
struct Heartbeats(BTreeMap<String, (String, Instant)>);

impl Heartbeats {
    /// These are all there are now, by name.
    fn look<'a>(&mut self, found: impl Iterator<Item = (&'a str, &'a str)>, now: Instant) {
        let mut before = std::mem::take(&mut self.0);
        for (name, text) in found {
            let same = before.remove(name).filter(|(before, _)| before == text);
            self.0.insert(name.to_owned(), same.unwrap_or_else(|| (text.to_owned(), now)));
        }
    }

    /// Whether this one's manager has said nothing for [`LEFT`].
    fn are_silent(&self, name: &str, now: Instant) -> bool {
        self.0.get(name).is_some_and(|(_, since)| now.saturating_duration_since(*since) >= LEFT)
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
mod tests;
