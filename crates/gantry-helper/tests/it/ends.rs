//! Ways in which a job ends other than by its script.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use gantry_core::{Ending, FailureReason, NoteLevel};
use gantry_wire::frame::{Cancel, Closed, Frame, Note, Phase};
use gantry_wire::plan::{Action, KeepFailed, PodPlan, Sources};
use gantry_wire::shim::{ShimFrame, ShimHello};

use crate::sources::sources;
use crate::world::{Manager, World, script, stage, variable, wait};

/// Bounded, because a shim that a test has killed leaves its script behind: here it is no first
/// process of a container.
const LOOP: &str = "echo begun; for i in $(seq 1200); do sleep 0.05; done";

#[test]
fn a_cancel_stops_the_script_and_leaves_after_script() {
    let world = World::new();
    let mut plan =
        world.plan(&["trap 'echo got TERM; exit 0' TERM; echo begun; for i in $(seq 1200); do sleep 0.05; done"]);
    plan.stages.push(stage("after_script", Action::AfterScript(script("echo after $CI_JOB_STATUS"))));
    let mut manager = world.start(plan);
    manager.until_text("begun");
    manager.send(&Frame::Cancel(Cancel { force: false }));
    let closed = manager.closed();
    let log = manager.text();
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobCanceled), "{log}");
    assert!(log.contains("got TERM\n") && log.contains("after canceled\n"), "{log}");
    assert!(log.ends_with("ERROR: Job failed: canceled\x1b[0;m\n"), "{log}");
}

/// What `cause` does while a stage of the helper container runs; the tool it has started must be
/// gone afterwards.
fn stop_in_sources(cause: impl FnOnce(&mut Manager), plan: impl FnOnce(&mut PodPlan)) -> (Closed, String) {
    let world = World::new();
    let mut job = world.plan(&["echo never"]);
    job.stages.insert(1, stage("get_sources", Action::Sources(Box::new(hooked("echo pid=$$.; exec sleep 1000")))));
    plan(&mut job);
    let mut manager = world.start(job);
    manager
        .until("the whole line", |manager| manager.text().split("pid=").nth(1).is_some_and(|rest| rest.contains('.')));
    let pid = manager.text().split("pid=").nth(1).unwrap().split('.').next().unwrap().to_owned();
    cause(&mut manager);
    let closed = manager.closed();
    wait(|| !std::path::Path::new(&format!("/proc/{pid}")).exists(), "the tool to end");
    (closed, manager.text())
}

fn hooked(text: &str) -> Sources {
    Sources { pre_script: Some(script(text)), ..sources("file:///nowhere", "0") }
}

#[test]
fn a_cancel_before_the_scripts_ends_the_job() {
    let cancel = |manager: &mut Manager| manager.send(&Frame::Cancel(Cancel { force: false }));
    let (closed, log) = stop_in_sources(cancel, |_| ());
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobCanceled));
    assert!(!log.contains("never"), "{log}");
}

#[test]
fn the_time_out_ends_stages_of_the_helper_too() {
    let (closed, log) = stop_in_sources(|_| (), |plan| plan.remaining_ms = 2000);
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout));
    assert!(log.contains("WARNING: get_sources could not run to completion"), "{log}");
}

#[test]
fn the_sources_have_a_time_of_their_own() {
    let (closed, log) = stop_in_sources(|_| (), |plan| plan.get_sources_timeout_ms = Some(1500));
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout), "{log}");
    assert_eq!(
        closed.verdict.message,
        "get sources timeout: exceeded timeout of 2s (get_sources_timeout of the runner's config)"
    );
}

#[test]
fn the_containers_of_a_failed_job_stay_for_a_while() {
    let mut world = World::new();
    let mut plan = world.plan(&["exit 3"]);
    plan.keep_failed = Some(KeepFailed { ms: 1500, hint: "the pod is kept".to_owned() });
    let mut manager = world.start(plan);
    manager.closed();
    assert_eq!(manager.state.keeps_seconds, Some(1));
    assert!(manager.text().contains("the pod is kept"), "{}", manager.text());
    let begun = std::time::Instant::now();
    manager.send(&Frame::Reported);
    assert_eq!(crate::world::wait_for(&mut world.agent).code(), Some(0));
    assert!(begun.elapsed() >= std::time::Duration::from_millis(1400), "{:?}", begun.elapsed());
}

#[test]
fn an_agent_without_a_plan_ends_when_it_is_told_to() {
    let mut world = World::agent_alone();
    Command::new("kill").arg(world.agent.id().to_string()).status().unwrap();
    assert_eq!(crate::world::wait_for(&mut world.agent).code(), Some(143));
}

#[test]
fn a_forced_cancel_leaves_nothing() {
    let world = World::new();
    let mut plan = world.plan(&["trap '' TERM; echo begun; for i in $(seq 1200); do sleep 0.05; done"]);
    plan.stages.push(stage("after_script", Action::AfterScript(script("echo after"))));
    let mut manager = world.start(plan);
    manager.until_text("begun");
    manager.send(&Frame::Cancel(Cancel { force: false }));
    manager.send(&Frame::Cancel(Cancel { force: true }));
    let closed = manager.closed();
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobCanceled));
    assert!(!manager.text().contains("\nafter\n"), "{}", manager.text());
}

#[test]
fn a_cancel_before_go_closes_at_once() {
    let world = World::agent_alone();
    let mut manager = world.connect();
    manager.hello();
    manager.send(&Frame::Plan(Box::new(world.plan(&["true"]))));
    manager.until("accepted", |manager| manager.others.contains(&Frame::PlanAccepted));
    manager.until("the state", |manager| manager.state.phase == Phase::Planned);
    manager.send(&Frame::Cancel(Cancel { force: false }));
    manager.until("closed", |manager| manager.state.closed.is_some());
}

#[test]
fn the_job_s_time_out_ends_everything() {
    let world = World::new();
    let mut plan = world.plan(&[LOOP]);
    plan.timeout_seconds = 3;
    plan.remaining_ms = 2500;
    plan.stages.push(stage("after_script", Action::AfterScript(script("echo after"))));
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout));
    assert!(log.contains("begun\n") && !log.contains("\nafter\n"), "{log}");
    assert!(log.ends_with("ERROR: Job failed: execution took longer than 3s seconds\x1b[0;m\n"), "{log}");
}

#[test]
fn the_scripts_own_time_out_leaves_after_script() {
    let world = World::new();
    let mut plan = world.plan(&[LOOP]);
    plan.script_timeout_ms = Some(1000);
    plan.after_script_timeout_ms = 1000;
    plan.stages.push(stage("after_script", Action::AfterScript(script("echo after $CI_JOB_STATUS; sleep 100"))));
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout));
    assert!(log.contains("after timedout\n") && log.contains("script timeout: exceeded timeout of 1s"), "{log}");
}

#[test]
fn a_job_that_is_traced_shows_its_variables_masked() {
    for (allowed, value) in [(true, "true"), (false, "true"), (true, "false")] {
        let world = World::new();
        let mut plan = world.plan(&["set -o xtrace; echo ADDED=later-7 >> $GITLAB_ENV"]);
        plan.stages.push(stage("after_script", Action::AfterScript(script("true"))));
        plan.trace.debug_trace = allowed;
        plan.trace.masks = vec!["hunter2-and-'more'".into(), "-----BEGIN\nKEY-----".into()];
        plan.environment = vec![
            variable("CI_DEBUG_TRACE", value),
            variable("MYVAR", "findme-123"),
            variable("PASSWORD", "hunter2-and-'more'"),
            variable("PEM", "-----BEGIN\nKEY-----"),
        ];
        let (_, log) = world.run(plan);
        assert!(!log.contains("hunter2") && !log.contains("BEGIN") && !log.contains("KEY---"), "{log}");
        let shown = log.matches("+ export MYVAR='findme-123'\n").count();
        assert_eq!(shown, usize::from(allowed && value == "true"), "{log}");
        if shown > 0 {
            assert!(log.contains("+ export PASSWORD='[MASKED]'\n+ export PEM='[MASKED]'\n"), "{log}");
            let after = log.split("Doing after_script").nth(1).unwrap();
            assert!(after.contains("+ export ADDED='later-7'\n+ export CI_JOB_STATUS='success'\n"), "{log}");
        }
    }
}

#[test]
fn an_after_script_that_counts_has_a_time_out_of_its_own() {
    let world = World::new();
    let mut plan = world.plan(&["true"]);
    plan.after_script_timeout_ms = 1000;
    plan.after_script_ignore_errors = false;
    plan.stages.push(stage("after_script", Action::AfterScript(script("sleep 100"))));
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout));
    let message = "after_script timeout: exceeded timeout of 1s (RUNNER_AFTER_SCRIPT_TIMEOUT)";
    assert_eq!(closed.verdict.message, message, "{log}");
}

#[test]
fn a_lost_shim_ends_the_job_with_the_manager_s_cause() {
    let mut world = World::new();
    let mut manager = world.start(world.plan(&[LOOP]));
    manager.until_text("begun");
    world.shim.as_mut().unwrap().kill().unwrap();
    manager.until("the shim to be missed", |manager| !manager.state.shim);
    manager.send(&Frame::Fail(Ending::ContainerOutOfMemory { container: "build".into(), limit: Some("64Mi".into()) }));
    let closed = manager.closed();
    assert_eq!(closed.verdict.reason, Some(FailureReason::ScriptFailure));
    assert!(manager.text().contains("OOMKilled: its memory limit is 64Mi"), "{}", manager.text());
}

#[test]
fn a_lost_shim_without_a_cause_is_still_an_end() {
    let mut world = World::new();
    let mut manager = world.start(world.plan(&[LOOP]));
    manager.until_text("begun");
    world.shim.as_mut().unwrap().kill().unwrap();
    let closed = manager.closed();
    assert!(manager.text().contains("container build ended while the job ran"), "{}", manager.text());
    assert_eq!(closed.verdict.reason, Some(FailureReason::RunnerSystemFailure));
}

#[test]
fn a_script_dies_with_its_agent() {
    let mut world = World::new();
    let mut manager = world.start(world.plan(&["echo pid=$$; for i in $(seq 1200); do sleep 0.05; done"]));
    manager.until_text("pid=");
    manager
        .until("the whole line", |manager| manager.text().split("pid=").nth(1).is_some_and(|rest| rest.contains('\n')));
    let text = manager.text();
    let pid: u32 = text.split("pid=").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    world.agent.kill().unwrap();
    let status = crate::world::wait_for(world.shim.as_mut().unwrap());
    assert_eq!(status.code(), Some(1));
    wait(|| !std::path::Path::new(&format!("/proc/{pid}")).exists(), "the script to end");
}

#[test]
fn a_pod_that_is_being_ended_may_still_succeed_or_blames_the_cluster() {
    for (text, success) in [
        ("echo begun; while [ ! -e go ]; do sleep 0.05; done", true),
        ("echo begun; while [ ! -e go ]; do sleep 0.05; done; exit 1", false),
    ] {
        let world = World::new();
        let mut manager = world.start(world.plan(&[text]));
        manager.until_text("begun");
        for child in [&world.agent, world.shim.as_ref().unwrap()] {
            Command::new("kill").arg(child.id().to_string()).status().unwrap();
        }
        manager.until_text("grace period");
        std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
        let closed = manager.closed();
        assert_eq!(closed.verdict.success, success, "{}", manager.text());
        if !success {
            assert_eq!(closed.verdict.reason, Some(FailureReason::RunnerSystemFailure));
            assert!(manager.text().contains("was ended by the cluster"), "{}", manager.text());
        }
    }
}

#[test]
fn a_full_disk_is_a_clear_end_whose_log_still_arrives() {
    let world = World::new();
    std::os::unix::fs::symlink("/dev/full", world.path("/gantry-agent/trace")).unwrap();
    let (closed, log) = world.run(world.plan(&["echo hello"]));
    assert_eq!(closed.verdict.reason, Some(FailureReason::RunnerSystemFailure));
    assert!(log.starts_with("Running with gantry\n"), "{log}");
    assert!(log.contains("the job log cannot be written in the pod: No space left on device"), "{log}");
}

#[test]
fn a_shell_that_is_missing_is_named() {
    let world = World::agent_alone();
    let mut manager = world.start(world.plan(&["true"]));
    let mut shim = UnixStream::connect(world.path("/gantry/shim.sock")).unwrap();
    let hello = ShimHello { protocol: gantry_wire::PROTOCOL, shell: String::new() };
    shim.write_all(&ShimFrame::Hello(hello).to_bytes()).unwrap();
    let closed = manager.closed();
    assert_eq!(closed.verdict.reason, Some(FailureReason::RunnerConfigurationError));
    assert!(manager.text().contains("the build image has no shell"), "{}", manager.text());
    assert!(!world.path("/gantry/shim.sock").exists(), "only one shim is ever let in");
}

#[test]
fn a_shim_of_another_protocol_is_named() {
    let world = World::agent_alone();
    let mut manager = world.start(world.plan(&["true"]));
    let mut shim = UnixStream::connect(world.path("/gantry/shim.sock")).unwrap();
    let hello = ShimHello { protocol: 99, shell: "/bin/sh".into() };
    shim.write_all(&ShimFrame::Hello(hello).to_bytes()).unwrap();
    manager.closed();
    assert!(manager.text().contains("it speaks protocol 99"), "{}", manager.text());
}

#[test]
fn notes_are_lines_of_the_trace_until_it_is_closed() {
    let world = World::new();
    let mut manager = world.start(world.plan(&["while [ ! -e go ]; do sleep 0.05; done"]));
    let note = |text: &str| Frame::Note(Note::new(NoteLevel::Warning, text));
    manager.send(&note("the node is short of disk"));
    manager.until_text("\x1b[0;33mWARNING: the node is short of disk\x1b[0;m\n");
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    let closed = manager.closed();
    manager.send(&note("too late"));
    manager.send(&Frame::Ping);
    manager.until("pong", |manager| manager.others.contains(&Frame::Pong));
    assert_eq!(std::fs::metadata(world.path("/gantry-agent/trace")).unwrap().len(), closed.trace_bytes);
}

#[test]
fn scripts_wait_for_services_and_for_the_build_container() {
    let mut world = World::agent_alone();
    let mut plan = world.plan(&["echo ran"]);
    plan.wait_for_services = true;
    let mut manager = world.start(plan);
    manager.until("the script's stage", |manager| manager.state.stage.as_deref() == Some("step_script"));
    world.start_shim();
    manager.until("the shim", |manager| manager.state.shim);
    assert!(!manager.text().contains("\nran\n"));
    manager.send(&Frame::ServicesStarted);
    assert!(manager.closed().verdict.success);
}

/// Hooks run as the agent's own user in its own container.
#[test]
fn a_job_that_cuts_its_own_log_ends_well_or_with_a_reason() {
    let mut world = World::agent_as_in_a_pod(&[]);
    world.start_shim();
    let cut = "echo before; for file in $(find ROOT/gantry-agent -type f); do : > $file; done; echo after";
    let cut = cut.replace("ROOT", &world.root.path().to_string_lossy());
    let (closed, log) = world.run(world.plan(&[&cut]));
    assert!(closed.verdict.success, "{closed:?}");
    assert!(log.contains("before\nafter\n"), "{log}");

    // Who may trace the agent reaches the file even without its name.
    let mut world = World::agent_as_in_a_pod(&[]);
    world.start_shim();
    let cut = "echo before; sleep 0.2
        for file in /proc/AGENT/fd/*; do
            case $(readlink $file) in *trace*deleted*) : > $file && echo cut;; esac
        done; sleep 1; echo after";
    let cut = cut.replace("AGENT", &world.agent.id().to_string());
    let mut manager = world.start(world.plan(&[&cut]));
    let closed = manager.closed();
    manager.until("the whole log", |manager| manager.trace.len() as u64 >= closed.trace_bytes);
    let log = manager.text();
    assert_eq!(closed.trace_crc32.is_some(), closed.verdict.success);
    let was_cut = closed.verdict.message.contains("was changed by something else");
    assert!(was_cut || closed.verdict.success && log.contains("after"), "{closed:?} {log}");
}
