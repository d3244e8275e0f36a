//! What is decided about a job.

use std::hint::black_box;

use criterion::Criterion;
use gantry_config::settings::RunnerSettings;
use gantry_core::job::JobSpec;
use gantry_plan::Context;
use serde_json::{Value, json};

/// Variables of a job in a group of many settings.
const VARIABLES: usize = 200;

/// What a large job of a large operator has: variables, services, and volumes of the settings.
const LARGE: Size = Size { variables: 50, services: 5 };
const VOLUMES: usize = 30;

/// How large a job is.
#[derive(Clone, Copy)]
struct Size {
    variables: usize,
    services: usize,
}

/// Everything that is decided about a job.
pub(crate) fn plan(criterion: &mut Criterion) {
    let context = Context::example();
    let mut group = criterion.benchmark_group("plan");
    let kinds = [
        ("trivial job", Size { variables: 0, services: 1 }, 0),
        ("job of 200 variables", Size { variables: VARIABLES, services: 1 }, 0),
        ("job of 50 variables, 5 services, 30 volumes", LARGE, VOLUMES),
    ];
    for (name, size, volumes) in kinds {
        let (job, runner) = (job(size), runner(volumes));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                gantry_plan::plan(black_box(&job), &runner, &context, &gantry_plan::Links::default()).expect("a plan")
            });
        });
    }
    group.finish();
}

fn runner(volumes: usize) -> RunnerSettings {
    let head = "[[runners]]\nname = \"bench\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-bench\"\nexecutor = \"kubernetes\"\n";
    let volume = |number: usize| {
        let table = ["empty_dir", "config_map", "secret", "pvc", "host_path"][number % 5];
        let path = if table == "host_path" { "host_path = \"/srv\"\n" } else { "" };
        format!(
            "[[runners.kubernetes.volumes.{table}]]\nname = \"volume-{number}\"\nmount_path = \"/mnt/{number}\"\n{path}"
        )
    };
    let text = head.to_owned() + &(0..volumes).map(volume).collect::<String>();
    let loaded = gantry_config::load(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    loaded.settings.runners.into_iter().next().expect("one runner")
}

fn job(size: Size) -> JobSpec {
    let variable = |number: usize| {
        // Each refers to the one before, as settings of groups do to those of others.
        let value = format!("value {number} of $VARIABLE_{}", number.saturating_sub(1));
        json!({"key": format!("VARIABLE_{number}"), "value": value, "public": true, "masked": false})
    };
    let variables: Vec<Value> = (0..size.variables).map(variable).collect();
    let service = |number: usize| json!({"name": format!("postgres:{}", 12 + number), "alias": format!("db-{number}")});
    let services: Vec<Value> = (0..size.services).map(service).collect();
    let payload = json!({
        "id": 1, "token": "glcbt-64_of-the-benchmark", "allow_git_fetch": true, "variables": variables,
        "job_info": {"name": "unit", "stage": "test", "project_id": 1, "project_name": "shop", "project_full_path": "acme/shop",
            "root_namespace_id": 7},
        "git_info": {"repo_url": "https://gitlab.example.com/acme/shop.git", "ref": "main", "sha": "6f1c2d3e4f5061728394a5b6c7d8e9f001122334",
            "before_sha": "0".repeat(40), "ref_type": "branch", "refspecs": ["+refs/pipelines/1:refs/pipelines/1"], "depth": 20},
        "runner_info": {"timeout": 3600},
        "image": {"name": "debian:12"},
        "steps": [{"name": "script", "script": ["echo hello"]}],
        "services": services,
        "features": {"trace_sections": true}
    });
    serde_json::from_value(payload).expect("a payload")
}
