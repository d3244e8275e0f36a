//! What must hold in every world, whatever happened in it. Written from what was promised, with
//! what the ledger says happened, and without any code of the product.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_wire::layout::{HELPER, WITHOUT_PLAN};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::allowed::{self, End, UNANSWERED};
use crate::faults::Fate;
use crate::ledger::{Book, Facts, Harm, Ledger, Troubles};
use crate::log;
use crate::programs::{self, Job, Outcome, SECRET};
use crate::world::JOBS;

/// Rules of GitLab that a runner breaks when it is killed in the wrong moment, or cannot reach
/// GitLab.
const BROKEN_BY_DEATH: [&str; 2] = ["silent", "overtime"];

/// The same of a job that nothing tells the next manager of: there never was a pod for it, or the
/// pod went without a word.
const UNACKNOWLEDGED: &str = "taken and never acknowledged";

/// From so long after a job's time-out on, its token is about to end.
const LAST_CHANCE: Duration = Duration::from_secs(4 * 60);

/// GitLab gave up on a job.
pub(crate) const STUCK: &str = "stuck_or_timeout_failure";

/// So many changes of who reports a job, in so short a time, are two that do at one time.
const TURNS: usize = 3;

/// Where manager and agent could not reach each other for a while, both have what the manager had
/// got by then, and both may have the end: for so long they may tell GitLab the same by turns.
const APART: Duration = Duration::from_secs(60);

/// And so often: each tells the rest of the log and the end, again where the other was first.
const MOST_APART: usize = 12;

const TOGETHER: Duration = Duration::from_secs(20);

/// A job's time-out is noticed within this time.
const PROMPT: Duration = Duration::from_secs(30);

/// By how much the beginnings of a world and of its jobs may differ.
const LEARNING: Duration = Duration::from_secs(5);

/// A job as GitLab shows it in the end.
#[derive(Debug, Deserialize)]
struct FinalJob {
    id: u64,
    name: String,
    status: String,
    #[serde(deserialize_with = "reason")]
    failure_reason: Option<String>,
    /// How many jobs were tried before in its place: GitLab repeats one that no runner has begun,
    /// as a job of its own.
    attempt: u32,
    exit_code: Option<i32>,
    queued_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl FinalJob {
    /// From when it was running until its end, as GitLab has it; `None` if it has never run.
    fn ran_for(&self) -> Option<Duration> {
        Duration::try_from(self.finished_at?.duration_since(self.started_at?)).ok()
    }

    /// When GitLab learned of its end; `None` if it never did, or if that cannot be said because it
    /// was tried before.
    fn ended_in(&self, ledger: &Ledger, program: &Job) -> Option<Instant> {
        if self.attempt > 0 {
            return None;
        }
        let lasted = Duration::try_from(self.finished_at?.duration_since(self.queued_at)).ok()?;
        Some(ledger.begun + program.at + lasted + LEARNING)
    }
}

/// A failure reason. The ways in which GitLab gives up on a job of which it hears nothing have one
/// name here.
fn reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let reason = Option::<String>::deserialize(from)?;
    Ok(reason.map(|reason| match reason.as_str() {
        "no_updates_running" | "no_updates_canceling" | "server_timeout_running" | "server_timeout_canceling" => {
            STUCK.to_owned()
        }
        _ => reason,
    }))
}

/// Everything that is wrong with a world that has settled.
pub(crate) async fn check(fate: &Fate, reached_end: bool) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    let shown: Vec<FinalJob> = fate.desk.get("/sim/jobs").await?;
    let first = shown.iter().filter(|job| job.attempt == 0).count();
    if first as u64 != JOBS {
        wrong.push(format!("GitLab has {first} jobs instead of {JOBS}"));
    }
    if !reached_end {
        let open: Vec<u64> = shown.iter().filter(|job| !is_final(&job.status)).map(|job| job.id).collect();
        wrong.push(format!("the jobs {open:?} have no end"));
    }
    for job in &shown {
        let trace = fate.desk.trace(job.id).await?;
        let Some(program) = programs::named(&job.name).and_then(|number| fate.wire.pods.jobs.get(&number)) else {
            wrong.push(format!("nobody has asked for job {} with the name {}", job.id, job.name));
            continue;
        };
        let book = fate.ledger.book();
        let none = Facts::default();
        let facts = book.jobs.get(&job.id).unwrap_or(&none);
        let troubles = book.troubles(job.ended_in(&fate.ledger, program));
        let begun = fate.ledger.begun + program.at;
        let longest_life = book.longest_life(begun, begun + program.timeout + LAST_CHANCE);
        let judged = Judged { shown: job, program, facts, troubles, longest_life };
        wrong.extend(judged.problems(&trace).into_iter().map(|problem| format!("job {}: {problem}", job.id)));
    }
    wrong.extend(violations(&fate.desk.get("/sim/violations").await?, &fate.ledger.book()));
    wrong.extend(left_behind(&fate.wire.pods().await?, fate.ledger.book().troubles(None)));
    Ok(wrong)
}

/// Whether a job with that status has ended.
pub(crate) fn is_final(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled")
}

/// One job with all that is known about it.
pub(crate) struct Judged<'a> {
    shown: &'a FinalJob,
    pub(crate) program: &'a Job,
    pub(crate) facts: &'a Facts,
    /// What had gone wrong around it before it ended.
    pub(crate) troubles: Troubles,
    /// For how long a manager has lived at most, while GitLab waited for its end.
    pub(crate) longest_life: Duration,
}

impl Judged<'_> {
    fn problems(&self, trace: &[u8]) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.verdict().err());
        problems.extend(self.once().err());
        problems.extend(self.one_relay().err());
        problems.extend(self.log(trace).err());
        problems
    }

    /// The end is the job's own, or one that what happened allows; and it is true.
    fn verdict(&self) -> Result<(), String> {
        let FinalJob { status, failure_reason, exit_code, .. } = self.shown;
        let said = format!("{status} {} {exit_code:?}", failure_reason.as_deref().unwrap_or("-"));
        // Said once for all of those that have no end.
        let Some(end) = End::of(status, failure_reason.as_deref().unwrap_or_default()) else { return Ok(()) };
        let is_true = match end {
            End::Success => self.allows_success(),
            End::Script => self.allows_script_failure(),
            End::TimedOut => self.allows_timeout(),
            End::Canceled | End::NeverBegun | End::Forgotten | End::System => Ok(()),
        };
        let facts = self.facts;
        is_true.map_err(|why| format!("{said}: {why}; {:?} {:?} {:?}", facts.starts, facts.ends, facts.harms))?;
        if self.fits(self.program.outcome()) || !allowed::because(self, end).is_empty() {
            return Ok(());
        }
        let began = !facts.tries.is_empty();
        Err(format!(
            "{said} instead of {:?}, which nothing allows; began: {began}, {:?}, {:?}",
            self.program.outcome(),
            facts.harms,
            self.troubles
        ))
    }

    /// Whether one of these has happened to it.
    pub(crate) fn was_hit_by(&self, harms: &[Harm]) -> bool {
        harms.iter().any(|harm| self.facts.harms.contains(harm))
    }

    /// GitLab heard nothing of it for as long as it waits for a job's acknowledgement.
    pub(crate) fn was_unheard(&self) -> bool {
        self.troubles.gitlab_away >= UNANSWERED || self.facts.unheard >= UNANSWERED
    }

    /// GitLab was away for so long that nobody could report any more, or that it took a job back
    /// whose acknowledgement went unanswered.
    fn is_cut_off(&self) -> bool {
        let end = End::of(&self.shown.status, self.shown.failure_reason.as_deref().unwrap_or_default());
        match end {
            // GitLab takes no log of a job that nobody has said to run.
            Some(End::NeverBegun) if self.facts.tries.is_empty() => true,
            Some(End::NeverBegun | End::Forgotten) => self.was_unheard(),
            _ => false,
        }
    }

    /// It was reported when its token was about to end, and GitLab had been away: then the state
    /// goes without the rest of the log.
    fn is_late(&self) -> bool {
        let late = |ran| ran + self.waiting() >= self.program.timeout + LAST_CHANCE;
        self.troubles.gitlab && self.shown.ran_for().is_some_and(late)
    }

    fn fits(&self, outcome: Outcome) -> bool {
        let FinalJob { status, failure_reason, exit_code, .. } = self.shown;
        match outcome {
            Outcome::Success => status == "success",
            Outcome::ScriptFailure(code) => {
                failure_reason.as_deref() == Some("script_failure") && *exit_code == Some(code)
            }
            Outcome::TimedOut => failure_reason.as_deref() == Some("job_execution_timeout"),
            Outcome::NoPod => status == "failed",
        }
    }

    fn allows_success(&self) -> Result<(), String> {
        let ended_well = |stage: &str| self.facts.ends.iter().any(|(ended, code)| ended == stage && *code == 0);
        match self.program.scripts.iter().find(|script| !ended_well(script.stage)) {
            Some(script) => Err(format!("{} did not end with 0", script.stage)),
            None if !self.facts.fetched => Err("the sources were never there".to_owned()),
            None => Ok(()),
        }
    }

    fn allows_script_failure(&self) -> Result<(), String> {
        let code = self.shown.exit_code.unwrap_or(0);
        let by_script =
            self.facts.ends.iter().any(|(stage, ended)| *ended == code && code != 0 && stage != "after_script");
        let tries = self.facts.tries.iter().filter(|(_, stage, _)| stage == "get_sources").count();
        let by_sources =
            !self.facts.fetched && u32::try_from(tries).is_ok_and(|tries| tries >= self.program.tool.attempts);
        // A build container that has run out of memory is the job's own fault, and has no exit
        // code.
        let by_memory = self.shown.exit_code.is_none() && self.facts.harms.contains(&Harm::OutOfMemory);
        if by_script || by_sources || by_memory { Ok(()) } else { Err("nothing has failed with that code".to_owned()) }
    }

    fn allows_timeout(&self) -> Result<(), String> {
        let ran = self.shown.ran_for().ok_or("it has never run")?;
        // It counts from when GitLab handed the job out, which is before it was running.
        if ran + PROMPT + self.waiting() >= self.program.timeout {
            return Ok(());
        }
        Err(format!("it ran for {ran:?} of {:?}", self.program.timeout))
    }

    /// How long the job may have been with a runner before it was acknowledged.
    fn waiting(&self) -> Duration {
        if self.troubles.gitlab { Duration::from_secs(120) } else { Duration::from_secs(20) }
    }

    /// No script twice, no stage more often than it may be tried, and both in one pod only.
    fn once(&self) -> Result<(), String> {
        // A job is started although GitLab could not be asked for two minutes, as the reference
        // does; GitLab may hand it out again.
        if self.was_unheard() {
            return Ok(());
        }
        let mut seen = BTreeSet::new();
        for (pod, stage) in &self.facts.starts {
            if !seen.insert(stage) {
                return Err(format!("{stage} was started twice, again in {pod}"));
            }
        }
        let mut tries = BTreeSet::new();
        for (pod, stage, attempt) in &self.facts.tries {
            if !tries.insert((stage, attempt)) {
                return Err(format!("try {attempt} of {stage} was made twice, again in {pod}"));
            }
        }
        let pods: BTreeSet<&String> = self.facts.tries.iter().map(|(pod, ..)| pod).collect();
        if pods.len() > 1 { Err(format!("it ran in several pods: {pods:?}")) } else { Ok(()) }
    }

    /// Never do two report it at one time. One that was superseded while it spoke, or slept, may
    /// have a last word on the way. An agent of the first version has no way to choose one.
    fn one_relay(&self) -> Result<(), String> {
        if self.troubles.is_first_version {
            return Ok(());
        }
        let reports = &self.facts.reports;
        let turns: Vec<Instant> =
            reports.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1].0).collect();
        let who = |since: Instant| {
            let names = reports.iter().filter(|(at, _)| *at >= since).map(|(_, who)| who.as_ref());
            Err(format!("two relays at one time: {:?}", names.take(8).collect::<Vec<_>>()))
        };
        if self.troubles.api {
            let spells = turns.chunk_by(|one, next| next.duration_since(*one) < TOGETHER);
            let is_long = |spell: &&[Instant]| spell.len() > MOST_APART || spell[spell.len() - 1] - spell[0] > APART;
            return spells.into_iter().find(is_long).map_or(Ok(()), |spell| who(spell[0]));
        }
        match turns.windows(TURNS).find(|turns| turns[TURNS - 1].duration_since(turns[0]) < TOGETHER) {
            None => Ok(()),
            Some(turns) => who(turns[0]),
        }
    }

    /// A manager with proof that the job cannot go on, or that is past all its deadlines, has ended
    /// it while its agent could not be reached: then the log is what it had of the agent's, and its
    /// own last line.
    fn is_ended_by_manager(&self, agents: &[u8], trace: &[u8]) -> bool {
        let same = agents.iter().zip(trace).take_while(|(one, other)| one == other).count();
        let rest = String::from_utf8_lossy(trace.get(same..).unwrap_or_default()).into_owned();
        let is_overdue =
            self.shown.ran_for().is_some_and(|ran| ran + self.waiting() >= self.program.timeout + LAST_CHANCE);
        let is_proven = self.program.outcome() == Outcome::NoPod || self.was_hit_by(&allowed::POD_HARMS);
        let is_own = rest.contains("Job failed") && !rest.contains(&format!("@{}:", self.program.id));
        self.troubles.api && (is_proven || is_overdue) && is_own
    }

    /// The log is what was printed, byte for byte, as far as the pod lived to tell.
    fn log(&self, trace: &[u8]) -> Result<(), String> {
        let text = log::unstamped(trace);
        let shown = String::from_utf8_lossy(&text);
        // The beginning of a secret is not one: a script may be ended in the middle of printing it.
        let begins = |at: usize| self.program.secret.starts_with(word(shown.get(at..).unwrap_or_default()));
        let secret =
            shown.match_indices(SECRET).find(|(at, _)| !begins(*at) || shown[*at..].starts_with(&self.program.secret));
        if let Some((at, _)) = secret {
            return Err(format!("a secret is in the log: {:?}", word(&shown[at..])));
        }
        if let Some(agents) = &self.facts.trace
            && agents.as_slice() != trace
            && self.shown.status != "canceled"
            && !self.is_ended_by_manager(agents, trace)
            && self.shown.failure_reason.as_deref() != Some(STUCK)
            && !self.is_cut_off()
            && !(self.is_late() && agents.starts_with(trace))
        {
            return Err(format!(
                "the log has {} bytes and the agent left {}; they differ from byte {:?}",
                trace.len(),
                agents.len(),
                agents.iter().zip(trace).position(|(one, other)| one != other)
            ));
        }
        for script in self.program.scripts.iter().chain(&self.program.after) {
            let mark = format!("@{}:{}:", self.program.id, script.stage);
            let found: Vec<&str> = shown.lines().filter(|line| line.starts_with(&mark)).collect();
            let same = found.iter().zip(&script.lines).take_while(|(one, other)| *one == other).count();
            // Not one that was stopped, for its own limit for instance.
            let code = script.end.code();
            let ended = self.facts.ends.iter().any(|(stage, ended)| stage == script.stage && Some(*ended) == code);
            let stopped = self.facts.stopped.contains(script.stage);
            let harmed = !self.facts.harms.is_empty() || stopped || self.is_cut_off() || self.is_late();
            let is_cut = harmed || !ended || self.facts.trace.is_none();
            let whole = found.len() == script.lines.len();
            // The last line that is there may have been cut off with its pod.
            let prefix = same == found.len() || (is_cut && same + 1 == found.len());
            if !prefix || (!whole && !is_cut) {
                return Err(format!("{}: the log has {found:?} instead of {:?}", script.stage, script.lines));
            }
        }
        Ok(())
    }
}

/// The first word of a text.
fn word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn violations(list: &Value, book: &Book) -> Vec<String> {
    let troubles = book.troubles(None);
    let left_no_trace = |entry: &Value| {
        let facts = entry["job"].as_u64().and_then(|job| book.jobs.get(&job));
        facts.is_none_or(|facts| facts.pods.is_empty() || facts.harms.contains(&Harm::PodDeleted))
    };
    let is_dead = |entry: &Value| {
        let facts = entry["job"].as_u64().and_then(|job| book.jobs.get(&job));
        facts.is_some_and(|facts| facts.harms.iter().any(|harm| allowed::POD_HARMS.contains(harm)))
    };
    let excused = |entry: &Value| match entry["rule"].as_str().unwrap_or_default() {
        // The agent of a job that its manager had to end without it.
        "log after verdict" => troubles.api || troubles.is_first_version,
        // Two with the same proof that a pod is dead, in one moment: GitLab takes a last line for
        // the other.
        "log rewritten" => troubles.api && troubles.manager_killed && is_dead(entry),
        // A manager slept with the verdict of an agent that died meanwhile: another has reported
        // what the pod shows, and GitLab refuses the second end.
        "verdict changed" => troubles.manager_killed && is_dead(entry),
        // An acknowledgement that GitLab has not answered for as long as it is tried.
        "log before acknowledgement" => troubles.gitlab,
        UNACKNOWLEDGED => troubles.gitlab || troubles.manager_lost && (troubles.api || left_no_trace(entry)),
        rule => BROKEN_BY_DEATH.contains(&rule) && (troubles.manager_lost || troubles.gitlab),
    };
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let counted = list.iter().filter(|entry| !excused(entry));
    counted.map(|entry| format!("a violation: {entry}")).collect()
}

/// Pods that nobody has removed. Those whose manager was lost stay until the cluster collects them
/// if their agent had a plan and did not end with 0, or was killed.
fn left_behind(pods: &BTreeMap<String, Value>, troubles: Troubles) -> Vec<String> {
    let stays = |pod: &Value| {
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let helper = statuses.iter().find(|status| status["name"] == HELPER).cloned().unwrap_or_default();
        let has_run = statuses.is_empty() && pod["status"]["reason"] == "Evicted";
        let ended = helper["state"]["terminated"]["exitCode"].as_u64();
        has_run || ended.is_some_and(|code| ![0, u64::from(WITHOUT_PLAN)].contains(&code))
    };
    let orphaned = troubles.manager_lost;
    if troubles.gitlab_away >= UNANSWERED {
        return Vec::new();
    }
    let left = pods.iter().filter(|(_, pod)| !(orphaned && stays(pod)));
    left.map(|(name, pod)| format!("{name} is left behind: {}", pod["status"]["containerStatuses"])).collect()
}

/// A number made of what GitLab shows in the end: the same for two runs of one seed.
pub(crate) async fn digest(fate: &Fate) -> anyhow::Result<u64> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    for job in fate.desk.get::<Vec<Value>>("/sim/jobs").await? {
        for key in ["id", "status", "failure_reason", "exit_code", "trace_bytes", "attempt"] {
            job[key].to_string().hash(&mut hasher);
        }
    }
    format!("{:?}", fate.ledger.book().jobs.values().map(|facts| (&facts.pods, &facts.tries)).collect::<Vec<_>>())
        .hash(&mut hasher);
    Ok(hasher.finish())
}
