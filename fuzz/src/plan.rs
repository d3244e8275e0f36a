//! A config file, a line of three hyphens, and a payload: what they make together. The plan of a
//! job is the same however often it is asked for, and its token is neither in the pod nor in what
//! people read.

use gantry_plan::{Context, Links};

/// Long enough that no setting has it by chance.
const TOKEN: &str = "glcbt-64_fuzzingFuzzingFuzzing";

/// The target.
pub fn target(text: &str) {
    let Some((config, payload)) = text.split_once("\n---\n") else { return };
    let Ok(loaded) = gantry_config::load(config, &|_| None) else { return };
    let Ok(mut job) = gantry_gitlab::read_job(payload.as_bytes()) else { return };
    job.token = TOKEN.into();
    for runner in &loaded.settings.runners {
        let context = Context::example();
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
}
