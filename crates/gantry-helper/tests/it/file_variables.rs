//! The files of file variables from script to script.

use std::os::unix::process::CommandExt as _;

use gantry_wire::plan::{Action, EnvVar, PodPlan};

use crate::world::{World, script, stage, variable};

fn with_after(mut plan: PodPlan, text: &str) -> PodPlan {
    plan.stages.push(stage("after_script", Action::AfterScript(script(text))));
    plan
}

/// Runs `plan` in a world whose build container has another user. Only root can start processes of
/// others.
fn run_as_another_user(world: &mut World, plan: PodPlan) -> String {
    let mut manager = world.start(plan);
    manager.until("the wait for the shim", |manager| manager.state.stage.as_deref() == Some("step_script"));
    world.shim = Some(world.shim_command().uid(1234).gid(2345).spawn().unwrap());
    let closed = manager.closed();
    let log = manager.text();
    assert!(closed.verdict.success, "{log}");
    log
}

#[test]
fn owner_and_mode_stay() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut world = World::agent_alone();
    let look = "stat -c '%u:%g %a' $KEY; cat $KEY; chmod 600 $KEY";
    let again = format!("{look}; echo changed > $KEY");
    let mut plan = with_after(world.plan(&[look, &again]), &format!("{look}; rm $KEY"));
    plan.stages.push(stage("after_script", Action::AfterScript(script(look))));
    plan.environment = vec![EnvVar { file: true, ..variable("KEY", "content\n") }];
    let log = run_as_another_user(&mut world, plan);
    let looks = ["1234:2345 666\ncontent\n", "1234:2345 600\ncontent\n", "1234:2345 600\ncontent\n"];
    let mut rest = log.as_str();
    for look in looks {
        let at = rest.find(look).unwrap_or_else(|| panic!("no {look:?} in {rest:?} of {log}"));
        rest = &rest[at + look.len()..];
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_costs_nothing() {
    let world = World::new();
    let name = "K".repeat(255);
    let replace = format!("rm ${name}; mkdir -p ${name}/sub");
    let read = format!("cat ${name}; ");
    let mut plan = with_after(world.plan(&[&replace, &format!("{read}{replace}")]), &format!("{read}echo looked"));
    plan.environment = vec![EnvVar { file: true, ..variable(&name, "content\n") }];
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(log.matches("\ncontent\n").count() == 2 && log.contains("content\nlooked\n"), "{log}");
}

#[test]
fn the_containers_own_umask_is_kept_where_that_is_asked_for() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for (keep_umask, mode) in [(false, "666"), (true, "644")] {
        let mut world = World::agent_alone();
        let mut plan = world.plan(&["echo mode $(stat -c '%u %a' $KEY)"]);
        plan.environment = vec![EnvVar { file: true, ..variable("KEY", "content\n") }];
        plan.keep_umask = keep_umask;
        let log = run_as_another_user(&mut world, plan);
        assert!(log.contains(&format!("mode 1234 {mode}\n")), "{log}");
    }
}
