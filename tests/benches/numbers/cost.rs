//! What a trivial job costs others: requests to the API server and to GitLab, and CPU time of the
//! manager. Nothing else happens meanwhile.
//!
//! By hand a pod costs three requests to the API server: to create it, one exec, to delete it.

use std::collections::BTreeSet;

use gantry_tests::Runner;
use gantry_tests::numbers::{Row, Unit};

use crate::api_requests::{Counts, Mark, total, tries};
use crate::bench::{BOUND, Bench, FEW, REFERENCE, float, progress, row, trivial};
use crate::process::cpu_seconds;

const KIND: &str = "cost";

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    rows.extend(jobs(bench, &bench.runner, "").await?);
    if let Some(runner) = bench.start_reference("cost-reference", FEW).await? {
        rows.extend(jobs(bench, &runner, REFERENCE).await?);
    }
    Ok(())
}

async fn jobs(bench: &Bench, runner: &Runner, whose: &str) -> anyhow::Result<Vec<Row>> {
    let count = bench.sizes.jobs;
    let (mut kube, mut gitlab, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=count {
        let before = Mark::new(bench).await?;
        let used = cpu_seconds(&runner.process)?;
        let id = bench.world.post_job(runner, &trivial()).await?;
        bench.ended(id, BOUND).await?;
        match before {
            Some(before) => kube.push(before.until_deleted(bench, runner, 1).await?),
            None => bench.world.no_pod_of(runner, id).await?,
        }
        cpu.push((cpu_seconds(&runner.process)? - used) * 1000.0);
        gitlab.push(bench.requests().await?.about(id));
        // Looks at pods itself, so only now.
        bench.world.no_pods(runner).await?;
        progress(KIND, number, count);
    }
    let name = |what: &str| format!("{whose}trivial job: {what}");
    let mut rows = Vec::new();
    if !kube.is_empty() {
        let counted = |count: fn(&Counts) -> usize| kube.iter().map(|counts| float(count(counts))).collect::<Vec<_>>();
        let others = |counts: &Counts| total(counts) - tries(counts);
        rows.push(row(KIND, name("requests to the API server"), Unit::Count, counted(total), &[3.0]));
        rows.push(row(KIND, name("those without tries of pods/exec"), Unit::Count, counted(others), &[2.0]));
        let name = name("tries of pods/exec until the agent is reached");
        rows.push(row(KIND, name, Unit::Count, counted(tries), &[1.0]));
        rows.extend(each(whose, "API server", &kube));
    }
    rows.extend(each(whose, "GitLab", &gitlab));
    rows.push(row(KIND, name("CPU time of the manager"), Unit::Milliseconds, cpu, &[]));
    Ok(rows)
}

/// One row for each thing that any job asked for.
fn each(whose: &str, whom: &str, jobs: &[Counts]) -> Vec<Row> {
    let all: BTreeSet<&String> = jobs.iter().flat_map(Counts::keys).collect();
    let of = |what: &String| jobs.iter().map(|counts| float(counts.get(what).copied().unwrap_or_default())).collect();
    let name = |what: &str| format!("{whose}trivial job: {whom}: {what}");
    all.into_iter().map(|what| row(KIND, name(what), Unit::Count, of(what), &[])).collect()
}
