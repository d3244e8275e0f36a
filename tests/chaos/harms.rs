//! The kinds of harm, each with what it does to a fleet whose jobs run.

use std::rc::Rc;
use std::time::Duration;

use gantry_tests::{Need, World};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::jobs::{Ends, Jobs, Size};
use crate::node;
use crate::table::Row;
use crate::volume::Volume;

/// One kind of harm.
pub(crate) struct Harm {
    pub(crate) name: &'static str,
    /// How often it happens.
    times: u32,
    /// Managers before it does.
    replicas: u32,
    /// When it begins.
    begin: Begin,
    /// What the cluster must have.
    pub(crate) need: Option<Need>,
    /// It is among the few of a short run.
    pub(crate) is_short: bool,
    /// It is done to everybody, so that nothing else can happen beside it.
    pub(crate) is_common: bool,
    ends: Ends,
    deed: Deed,
}

/// When a harm begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// All jobs print.
    AllPrint,
    /// One does; the others wait for their pods, their plans or the word to start.
    OnePrints,
}

/// What is done. What lasts does so for as long as is asked for.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Nothing,
    /// SIGKILL to the eldest manager; another one is started after this many seconds.
    Kill(u64),
    /// SIGTERM to the eldest manager, and another one at once.
    Restart,
    /// Every replica is replaced, the next one when its successor is ready, as a Deployment does
    /// it.
    Rollout,
    /// SIGKILL to one of several.
    KillReplica,
    /// SIGSTOP to one of several, and SIGCONT after this many seconds.
    Freeze(u64),
    /// The API server cannot be reached.
    ClusterAway,
    /// All connections to the API server are cut, once a second.
    CutEachSecond,
    /// Connections to the API server stay open and move nothing any more.
    StrandCluster,
    /// The same for those to GitLab.
    StrandGitlab,
    /// GitLab cannot be reached.
    GitlabAway,
    /// GitLab answers this about jobs.
    GitlabSays(u16),
    /// Neither can be reached.
    BothAway,
    /// So many bytes a second pass to each of both.
    Slow(u32),
    /// The volumes of all pods are full.
    FullVolume,
    /// The kubelet restarts.
    KubeletRestart(u64),
}

const fn harm(name: &'static str, times: u32, replicas: u32, deed: Deed) -> Harm {
    let (begin, need, ends) = (Begin::AllPrint, None, Ends::Well);
    Harm { name, times, replicas, begin, need, is_short: false, is_common: false, ends, deed }
}

impl Harm {
    const fn short(self) -> Self {
        Self { is_short: true, ..self }
    }

    const fn while_pods_start(self) -> Self {
        Self { begin: Begin::OnePrints, ..self }
    }

    const fn common_to_the_node(self) -> Self {
        Self { is_common: true, need: Some(Need::NodeFaults), ..self }
    }

    const fn ends_with(self, words: &'static str) -> Self {
        Self { ends: Ends::Failed(words), ..self }
    }
}

/// All of them.
pub(crate) const HARMS: [Harm; 24] = [
    harm("nothing", 1, 1, Deed::Nothing),
    harm("SIGKILL, restart after 1 s", 3, 1, Deed::Kill(1)).short(),
    harm("SIGKILL while pods start, restart after 1 s", 2, 1, Deed::Kill(1)).while_pods_start(),
    harm("SIGKILL, restart after 30 s", 1, 1, Deed::Kill(30)),
    harm("SIGTERM, restart at once", 3, 1, Deed::Restart).short(),
    harm("SIGTERM while pods start, restart at once", 2, 1, Deed::Restart).while_pods_start(),
    harm("rollout of two replicas", 1, 2, Deed::Rollout).short(),
    harm("rollout of two replicas while pods start", 1, 2, Deed::Rollout).while_pods_start(),
    harm("SIGKILL of one replica of two", 1, 2, Deed::KillReplica).short(),
    harm("SIGSTOP of one replica of two for 45 s", 1, 2, Deed::Freeze(45)),
    harm("API server away", 1, 1, Deed::ClusterAway).short(),
    harm("API server away while pods start", 1, 1, Deed::ClusterAway).while_pods_start(),
    harm("connections to the API server cut each second", 10, 1, Deed::CutEachSecond).short(),
    harm("connections to the API server half open", 1, 1, Deed::StrandCluster),
    harm("connections to GitLab half open", 1, 1, Deed::StrandGitlab),
    harm("GitLab away", 1, 1, Deed::GitlabAway).short(),
    harm("GitLab answers 503", 1, 1, Deed::GitlabSays(503)).short(),
    harm("GitLab answers 429", 1, 1, Deed::GitlabSays(429)),
    harm("GitLab answers 409", 1, 1, Deed::GitlabSays(409)),
    harm("GitLab answers 403 without a state", 1, 1, Deed::GitlabSays(403)),
    harm("GitLab and API server away", 1, 1, Deed::BothAway).short(),
    harm("network of 50 kB/s", 1, 1, Deed::Slow(50_000)),
    harm("kubelet restarts", 2, 1, Deed::KubeletRestart(5)).common_to_the_node(),
    harm("volumes of all pods full", 1, 1, Deed::FullVolume)
        .common_to_the_node()
        .ends_with("the job log cannot be written in the pod"),
];

/// Jobs, the harm, and what came of them.
pub(crate) async fn round(world: &Rc<World>, harm: &'static Harm, size: Size) -> anyhow::Result<Row> {
    let number = HARMS.iter().position(|other| other.name == harm.name).unwrap_or(0);
    let volume = match harm.deed {
        Deed::FullVolume => Some(Volume::mount(world)?),
        _ => None,
    };
    let fleet = Fleet::start(world, &format!("chaos-{number}"), size.jobs).await?;
    for _ in 1..harm.replicas {
        fleet.add().await?;
    }
    let place = fleet.place()?.clone();
    let mut jobs = Jobs::start(world, &place, size).await?;
    jobs.print(harm.begin == Begin::AllPrint).await?;
    let scene = Scene { world, fleet: &fleet, jobs: jobs.ids(), away: Duration::from_secs(size.away), volume };
    let doing = async {
        for _ in 0..harm.times {
            scene.suffer(harm).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(doing, jobs.read_along())?;
    jobs.judge(Row::new(harm.name, harm.times), harm.ends, &place.namespace).await
}

/// What a harm is done to.
struct Scene<'a> {
    world: &'a World,
    fleet: &'a Fleet,
    jobs: Vec<u64>,
    away: Duration,
    volume: Option<Volume<'a>>,
}

impl Scene<'_> {
    async fn suffer(&self, harm: &Harm) -> anyhow::Result<()> {
        let Self { world, fleet, away, .. } = self;
        let seconds = Duration::from_secs;
        match harm.deed {
            Deed::Nothing => {}
            Deed::Kill(after) => {
                fleet.kill()?;
                sleep(seconds(after)).await;
                fleet.launch().await?;
                // Until the next time: jobs are to be taken over, and print.
                sleep(seconds(3)).await;
            }
            Deed::Restart => {
                fleet.terminate()?;
                fleet.launch().await?;
                fleet.eldest_ends().await?;
                sleep(seconds(3)).await;
            }
            Deed::Rollout => {
                for _ in 0..harm.replicas {
                    fleet.add().await?;
                    fleet.terminate()?;
                    fleet.eldest_ends().await?;
                }
            }
            Deed::KillReplica => fleet.kill()?,
            Deed::Freeze(time) => {
                fleet.signal(Signal::SIGSTOP)?;
                sleep(seconds(time)).await;
                fleet.signal(Signal::SIGCONT)?;
            }
            Deed::ClusterAway => fleet.kube.refuse_for(*away).await,
            Deed::CutEachSecond => {
                fleet.kube.cut();
                sleep(seconds(1)).await;
            }
            Deed::StrandCluster => fleet.kube.strand(),
            Deed::StrandGitlab => fleet.gitlab.strand(),
            Deed::GitlabAway => fleet.gitlab.refuse_for(*away).await,
            Deed::GitlabSays(status) => self.gitlab_says(status).await?,
            Deed::BothAway => {
                tokio::join!(fleet.kube.refuse_for(*away), fleet.gitlab.refuse_for(*away));
            }
            Deed::Slow(rate) => {
                tokio::join!(fleet.kube.slow_for(rate, *away), fleet.gitlab.slow_for(rate, *away));
            }
            Deed::FullVolume => {
                if let Some(volume) = &self.volume {
                    volume.fill()?;
                    sleep(*away).await;
                    volume.relieve()?;
                }
            }
            Deed::KubeletRestart(time) => {
                node::restart_kubelet(world, seconds(time)).await?;
                sleep(seconds(3)).await;
            }
        }
        Ok(())
    }

    /// For a while GitLab answers everything about these jobs with a status.
    async fn gitlab_says(&self, status: u16) -> anyhow::Result<()> {
        // A final state is refused with other words than a part of a log that is being written.
        let to_update = if status == 409 { 503 } else { status };
        let mut faults = Vec::new();
        for job in &self.jobs {
            for (endpoint, status) in [("trace", status), ("update", to_update)] {
                let fault = json!({"endpoint": endpoint, "job": job, "fault": "status", "status": status});
                faults.push(self.world.gitlab.post("/sim/faults", &fault).await?["id"].clone());
            }
        }
        sleep(self.away).await;
        for fault in faults {
            self.world.gitlab.delete(&format!("/sim/faults/{fault}")).await?;
        }
        Ok(())
    }
}
