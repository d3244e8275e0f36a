//! What the API server was asked: from the audit log of the project's own cluster, or from the
//! counts of the simulated one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::Context as _;
use gantry_tests::{Runner, until};
use reqwest::Method;
use serde_json::Value;

use crate::bench::{BOUND, Bench};

/// Where the project's own cluster notes every request (`tests/cluster/README.md`).
const AUDIT_LOG: &str = "/var/lib/gantry-cluster/var/log/audit.log";

/// The last request about a job.
const LAST: &str = "delete pods";

/// A try to reach an agent.
const EXEC: &str = "pods/exec";

/// Requests by verb and resource.
pub(crate) type Counts = BTreeMap<String, usize>;

/// Where counting begins.
pub(crate) enum Mark {
    /// The length of the audit log.
    End(u64),
    /// What was counted until then.
    Counts(Counts),
}

/// How many requests of all kinds.
pub(crate) fn total(counts: &Counts) -> usize {
    counts.values().sum()
}

/// How many tries of an exec.
pub(crate) fn tries(counts: &Counts) -> usize {
    counts.iter().filter(|(what, _)| what.ends_with(EXEC)).map(|(_, count)| count).sum()
}

impl Mark {
    /// A moment before requests that are to be counted; none, and a word about it, where nobody
    /// counts them.
    pub(crate) async fn new(bench: &Bench) -> anyhow::Result<Option<Self>> {
        if !bench.world.cluster().is_given() {
            return Ok(Some(Self::Counts(simulated(bench).await?)));
        }
        let about = std::fs::metadata(AUDIT_LOG);
        if about.is_err() {
            eprintln!("no audit log at {AUDIT_LOG}: requests to the API server are not counted");
        }
        Ok(about.ok().map(|about| Self::End(about.len())))
    }

    /// What so many jobs of a runner have cost since, once their pods have been deleted.
    pub(crate) async fn until_deleted(&self, bench: &Bench, runner: &Runner, jobs: usize) -> anyhow::Result<Counts> {
        until("requests that delete the pods", BOUND, async || {
            let counts = self.since(bench, runner).await?;
            let deleted = counts.get(LAST).copied().unwrap_or_default();
            Ok(if deleted >= jobs { Ok(counts) } else { Err(format!("{counts:?}")) })
        })
        .await
    }

    async fn since(&self, bench: &Bench, runner: &Runner) -> anyhow::Result<Counts> {
        match self {
            Self::End(end) => {
                // The log grows for as long as the cluster lives, so only its end is read.
                let mut file = File::open(AUDIT_LOG)?;
                file.seek(SeekFrom::Start(*end))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(audited(&String::from_utf8_lossy(&bytes), &runner.namespace))
            }
            Self::Counts(before) => {
                let mut counts = simulated(bench).await?;
                for (what, count) in &mut counts {
                    *count -= before.get(what).copied().unwrap_or_default();
                }
                counts.retain(|_, count| *count > 0);
                Ok(counts)
            }
        }
    }
}

/// What the simulated API server was asked so far. It does not tell who asks: nobody but the
/// manager may do so meanwhile.
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
