//! A config file, a line of three hyphens, and a payload: what they make together. The plan of a
//! job is the same however often it is asked for, and its token is neither in the pod nor in what
//! people read.

#![no_main]

use gantry_plan::{Context, Links, Owner};
use gantry_wire::plan::Alone;
use gantry_wire::ticket::TicketKey;

fn context() -> Context {
    Context {
        name: "gantry".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "0".to_owned(),
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
        owner: Owner { name: "0123456789abcdef".to_owned(), beats: true },
        fleet: None,
        ticket_key: TicketKey::derive(&"the key of all cases".into()),
        taken_unix_ms: 1_790_000_000_000,
        docker_config: None,
        patch_files: gantry_plan::PatchFiles::new(),
        may_mark: true,
    }
}

/// Long enough that no setting has it by chance.
const TOKEN: &str = "glcbt-64_fuzzingFuzzingFuzzing";

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some((config, payload)) = text.split_once("\n---\n") else { return };
    let Ok(loaded) = gantry_config::load(config, &|_| None) else { return };
    let Ok(mut job) = gantry_gitlab::read_job(payload.as_bytes()) else { return };
    job.token = TOKEN.into();
    for runner in &loaded.settings.runners {
        let context = context();
        let _ = gantry_plan::wants(&job, runner, &context);
        let plan = gantry_plan::plan(&job, runner, &context, &Links::default());
        let again = gantry_plan::plan(&job, runner, &context, &Links::default());
        let shown = |plan: &Result<gantry_plan::JobPlan, gantry_plan::PlanError>| match plan {
            Ok(plan) => serde_json::to_string(&(&plan.pod, &plan.banner, &plan.executor)).expect("JSON"),
            Err(error) => error.to_string(),
        };
        let text = shown(&plan);
        assert_eq!(text, shown(&again), "the same question has two answers");
        assert!(!text.contains(TOKEN), "the token is where people can read it");
    }
});
