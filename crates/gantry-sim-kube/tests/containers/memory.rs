//! The memory limit, by control group where this process may make one, else by the watchdog.

use gantry_sim_kube::container::Runtime;

use super::{World, exec, exec_sh, sh, until, within};

const LIMIT: u64 = 64 << 20;

/// Needs far more than the limit, as fast as it can.
const EATER: &str = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); echo ${#x}";

#[tokio::test]
async fn a_first_process_over_the_limit_is_killed_and_known_as_such() {
    let mut spec = sh("exec perl -e '$| = 1; print \"up\\n\"; my @a; push @a, \"x\" x 1000000 while 1'");
    spec.memory_limit = Some(LIMIT);
    let (status, out, _) = World::new().run(spec).await;
    assert_eq!((out.as_str(), status.code, status.oom_killed), ("up\n", 137, true));
    assert!(status.oom_kills >= 1);
}

#[tokio::test]
async fn a_container_can_see_its_limit_where_it_has_a_group() {
    let mut spec = sh("cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                       (echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes) 2>/dev/null && echo changed; \
                       (echo 1 > /sys/fs/cgroup/memory.max) 2>/dev/null && echo changed");
    spec.memory_limit = Some(LIMIT);
    let world = World::new();
    let (_, out, _) = world.run(spec).await;
    if world.is_root().await {
        println!("seen as root: {out:?} (empty where this machine lets nobody make control groups)");
    }
    assert!(!out.contains("changed"), "{out}");
}

#[tokio::test]
async fn a_child_over_the_limit_dies_alone() {
    let mut spec = sh(&format!("sh -c \"{}\"; echo child $?", EATER.replace('$', "\\$")));
    spec.memory_limit = Some(LIMIT);
    let (status, out, _) = World::new().run(spec).await;
    assert_eq!((status.code, status.oom_killed), (0, false));
    assert!(out.contains("child 137") || out.contains("child 0"), "{out}");
    assert!(status.oom_kills >= 1);
}

/// Sixteen thousand pages: the kernel multiplies `oom_score_adj` by whole thousands of pages, and
/// with a limit in between the process that fills the memory may have the higher score after all.
const EVEN_LIMIT: u64 = 16_000 * 4_096;

/// Who has the highest `oom_score_adj` is killed, however little memory it has.
async fn the_first_process_can_be_made_the_victim(world: World) {
    let mut spec = sh("echo up; sleep 1000");
    spec.memory_limit = Some(EVEN_LIMIT);
    let container = world.start(spec).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    let (status, ..) = exec(&container, exec_sh("echo 1000 > /proc/1/oom_score_adj; exec tail /dev/zero")).await;
    assert_eq!(status.code, 137);
    let status = within(container.wait()).await;
    assert_eq!((status.code, status.oom_killed), (137, true));
}

#[tokio::test]
async fn the_victim_is_chosen_by_its_score() {
    the_first_process_can_be_made_the_victim(World::new()).await;
}

#[tokio::test]
async fn the_watchdog_chooses_like_the_kernel() {
    the_first_process_can_be_made_the_victim(World::of(Runtime::watch_memory)).await;
}

#[tokio::test]
async fn all_of_a_container_can_die_together() {
    let world = World::of(|runtime| runtime.watch_memory().kill_groups());
    let mut spec = sh(&format!("sh -c \"{}\"; echo child $?", EATER.replace('$', "\\$")));
    spec.memory_limit = Some(LIMIT);
    let (status, out, _) = world.run(spec).await;
    assert_eq!((status.code, status.oom_killed, out.as_str()), (137, true, ""));
}

#[tokio::test]
async fn what_enters_counts_too() {
    let world = World::new();
    let mut spec = sh("echo up; sleep 1000");
    spec.memory_limit = Some(LIMIT);
    let container = world.start(spec).await;
    let (mut stdout, _) = container.take_output().expect("output");
    until(&mut stdout, "up").await;
    let (status, ..) = exec(&container, exec_sh("exec perl -e 'my @a; push @a, \"x\" x 1000000 while 1'")).await;
    assert_eq!(status.code, 137);
    assert!(container.status().is_none(), "the container itself goes on");
    container.kill_all().expect("kill");
    let status = within(container.wait()).await;
    assert_eq!((status.oom_killed, status.oom_kills), (false, 1));
}
