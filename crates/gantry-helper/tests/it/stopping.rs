//! What happens to everything that a script has started: when it is stopped, and when it ends by
//! itself.

use gantry_core::FailureReason;
use gantry_wire::frame::{Cancel, Frame};
use gantry_wire::plan::{Action, PodPlan};

use crate::world::{World, script, stage};

/// Writes its number into `pids` and stays.
const STAYS: &str = "sh -c 'echo $$ >> pids; exec sleep 1000'";

/// Says which of the processes in `pids` live.
const LIVING: &str = "for pid in $(cat pids); do kill -0 $pid 2>/dev/null && echo \"$pid lives\"; done; echo looked";

/// Takes a second to let go after TERM.
const TIDY: &str = "cat > tidy <<'END'\n\
     trap 'echo term >> out; sleep 1; echo unlocked >> out; exit 0' TERM\n\
     touch begun\n\
     while :; do sleep 0.05; done\n\
     END\n";

/// Says `begun` once the file is there, and waits for whatever runs.
const WAIT: &str = "(until [ -e begun ]; do sleep 0.02; done; echo begun) & wait";

fn with_after(mut plan: PodPlan, text: &str) -> PodPlan {
    plan.stages.push(stage("after_script", Action::AfterScript(script(text))));
    plan
}

/// Runs `text` until it says `begun`, cancels, and gives the log of the whole job.
fn canceled(text: &str, after: &str) -> String {
    let world = World::new();
    let mut manager = world.start(with_after(world.plan(&[text]), after));
    manager.until_text("\nbegun\n");
    manager.send(&Frame::Cancel(Cancel { force: false }));
    let closed = manager.closed();
    let log = manager.text();
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobCanceled), "{log}");
    log
}

#[test]
fn a_stop_reaches_other_groups_and_sessions_and_orphans() {
    for start in [
        format!("timeout 900 {STAYS} &"),
        format!("setsid {STAYS} &"),
        format!("(set -m; {STAYS} & wait) &"),
        format!("(setsid {STAYS} &) ; "),
        format!("sh -c 'trap \"\" TERM HUP INT; {}' &", STAYS.replace('\'', "\"").replace("$$", "\\$\\$")),
    ] {
        let log = canceled(&format!("{start} until [ -s pids ]; do sleep 0.02; done; echo begun; wait"), LIVING);
        assert!(log.contains("\nlooked\n") && !log.contains("lives"), "{start}\n{log}");
    }
}

#[test]
fn the_grace_lasts_as_long_as_anything_lives() {
    let piped = "sh tidy 2>&1 | cat > log.txt";
    let reads = "sleep 1000 | sh tidy";
    for start in ["sh tidy", "sh tidy > log.txt 2>&1", piped, reads, "timeout 600 sh tidy"] {
        let log = canceled(&format!("{TIDY}{start} & {WAIT}"), "cat out; echo looked");
        assert!(log.contains("\nterm\nunlocked\nlooked\n"), "{start}\n{log}");
    }
}

#[test]
fn what_the_grace_does_not_end_is_killed() {
    let world = World::new();
    let text = format!(
        "sh -c 'trap \"\" TERM; echo $$ > pids; while :; do sleep 0.05; done' > log.txt & {}; wait",
        "until [ -s pids ]; do sleep 0.02; done; echo begun"
    );
    let mut plan = with_after(world.plan(&[&text]), LIVING);
    plan.script_grace_ms = 300;
    plan.script_timeout_ms = Some(1500);
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.reason, Some(FailureReason::JobExecutionTimeout), "{log}");
    assert!(log.contains("\nlooked\n") && !log.contains("lives"), "{log}");
}

#[test]
fn the_grace_leaves_time_for_after_script() {
    let world = World::new();
    let mut plan = with_after(world.plan(&["trap '' TERM; while :; do sleep 0.05; done"]), "echo after-$((1+1))");
    plan.script_grace_ms = 60_000;
    plan.script_timeout_ms = Some(1000);
    (plan.timeout_seconds, plan.remaining_ms) = (20, 20_000);
    let (closed, log) = world.run(plan);
    assert!(log.contains("\nafter-2\n"), "{log}");
    assert_eq!(closed.verdict.message, "script timeout: exceeded timeout of 1s", "{log}");
    assert_eq!(log.matches("could not run to completion").count(), 1, "{log}");
}

#[test]
fn background_processes_of_earlier_steps_go_with_a_stopped_one() {
    let world = World::new();
    let first = format!("{STAYS} & until [ -s pids ]; do sleep 0.02; done");
    let plan = with_after(world.plan(&[&first, &format!("{LIVING}; echo begun; sleep 1000")]), LIVING);
    let mut manager = world.start(plan);
    manager.until_text("\nbegun\n");
    manager.send(&Frame::Cancel(Cancel { force: false }));
    manager.closed();
    let log = manager.text();
    assert_eq!(log.matches(" lives\n").count(), 1, "{log}");
    assert_eq!(log.matches("looked\n").count(), 2, "{log}");
}

#[test]
fn background_processes_outlive_their_script_and_print_on() {
    let world = World::new();
    let ticks = "(while :; do echo tick; touch ticked; sleep 0.05; done) & echo $! > pids";
    // Twice a new tick, long after the script that began them.
    let later = "for i in 1 2; do sleep 1; rm -f ticked; until [ -e ticked ]; do sleep 0.05; done; done";
    let plan =
        with_after(world.plan(&[ticks, &format!("{later}; echo second-$((1+1))")]), &format!("{later}; {LIVING}"));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("second-2\n") && log.contains(" lives\n"), "{log}");
    assert!(log.rsplit("second-2\n").next().unwrap().contains("tick\n"), "what they print is shown: {log}");
    // Here the container does not end with its first process.
    let pid = std::fs::read_to_string(world.path("/builds/g/p/pids")).unwrap();
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
}

#[test]
fn what_a_script_wrote_through_another_process_is_its_own() {
    let world = World::new();
    let text = "mkfifo pipe; (sleep 0.05; cat < pipe; echo and-more-$((1+1))) & exec > pipe; echo through";
    let (closed, log) = world.run(world.plan(&[text]));
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("through\nand-more-2\n"), "{log}");
}
