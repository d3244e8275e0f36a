//! The kinds of harm that are done to managers, and to the ways between them, GitLab and the API
//! server.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use super::stage::Stage;

/// How long an outage lasts.
const AWAY: Duration = Duration::from_secs(20);

/// How long a manager stands still: others take its jobs over after 15 s.
const FROZEN: Duration = Duration::from_secs(45);

/// After a restart, until the next one: jobs are to be taken over, and print.
const BREATH: Duration = Duration::from_secs(3);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Nothing,
    Kill,
    Terminate,
    Rollout,
    KillReplica,
    Freeze,
    GitlabAway,
    GitlabSays(u16),
    ClusterAway,
    CutEachSecond,
    Strand,
    BothAway,
}

/// One kind of harm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Harm {
    /// What people choose it by.
    pub(super) name: &'static str,
    pub(super) times: u32,
    /// Managers before it begins.
    pub(super) replicas: u32,
    /// It begins when the first job prints, and the others are on their way; otherwise all print.
    pub(super) is_early: bool,
    deed: Deed,
}

const fn harm(name: &'static str, times: u32, replicas: u32, deed: Deed) -> Harm {
    Harm { name, times, replicas, is_early: false, deed }
}

/// All of them.
pub(super) const HARMS: [Harm; 14] = [
    harm("nothing", 1, 1, Deed::Nothing),
    harm("manager killed", 3, 1, Deed::Kill),
    Harm { is_early: true, ..harm("manager killed while pods start", 2, 1, Deed::Kill) },
    harm("manager told to end", 3, 1, Deed::Terminate),
    harm("rollout of two replicas", 1, 2, Deed::Rollout),
    harm("one replica of two killed", 1, 2, Deed::KillReplica),
    harm("one replica of two frozen for 45 s", 1, 2, Deed::Freeze),
    harm("GitLab away for 20 s", 1, 1, Deed::GitlabAway),
    harm("GitLab answers 503 for 20 s", 1, 1, Deed::GitlabSays(503)),
    harm("GitLab answers 429 for 20 s", 1, 1, Deed::GitlabSays(429)),
    harm("API server away for 20 s", 1, 1, Deed::ClusterAway),
    harm("connections to the API server cut each second", 10, 1, Deed::CutEachSecond),
    harm("connections to the API server half open", 1, 1, Deed::Strand),
    harm("GitLab and API server away for 20 s", 1, 1, Deed::BothAway),
];

impl Harm {
    /// Whether it is done to the way to the API server.
    pub(super) fn needs_proxy(&self) -> bool {
        matches!(self.deed, Deed::ClusterAway | Deed::CutEachSecond | Deed::Strand | Deed::BothAway)
    }

    /// Does it, as often as it is to be done.
    pub(super) async fn happen(&self, stage: &mut Stage) -> anyhow::Result<()> {
        for _ in 0..self.times {
            self.once(stage).await?;
        }
        Ok(())
    }

    async fn once(&self, stage: &mut Stage) -> anyhow::Result<()> {
        match self.deed {
            Deed::Nothing => {}
            Deed::Kill => {
                stage.kill().await?;
                sleep(Duration::from_secs(1)).await;
                stage.launch()?;
                sleep(BREATH).await;
            }
            Deed::Terminate => {
                stage.signal(Signal::SIGTERM)?;
                stage.launch()?;
                stage.eldest_ends().await?;
                sleep(BREATH).await;
            }
            Deed::Rollout => {
                for _ in 0..self.replicas {
                    stage.add().await?;
                    stage.signal(Signal::SIGTERM)?;
                    stage.eldest_ends().await?;
                }
            }
            Deed::KillReplica => stage.kill().await?,
            Deed::Freeze => {
                stage.signal(Signal::SIGSTOP)?;
                sleep(FROZEN).await;
                stage.signal(Signal::SIGCONT)?;
            }
            Deed::GitlabAway => {
                stage.fault(&json!({"fault": "drop"})).await?;
                sleep(AWAY).await;
                stage.no_faults().await?;
            }
            Deed::GitlabSays(status) => {
                for endpoint in ["trace", "update"] {
                    stage.fault(&json!({"endpoint": endpoint, "fault": "status", "status": status})).await?;
                }
                sleep(AWAY).await;
                stage.no_faults().await?;
            }
            Deed::ClusterAway | Deed::CutEachSecond | Deed::Strand | Deed::BothAway => self.harm_cluster(stage).await?,
        }
        Ok(())
    }

    async fn harm_cluster(&self, stage: &Stage) -> anyhow::Result<()> {
        let Some(proxy) = &stage.proxy else { return Ok(()) };
        match self.deed {
            Deed::CutEachSecond => {
                proxy.cut();
                sleep(Duration::from_secs(1)).await;
            }
            Deed::Strand => proxy.strand(),
            Deed::BothAway => {
                stage.fault(&json!({"fault": "drop"})).await?;
                proxy.refuse_for(AWAY).await;
                stage.no_faults().await?;
            }
            _ => proxy.refuse_for(AWAY).await,
        }
        Ok(())
    }
}
