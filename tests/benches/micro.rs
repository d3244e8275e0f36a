//! What decides and renders, alone: a plan, and the trace of a job.
//!
//!     cargo bench -p gantry-tests --bench micro -- [FILTER] [--save-baseline NAME] [--baseline NAME]
//!
//! In one process, without clock and network, so that a change of some percent is seen. What whole jobs take is in `numbers/`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gantry_core::Secret;
use gantry_core::job::JobSpec;
use gantry_plan::Context;
use gantry_trace::{Options, Stream, Trace, default_token_prefixes};
use gantry_wire::plan::Alone;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Bytes that are rendered: as much as a default log holds.
const LOG: usize = 4 << 20;

/// Bytes that the agent takes from a pipe at once.
const PIECE: usize = 64 << 10;

/// Variables of a job in a group of many settings.
const VARIABLES: usize = 200;

criterion_group! {
    name = micro;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).without_plots();
    targets = render, plan
}
criterion_main!(micro);

/// The trace of a job: masked, stamped and limited, as the agent does it.
fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Bytes(LOG as u64));
    let log = lines();
    for (name, masks, timestamps) in [("plain", 0, false), ("stamped", 0, true), ("stamped, 50 masks", 50, true)] {
        let options = Options {
            masks: (0..masks).map(|number| Secret::new(format!("s3cr3t-value-of-variable-{number:04}"))).collect(),
            token_prefixes: default_token_prefixes(false, &[]),
            timestamps,
            limit: u64::MAX,
        };
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || (Trace::new(options.clone(), "", &mut Vec::new()), Vec::with_capacity(2 * LOG)),
                |(trace, out)| {
                    for piece in log.chunks(PIECE) {
                        trace.write(Stream::JobOut, Timestamp::UNIX_EPOCH, piece, out);
                    }
                    trace.close(Timestamp::UNIX_EPOCH, out);
                    black_box(out.len());
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// Output as compilers and tests print it, with text that begins like a masked value.
fn lines() -> Vec<u8> {
    let mut log = Vec::with_capacity(LOG + 100);
    let mut number = 0_u32;
    while log.len() < LOG {
        number += 1;
        let line = format!(
            "   Compiling module-{number} v0.{}.1 (s3cr3t-value of nobody, file://src/{number}.rs)\n",
            number % 17
        );
        log.extend_from_slice(line.as_bytes());
    }
    log.truncate(LOG);
    log
}

/// Everything that is decided about a job.
fn plan(criterion: &mut Criterion) {
    let text = "[[runners]]\nname = \"bench\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-bench\"\nexecutor = \"kubernetes\"\n";
    let loaded = gantry_config::load(text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let runner = loaded.settings.runners.into_iter().next().expect("one runner");
    let (context, small, large) = (context(), job(0), job(VARIABLES));
    let mut group = criterion.benchmark_group("plan");
    for (name, job) in [("trivial job".to_owned(), &small), (format!("job of {VARIABLES} variables"), &large)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| gantry_plan::plan(black_box(job), &runner, &context).expect("a plan"));
        });
    }
    group.finish();
}

fn job(variables: usize) -> JobSpec {
    let variable = |number: usize| {
        // Each refers to the one before, as settings of groups do to those of others.
        let value = format!("value {number} of $VARIABLE_{}", number.saturating_sub(1));
        json!({"key": format!("VARIABLE_{number}"), "value": value, "public": true, "masked": false})
    };
    let variables: Vec<Value> = (0..variables).map(variable).collect();
    let payload = json!({
        "id": 1, "token": "glcbt-64_of-the-benchmark", "allow_git_fetch": true, "variables": variables,
        "job_info": {"name": "unit", "stage": "test", "project_id": 1, "project_name": "shop", "project_full_path": "acme/shop",
            "root_namespace_id": 7},
        "git_info": {"repo_url": "https://gitlab.example.com/acme/shop.git", "ref": "main", "sha": "6f1c2d3e4f5061728394a5b6c7d8e9f001122334",
            "before_sha": "0".repeat(40), "ref_type": "branch", "refspecs": ["+refs/pipelines/1:refs/pipelines/1"], "depth": 20},
        "runner_info": {"timeout": 3600},
        "image": {"name": "debian:12"},
        "steps": [{"name": "script", "script": ["echo hello"]}],
        "services": [{"name": "postgres:16"}],
        "features": {"trace_sections": true}
    });
    serde_json::from_value(payload).expect("a payload")
}

fn context() -> Context {
    Context {
        name: "gantry".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "bench".to_owned(),
        git_user_agent: "gantry".to_owned(),
        executable_arch: "linux/amd64".to_owned(),
        manager_host: "manager-0".to_owned(),
        system_id: "r_0123456789ab".to_owned(),
        concurrent_id: 0,
        concurrent_project_id: 0,
        suffix: "k3v9q2xd".to_owned(),
        correlation_id: None,
        tls_ca_pem: None,
        configured_ca_pem: None,
        proxies: None,
        alone: Alone::default(),
    }
}
