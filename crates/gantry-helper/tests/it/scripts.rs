//! User scripts: results, variables, output.

use std::os::unix::process::CommandExt as _;

use gantry_core::FailureReason;
use gantry_wire::plan::{Action, EnvVar};

use crate::world::{World, peak_memory, script, stage, variable};

#[test]
fn a_good_job_succeeds_and_everybody_leaves_with_0() {
    let world = World::new();
    let mut manager = world.start(world.plan(&["echo hello; pwd; cat /dev/null -"]));
    let closed = manager.closed();
    let text = manager.text();
    assert!(closed.verdict.success, "{text}");
    assert!(text.starts_with("Running with gantry\n"), "{text}");
    assert!(text.contains(" via manager-host...\n") && text.contains("\nhello\n") && text.contains("/builds/g/p\n"));
    assert!(text.ends_with("\x1b[32;1mJob succeeded\x1b[0;m\n"), "{text}");
    let (agent, shim) = world.leave(&mut manager);
    assert_eq!((agent.code(), shim.unwrap().code()), (Some(0), Some(0)));
}

#[test]
fn exit_codes_are_exact() {
    for (text, code) in [("exit 3", 3), ("false", 1), ("nonsense-command", 127), ("kill -9 $$", 137), ("exit 255", 255)]
    {
        let world = World::new();
        let (closed, log) = world.run(world.plan(&[text]));
        assert_eq!(closed.verdict.exit_code, Some(code), "{text}: {log}");
        assert_eq!(closed.verdict.reason, Some(FailureReason::ScriptFailure));
        let last = format!("\x1b[31;1mERROR: Job failed: command terminated with exit code {code}\x1b[0;m\n");
        assert!(log.ends_with(&last), "{log}");
    }
}

#[test]
fn a_failing_script_keeps_the_next_from_running_but_not_after_script() {
    let world = World::new();
    let mut plan = world.plan(&["exit 4", "echo second"]);
    plan.stages.push(stage("after_script", Action::AfterScript(script("echo after $CI_JOB_STATUS; exit 1"))));
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.exit_code, Some(4));
    assert!(log.contains("after failed\n") && !log.contains("\nsecond\n"), "{log}");
    assert!(log.contains("WARNING: after_script failed, but job will continue unaffected"), "{log}");
}

#[test]
fn variables_reach_scripts_whatever_they_hold() {
    let world = World::new();
    let huge = format!("it's {}", "x".repeat(300 * 1024));
    let mut plan = world.plan(&[
        "echo \"[$PLAIN][$ODD]\"; cat \"$SECRET_FILE\"; echo; echo ${#HUGE}; stat -c %a \"$SECRET_FILE\"; echo $CI_JOB_STATUS\n\
         echo 'LATER=from before' >> \"$GITLAB_ENV\"; echo >> \"$GITLAB_ENV\"",
        "echo \"second: $LATER\"",
    ]);
    plan.environment = vec![
        variable("PLAIN", "first"),
        variable("PLAIN", "last wins"),
        variable("ODD", "a 'b' \"c\" $HOME `x`\nline"),
        EnvVar { file: true, ..variable("SECRET_FILE", "no newline at the end") },
        variable("HUGE", &huge),
    ];
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("[last wins][a 'b' \"c\" $HOME `x`\nline]\n"), "{log}");
    assert!(log.contains(&format!("no newline at the end\n{}\n666\nrunning\n", huge.len())), "{log}");
    assert!(log.contains("second: from before\n"), "{log}");
    assert!(
        log.contains("WARNING: the variable HUGE (301 KiB) is too large for the environment of a process"),
        "{log}"
    );
}

#[test]
fn secrets_are_masked_even_when_they_come_in_pieces() {
    let world = World::new();
    let mut plan = world.plan(&["printf 'hun'; sleep 0.7; printf 'ter2\\n'; echo again hunter2"]);
    plan.trace.masks = vec!["hunter2".into()];
    plan.trace.timestamps = true;
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success);
    assert!(!log.contains("hunter2") && log.matches("[MASKED]").count() == 2, "{log}");
}

#[test]
fn unfinished_lines_show_soon() {
    let world = World::new();
    let mut plan = world.plan(&["printf 'Password: '; while [ ! -e go ]; do sleep 0.05; done; echo ok"]);
    plan.trace.timestamps = true;
    let mut manager = world.start(plan);
    manager.until_text("Password: ");
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(manager.closed().verdict.success);
}

#[test]
fn binary_output_arrives_as_valid_text() {
    let world = World::new();
    let (closed, log) = world.run(world.plan(&["printf '\\377\\000\\376 ok\\n'"]));
    assert!(closed.verdict.success);
    assert!(log.contains(" ok\n"), "{log}");
}

#[test]
fn a_flood_of_output_arrives_whole_in_bounded_memory() {
    let world = World::new();
    let mut manager = world.start(world.plan(&["yes 0123456789abcde | head -c 20971520"]));
    let closed = manager.closed();
    assert!(closed.verdict.success);
    assert_eq!(manager.text().matches("0123456789abcde\n").count(), 20 * 1024 * 1024 / 16);
    for process in [&world.agent, world.shim.as_ref().unwrap()] {
        let memory = peak_memory(process.id());
        assert!(memory < 48 << 20, "{memory} bytes");
    }
}

#[test]
fn background_children_do_not_hold_up_the_job() {
    let world = World::new();
    let started = std::time::Instant::now();
    let (closed, log) = world.run(world.plan(&["sleep 300 & echo started"]));
    assert!(closed.verdict.success && log.contains("started\n"));
    assert!(started.elapsed().as_secs() < 20);
}

#[test]
fn a_project_directory_that_the_job_takes_away_is_the_jobs_fault() {
    for (text, state) in [
        ("cd /; rm -rf $CI_PROJECT_DIR", "is not there any more"),
        ("cd /; rm -rf $CI_PROJECT_DIR; touch $CI_PROJECT_DIR", "is a file now and no directory"),
    ] {
        let world = World::new();
        let mut plan = world.plan(&[text, "echo reached"]);
        plan.environment = vec![variable("CI_PROJECT_DIR", &plan.paths.project_dir)];
        let (closed, log) = world.run(plan);
        assert_eq!(closed.verdict.reason, Some(FailureReason::ScriptFailure), "{log}");
        assert_eq!(closed.verdict.exit_code, Some(1));
        assert!(log.contains(&format!("/builds/g/p {state}; the job has removed or replaced it")), "{log}");
        assert!(!log.contains("reached"), "{log}");
    }
}

#[test]
fn a_container_that_an_earlier_script_has_spoiled_is_the_jobs_fault() {
    let world = World::new();
    let text = "cd /; mv $CI_PROJECT_DIR $CI_PROJECT_DIR.moved; ln -s /nowhere $CI_PROJECT_DIR";
    let mut plan = world.plan(&[text, "echo reached"]);
    plan.environment = vec![variable("CI_PROJECT_DIR", &plan.paths.project_dir)];
    let (closed, log) = world.run(plan);
    assert_eq!((closed.verdict.exit_code, closed.verdict.reason), (Some(1), Some(FailureReason::ScriptFailure)));
    assert!(log.contains("step_1 cannot start any more") && log.contains("builds/g/p"), "{log}");
}

#[test]
fn sections_and_titles_frame_each_stage() {
    let world = World::new();
    let mut plan = world.plan(&["echo body"]);
    plan.trace.sections = true;
    let (_, log) = world.run(plan);
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    let places = [":prepare_script\r", "Doing prepare_script", ":step_script\r", "Doing step_script", "body\n"];
    assert!(places.map(at).is_sorted(), "{log}");
    assert_eq!(log.matches("section_start:").count(), log.matches("section_end:").count());
}

/// Only root can give files away, and only root can start processes of others.
#[test]
fn a_build_container_with_another_user_owns_its_files() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut world = World::agent_alone();
    let mut plan = world
        .plan(&["id -u; touch new; rm old; cat \"$FILE\"; echo X=1 >> $GITLAB_ENV", "echo X=$X; stat -c %u:%g . new"]);
    plan.environment = vec![EnvVar { file: true, ..variable("FILE", "content\n") }];
    std::fs::write(world.path("/builds/g/p/old"), "").unwrap();
    let mut manager = world.start(plan);
    manager.until("the wait for the shim", |manager| manager.state.stage.as_deref() == Some("step_script"));
    world.shim = Some(world.shim_command().uid(1234).gid(2345).spawn().unwrap());
    let closed = manager.closed();
    let log = manager.text();
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("1234\ncontent\n") && log.contains("X=1\n1234:2345\n1234:2345\n"), "{log}");
}
