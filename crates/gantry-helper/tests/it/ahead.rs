//! Caches that are restored while the sources come.

use std::fs;

use gantry_wire::cache::CachePlace;
use gantry_wire::plan::Sources;

use crate::caches::{assert_said, file, restoring, saving, source, transfer};
use crate::sources::{plan, repository, sources, url};
use crate::world::{World, script, wait};

/// Ends once a cache lies beside the project: before the sources, so that nothing but a restore
/// that does not wait for them lets it end.
const WAITS: &str = "n=0; until [ -e ../.p.gantry-cache-*/deps/a ]; do
    n=$((n + 1)); [ $n -lt 1000 ] || { echo nothing is unpacked; exit 9; }; sleep 0.02
done; [ ! -e deps ] && echo unpacked beside the project";

/// A volume with a cache, and where that is.
fn kept() -> (tempfile::TempDir, CachePlace) {
    let volume = tempfile::tempdir().unwrap();
    let place = file(volume.path(), "k");
    let world = World::new();
    let mut plan = world.plan(&["mkdir deps; echo cached > deps/a"]);
    saving(&mut plan, &["deps"], "k", vec![place.clone()], transfer());
    let (_, log) = world.run(plan);
    assert_said(&log, &["Created cache"]);
    (volume, place)
}

/// Names beside the project.
fn beside(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("/builds/g")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_cache_is_unpacked_while_the_sources_come() {
    let (_volume, place) = kept();
    let world = World::new();
    let (origin, sha) = repository(&world);
    let sources = Sources { pre_script: Some(script(WAITS)), ..sources(&url(&origin), &sha) };
    let mut plan = plan(&world, sources, "cat a.txt deps/a; git status --short");
    restoring(&mut plan, &["deps"], vec![source("k", place.clone())], transfer());
    plan.stages.swap(1, 2);
    saving(&mut plan, &["deps"], "k", vec![place], transfer());
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    let order = [
        "unpacked beside the project",
        "Checking out",
        "Checking cache for k...",
        "Successfully extracted cache",
        "one\ncached\n?? deps/\n",
        "Archive is up to date!",
    ];
    assert_said(&log, &order);
    assert!(!beside(&world).iter().any(|name| name.contains("gantry-cache")), "{:?}", beside(&world));
}

#[test]
fn a_cache_that_nobody_wants_any_more_leaves_nothing() {
    let (_volume, place) = kept();
    let world = World::new();
    let (origin, sha) = repository(&world);
    let hook = format!("{WAITS}; exit 3");
    let sources = Sources { pre_script: Some(script(&hook)), ..sources(&url(&origin), &sha) };
    let mut plan = plan(&world, sources, "echo never");
    restoring(&mut plan, &["deps"], vec![source("k", place)], transfer());
    plan.stages.swap(1, 2);
    let mut manager = world.start(plan);
    let closed = manager.closed();
    assert!(!closed.verdict.success && !manager.text().contains("Checking cache"), "{}", manager.text());
    assert!(beside(&world).iter().any(|name| name.contains("gantry-cache")));
    // Whoever waits is told by the end of the agent.
    manager.send(&gantry_wire::frame::Frame::Reported);
    wait(|| !beside(&world).iter().any(|name| name.contains("gantry-cache")), "the end of the restore");
}
