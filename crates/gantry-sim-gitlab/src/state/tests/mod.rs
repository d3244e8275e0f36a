//! The state rules, step by step, on a paused clock.

mod children;
mod retries;
mod time;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::job::{NewJob, RawJob, Source};
use super::put::Update;
use super::queue::Asker;
use super::retries::Retried;
use super::*;
use crate::choice::Choice;
use crate::ci::{self, CiInput, CiPipeline, Repository};
use crate::repo::{Checkout, Repo, Revision};
use crate::state::payload;

const FULL: [&str; 2] = ["two_phase_job_commit", "cancel_gracefully"];

struct Sim {
    world: World,
    runner: u64,
}

impl Sim {
    fn new() -> Self {
        let mut world = World::new(
            "http://gitlab.test".to_owned(),
            Timing::default(),
            Settings::default(),
            Arc::new(Notify::new()),
        );
        let now = world.now().wall;
        let runner = world.runners.add("glrt-test".to_owned(), now).expect("room for a runner").id;
        Self { world, runner }
    }

    fn queue(&mut self, payload: &Value) -> u64 {
        let payload = payload.as_object().expect("an object").clone();
        let new = NewJob {
            name: "job".to_owned(),
            stage: "test".to_owned(),
            source: Source::Raw(Arc::new(RawJob { payload, ..RawJob::default() })),
            tags: Vec::new(),
            timeout: Duration::from_secs(600),
            watched: false,
            fixed_token: None,
        };
        let id = self.world.add_job(new, None).expect("room for a job");
        self.world.enqueue(id);
        id
    }

    fn pipeline(&mut self, plan: CiPipeline) -> u64 {
        self.pipeline_at(plan, &"0".repeat(40))
    }

    fn pipeline_at(&mut self, plan: CiPipeline, sha: &str) -> u64 {
        let repo =
            Repo { name: "a/b".to_owned(), id: 1, git_dir: "/nowhere".into(), default_branch: "main".to_owned() };
        let full_ref = Some("refs/heads/main".to_owned());
        let revision = Revision { name: "main".to_owned(), full_ref, sha: sha.to_owned(), ..Revision::default() };
        let pipeline = Pipeline {
            name: None,
            id: self.world.reserve_pipeline(),
            checkout: Arc::new(Checkout { repo, revision }),
            stages: plan.stages.clone(),
            jobs: Vec::new(),
            variables: Vec::new(),
            created_at: self.world.now().wall,
            auto_cancel: plan.auto_cancel,
            cancel_on_failure: plan.cancel_on_failure,
            source: "push",
            parent: None,
            left_out: Vec::new(),
            canceled_by: None,
            choice: Choice::default(),
        };
        let id = pipeline.id;
        assert!(self.world.add_pipeline(pipeline, plan));
        id
    }

    /// Takes the next job: its id and token.
    fn take(&mut self, features: &[&str]) -> Option<(u64, String)> {
        let features = features.iter().map(|feature| ((*feature).to_owned(), json!(true))).collect();
        let asker = Asker {
            runner: self.runner,
            system_id: "s_test".to_owned(),
            features: Value::Object(features),
            session: None,
        };
        let (id, payload) = self.world.take(&asker)?;
        Some((id, payload["token"].as_str().expect("a token").to_owned()))
    }

    /// A job that runs.
    fn running(&mut self, features: &[&str]) -> (u64, String) {
        self.queue(&json!({}));
        let (id, token) = self.take(features).expect("a job");
        if features.contains(&"two_phase_job_commit") {
            assert_eq!(self.put(id, &token, &json!({"state": "running"})), (200, "running"));
        }
        (id, token)
    }

    fn put(&mut self, id: u64, token: &str, body: &Value) -> (u16, &'static str) {
        let update = Update::from_json(body.as_object().expect("an object"));
        self.world.put(id, token, &update).map_or((403, ""), |(answer, status)| (answer.code, status.word()))
    }

    fn patch(&mut self, id: u64, token: &str, range: Option<&str>, body: &[u8]) -> (u16, Option<u64>) {
        let answer = self.world.patch(id, token, range, body);
        answer.map_or((403, None), |(answer, _)| (answer.code, answer.size))
    }

    fn status(&self, id: u64) -> &'static str {
        self.world.jobs[&id].status.word()
    }

    /// The rules broken so far.
    fn broken(&self) -> Vec<String> {
        let list = self.world.violations.view();
        list.as_array().expect("a list").iter().map(|entry| entry["rule"].as_str().unwrap_or("?").to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_two_phase_job_is_pending_until_it_is_acknowledged() {
    let mut sim = Sim::new();
    let id = sim.queue(&json!({}));
    let (taken, token) = sim.take(&FULL).expect("a job");
    assert_eq!(taken, id);
    assert_eq!(sim.status(id), "pending");
    assert!(sim.take(&FULL).is_none(), "nobody else gets it");
    assert_eq!(sim.put(id, &token, &json!({"state": "pending"})), (200, "pending"));
    assert_eq!(sim.broken(), [""; 0]);
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"x"), (403, None));
    assert_eq!(sim.put(id, &token, &json!({"state": "failed"})), (400, "pending"));
    assert_eq!(sim.broken(), ["log before acknowledgement", "state before acknowledgement"]);
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})), (200, "running"));
    assert_eq!(sim.put(id, &token, &json!({"state": "pending"})), (400, "running"));
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (200, "success"));
    assert_eq!(sim.broken().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_runner_without_two_phase_has_the_job_running_at_once() {
    let mut sim = Sim::new();
    let id = sim.queue(&json!({}));
    sim.take(&[]).expect("a job");
    assert_eq!(sim.status(id), "running");
    tokio::time::advance(Duration::from_secs(300)).await;
    sim.world.sweep();
    assert_eq!(sim.status(id), "running");
    assert_eq!(sim.broken(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_and_unknown_jobs_are_refused_without_a_status() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.put(id, "wrong", &json!({"state": "running"})), (403, ""));
    assert_eq!(sim.put(id, "", &json!({"state": "running"})), (403, ""));
    assert_eq!(sim.put(id + 1, &token, &json!({"state": "running"})), (403, ""));
    assert_eq!(sim.broken(), ["job authentication"; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_appended_only_where_it_ends() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.patch(id, &token, None, b"abcd"), (400, None));
    assert_eq!(sim.patch(id, &token, Some("0-3"), b"abcd"), (202, Some(4)));
    assert_eq!(sim.patch(id, &token, Some("2-3"), b"xy"), (202, Some(4)), "GitLab compares ends only");
    assert_eq!(sim.patch(id, &token, Some("0-3"), b"abcd"), (202, Some(4)), "a repeat");
    assert_eq!(sim.patch(id, &token, Some("9-9"), b"z"), (416, Some(4)));
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"a"), (416, Some(4)));
    assert_eq!(sim.patch(id, &token, Some("bytes 4-4/5"), b"e"), (416, Some(4)));
    assert_eq!(sim.patch(id, &token, Some("4-99"), b"e"), (202, Some(5)), "the end comes from the length");
    assert_eq!(sim.world.jobs[&id].trace.from(0), b"abcde");
    assert_eq!(sim.broken(), ["content range", "log rewritten", "content range", "content range"]);
}

#[tokio::test(start_paused = true)]
async fn the_interval_depends_on_somebody_watching() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    let interval = |sim: &mut Sim| sim.world.patch(id, &token, Some("0"), b"").and_then(|(answer, _)| answer.interval);
    assert_eq!(interval(&mut sim), Some(60));
    let now = sim.world.now();
    sim.world.jobs.get_mut(&id).expect("the job").last_look = Some(now.at);
    assert_eq!(interval(&mut sim), Some(3));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(interval(&mut sim), Some(60));
}

#[tokio::test(start_paused = true)]
async fn a_final_state_waits_for_missing_bytes_but_not_for_ever() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    let verdict = json!({"state": "success", "output": {"checksum": "crc32:cbf43926", "bytesize": 9}});
    assert_eq!(sim.patch(id, &token, Some("0-4"), b"12345"), (202, Some(5)));
    assert_eq!(sim.put(id, &token, &verdict), (202, "running"));
    assert_eq!(sim.patch(id, &token, Some("5-8"), b"6789"), (202, Some(9)));
    assert_eq!(sim.put(id, &token, &verdict), (200, "success"));
    assert_eq!(sim.put(id, &token, &verdict), (403, "success"), "delivered twice is no fault");
    assert_eq!(sim.broken(), [""; 0]);
    assert_eq!(sim.put(id, &token, &json!({"state": "failed"})), (403, "success"));
    assert_eq!(sim.patch(id, &token, Some("9-9"), b"x"), (403, None));
    assert_eq!(sim.broken(), ["verdict changed", "log after verdict"]);

    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.put(id, &token, &verdict), (202, "running"));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(sim.put(id, &token, &verdict), (202, "running"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(sim.put(id, &token, &verdict), (200, "success"));
    assert_eq!(sim.broken().last().map(String::as_str), Some("log size"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_checksum_is_accepted_and_recorded() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    sim.patch(id, &token, Some("0-8"), b"123456789");
    let verdict = json!({"state": "success", "output": {"checksum": "crc32:00000000", "bytesize": 9}});
    assert_eq!(sim.put(id, &token, &verdict), (200, "success"));
    assert_eq!(sim.broken(), ["log checksum"]);
}

#[tokio::test(start_paused = true)]
async fn reasons_and_exit_codes_are_stored() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    let verdict = json!({"state": "failed", "failure_reason": "image_pull_failure", "exit_code": 7});
    assert_eq!(sim.put(id, &token, &verdict), (200, "failed"));
    let job = &sim.world.jobs[&id];
    assert_eq!((job.failure_reason.as_deref(), job.exit_code), (Some("image_pull_failure"), Some(7)));
    assert_eq!(sim.broken(), [""; 0]);

    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.put(id, &token, &json!({"state": "failed", "failure_reason": "bad_luck"})), (200, "failed"));
    assert_eq!(sim.world.jobs[&id].failure_reason.as_deref(), Some("unknown_failure"));
    assert_eq!(sim.broken(), ["failure reason"]);

    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.put(id, &token, &json!({"state": "done"})), (400, "running"));
    assert_eq!(sim.put(id, &token, &json!({})), (400, "running"));
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_the_payload_does_not_list_is_a_violation() {
    let mut sim = Sim::new();
    sim.queue(&json!({"features": {"failure_reasons": ["script_failure"]}}));
    let (id, token) = sim.take(&[]).expect("a job");
    let verdict = json!({"state": "failed", "failure_reason": "image_pull_failure"});
    assert_eq!(sim.put(id, &token, &verdict), (200, "failed"));
    assert_eq!(sim.broken(), ["failure reason"]);
}

#[tokio::test(start_paused = true)]
async fn cancel_is_graceful_only_for_a_running_job_of_a_runner_that_can() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.world.cancel(id, false), Some(true));
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})), (200, "canceling"));
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"x"), (202, Some(1)));
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (200, "canceled"));
    assert_eq!(sim.world.cancel(id, false), Some(false));

    let (id, token) = sim.running(&["two_phase_job_commit"]);
    sim.world.cancel(id, false);
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})), (403, "canceled"));

    let (id, token) = sim.running(&FULL);
    sim.world.cancel(id, true);
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"x"), (403, None));

    let waiting = sim.queue(&json!({}));
    sim.world.cancel(waiting, false);
    assert!(sim.take(&FULL).is_none(), "a canceled job leaves the queue");
    assert_eq!(sim.broken(), [""; 0], "a runner cannot know of a cancel");
    assert_eq!(sim.world.cancel(999, false), None);
}

#[tokio::test(start_paused = true)]
async fn raw_payloads_go_out_as_given_with_defaults_only_for_what_is_absent() {
    let mut sim = Sim::new();
    let given = json!({"steps": "absurd", "image": null, "id": 77, "variables": [{"key": "X", "value": 5}]});
    let id = sim.queue(&given);
    let payload = payload::of(&sim.world, id);
    assert_eq!((&payload["steps"], &payload["image"], &payload["id"]), (&json!("absurd"), &Value::Null, &json!(77)));
    let variables = payload["variables"].as_array().expect("a list");
    assert_eq!(variables.last(), Some(&json!({"key": "X", "value": 5})));
    assert!(variables.iter().any(|variable| variable["key"] == "GIT_STRATEGY" && variable["value"] == "none"));
    assert_eq!(payload["runner_info"]["timeout"], 600);
    assert_eq!(payload["features"]["trace_sections"], true);
    let id = sim.queue(&json!({"variables": {"not": "a list"}}));
    assert_eq!(payload::of(&sim.world, id)["variables"], json!({"not": "a list"}));
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_inherit_the_first_try_s_id_and_token() {
    let mut sim = Sim::new();
    let id = sim.queue(&json!({"id": 5, "token": "glcbt-given", "steps": []}));
    let (taken, _) = sim.take(&[]).expect("a job");
    assert_eq!(taken, id);
    sim.world.cancel(id, true);
    let Retried::As(again) = sim.world.retry(id) else { panic!("not retried") };
    assert!(matches!(sim.world.retry(id), Retried::NotPossible), "only once");
    let payload = payload::of(&sim.world, again);
    assert_eq!(payload["id"], json!(again));
    assert_ne!(payload["token"], "glcbt-given");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_needs_what_the_runner_lacks_is_dropped() {
    let mut sim = Sim::new();
    let definition = read("test:\n  script: [a]\n  allow_failure: {exit_codes: [1]}\n");
    let pipeline = sim.pipeline(definition);
    assert!(sim.take(&FULL).is_none());
    let view = sim.world.pipeline_view(pipeline).expect("the pipeline");
    assert_eq!(view["jobs"][0]["failure_reason"], "runner_unsupported");
    assert_eq!(view["status"], "failed");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_job_waits_for_its_time() {
    let mut sim = Sim::new();
    sim.pipeline(read("test:\n  script: [a]\n  when: delayed\n  start_in: 10 minutes\n"));
    assert!(sim.take(&FULL).is_none());
    let next = sim.world.sweep().expect("a deadline");
    assert_eq!(next - tokio::time::Instant::now(), Duration::from_secs(600));
    tokio::time::advance(Duration::from_secs(600)).await;
    sim.world.sweep();
    assert!(sim.take(&FULL).is_some());
}

/// A repository without files.
struct NoFiles;

impl Repository for NoFiles {
    fn file(&self, _: &str) -> Option<String> {
        None
    }
    fn paths(&self) -> Rc<[String]> {
        Rc::default()
    }
    fn changed(&self) -> Option<Rc<[String]>> {
        None
    }
    fn changed_since(&self, _: &str) -> Option<Rc<[String]>> {
        None
    }
}

fn read(yaml: &str) -> CiPipeline {
    let input = CiInput { yaml, file: ".gitlab-ci.yml", variables: &[], inputs: &[], repository: &NoFiles };
    ci::read(&input).expect("a valid file")
}

#[tokio::test]
async fn a_job_that_is_not_run_here_says_so_and_stays_skipped() {
    let mut sim = Sim::new();
    let id = sim.pipeline(read(
        "down: {stage: build, trigger: {project: a/b}}\nuser: {script: x, needs: [down]}\none: {script: x}\n",
    ));
    let (one, token) = sim.take(&FULL).expect("the job that can run");
    assert!(sim.take(&FULL).is_none());
    sim.world.put(one, &token, &Update { state: "success".to_owned(), ..Update::default() });
    let view = sim.world.pipeline_view(id).expect("a pipeline");
    let notes: Vec<&str> =
        view["jobs"].as_array().expect("jobs").iter().filter_map(|job| job["note"].as_str()).collect();
    assert_eq!(
        notes,
        [
            "not run here: `trigger` of the project a/b is not supported here: there is only this project (.gitlab-ci.yml:1)",
            "not run here: it needs down, which is not run here (.gitlab-ci.yml:2)",
        ]
    );
    assert!(matches!(sim.world.retry(1), Retried::NotPossible));
}

#[tokio::test]
async fn a_job_that_needs_what_its_runner_has_not_says_what() {
    let mut sim = Sim::new();
    sim.pipeline(read("a: {script: x, cache: {paths: [p], fallback_keys: [k]}}\n"));
    assert!(sim.take(&[]).is_none());
    let job = sim.world.jobs.values().next().expect("a job");
    assert_eq!(job.failure_reason.as_deref(), Some("runner_unsupported"));
    let note = "the runner does not advertise the feature `fallback_cache_keys`, which `cache:fallback_keys` of this job requires";
    assert_eq!(job.note.as_deref(), Some(note));
}
