//! What a trivial job costs others: requests to the API server and to GitLab, and CPU time of the manager. Nothing else happens meanwhile.
//!
//! By hand a pod costs three requests to the API server: to create it, one exec, to delete it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::Context as _;
use gantry_tests::numbers::{Row, Unit};
use gantry_tests::until;
use reqwest::Method;
use serde_json::Value;

use crate::bench::{BOUND, Bench, float, progress, row, trivial};
use crate::manager::cpu_seconds;

const KIND: &str = "cost";

/// Where the project's own cluster notes every request (`tests/cluster/README.md`).
const AUDIT_LOG: &str = "/var/lib/gantry-cluster/var/log/audit.log";

/// The last request about a job.
const LAST: &str = "delete pods";

/// Requests by verb and resource.
type Counts = BTreeMap<String, usize>;

/// Where counting begins.
enum Mark {
    /// The length of the audit log.
    End(u64),
    /// What was counted until then.
    Counts(Counts),
}

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let count = bench.sizes.jobs;
    let counts_requests = mark(bench).await?.is_some();
    if !counts_requests {
        eprintln!("no audit log at {AUDIT_LOG}: requests to the API server are not counted");
    }
    let (mut kube, mut gitlab, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=count {
        let before = mark(bench).await?;
        let used = cpu_seconds(&bench.runner.process)?;
        let id = bench.world.post_job(&bench.runner, &trivial()).await?;
        bench.ended(id, BOUND).await?;
        match before {
            Some(before) => kube.push(until_deleted(bench, &before).await?),
            None => bench.world.no_pod_of(&bench.runner, id).await?,
        }
        cpu.push((cpu_seconds(&bench.runner.process)? - used) * 1000.0);
        gitlab.push(bench.requests().await?.about(id));
        // Looks at pods itself, so only now.
        bench.world.no_pods(&bench.runner).await?;
        progress(KIND, number, count);
    }
    let mut rows = Vec::new();
    if counts_requests {
        let sum = |wanted: fn(&str) -> bool, counts: &Counts| {
            counts.iter().filter(|(what, _)| wanted(what)).map(|(_, count)| count).sum::<usize>()
        };
        let all: Vec<f64> = kube.iter().map(|counts| float(sum(|_| true, counts))).collect();
        let tries = kube.iter().map(|counts| float(sum(|what| what.ends_with("pods/exec"), counts))).collect();
        rows.push(row(KIND, "trivial job: requests to the API server", Unit::Count, all, &[3.0]));
        rows.push(row(KIND, "trivial job: tries of pods/exec until the agent is reached", Unit::Count, tries, &[1.0]));
        rows.extend(each("API server", &kube));
    }
    rows.extend(each("GitLab", &gitlab));
    rows.push(row(KIND, "trivial job: CPU time of the manager", Unit::Milliseconds, cpu, &[]));
    Ok(rows)
}

/// One row for each thing that any job asked for.
fn each(whom: &str, jobs: &[Counts]) -> Vec<Row> {
    let all: BTreeSet<&String> = jobs.iter().flat_map(BTreeMap::keys).collect();
    let of = |what: &String| jobs.iter().map(|counts| float(counts.get(what).copied().unwrap_or_default())).collect();
    all.into_iter().map(|what| row(KIND, format!("trivial job: {whom}: {what}"), Unit::Count, of(what), &[])).collect()
}

/// What the job has cost, once its pod has been deleted.
async fn until_deleted(bench: &Bench, before: &Mark) -> anyhow::Result<Counts> {
    until("a request that deletes the pod", BOUND, async || {
        let counts = since(bench, before).await?;
        Ok(if counts.contains_key(LAST) { Ok(counts) } else { Err(format!("{counts:?}")) })
    })
    .await
}

/// A moment before requests that are to be counted, if they can be.
async fn mark(bench: &Bench) -> anyhow::Result<Option<Mark>> {
    if bench.world.cluster().is_given() {
        return Ok(std::fs::metadata(AUDIT_LOG).ok().map(|about| Mark::End(about.len())));
    }
    Ok(Some(Mark::Counts(simulated(bench).await?)))
}

/// What the API server was asked since then.
async fn since(bench: &Bench, mark: &Mark) -> anyhow::Result<Counts> {
    match mark {
        Mark::End(end) => {
            // The log grows for as long as the cluster lives, so only its end is read.
            let mut file = File::open(AUDIT_LOG)?;
            file.seek(SeekFrom::Start(*end))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(audited(&String::from_utf8_lossy(&bytes), &bench.runner.namespace))
        }
        Mark::Counts(before) => {
            let mut counts = simulated(bench).await?;
            for (what, count) in &mut counts {
                *count -= before.get(what).copied().unwrap_or_default();
            }
            counts.retain(|_, count| *count > 0);
            Ok(counts)
        }
    }
}

/// What the simulated API server was asked so far. It does not tell who asks: nobody but the manager may do so meanwhile.
async fn simulated(bench: &Bench) -> anyhow::Result<Counts> {
    let (status, answer) = bench.world.kube.ask(Method::GET, "/sim/requests", None).await?;
    anyhow::ensure!(status.is_success(), "/sim/requests: {status}: {answer}");
    let items = answer["items"].as_array().context("no counts")?;
    let counts = items.iter().filter_map(|item| {
        let (verb, resource) = (item["verb"].as_str()?, item["resource"].as_str()?);
        let count = usize::try_from(item["count"].as_u64()?).ok()?;
        // The simulator's own paths are ours.
        (!resource.starts_with('/')).then(|| (format!("{verb} {resource}"), count))
    });
    Ok(counts.collect())
}

/// What the account of a runner has asked, from an audit log.
fn audited(text: &str, namespace: &str) -> Counts {
    let user = format!("system:serviceaccount:{namespace}:");
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| line.contains(&user)) {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let word = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (verb, resource, sub) = (word("/verb"), word("/objectRef/resource"), word("/objectRef/subresource"));
        // Requests that last are noted at their start and at their end.
        let is_long = verb == "watch" || sub == "exec";
        if (word("/stage") == "ResponseStarted") == is_long {
            let what = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
            *counts.entry(format!("{verb} {what}")).or_default() += 1;
        }
    }
    counts
}
