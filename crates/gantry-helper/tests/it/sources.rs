//! Sources from real repositories.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_core::FailureReason;
use gantry_wire::plan::{Action, GitCredential, GitStrategy, PodPlan, Sources, SubmoduleStrategy, Submodules};

use crate::world::{World, git, script, stage, variable};

/// A repository with two commits on `main`; its path and the last commit.
fn repository(world: &World) -> (PathBuf, String) {
    let path = world.path("/origin");
    fs::create_dir_all(&path).unwrap();
    git(&path, &["init", "-q", "-b", "main"]);
    for (file, content) in [("a.txt", "one\n"), ("b.txt", "two\n")] {
        fs::write(path.join(file), content).unwrap();
        git(&path, &["add", "."]);
        git(&path, &["commit", "-q", "-m", file]);
    }
    let sha = git(&path, &["rev-parse", "HEAD"]);
    (path, sha)
}

pub(crate) fn sources(url: &str, sha: &str) -> Sources {
    Sources {
        strategy: GitStrategy::Fetch,
        url: url.into(),
        credentials: Vec::new(),
        git_ref: "main".into(),
        sha: sha.into(),
        refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".into()],
        depth: 1,
        object_format: "sha1".into(),
        checkout: true,
        clean_flags: Some(vec!["-ffdx".into()]),
        fetch_flags: vec!["--prune".into(), "--quiet".into()],
        submodules: Submodules::default(),
        lfs: true,
        ca_pem: None,
        http_headers: vec!["X-Gitaly-Correlation-ID: 1".into()],
        user_agent: "gantry test".into(),
        pre_script: None,
        post_script: None,
    }
}

/// A plan that gets `sources` and then runs `text`.
fn plan(world: &World, sources: Sources, text: &str) -> PodPlan {
    let mut plan = world.plan(&[text]);
    fs::remove_dir_all(world.path("/builds/g")).unwrap();
    plan.stages.insert(1, stage("get_sources", Action::Sources(Box::new(sources))));
    plan
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn a_shallow_fetch_gives_exactly_the_commit() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    let plan =
        plan(&world, sources(&url(&origin), &sha), "cat a.txt b.txt; git log --oneline | wc -l; git status --short");
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    for text in [
        "\x1b[32;1mFetching changes with git depth set to 1...\x1b[0;m\n",
        "\x1b[32;1mCreated fresh repository.\x1b[0;m\n",
        &format!("\x1b[32;1mChecking out {} as detached HEAD (ref is main)...\x1b[0;m\n", &sha[..8]),
        "\x1b[32;1mSkipping Git submodules setup\x1b[0;m\n",
        "one\ntwo\n1\n",
    ] {
        assert!(log.contains(text), "{text:?} is not in {log}");
    }
}

#[test]
fn a_tree_that_is_there_is_used_again_and_cleaned() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    let mut plan = plan(&world, Sources { depth: 0, ..sources(&url(&origin), &sha) }, "ls; git log --oneline | wc -l");
    fs::create_dir_all(world.path("/builds/g")).unwrap();
    git(&world.path("/builds/g"), &["clone", "-q", "--depth", "1", &url(&origin), "p"]);
    fs::write(world.path("/builds/g/p/untracked"), "").unwrap();
    fs::write(world.path("/builds/g/p/.git/index.lock"), "").unwrap();
    fs::write(world.path("/builds/g/p/.git/hooks/post-checkout"), "#!/bin/sh\necho hooked").unwrap();
    plan.stages.push(stage("cleanup_file_variables", Action::Cleanup));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("\x1b[0;m\na.txt\nb.txt\n2\n") && !log.contains("hooked"), "{log}");
}

#[test]
fn credentials_reach_git_and_leave_no_trace_on_disk() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    git(&origin, &["update-server-info"]);
    let server = Server::start(origin.join(".git"));
    let without = format!("http://{}/p.git", server.address);
    let with = format!("http://gitlab-ci-token:hunter2@{}/p.git", server.address);
    let mut sources = Sources { depth: 0, ..sources(&without, &sha) };
    sources.credentials = vec![GitCredential { with: with.into(), without: without.clone() }];
    sources.pre_script = Some(script("echo before: $(git config --get-regexp '^url' | wc -l)"));
    sources.post_script = Some(script("echo after: $(ls)"));
    let text = "git fetch -q origin main && echo fetched; git remote get-url origin --push; cat .git/FETCH_HEAD";
    let (closed, log) = world.run(plan(&world, sources, text));
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("before: 1\n") && log.contains("after: a.txt b.txt\n") && log.contains("fetched\n"), "{log}");
    assert!(server.refused.load(Ordering::Relaxed) > 0, "the server asks for a password");
    assert!(fs::read_to_string(world.path("/builds/g/p/.git/config")).unwrap().contains(&without));
    let files = ["/builds", "/gantry-agent"].map(|directory| walkdir::WalkDir::new(world.path(directory)));
    for entry in files.into_iter().flatten().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        if entry.path() != world.path("/gantry-agent/trace") {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes.windows(7).any(|part| part == b"hunter2");
            assert!(!found, "{} holds the credential", entry.path().display());
        }
    }
}

/// Serves a repository by git's plain file protocol, to those who know the password.
struct Server {
    address: SocketAddr,
    refused: Arc<AtomicUsize>,
}

impl Server {
    fn start(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&refused);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &directory, &counter);
            }
        });
        Self { address, refused }
    }
}

fn answer(stream: TcpStream, directory: &Path, refused: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    // gitlab-ci-token:hunter2
    let password = "Basic Z2l0bGFiLWNpLXRva2VuOmh1bnRlcjI=";
    while reader.read_line(&mut request).is_ok_and(|count| count > 2) {}
    let path = request.split_whitespace().nth(1).unwrap_or("/").trim_start_matches("/p.git/");
    let path = path.split('?').next().unwrap_or_default();
    let (status, body) = if request.contains(password) {
        match fs::read(directory.join(path)) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        }
    } else {
        refused.fetch_add(1, Ordering::Relaxed);
        ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new())
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut stream = reader.into_inner();
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

#[test]
fn submodules_come_along() {
    let world = World::new();
    let (origin, _) = repository(&world);
    let outer = world.path("/outer");
    fs::create_dir_all(&outer).unwrap();
    git(&outer, &["init", "-q", "-b", "main"]);
    git(&outer, &["submodule", "add", "-q", &url(&origin), "inner"]);
    git(&outer, &["commit", "-q", "-m", "x"]);
    let sha = git(&outer, &["rev-parse", "HEAD"]);
    let submodules = Submodules { strategy: SubmoduleStrategy::Recursive, depth: 1, ..Submodules::default() };
    let mut plan = plan(&world, Sources { submodules, ..sources(&url(&outer), &sha) }, "cat inner/a.txt");
    // Git refuses local submodules unless told otherwise; a job may pass settings of its own.
    plan.environment = [("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")]
        .map(|(key, value)| variable(&format!("GIT_CONFIG_{key}"), value))
        .into();
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(
        log.contains("Updating/initializing submodules recursively with git depth set to 1...")
            && log.contains("one\n")
    );
}

#[test]
fn what_git_says_about_a_failure_is_in_the_log_with_its_code() {
    let world = World::new();
    let (closed, log) = world.run(plan(&world, sources("file:///nowhere/at/all", &"0".repeat(40)), "true"));
    assert_eq!((closed.verdict.exit_code, closed.verdict.reason), (Some(128), Some(FailureReason::ScriptFailure)));
    assert!(log.contains("fatal: ") && log.contains("git fetch ended with exit code 128"), "{log}");
}

#[test]
fn a_second_try_starts_from_nothing() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    let mut plan = plan(&world, sources(&url(&origin), &sha), "cat a.txt");
    plan.stages[1].attempts = 2;
    // A repository that git cannot use: its objects directory is a file.
    let broken = world.path("/builds/g/p/.git");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("HEAD"), "ref: refs/heads/x\n").unwrap();
    fs::write(broken.join("objects"), "").unwrap();
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    for text in
        ["WARNING: Retrying...", "Deleting all tracked and untracked files due to source fetch failure", "one\n"]
    {
        assert!(log.contains(text), "{text:?} is not in {log}");
    }
}

#[test]
fn strategies_without_git_leave_or_empty_the_directory() {
    for (strategy, left) in [(GitStrategy::None, "found\n"), (GitStrategy::Empty, "gone\n")] {
        let world = World::new();
        let plan = plan(&world, Sources { strategy, ..sources("x", "y") }, "[ -e file ] && echo found || echo gone");
        fs::create_dir_all(world.path("/builds/g/p")).unwrap();
        fs::write(world.path("/builds/g/p/file"), "").unwrap();
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success && log.contains(left), "{log}");
    }
}
