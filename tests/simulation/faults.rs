//! Accidents at random moments: to managers, pods, connections and networks, and the people who
//! cancel jobs.

use std::sync::Arc;
use std::time::Duration;

use gantry_daemon::Life;
use gantry_wire::layout::{BUILD, HELPER};
use http::Method;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::{Held, Wire};
use crate::gitlab::{Desk, Line};
use crate::ledger::{Harm, Ledger};
use crate::managers::Manager;
use crate::office::Office;
use crate::pipe::Switch;
use crate::pods::Pod;
use crate::tasks;

/// Managers that run at once.
const MANAGERS: usize = 3;

/// Exit code of what the kernel kills.
const KILLED: i32 = 137;

/// What can happen in a world, besides bad weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillManager,
    TerminateManager,
    DrainManager,
    AddManager,
    CutExec,
    StallExec,
    CloseWatches,
    StallWatches,
    DeletePod,
    EvictPod,
    KillHelper,
    KillBuild,
    OutOfMemory,
    Cancel,
    CancelByForce,
    GitlabAway,
    ClusterAway,
    FreezeManager,
    CutAllExecs,
    GitlabStorm,
    GitlabSlow,
    ClusterLongAway,
    BothAway,
}

/// What only some worlds have, beside the others.
pub(crate) const HARDSHIPS: [Fault; 6] = [
    Fault::FreezeManager,
    Fault::CutAllExecs,
    Fault::GitlabStorm,
    Fault::GitlabSlow,
    Fault::ClusterLongAway,
    Fault::BothAway,
];

/// Answers of a GitLab that is in trouble, or of whatever stands before it.
const STORMS: [u16; 6] = [500, 502, 503, 403, 429, 409];

/// All that every world may have.
pub(crate) const FAULTS: [Fault; 17] = [
    Fault::KillManager,
    Fault::TerminateManager,
    Fault::DrainManager,
    Fault::AddManager,
    Fault::CutExec,
    Fault::StallExec,
    Fault::CloseWatches,
    Fault::StallWatches,
    Fault::DeletePod,
    Fault::EvictPod,
    Fault::KillHelper,
    Fault::KillBuild,
    Fault::OutOfMemory,
    Fault::Cancel,
    Fault::CancelByForce,
    Fault::GitlabAway,
    Fault::ClusterAway,
];

/// Makes faults happen.
pub(crate) struct Fate {
    pub(crate) rng: SmallRng,
    /// Those that happen in this world.
    pub(crate) faults: Vec<Fault>,
    /// Mean time between two.
    pub(crate) every: Duration,
    pub(crate) line: Arc<Line>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) desk: Desk,
    pub(crate) ledger: Ledger,
    pub(crate) office: Office,
    pub(crate) managers: Vec<Manager>,
    /// Managers that stand still, and may go on at the end.
    pub(crate) frozen: Vec<Life>,
}

impl Fate {
    /// Starts a manager.
    pub(crate) async fn hire(&mut self) -> anyhow::Result<()> {
        let manager = self.office.hire().await?;
        self.managers.push(manager);
        Ok(())
    }

    /// Lets things happen for ever.
    pub(crate) async fn reign(&mut self) -> anyhow::Result<()> {
        loop {
            if self.faults.is_empty() {
                std::future::pending::<()>().await;
            }
            let most = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX).saturating_mul(2).max(1);
            sleep(Duration::from_millis(self.rng.random_range(0..most))).await;
            let fault = self.faults[self.rng.random_range(0..self.faults.len())];
            self.ledger.tell(|| format!("fault: {fault:?}"));
            self.strike(fault).await?;
        }
    }

    /// Nothing bad happens from now on.
    pub(crate) fn relent(&mut self) {
        self.line.weather.clear();
        self.wire.weather.clear();
        self.frozen.drain(..).for_each(|life| life.thaw());
    }

    /// Whether jobs that are still to come are taken.
    pub(crate) fn has_manager(&self) -> bool {
        self.managers.iter().any(Manager::takes_jobs)
    }

    async fn strike(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::KillManager | Fault::TerminateManager | Fault::DrainManager => self.end_manager(fault).await?,
            Fault::AddManager if self.managers.len() < MANAGERS => self.hire().await?,
            Fault::AddManager => {}
            Fault::CutExec => self.any_held(Held::Exec, Switch::cut),
            Fault::StallExec => self.any_held(Held::Exec, Switch::stall),
            Fault::CloseWatches => self.wire.held(Held::Watch).iter().for_each(|switch| switch.cut()),
            Fault::StallWatches => self.wire.held(Held::Watch).iter().for_each(|switch| switch.stall()),
            Fault::DeletePod | Fault::EvictPod | Fault::KillHelper | Fault::KillBuild | Fault::OutOfMemory => {
                self.hit_pod(fault).await;
            }
            Fault::Cancel | Fault::CancelByForce => self.cancel(fault == Fault::CancelByForce).await?,
            // Long, and so seldom: nothing else can happen meanwhile.
            Fault::GitlabAway if !self.rng.random_ratio(1, 8) => {}
            Fault::GitlabAway => {
                let time = Duration::from_secs(self.rng.random_range(1..400));
                self.ledger.book().gitlab_away(time);
                self.line.weather.away_for(time);
            }
            Fault::ClusterAway => {
                let time = Duration::from_secs(self.rng.random_range(1..90));
                self.ledger.book().api_trouble();
                self.wire.weather.away_for(time);
            }
            Fault::FreezeManager => self.freeze(),
            Fault::CutAllExecs => self.keep_cutting(),
            Fault::GitlabStorm => {
                let status = STORMS[self.rng.random_range(0..STORMS.len())];
                let time = self.seldom_long(600);
                self.ledger.tell(|| format!("GitLab answers {status} for {time:?}"));
                self.ledger.book().gitlab_away(time);
                self.line.weather.storm_for(status, time);
            }
            Fault::GitlabSlow => {
                let time = self.seldom_long(600);
                self.ledger.book().gitlab_slow();
                self.line.weather.slow_for(time);
            }
            Fault::ClusterLongAway => {
                let time = self.seldom_long(300);
                self.ledger.book().api_trouble();
                self.wire.weather.away_for(time);
            }
            Fault::BothAway => {
                let time = self.seldom_long(300);
                self.ledger.book().api_trouble();
                self.ledger.book().gitlab_away(time);
                self.wire.weather.away_for(time);
                self.line.weather.away_for(time);
            }
        }
        Ok(())
    }

    /// A time that is mostly short, and at most so many seconds.
    fn seldom_long(&mut self, most: u64) -> Duration {
        let most = if self.rng.random_ratio(1, 6) { most } else { most / 10 };
        Duration::from_secs(self.rng.random_range(1..most))
    }

    /// A manager ends, and another comes.
    async fn end_manager(&mut self, fault: Fault) -> anyhow::Result<()> {
        let manager = self.any_manager();
        match fault {
            Fault::KillManager => manager.kill(),
            Fault::TerminateManager => manager.terminate(),
            _ => manager.drain(),
        }
        let name = manager.name.clone();
        match fault {
            Fault::KillManager => self.ledger.book().manager_killed(),
            Fault::TerminateManager => self.ledger.book().manager_leaves(),
            _ => {}
        }
        self.ledger.book().manager_rests(&name);
        self.ledger.tell(|| format!("{fault:?}: {name}"));
        self.succeed().await
    }

    /// A manager stands still for a while.
    fn freeze(&mut self) {
        let time = self.seldom_long(400);
        let manager = self.any_manager();
        let (life, name) = (manager.freeze(), manager.name.clone());
        self.ledger.book().manager_frozen();
        self.ledger.book().manager_rests(&name);
        self.ledger.tell(|| format!("{name} stands still for {time:?}"));
        self.frozen.push(life.clone());
        let ledger = self.ledger.clone();
        tasks::spawn(async move {
            sleep(time).await;
            ledger.tell(|| format!("{name} goes on"));
            ledger.book().manager_lives(&name);
            life.thaw();
        });
    }

    /// No exec lasts longer than a second for a while.
    fn keep_cutting(&mut self) {
        self.ledger.book().api_trouble();
        let (wire, times) = (Arc::clone(&self.wire), self.rng.random_range(3..60));
        tasks::spawn(async move {
            for _ in 0..times {
                wire.held(Held::Exec).iter().for_each(|switch| switch.cut());
                sleep(Duration::from_secs(1)).await;
            }
        });
    }

    fn any_manager(&mut self) -> &Manager {
        // The last one stays in the list, so that there is always one to speak of.
        let last = self.managers.len().saturating_sub(1);
        let mut at = 0..;
        self.managers.retain(|manager| at.next() == Some(last) || !manager.has_ended());
        let at = self.rng.random_range(0..self.managers.len());
        &self.managers[at]
    }

    /// Another one comes, at once or after a while.
    async fn succeed(&mut self) -> anyhow::Result<()> {
        if self.rng.random_ratio(1, 2) {
            sleep(Duration::from_millis(self.rng.random_range(0..200_000))).await;
        }
        self.hire().await
    }

    fn any_held(&mut self, kind: Held, act: impl Fn(&Switch)) {
        let held = self.wire.held(kind);
        if !held.is_empty() {
            self.ledger.book().api_trouble();
            act(&held[self.rng.random_range(0..held.len())]);
        }
    }

    fn any_pod(&mut self) -> Option<Arc<Pod>> {
        let pods = self.wire.pods.all();
        // The newest ones are those that still live.
        let newest = pods.len().saturating_sub(30);
        let pods = pods.get(newest..)?;
        (!pods.is_empty()).then(|| Arc::clone(&pods[self.rng.random_range(0..pods.len())]))
    }

    async fn hit_pod(&mut self, fault: Fault) {
        let Some(pod) = self.any_pod() else { return };
        let harm = match fault {
            Fault::DeletePod => Harm::PodDeleted,
            Fault::EvictPod => Harm::Evicted,
            Fault::KillHelper => Harm::HelperKilled,
            Fault::KillBuild => Harm::BuildKilled,
            _ => Harm::OutOfMemory,
        };
        self.ledger.of(pod.job, |facts| facts.harms.insert(harm));
        self.ledger.tell(|| format!("{harm:?} hits {} of job {}", pod.name, pod.job));
        let accident = |what: &str| format!("/sim/pods/default/{}/{what}", pod.name);
        // A pod that is gone cannot be hit, and need not be.
        let _ = match fault {
            Fault::DeletePod => {
                let path = format!("/api/v1/namespaces/default/pods/{}", pod.name);
                let grace = self.rng.random_range(0..30);
                self.wire.ask(Method::DELETE, &path, json!({"gracePeriodSeconds": grace})).await
            }
            Fault::EvictPod => self.wire.ask(Method::POST, &accident("evict"), json!({})).await,
            Fault::OutOfMemory => {
                let container = if self.rng.random_ratio(1, 2) { HELPER } else { BUILD };
                self.wire.ask(Method::POST, &accident("oom"), json!({"container": container})).await
            }
            Fault::KillHelper => {
                pod.end(HELPER, KILLED);
                Ok(Value::Null)
            }
            _ => {
                pod.end(BUILD, if self.rng.random_ratio(1, 2) { KILLED } else { 1 });
                Ok(Value::Null)
            }
        };
    }

    async fn cancel(&mut self, force: bool) -> anyhow::Result<()> {
        let jobs = self.wire.pods.jobs.len() as u64;
        let job = self.rng.random_range(1..=jobs);
        let known = self.desk.get::<IgnoredAny>(&format!("/sim/jobs/{job}")).await;
        // One that is not in the queue yet cannot be canceled.
        if known.is_ok() {
            self.ledger.of(job, |facts| facts.harms.insert(Harm::Canceled));
            self.desk.cancel(job, force).await?;
        }
        Ok(())
    }
}
