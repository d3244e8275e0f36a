//! The mirror of a node, by real jobs that share one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_wire::plan::{Action, Sources};

use crate::sources::sources;
use crate::world::{World, crc32, git, stage};

/// What is said in the log where a mirror is of no use.
const WARNING: &str = "WARNING: The git mirror of this node is of no use to this job: ";

/// A project's repository, and a node with a mirror of it.
struct Node {
    root: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(node.mirror()).unwrap();
        let origin = node.origin();
        fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "-q", "-b", "main"]);
        for (file, content) in [("a.txt", "one\n"), ("b.txt", "two\n")] {
            node.commit(file, content);
        }
        node
    }

    fn mirror(&self) -> PathBuf {
        self.root.path().join("mirror")
    }

    fn origin(&self) -> PathBuf {
        self.root.path().join("origin")
    }

    /// Their number.
    fn packs(&self) -> usize {
        let entries = fs::read_dir(self.mirror().join("sha1/pack")).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "pack")).count()
    }

    fn commit(&self, file: &str, content: &str) {
        fs::write(self.origin().join(file), content).unwrap();
        git(&self.origin(), &["add", "."]);
        git(&self.origin(), &["commit", "-q", "-m", file]);
    }

    /// The sources of the newest commit.
    fn sources(&self) -> Sources {
        let sha = git(&self.origin(), &["rev-parse", "HEAD"]);
        Sources { mirror: true, ..sources(&format!("file://{}", self.origin().display()), &sha) }
    }

    /// Does something while the server lacks an object, so that it cannot be had from there.
    fn without<T>(&self, object: &str, work: impl FnOnce() -> T) -> T {
        let name = git(&self.origin(), &["rev-parse", object]);
        let (directory, file) = name.split_at(2);
        let path = self.origin().join(".git/objects").join(directory).join(file);
        let hidden = self.root.path().join("hidden");
        fs::rename(&path, &hidden).unwrap();
        let done = work();
        fs::rename(&hidden, &path).unwrap();
        done
    }

    /// Runs a job in a pod of its own on this node; the job's log, and whether it went well.
    fn run(&self, sources: Sources, text: &str) -> (bool, String) {
        let world = World::new();
        let mut plan = world.plan(&[text]);
        fs::remove_dir_all(world.path("/builds/g")).unwrap();
        symlink(self.mirror(), world.path("/gantry-mirror")).unwrap();
        plan.stages.insert(1, stage("get_sources", Action::Sources(Box::new(sources))));
        let (closed, log) = world.run(plan);
        (closed.verdict.success, log)
    }

    fn fetch(&self, text: &str) -> String {
        let (success, log) = self.run(self.sources(), text);
        assert!(success, "{log}");
        log
    }
}

const SHOW: &str = "cat a.txt b.txt; git log --oneline | wc -l; git status --short; git for-each-ref; git fsck 2>&1";

#[test]
fn what_one_job_has_fetched_the_next_ones_do_not() {
    let node = Node::new();
    let log = node.fetch(SHOW);
    assert!(log.contains("Fetching changes into the git mirror of this node...") && !log.contains(WARNING), "{log}");
    assert!(log.contains("one\ntwo\n1\n") && !log.contains("refs/gantry"), "{log}");
    // The server cannot give what the mirror has.
    let log = node.without("HEAD:a.txt", || node.fetch(SHOW));
    assert!(log.contains("one\ntwo\n1\n") && !log.contains("into the git mirror"), "{log}");
    assert!(!log.contains("refs/gantry") && !log.contains("missing"), "{log}");
    // What is new comes into the mirror, and nothing else.
    node.commit("b.txt", "three\n");
    let log = node.without("HEAD:a.txt", || node.fetch(SHOW));
    assert!(log.contains("one\nthree\n1\n") && log.contains("into the git mirror"), "{log}");
    // All of the history is there for those who want it, whoever fetched it.
    let deep = Sources { depth: 0, ..node.sources() };
    let (success, log) = node.without("HEAD:b.txt", || node.run(deep, SHOW));
    assert!(success && log.contains("one\nthree\n3\n") && !log.contains(WARNING), "{log}");
}

#[test]
fn many_small_packs_become_few() {
    let node = Node::new();
    for number in 0..40 {
        node.commit("b.txt", &format!("{number}\n"));
        // As many jobs have left them.
        let pack = node.mirror().join("sha1/pack");
        fs::create_dir_all(&pack).unwrap();
        git(&node.origin(), &["repack", "-q", "--no-write-bitmap-index"]);
        for entry in fs::read_dir(node.origin().join(".git/objects/pack")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, pack.join(path.file_name().unwrap())).unwrap();
        }
    }
    assert!(node.packs() > 32);
    node.commit("b.txt", "last\n");
    let log = node.fetch(SHOW);
    assert!(log.contains("one\nlast\n1\n") && !log.contains(WARNING), "{log}");
    assert!(node.packs() < 32, "{}", node.packs());
}

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A pack that has `content` under another object's name, as a job's hook could write it.
fn plant(node: &Node, name: &str, content: &str) {
    let evil = node.root.path().join("evil");
    fs::create_dir_all(&evil).unwrap();
    git(&evil, &["init", "-q"]);
    fs::write(evil.join("file"), content).unwrap();
    let blob = git(&evil, &["hash-object", "-w", "file"]);
    fs::write(evil.join("list"), &blob).unwrap();
    let made = sh(&evil, "git pack-objects -q pack < list");
    let pack = fs::read(evil.join(format!("pack-{}.pack", made.trim()))).unwrap();
    // An index of version 2 with one object: how many names begin with each byte at most, its name,
    // its checksum, its place, and checksums that nobody compares before `git fsck`.
    let bytes: Vec<u8> =
        (0..40).step_by(2).map(|at| u8::from_str_radix(name.get(at..at + 2).unwrap(), 16).unwrap()).collect();
    let mut index = vec![0xff, 0x74, 0x4f, 0x63, 0, 0, 0, 2];
    for first in 0..=255 {
        index.extend(u32::from(first >= bytes[0]).to_be_bytes());
    }
    index.extend(&bytes);
    index.extend(crc32(&pack[12..pack.len() - 20]).to_be_bytes());
    index.extend(12_u32.to_be_bytes());
    index.extend(&pack[pack.len() - 20..]);
    index.extend([0; 20]);
    let file = |ending: &str| node.mirror().join(format!("sha1/pack/pack-{}.{ending}", "f".repeat(40)));
    fs::write(file("pack"), pack).unwrap();
    fs::write(file("idx"), index).unwrap();
}

#[test]
fn what_was_planted_under_the_name_of_another_object_reaches_no_job() {
    let node = Node::new();
    node.fetch("true");
    let blob = git(&node.origin(), &["rev-parse", "HEAD:a.txt"]);
    // All but that object, which git would find as well.
    for entry in fs::read_dir(node.mirror().join("sha1/pack")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let stem = node.mirror().join("sha1/pack/pack");
    let rest = format!("git rev-list --objects HEAD | grep -v {blob} | git pack-objects -q {}", stem.display());
    sh(&node.origin(), &rest);
    // The same mirror as a lender of objects gives what was planted.
    plant(&node, &blob, "evil\n");
    let lender = node.root.path().join("lender");
    git(node.root.path(), &["init", "-q", "--bare", "lender"]);
    let objects = node.mirror().join("sha1");
    fs::write(lender.join("objects/info/alternates"), format!("{}\n", objects.display())).unwrap();
    assert_eq!(git(&lender, &["cat-file", "blob", &blob]), "evil");
    let log = node.fetch(SHOW);
    assert!(log.contains("one\ntwo\n1\n") && !log.contains("evil"), "{log}");
    assert!(log.contains(WARNING), "{log}");
    assert_eq!(node.packs(), 0);
    let log = node.fetch(SHOW);
    assert!(log.contains("one\ntwo\n1\n") && log.contains("into the git mirror") && !log.contains(WARNING), "{log}");
}

#[test]
fn a_broken_mirror_is_passed_by_and_made_anew() {
    type Break = fn(&Path);
    let breaks: [(&str, bool, Break); 5] = [
        ("cut packs", true, |mirror| {
            for entry in fs::read_dir(mirror.join("sha1/pack")).unwrap() {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }),
        ("packs that are gone, and names that are not", false, |mirror| {
            for entry in fs::read_dir(mirror.join("sha1/pack")).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }),
        ("names of nothing", true, |mirror| {
            let names: Vec<String> = (0..300).map(|number| format!("{number:040x}")).collect();
            fs::write(mirror.join("sha1.tips"), names.join("\n")).unwrap();
            fs::remove_dir_all(mirror.join("sha1")).unwrap();
        }),
        ("pipes", false, |mirror| {
            for name in ["sha1.tips", "lock"] {
                fs::remove_file(mirror.join(name)).unwrap();
                nix::unistd::mkfifo(&mirror.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
            }
        }),
        ("a file for a directory", false, |mirror| {
            fs::remove_dir_all(mirror.join("sha1")).unwrap();
            fs::write(mirror.join("sha1"), "x").unwrap();
        }),
    ];
    for (what, is_said, break_it) in breaks {
        let node = Node::new();
        node.fetch("true");
        break_it(&node.mirror());
        let log = node.fetch(SHOW);
        assert!(log.contains("one\ntwo\n1\n"), "{what}: {log}");
        assert_eq!(log.contains(WARNING), is_said, "{what}: {log}");
        let log = node.fetch(SHOW);
        assert!(log.contains("one\ntwo\n1\n") && !log.contains(WARNING), "{what}: {log}");
        let log = node.without("HEAD:a.txt", || node.fetch(SHOW));
        assert!(log.contains("one\ntwo\n1\n") && !log.contains("into the git mirror"), "{what}: {log}");
    }
}

#[test]
fn a_mirror_that_is_not_there_costs_one_line() {
    let node = Node::new();
    fs::remove_dir(node.mirror()).unwrap();
    let log = node.fetch(SHOW);
    assert!(log.contains("one\ntwo\n1\n"), "{log}");
    let words = format!("{WARNING}the user of the helper container may not write to it (");
    assert_eq!(log.matches("WARNING").count(), 1, "{log}");
    assert!(log.contains(&words) && log.contains("Everything is fetched from GitLab"), "{log}");
}

#[test]
fn a_mirror_is_no_larger_than_it_may_be() {
    let node = Node::new();
    node.fetch("true");
    let size = || -> u64 {
        let entries = fs::read_dir(node.mirror().join("sha1/pack")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let run = |limit: u64| {
        let (success, log) = node.run(Sources { mirror_limit: Some(limit), ..node.sources() }, SHOW);
        assert!(success && log.contains("one\n"), "{log}");
        log
    };
    let first = size();
    // One pack more than that is used once, and goes before the next.
    node.commit("b.txt", "three\n");
    let log = run(first);
    assert!(!log.contains(WARNING) && size() > first && node.packs() == 2, "{log}");
    node.commit("b.txt", "four\n");
    let log = run(size() - 1);
    assert!(!log.contains(WARNING) && node.packs() == 1, "{log}");
    // What is there can be used, whatever it may be.
    let log = node.without("HEAD:a.txt", || run(1));
    assert!(!log.contains(WARNING), "{log}");
    // A history that does not fit is not fetched again and again.
    node.commit("b.txt", "five\n");
    let log = run(10);
    assert!(log.contains(WARNING) && log.contains("is larger than 10 bytes (git_mirror_limit)"), "{log}");
    assert!(log.contains("into the git mirror") && node.packs() == 0, "{log}");
    let log = run(10);
    assert!(log.contains("within the last 24 hours") && !log.contains("into the git mirror"), "{log}");
    let log = node.fetch(SHOW);
    assert!(log.contains("into the git mirror") && !log.contains(WARNING), "{log}");
}

#[test]
fn a_history_that_takes_too_long_costs_one_job_its_time() {
    let node = Node::new();
    node.fetch("true");
    fs::write(node.mirror().join("sha1.rest"), "slow").unwrap();
    // What is there is of use.
    let log = node.without("HEAD:a.txt", || node.fetch(SHOW));
    assert!(!log.contains(WARNING), "{log}");
    node.commit("b.txt", "three\n");
    let log = node.fetch(SHOW);
    assert!(log.contains("one\nthree\n1\n") && !log.contains("into the git mirror"), "{log}");
    assert!(log.contains(WARNING) && log.contains("took more than 15 minutes, within the last 24 hours"), "{log}");
}
