//! One world: a GitLab, a cluster, managers, jobs, faults, all from one seed and on one thread,
//! until everything has settled.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use gantry_core::chance;
use gantry_gitlab::Client;
use gantry_helper::ports::Connect;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::Wire;
use crate::faults::{FAULTS, Fate, Fault, HARDSHIPS};
use crate::gitlab::{Connections, Desk, Line};
use crate::invariants;
use crate::ledger::Ledger;
use crate::office::{Customs, Office};
use crate::panics;
use crate::pods::{Containers, Pods};
use crate::programs::{Job, MISSING, SLOW, SLOW_PULL};
use crate::tasks;
use crate::weather::Weather;

/// How many jobs a manager may have at once.
const CONCURRENT: RangeInclusive<usize> = 4..=30;

/// Jobs of one world.
pub(crate) const JOBS: u64 = 24;

/// So little that a watch which was cut off for a while has to list again, as on a busy cluster.
const WATCH_HISTORY: usize = 100;

/// How long accidents go on happening.
const UNREST: Duration = Duration::from_mins(15);

/// How long everything may take: the longest job, GitLab's patience with one that is silent, and to
/// spare.
const LONGEST: Duration = Duration::from_hours(4);

/// How long managers have, once all jobs have ended, to remove what is left.
const TIDYING: Duration = Duration::from_mins(25);

/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_mins(1);

/// What became of a world.
pub(crate) struct Report {
    /// What is wrong with it.
    pub(crate) wrong: Vec<String>,
    /// A number that two runs of one seed share.
    pub(crate) digest: u64,
}

/// Runs the world of a seed.
pub(crate) fn run(seed: u64, tells: bool) -> anyhow::Result<Report> {
    chance::seed(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let mut report = builder.build()?.block_on(live(seed, tells))?;
    report.wrong.extend(panics::take());
    Ok(report)
}

async fn live(seed: u64, tells: bool) -> anyhow::Result<Report> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut more = More::draw(seed);
    let ledger = Ledger::new(tells);
    ledger.book().world_is(more.is_blind, more.is_first_version);
    let directory = TempDir::with_prefix_in("gantry-world-", scratch())?;
    let mut settings = gantry_sim_gitlab::Config::new(nowhere());
    // Pods are named after it: a random one would make each run of a seed look different.
    settings.runner_token = Some(format!("glrt-{seed:016x}"));
    let gitlab = gantry_sim_gitlab::InProcess::start(settings)?;
    let desk = Desk(Arc::new(Connections::new(gitlab.connector())));
    let trouble = draw_trouble(&mut rng);
    let statuses: &[u16] = &[500, 502, 503, 429, 403, 409];
    let weather = Arc::new(Weather::new(SmallRng::from_rng(&mut rng), trouble.gitlab, more.cuts(), statuses));
    let connections = Connections::new(gitlab.connector());
    let line = Line {
        connections: Arc::new(connections),
        weather,
        ledger: ledger.clone(),
        who: "a pod".into(),
        is_blocked: more.is_blind,
    };
    let to_gitlab = Arc::new(line.clone());
    let line = Arc::new(Line { is_blocked: false, ..line });
    let connect: Connect = Arc::new(move |options| Client::with_transport(options, Arc::clone(&to_gitlab) as _));
    let jobs: BTreeMap<u64, Job> = (1..=JOBS).map(|id| (id, Job::draw(id, &mut rng))).collect();
    let mut pods = Pods::new(jobs, ledger.clone(), directory.path().to_owned(), connect);
    pods.speak_first_version = more.is_first_version;
    let pods = Arc::new(pods);
    let containers = Arc::new(Containers(Arc::clone(&pods)));
    let cluster = gantry_sim_kube::InProcess::start(cluster_settings(more.is_old), containers);
    let weather = Arc::new(Weather::new(SmallRng::from_rng(&mut rng), trouble.cluster, more.cuts(), &[500, 503, 429]));
    let token = cluster.admin_token().to_owned();
    let wire = Arc::new(Wire::new(cluster.connector(), token, weather, Arc::clone(&pods), |job| job % 3 != 0));
    let concurrent = rng.random_range(CONCURRENT);
    let office = Office {
        directory: directory.path().to_owned(),
        url: gitlab.url().to_owned(),
        token: gitlab.runner_token().to_owned(),
        concurrent,
        customs: more.customs,
        desk: desk.clone(),
        line: Arc::clone(&line),
        wire: Arc::clone(&wire),
        ledger: ledger.clone(),
        begun: Instant::now(),
        hired: 0,
    };
    office.open()?;
    let mut fate = Fate {
        rng: SmallRng::from_rng(&mut rng),
        faults: [trouble.faults, more.hardships].concat(),
        every: Duration::from_secs(rng.random_range(3..60)),
        line,
        wire,
        desk,
        ledger,
        office,
        managers: Vec::new(),
        frozen: Vec::new(),
    };
    if more.is_edited {
        tasks::spawn(edit(more.rng, fate.ledger.clone(), fate.office.shared_config(), concurrent));
    }
    fate.hire().await?;
    let reached_end = go_on(&mut fate, &pods).await?;
    let mut wrong = invariants::check(&fate, reached_end).await?;
    let digest = invariants::digest(&fate).await?;
    wrong.append(&mut fate.ledger.book().wrong);
    Ok(Report { wrong, digest })
}

fn cluster_settings(is_old: bool) -> gantry_sim_kube::Config {
    let mut settings = gantry_sim_kube::Config::new(nowhere(), "");
    settings.missing_images = vec![format!("*{MISSING}*")];
    settings.watch_history = WATCH_HISTORY;
    if is_old {
        settings = settings.like_1_20();
    }
    settings.pull_delays = vec![(format!("*{SLOW}*"), SLOW_PULL)];
    settings
}

/// What else a world may have. It comes from a chance of its own, so that a seed without any of it
/// is the world that it always was.
struct More {
    rng: SmallRng,
    /// The cluster is as old as those that we support.
    is_old: bool,
    /// Answers may be cut in the middle.
    cuts: bool,
    /// Somebody edits the managers' configuration.
    is_edited: bool,
    /// Pods cannot reach GitLab.
    is_blind: bool,
    /// Agents speak the first version of the protocol, as after an update of the managers.
    is_first_version: bool,
    /// How managers differ.
    customs: Customs,
    /// Faults that not every world may have.
    hardships: Vec<Fault>,
}

impl More {
    fn draw(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(!seed);
        let [is_old, cuts, is_edited] = std::array::from_fn(|_| rng.random_ratio(1, 4));
        // A chance of its own again: what is added must not change what came before.
        let mut newest = SmallRng::seed_from_u64(seed.rotate_left(32));
        let is_blind = newest.random_ratio(1, 4);
        let customs = Customs { anew: newest.random_ratio(1, 2) };
        let kinds = *[0, 0, 1, 2, HARDSHIPS.len()].choose(&mut newest).unwrap_or(&0);
        let hardships: Vec<Fault> = HARDSHIPS.sample(&mut newest, kinds).copied().collect();
        // They know no claims: whoever connects last is in charge, and one that has slept is as
        // well.
        let is_first_version = !is_blind && hardships.is_empty() && newest.random_ratio(1, 4);
        Self { rng, is_old, cuts, is_edited, is_blind, is_first_version, customs, hardships }
    }

    fn cuts(&mut self) -> Option<SmallRng> {
        self.cuts.then(|| SmallRng::from_rng(&mut self.rng))
    }
}

/// Edits the managers' configuration now and then, for ever.
async fn edit(mut rng: SmallRng, ledger: Ledger, config: PathBuf, mut concurrent: usize) -> anyhow::Result<()> {
    for edits in 1.. {
        sleep(Duration::from_millis(rng.random_range(0..120_000))).await;
        let text = std::fs::read_to_string(&config)?;
        let line = |concurrent| format!("concurrent = {concurrent}\n");
        let wanted = rng.random_range(CONCURRENT);
        ledger.tell(|| format!("the configuration says {wanted} instead of {concurrent} jobs at once"));
        std::fs::write(&config, text.replace(&line(concurrent), &line(wanted)))?;
        // Edits of one simulated hour come within a tick of the real clock.
        std::fs::File::open(&config)?.set_modified(UNIX_EPOCH + Duration::from_secs(edits))?;
        concurrent = wanted;
    }
    Ok(())
}

/// Which kinds of trouble a world has.
struct Trouble {
    /// One request in so many; 0 for none.
    gitlab: u32,
    cluster: u32,
    faults: Vec<Fault>,
}

fn draw_trouble(rng: &mut SmallRng) -> Trouble {
    let weather = |rng: &mut SmallRng| *[0, 0, 50, 20, 8].choose(rng).unwrap_or(&0);
    let (gitlab, cluster) = (weather(rng), weather(rng));
    let kinds = *[0, 1, 2, 4, FAULTS.len()].choose(rng).unwrap_or(&0);
    Trouble { gitlab, cluster, faults: FAULTS.sample(rng, kinds).copied().collect() }
}

/// Lets the jobs come and the faults happen, then everything settle. Whether that worked in time.
async fn go_on(fate: &mut Fate, pods: &Arc<Pods>) -> anyhow::Result<bool> {
    let end = Instant::now() + LONGEST;
    let coming = tasks::spawn(come(Arc::clone(pods), fate.desk.clone()));
    let desk = fate.desk.clone();
    tokio::select! {
        result = fate.reign() => result?,
        settled = all_have_ended(&desk, Instant::now() + UNREST) => drop(settled?),
    }
    fate.ledger.tell(|| "the unrest is over".to_owned());
    fate.relent();
    coming.await??;
    if !fate.has_manager() {
        fate.hire().await?;
    }
    if !all_have_ended(&fate.desk, end).await? {
        return Ok(false);
    }
    let until = Instant::now() + TIDYING;
    while Instant::now() < until && !fate.wire.pods().await?.is_empty() {
        sleep(LOOK).await;
    }
    Ok(true)
}

/// Puts the jobs into the queue, each at its time.
async fn come(pods: Arc<Pods>, desk: Desk) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut jobs: Vec<&Job> = pods.jobs.values().collect();
    jobs.sort_by_key(|job| (job.at, job.id));
    for job in jobs {
        sleep_until(begun + job.at).await;
        desk.add(&job.payload()).await?;
    }
    Ok(())
}

/// Waits until GitLab knows how every job has ended.
async fn all_have_ended(desk: &Desk, until: Instant) -> anyhow::Result<bool> {
    loop {
        let jobs: Vec<Status> = desk.get("/sim/jobs").await?;
        // GitLab's further tries are jobs too, and some jobs only come later.
        let first = jobs.iter().filter(|job| job.attempt == 0).count();
        if first as u64 >= JOBS && jobs.iter().all(|job| invariants::is_final(&job.status)) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        sleep(LOOK).await;
    }
}

#[derive(serde::Deserialize)]
struct Status {
    status: String,
    attempt: u32,
}

fn nowhere() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Memory, where there is a file system in it.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
