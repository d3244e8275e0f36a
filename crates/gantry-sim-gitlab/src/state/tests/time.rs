//! What happens by itself when time passes: acknowledgement, silence, overtime, the queue, locks,
//! expiry.

use super::*;

/// Lets the clock run and the sweep look.
async fn pass(sim: &mut Sim, seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
    sim.world.sweep();
}

fn reason(sim: &Sim, id: u64) -> &str {
    sim.world.jobs[&id].failure_reason.as_deref().unwrap_or("none")
}

#[tokio::test(start_paused = true)]
async fn a_job_that_nobody_acknowledges_is_dropped_and_tried_again_under_a_new_id() {
    let mut sim = Sim::new();
    let id = sim.queue(&json!({}));
    let (_, token) = sim.take(&FULL).expect("a job");
    pass(&mut sim, 100).await;
    assert_eq!(sim.put(id, &token, &json!({"state": "pending"})).0, 200);
    pass(&mut sim, 119).await;
    assert!(sim.world.jobs[&id].is_waiting(), "the keep-alive counts");
    let next = sim.world.sweep().expect("a deadline");
    tokio::time::advance(next - tokio::time::Instant::now()).await;
    sim.world.sweep();
    assert_eq!((sim.status(id), reason(&sim, id)), ("failed", "runner_provisioning_timeout"));
    assert_eq!(sim.broken(), ["taken and never acknowledged"]);
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})), (403, "failed"));
    assert_eq!(sim.broken().len(), 1, "a late runner breaks no further rule");
    let (again, second) = sim.take(&FULL).expect("the retry");
    assert_ne!((again, second.as_str()), (id, token.as_str()));
    assert_eq!(sim.put(again, &second, &json!({"state": "running"})), (200, "running"));
}

#[tokio::test(start_paused = true)]
async fn the_third_runner_that_is_silent_ends_it() {
    let mut sim = Sim::new();
    sim.queue(&json!({}));
    let mut last = 0;
    for _ in 0..=limits::DEFAULT_RETRIES {
        (last, _) = sim.take(&FULL).expect("a try");
        pass(&mut sim, 121).await;
    }
    assert_eq!((sim.status(last), reason(&sim, last)), ("failed", "runner_provisioning_timeout"));
    assert!(sim.take(&FULL).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_is_refused_and_the_job_is_dropped_a_little_later() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    pass(&mut sim, 600 + 299).await;
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"x"), (202, Some(1)));
    pass(&mut sim, 1).await;
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (403, "running"));
    assert_eq!(sim.patch(id, &token, Some("1-1"), b"y"), (403, None));
    pass(&mut sim, 599).await;
    assert_eq!(sim.status(id), "running");
    pass(&mut sim, 1).await;
    assert_eq!((sim.status(id), reason(&sim, id)), ("failed", "server_timeout_running"));
    assert_eq!(sim.broken(), ["overtime"]);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_job_after_a_quarter_to_half_an_hour() {
    let mut sim = Sim::new();
    let long = |sim: &mut Sim| {
        let id = sim.queue(&json!({}));
        sim.world.jobs.get_mut(&id).expect("the job").new.timeout = Duration::from_secs(36_000);
        sim.take(&["cancel_gracefully"]).expect("a job")
    };
    let (id, token) = long(&mut sim);
    pass(&mut sim, 899).await;
    assert_eq!(sim.put(id, &token, &json!({"state": "running"})).0, 200);
    pass(&mut sim, 900).await;
    assert_eq!(sim.status(id), "running", "29 minutes and 59 s after the start");
    pass(&mut sim, 1).await;
    assert_eq!((sim.status(id), reason(&sim, id)), ("failed", "no_updates_running"));
    assert_eq!(sim.broken(), ["silent"]);

    let (id, token) = long(&mut sim);
    pass(&mut sim, 900).await;
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"x").0, 202, "noted");
    sim.world.cancel(id, false);
    pass(&mut sim, 1799).await;
    assert_eq!(sim.status(id), "canceling");
    pass(&mut sim, 1).await;
    assert_eq!((sim.status(id), reason(&sim, id)), ("canceled", "no_updates_canceling"));
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_no_place_to_grow_old() {
    let mut sim = Sim::new();
    let waits = sim.queue(&json!({}));
    let nobody = sim.queue(&json!({}));
    sim.world.jobs.get_mut(&nobody).expect("the job").new.tags = vec!["gpu".to_owned()];
    pass(&mut sim, 3599).await;
    assert_eq!(sim.status(nobody), "pending");
    pass(&mut sim, 1).await;
    assert_eq!((sim.status(nobody), reason(&sim, nobody)), ("failed", "stuck_pending_no_matching_runners"));
    assert_eq!(sim.status(waits), "pending");
    pass(&mut sim, 23 * 3600).await;
    assert_eq!((sim.status(waits), reason(&sim, waits)), ("failed", "stuck_pending_with_matching_runners"));
    assert_eq!(sim.broken(), [""; 0], "no runner is to blame");
}

#[tokio::test(start_paused = true)]
async fn a_locked_log_is_409_for_a_patch_and_202_for_a_verdict() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    let until = sim.world.now().at + Duration::from_secs(5);
    sim.world.jobs.get_mut(&id).expect("the job").log_locked_until = Some(until);
    assert_eq!(sim.patch(id, &token, Some("0-8"), b"123456789"), (409, None));
    let verdict = json!({"state": "success", "output": {"checksum": "crc32:00000000", "bytesize": 0}});
    assert_eq!(sim.put(id, &token, &verdict), (202, "running"));
    pass(&mut sim, 5).await;
    assert_eq!(sim.patch(id, &token, Some("0-8"), b"123456789"), (202, Some(9)));
    assert_eq!(sim.broken(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn two_relays_at_once_meet_at_the_lock() {
    let mut sim = Sim::new();
    sim.world.timing.log_write = Duration::from_millis(200);
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.patch(id, &token, Some("0-0"), b"a"), (202, Some(1)));
    assert_eq!(sim.patch(id, &token, Some("1-1"), b"b"), (409, None));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(sim.patch(id, &token, Some("1-1"), b"b"), (202, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_waits_until_the_stored_log_has_settled() {
    let mut sim = Sim::new();
    sim.world.timing.log_flush = Duration::from_secs(3);
    let (id, token) = sim.running(&FULL);
    sim.patch(id, &token, Some("0-8"), b"123456789");
    let verdict = json!({"state": "success", "output": {"checksum": "crc32:cbf43926", "bytesize": 9}});
    assert_eq!(sim.put(id, &token, &verdict), (202, "running"));
    pass(&mut sim, 3).await;
    assert_eq!(sim.put(id, &token, &verdict), (200, "success"));
    let (id, token) = sim.running(&FULL);
    sim.patch(id, &token, Some("0-8"), b"123456789");
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (200, "success"), "no checksum, no wait");
}

#[tokio::test(start_paused = true)]
async fn an_older_gitlab_asks_for_a_broken_log_again() {
    let mut sim = Sim::new();
    sim.world.settings.reset_broken_logs = true;
    let (id, token) = sim.running(&["two_phase_job_commit", "trace_reset"]);
    sim.patch(id, &token, Some("0-8"), b"12345678X");
    let verdict = json!({"state": "success", "output": {"checksum": "crc32:cbf43926", "bytesize": 9}});
    assert_eq!(sim.put(id, &token, &verdict), (412, "running"));
    assert_eq!(sim.patch(id, &token, Some("0-8"), b"123456789"), (202, Some(9)));
    assert_eq!(sim.put(id, &token, &verdict), (200, "success"));
    assert_eq!(sim.broken(), [""; 0]);
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.put(id, &token, &json!({"state": "success", "checksum": "crc32:cbf43926"})), (200, "success"));
    assert_eq!(sim.broken(), ["log checksum"], "a runner that cannot send it again is not asked to");
}

#[tokio::test(start_paused = true)]
async fn a_log_beyond_the_limit_ends_its_job() {
    let mut sim = Sim::new();
    sim.world.settings.log_limit = 8;
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.patch(id, &token, Some("0-7"), b"12345678"), (202, Some(8)));
    assert_eq!(sim.patch(id, &token, Some("8-8"), b"9"), (403, None));
    assert_eq!((sim.status(id), reason(&sim, id)), ("failed", "trace_size_exceeded"));
}

#[tokio::test(start_paused = true)]
async fn the_token_of_an_erased_job_is_as_good_as_none() {
    let mut sim = Sim::new();
    let (id, token) = sim.running(&FULL);
    assert_eq!(sim.world.erase(id), Some(false));
    sim.patch(id, &token, Some("0-0"), b"x");
    sim.put(id, &token, &json!({"state": "success"}));
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (403, "success"));
    assert_eq!(sim.world.erase(id), Some(true));
    assert_eq!(sim.put(id, &token, &json!({"state": "success"})), (403, ""));
    assert_eq!(sim.world.jobs[&id].trace.len(), 0);
    assert_eq!(sim.broken(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn runner_tokens_expire_on_time() {
    let mut sim = Sim::new();
    let expires = sim.world.now().after(Duration::from_secs(60));
    sim.world.runners.by_id_mut(sim.runner).expect("the runner").token_expires = Some(expires);
    let works = |sim: &mut Sim| {
        let now = sim.world.now();
        sim.world.runners.by_token("glrt-test", now).is_some()
    };
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(works(&mut sim));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!works(&mut sim));
    let shown = sim.world.runners.view()[0]["token_expires_at"].as_str().map(str::to_owned).expect("a time");
    assert!(shown.len() == 24 && shown.ends_with('Z') && shown.as_bytes()[19] == b'.', "{shown}");
}
