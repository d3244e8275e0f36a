//! Retries, and pipelines that a newer one makes redundant.

use super::*;

/// Runs the next job and reports it as failed.
fn fail(sim: &mut Sim, reason: &str, exit_code: Option<i64>) -> u64 {
    let features = ["two_phase_job_commit", "cancel_gracefully", "return_exit_code"];
    let (id, token) = sim.take(&features).expect("a job");
    sim.put(id, &token, &json!({"state": "running"}));
    let mut verdict = json!({"state": "failed", "failure_reason": reason});
    if let Some(code) = exit_code {
        verdict["exit_code"] = json!(code);
    }
    assert_eq!(sim.put(id, &token, &verdict), (200, "failed"));
    id
}

fn retried(sim: &Sim, id: u64) -> bool {
    sim.world.jobs[&id].retried
}

#[tokio::test(start_paused = true)]
async fn retry_counts_the_tries_that_its_reasons_and_codes_allow() {
    let mut sim = Sim::new();
    let yaml = "test:\n  script: [a]\n  retry: {max: 2, when: [runner_system_failure], exit_codes: [7]}\n";
    let pipeline = sim.pipeline(read(yaml));
    for (reason, code) in [("runner_system_failure", None), ("script_failure", Some(7))] {
        let id = fail(&mut sim, reason, code);
        assert!(retried(&sim, id), "{reason}");
    }
    let last = fail(&mut sim, "runner_system_failure", None);
    assert!(!retried(&sim, last), "two retries and no more");
    assert_eq!(sim.world.pipeline_view(pipeline).expect("the pipeline")["status"], "failed");

    sim.pipeline(read(yaml));
    let id = fail(&mut sim, "script_failure", Some(1));
    assert!(!retried(&sim, id), "another reason, another code");
}

#[tokio::test(start_paused = true)]
async fn old_words_for_reasons_stand_for_the_finer_ones() {
    let mut sim = Sim::new();
    sim.pipeline(read("test:\n  script: [a]\n  retry: {max: 1, when: [stuck_or_timeout_failure]}\n"));
    let (id, token) = sim.take(&FULL).expect("a job");
    sim.put(id, &token, &json!({"state": "running"}));
    tokio::time::advance(Duration::from_secs(1800)).await;
    sim.world.sweep();
    assert_eq!(sim.world.jobs[&id].failure_reason.as_deref(), Some("no_updates_running"));
    assert!(retried(&sim, id));
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_tried_again_only_when_its_runner_never_began() {
    let mut sim = Sim::new();
    sim.queue(&json!({}));
    let id = fail(&mut sim, "runner_system_failure", None);
    assert!(!retried(&sim, id));
    assert!(sim.take(&FULL).is_none());
}

/// A pipeline of `main` at a commit.
fn at(sim: &mut Sim, yaml: &str, commit: char) -> u64 {
    sim.pipeline_at(read(yaml), &commit.to_string().repeat(40))
}

fn state(sim: &Sim, pipeline: u64) -> String {
    let view = sim.world.pipeline_view(pipeline).expect("the pipeline");
    view["status"].as_str().expect("a status").to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_cancels_what_may_be_interrupted() {
    let mut sim = Sim::new();
    let yaml = "a:\n  script: [a]\n  interruptible: true\nb:\n  stage: deploy\n  script: [b]\n";
    let first = at(&mut sim, yaml, '1');
    let (running, token) = sim.take(&FULL).expect("a job");
    sim.put(running, &token, &json!({"state": "running"}));
    let same = at(&mut sim, yaml, '1');
    assert_eq!(state(&sim, first), "running", "the same commit again is not newer");
    let second = at(&mut sim, yaml, '2');
    assert_eq!(state(&sim, first), "canceling");
    assert_eq!(sim.put(running, &token, &json!({"state": "failed"})), (200, "canceled"));
    assert_eq!((state(&sim, first).as_str(), state(&sim, same).as_str()), ("canceled", "canceled"));
    assert_eq!(sim.world.pipeline_view(first).expect("it")["canceled_by"], json!(second));
    assert_eq!(sim.world.pipeline_view(first).expect("it")["jobs"][1]["status"], "canceled", "later stages too");
    let (next, _) = sim.take(&FULL).expect("a job");
    assert_eq!(sim.world.jobs[&next].pipeline(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_must_not_be_interrupted_keeps_its_pipeline_once_it_runs() {
    let mut sim = Sim::new();
    let yaml = "a:\n  script: [a]\nb:\n  script: [b]\n  interruptible: true\n";
    let first = at(&mut sim, yaml, '1');
    let (id, token) = sim.take(&FULL).expect("a job");
    let second = at(&mut sim, yaml, '2');
    assert_eq!(state(&sim, first), "canceled", "nothing had begun");
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})), (403, "canceled"));
    let (id, token) = sim.take(&FULL).expect("a job");
    sim.put(id, &token, &json!({"state": "running"}));
    at(&mut sim, yaml, '3');
    assert_eq!(state(&sim, second), "running");
    assert_eq!(sim.broken(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_says_itself_how_it_may_be_canceled() {
    let mut sim = Sim::new();
    let jobs = "a:\n  script: [a]\nb:\n  script: [b]\n  interruptible: true\n";
    let with = |mode: &str| format!("workflow:\n  auto_cancel:\n    on_new_commit: {mode}\n{jobs}");
    let only = at(&mut sim, &with("interruptible"), '1');
    let never = at(&mut sim, &with("none"), '2');
    at(&mut sim, jobs, '3');
    let states = |sim: &Sim, id: u64| {
        let view = sim.world.pipeline_view(id).expect("the pipeline");
        [0, 1].map(|job: usize| view["jobs"][job]["status"].as_str().expect("a status").to_owned())
    };
    assert_eq!(states(&sim, only), ["pending", "canceled"]);
    assert_eq!(states(&sim, never), ["pending", "pending"]);
    assert_eq!(sim.world.cancel_pipeline(never, false), Some(2));
    assert_eq!(state(&sim, never), "canceled");
    assert_eq!(sim.world.cancel_pipeline(999, false), None);
}
