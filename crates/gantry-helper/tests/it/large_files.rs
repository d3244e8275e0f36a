//! What repositories keep outside of git's own objects: files of git-lfs, bundles.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_wire::plan::{Action, GitOptions, GitStrategy, Sources, SubmoduleStrategy, Submodules};

use crate::sources::sources;
use crate::world::{World, git, stage, variable};

/// Git takes no submodule from a directory otherwise.
const ALLOW_FILE: [(&str, &str); 3] =
    [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "protocol.file.allow"), ("GIT_CONFIG_VALUE_0", "always")];

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A job's log; it must go well.
fn run(world: &World, sources: Sources, text: &str, environment: &[(&str, &str)]) -> String {
    let mut plan = world.plan(&[text]);
    fs::remove_dir_all(world.path("/builds/g")).unwrap();
    plan.environment = environment.iter().map(|(name, value)| variable(name, value)).collect();
    plan.stages.insert(1, stage("get_sources", Action::Sources(Box::new(sources))));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    log
}

/// A server's repository with `file` in git-lfs, made as a developer does; its path and its commit.
fn with_large_file(world: &World, name: &str, content: &str) -> (PathBuf, String) {
    let (server, work) = (world.path(&format!("/{name}.git")), world.path(&format!("/{name}-work")));
    fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "-q", "-b", "main", "--bare", server.to_str().unwrap()]);
    git(&work, &["init", "-q", "-b", "main"]);
    git(&work, &["lfs", "install", "--local"]);
    git(&work, &["remote", "add", "origin", &url(&server)]);
    fs::write(work.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    fs::write(work.join("file.bin"), content).unwrap();
    git(&work, &["add", "."]);
    git(&work, &["commit", "-q", "-m", "large"]);
    git(&work, &["push", "-q", "origin", "main"]);
    // The repository itself has a pointer only.
    assert!(git(&work, &["show", "HEAD:file.bin"]).starts_with("version https://git-lfs.github.com/spec/v1"));
    let sha = git(&work, &["rev-parse", "HEAD"]);
    (server, sha)
}

#[test]
fn files_of_git_lfs_are_in_the_work_tree() {
    if !Command::new("git").args(["lfs", "version"]).output().unwrap().status.success() {
        eprintln!("SKIPPED: there is no git-lfs; `.ci/run setup` installs it");
        return;
    }
    for lfs in [true, false] {
        let world = World::new();
        let (server, sha) = with_large_file(&world, "origin", "large content\n");
        let skip: &[_] = if lfs { &[] } else { &[("GIT_LFS_SKIP_SMUDGE", "1")] };
        let sources = Sources { lfs, ..sources(&url(&server), &sha) };
        let log = run(&world, sources, "cat file.bin; git status --short", skip);
        assert_eq!(log.contains("large content\n"), lfs, "{log}");
        assert_eq!(log.contains("version https://git-lfs.github.com/spec/v1"), !lfs, "{log}");
        assert!(!log.contains(" M file.bin"), "{log}");
    }
    // Those of a submodule too.
    let world = World::new();
    let (module, _) = with_large_file(&world, "module", "content of the submodule\n");
    let (server, _) = with_large_file(&world, "origin", "content of the project\n");
    let work = world.path("/origin-work");
    git(&work, &["submodule", "--quiet", "add", &url(&module), "module"]);
    git(&work, &["commit", "-q", "-m", "module"]);
    git(&work, &["push", "-q", "origin", "main"]);
    let submodules = Submodules { strategy: SubmoduleStrategy::Normal, depth: 1, ..Submodules::default() };
    let sources = Sources { submodules, ..sources(&url(&server), &git(&work, &["rev-parse", "HEAD"])) };
    let log = run(&world, sources, "cat file.bin module/file.bin", &ALLOW_FILE);
    assert!(log.contains("content of the project\ncontent of the submodule\n"), "{log}");
}

#[test]
fn a_clone_begins_with_a_bundle_where_its_flags_name_one() {
    let world = World::new();
    let origin = world.path("/origin");
    fs::create_dir_all(&origin).unwrap();
    git(&origin, &["init", "-q", "-b", "main"]);
    for content in ["one", "two"] {
        fs::write(origin.join("a.txt"), content).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", content]);
    }
    let bundle = world.path("/origin.bundle").display().to_string();
    git(&origin, &["branch", "old", "main~1"]);
    git(&origin, &["bundle", "create", "-q", &bundle, "old"]);
    git(&origin, &["branch", "-D", "old"]);
    // The version of a git that clones a revision, and the work of the one that is here.
    let tools = world.path("/tools");
    fs::create_dir(&tools).unwrap();
    let text = format!(
        "#!/bin/sh\n[ \"$*\" = version ] && exec echo git version 2.49.1\nPATH={} exec git \"$@\"\n",
        std::env::var("PATH").unwrap()
    );
    fs::write(tools.join("git"), text).unwrap();
    fs::set_permissions(tools.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let options = GitOptions { native_clone: Some(vec![format!("--bundle-uri={bundle}")]), ..GitOptions::default() };
    let sha = git(&origin, &["rev-parse", "HEAD"]);
    let sources = Sources { strategy: GitStrategy::Clone, depth: 0, options, ..sources(&url(&origin), &sha) };
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let log = run(&world, sources, "cat a.txt; echo; git for-each-ref refs/bundles", &[("PATH", &path)]);
    // Nothing else than the bundle has that branch.
    assert!(log.contains("\ntwo\n") && log.contains("refs/bundles/old"), "{log}");
}
