//! Sources from real repositories.

use std::fs;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gantry_core::FailureReason;
use gantry_wire::plan::{
    Action, EnvVar, GitCredential, GitOptions, GitStrategy, PodPlan, Sources, SubmoduleStrategy, Submodules,
};

use crate::http::head;
use crate::world::{World, git, script, stage, variable};

/// A repository with two commits on `main`; its path and the last commit.
pub(crate) fn repository(world: &World) -> (PathBuf, String) {
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
        own_urls: Vec::new(),
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
        options: GitOptions::default(),
        mirror: false,
        mirror_limit: None,
    }
}

/// A plan that gets `sources` and then runs `text`.
pub(crate) fn plan(world: &World, sources: Sources, text: &str) -> PodPlan {
    let mut plan = world.plan(&[text]);
    fs::remove_dir_all(world.path("/builds/g")).unwrap();
    plan.stages.insert(1, stage("get_sources", Action::Sources(Box::new(sources))));
    plan
}

pub(crate) fn url(path: &Path) -> String {
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
        "\x1b[32;1mGitaly correlation ID: 1\x1b[0;m\n\x1b[32;1mFetching changes with git depth set to 1...\x1b[0;m\n",
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
fn git_clones_by_itself_where_it_can() {
    for (version, is_new) in [("2.49.1", true), ("2.39.5", false)] {
        let world = World::new();
        let (origin, sha) = repository(&world);
        // The version of a git that can, and the work of the one that is here.
        let tools = world.path("/tools");
        fs::create_dir(&tools).unwrap();
        let text = format!(
            "#!/bin/sh\n[ \"$*\" = version ] && exec echo git version {version}\nPATH={} exec git \"$@\"\n",
            std::env::var("PATH").unwrap()
        );
        fs::write(tools.join("git"), text).unwrap();
        fs::set_permissions(tools.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        let options = GitOptions { native_clone: Some(vec!["--no-tags".into()]), ..GitOptions::default() };
        let sources = Sources { strategy: GitStrategy::Clone, options, ..sources(&url(&origin), &sha) };
        let mut plan = plan(&world, sources, "cat a.txt; git log --oneline | wc -l; git config remote.origin.tagOpt");
        plan.environment = vec![variable("PATH", &format!("{}:{}", tools.display(), std::env::var("PATH").unwrap()))];
        let (closed, log) = world.run(plan);
        assert_eq!(closed.verdict.success, is_new, "{log}");
        let expected = if is_new {
            "Cloning repository for main with git depth set to 1..."
        } else {
            "needs git 2.49 or newer in the helper image, which has \"git version 2.39.5\": the repository is fetched instead"
        };
        assert!(log.contains(expected) && log.contains("one\n1\n") && log.contains("--no-tags") == is_new, "{log}");
    }
}

#[test]
fn the_directory_is_cleaned_at_the_end_where_that_is_wanted() {
    let dirt = "echo x > untracked; echo changed > a.txt; printf '#!/bin/sh\\necho planted' > .git/hooks/post-checkout; chmod +x .git/hooks/*; git config core.fsmonitor 'echo planted >&2; false'";
    for (strategy, left) in [(GitStrategy::Fetch, Some("one\n")), (GitStrategy::Clone, None)] {
        let world = World::new();
        let (origin, sha) = repository(&world);
        let options = GitOptions { clean_up: true, ..GitOptions::default() };
        let mut plan = plan(&world, Sources { strategy, options, ..sources(&url(&origin), &sha) }, dirt);
        plan.stages.push(stage("cleanup_file_variables", Action::Cleanup));
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success && !log.contains("planted"), "{log}");
        let project = world.path("/builds/g/p");
        assert!(project.is_dir() && !project.join("untracked").exists(), "{log}");
        assert_eq!(fs::read_to_string(project.join("a.txt")).ok().as_deref(), left, "{log}");
    }
}

#[test]
fn credentials_of_the_project_outlive_a_clean_environment_and_are_the_last_for_others() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    git(&origin, &["update-server-info"]);
    let server = Server::start(vec![("/p.git/", origin.join(".git"))]);
    let root = format!("http://{}/", server.address);
    let url = format!("{root}p.git");
    let mut sources = Sources { depth: 0, own_urls: vec![url.clone()], ..sources(&url, &sha) };
    let with = format!("http://gitlab-ci-token:hunter2@{}/", server.address);
    sources.credentials = vec![GitCredential { with: with.into(), without: root.clone() }];
    sources.pre_script = Some(script("echo before: $(git config --get-regexp '^url' | wc -l)"));
    sources.post_script = Some(script("echo after: $(ls)"));
    let text = format!(
        "git fetch -q origin main && echo fetched
         env -i PATH=\"$PATH\" git fetch -q origin main && echo fetched without an environment
         GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=x git fetch -q origin main && echo fetched with settings
         (cd / && git ls-remote -q {url} main > /dev/null) && echo from elsewhere
         export GIT_TERMINAL_PROMPT=0; git ls-remote -q {root}other.git; echo other $?
         env -i PATH=\"$PATH\" git ls-remote -q {root}other.git
         (cd / && git ls-remote -q {root}elsewhere.git)
         git ls-remote -q http://somebody@{address}/elsewhere.git
         git -c core.askPass=true ls-remote -q {root}elsewhere.git
         git -c credential.helper='!true' ls-remote -q {root}elsewhere.git
         git config credential.helper '!echo username=oauth2; echo password=personal; true'
         git ls-remote -q {root}elsewhere.git
         git config --unset credential.helper
         git config --global credential.helper '!echo username=oauth2; echo password=personal; true'
         git ls-remote -q {root}elsewhere.git
         git config --global --unset credential.helper
         printf 'machine 127.0.0.1 login oauth2 password personal\n' > .netrc
         HOME=$PWD git ls-remote -q {root}elsewhere.git; echo other $?
         HOME=$PWD git fetch -q origin main && echo still fetched
         git config --global url.http://oauth2:personal@{address}.insteadOf http://{address}
         git ls-remote -q {root}elsewhere.git; echo other $?
         git fetch -q origin main && echo even now; rm .netrc",
        address = server.address
    );
    let mut plan = plan(&world, sources, &text);
    plan.environment = vec![variable("HOME", &world.path("/builds").to_string_lossy())];
    plan.stages.push(stage("cleanup_file_variables", Action::Cleanup));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    for text in [
        "before: 1\n",
        "after: a.txt b.txt\n",
        "\nfetched\n",
        "fetched without an environment\n",
        "fetched with settings\n",
        "from elsewhere\n",
        "still fetched\n",
        "even now\n",
    ] {
        assert!(log.contains(text), "{text:?} is not in {log}");
    }
    let asked = server.others.lock().unwrap().clone();
    let seen = |name: &str| -> Vec<_> {
        let of_it = asked.iter().filter(|(path, _)| path.starts_with(name));
        of_it.filter_map(|(_, header)| header.as_deref()).filter(|header| [JOB, PERSONAL].contains(header)).collect()
    };
    assert_eq!(seen("/other.git/"), [JOB; 2], "{log}");
    assert_eq!(seen("/elsewhere.git/"), [PERSONAL; 4], "{log}");
    let config = fs::read_to_string(world.path("/builds/g/p/.git/config")).unwrap_or_default();
    assert!(!config.contains("hunter2"), "{config}");
    let files = ["/builds", "/gantry-agent", "/gantry"].map(|directory| walkdir::WalkDir::new(world.path(directory)));
    for entry in files.into_iter().flatten().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        if !["trace", "gantry-helper"].iter().any(|name| entry.file_name() == *name) {
            let bytes = fs::read(entry.path()).unwrap();
            let found = bytes.windows(7).any(|part| part == b"hunter2");
            assert!(!found, "{} holds the credential after the job", entry.path().display());
        }
    }
}

/// `gitlab-ci-token:hunter2` and `oauth2:personal`.
const JOB: &str = "Basic Z2l0bGFiLWNpLXRva2VuOmh1bnRlcjI=";
const PERSONAL: &str = "Basic b2F1dGgyOnBlcnNvbmFs";

/// What else was asked for, and with which header.
type Others = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// Serves repositories by git's plain file protocol to those who know the password, and notes who
/// asks for others.
struct Server {
    address: SocketAddr,
    others: Others,
}

impl Server {
    fn start(repositories: Vec<(&'static str, PathBuf)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let others = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&others);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &repositories, &noted);
            }
        });
        Self { address, others }
    }
}

fn answer(stream: TcpStream, repositories: &[(&str, PathBuf)], others: &Others) {
    let mut reader = BufReader::new(stream);
    let request = head(&mut reader);
    let authorization = request.lines().find_map(|line| line.strip_prefix("Authorization: ")).map(str::to_owned);
    let path = request.split_whitespace().nth(1).unwrap_or("/").split('?').next().unwrap_or_default();
    let unauthorized = ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new());
    let file = repositories.iter().find_map(|(name, directory)| Some(directory.join(path.strip_prefix(name)?)));
    let (status, body) = match file {
        Some(file) if authorization.as_deref() == Some(JOB) => match fs::read(file) {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 Not Found", Vec::new()),
        },
        Some(_) => unauthorized,
        None => {
            let is_known = authorization.is_some();
            others.lock().unwrap().push((path.to_owned(), authorization));
            if is_known { ("404 Not Found", Vec::new()) } else { unauthorized }
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let mut stream = reader.into_inner();
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// A repository with another one as its submodule `inner`, and its commit.
fn with_submodule(world: &World) -> (PathBuf, String) {
    let (origin, _) = repository(world);
    let outer = world.path("/outer");
    fs::create_dir_all(&outer).unwrap();
    git(&outer, &["init", "-q", "-b", "main"]);
    git(&outer, &["submodule", "add", "-q", &url(&origin), "inner"]);
    git(&outer, &["commit", "-q", "-m", "x"]);
    let sha = git(&outer, &["rev-parse", "HEAD"]);
    (outer, sha)
}

/// Git refuses local submodules unless told otherwise; a job may pass settings of its own.
fn local_submodules() -> Vec<EnvVar> {
    [("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")]
        .map(|(key, value)| variable(&format!("GIT_CONFIG_{key}"), value))
        .into()
}

#[test]
fn submodules_come_along() {
    let world = World::new();
    let (outer, sha) = with_submodule(&world);
    let submodules = Submodules { strategy: SubmoduleStrategy::Recursive, depth: 1, ..Submodules::default() };
    let mut plan = plan(&world, Sources { submodules, ..sources(&url(&outer), &sha) }, "cat inner/a.txt");
    plan.environment = local_submodules();
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(
        log.contains("Updating/initializing submodules recursively with git depth set to 1...")
            && log.contains("one\n")
    );
}

#[test]
fn nothing_that_an_earlier_job_left_in_a_submodule_runs() {
    for (what, plant) in [
        ("nothing", "true"),
        ("configuration", "evil .git/modules/inner"),
        ("a repository in the tree", "rm inner/.git; git init -q inner; evil inner/.git"),
        (
            "a repository elsewhere",
            "cp -r .git/modules/inner ../evil; evil ../evil; echo gitdir: $PWD/../evil > inner/.git",
        ),
        ("a linked module", "mv .git/modules/inner ../evil; evil ../evil; ln -s ../../../evil .git/modules/inner"),
        (
            "a linked tree",
            "mv inner ../tree; rm ../tree/.git; git init -q ../tree; evil ../tree/.git; ln -s ../tree inner",
        ),
        ("a module without a HEAD", ": > .git/modules/inner/HEAD"),
        ("a broken index", "echo x > .git/modules/inner/index"),
        ("no objects", "rm -rf .git/modules/inner/objects/??"),
    ] {
        let world = World::new();
        let (outer, sha) = with_submodule(&world);
        let submodules = Submodules { strategy: SubmoduleStrategy::Recursive, ..Submodules::default() };
        let wanted = Sources { submodules, ..sources(&url(&outer), &sha) };
        let mut plan = plan(&world, wanted, "cat inner/a.txt; git -C inner status --short; git submodule status");
        plan.environment = local_submodules();
        fs::create_dir_all(world.path("/builds/g")).unwrap();
        let clone = ["-c", "protocol.file.allow=always", "clone", "-q", "--recursive", &url(&outer), "p"];
        git(&world.path("/builds/g"), &clone);
        let mark = world.path("/mark");
        let evil = "evil() { git config --file $1/config --unset core.worktree || true
            git config --file $1/config core.fsmonitor \"echo ran $1 >> $MARK; true\"; mkdir -p $1/hooks
            printf '#!/bin/sh\\necho ran >> %s\\n' $MARK > $1/hooks/post-checkout; chmod 755 $1/hooks/post-checkout; }\n";
        let planted = std::process::Command::new("sh")
            .args(["-ec", &format!("{evil}{plant}")])
            .env("MARK", &mark)
            .current_dir(world.path("/builds/g/p"))
            .output()
            .unwrap();
        assert!(planted.status.success(), "{what}: {planted:?}");
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success && log.contains("one\n"), "{what}: {log}");
        assert!(!mark.exists(), "{what}: {}: {log}", fs::read_to_string(&mark).unwrap_or_default());
        assert!(!log.contains("Retrying...") || what == "no objects" || what == "a broken index", "{what}: {log}");
    }
}

#[test]
fn what_a_job_asks_of_submodules_in_vain_costs_none() {
    for (flags, paths) in [("--nope", ""), ("--depth=x", ""), ("", "nowhere")] {
        let world = World::new();
        let (outer, sha) = with_submodule(&world);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let (update_flags, paths) = (words(flags), words(paths));
        let submodules =
            Submodules { strategy: SubmoduleStrategy::Normal, update_flags, paths, ..Submodules::default() };
        let mut plan = plan(&world, Sources { submodules, ..sources(&url(&outer), &sha) }, "true");
        plan.environment = local_submodules();
        fs::create_dir_all(world.path("/builds/g")).unwrap();
        let clone = ["-c", "protocol.file.allow=always", "clone", "-q", "--recursive", &url(&outer), "p"];
        git(&world.path("/builds/g"), &clone);
        let kept = world.path("/builds/g/p/.git/modules/inner/objects/kept");
        fs::write(&kept, "").unwrap();
        let (closed, log) = world.run(plan);
        assert!(!closed.verdict.success && kept.exists(), "{flags}: {log}");
        assert!(!log.contains("of the submodules is removed"), "{flags}: {log}");
    }
}

#[test]
fn the_token_opens_submodules_too() {
    for (strategy, text) in [
        (SubmoduleStrategy::Recursive, "env -i PATH=\"$PATH\" git -C inner fetch -q origin main || exit 7"),
        // A script may get them itself.
        (SubmoduleStrategy::None, "git submodule --quiet update --init"),
    ] {
        let world = World::new();
        let (origin, _) = repository(&world);
        let outer = world.path("/outer");
        fs::create_dir_all(&outer).unwrap();
        git(&outer, &["init", "-q", "-b", "main"]);
        git(&outer, &["submodule", "add", "-q", &url(&origin), "inner"]);
        git(&outer, &["config", "--file", ".gitmodules", "submodule.inner.url", "../sub.git"]);
        git(&outer, &["commit", "-q", "-a", "-m", "x"]);
        let sha = git(&outer, &["rev-parse", "HEAD"]);
        for path in [&origin, &outer] {
            git(path, &["update-server-info"]);
        }
        let server = Server::start(vec![("/p.git/", outer.join(".git")), ("/sub.git/", origin.join(".git"))]);
        let root = format!("http://{}/", server.address);
        let with = format!("http://gitlab-ci-token:hunter2@{}/", server.address);
        let wanted = Sources {
            depth: 0,
            submodules: Submodules { strategy, ..Submodules::default() },
            credentials: vec![GitCredential { with: with.into(), without: root.clone() }],
            ..sources(&format!("{root}p.git"), &sha)
        };
        let text = format!(
            "{text}; cat inner/a.txt; export GIT_TERMINAL_PROMPT=0
             git -C inner fetch -q origin main && echo fetched
             git ls-remote -q {root}other.git; echo other $?; cat .git/config .git/modules/inner/config | grep -c hunter2 || true"
        );
        let (closed, log) = world.run(plan(&world, wanted, &text));
        assert!(closed.verdict.success, "{log}");
        assert!(log.contains("one\nfetched\n") && log.contains("other 128\n0\n"), "{log}");
        assert!(server.others.lock().unwrap().iter().any(|(_, header)| header.as_deref() == Some(JOB)));
    }
}

#[test]
fn what_git_says_about_a_failure_is_in_the_log_with_its_code() {
    let world = World::new();
    let (closed, log) = world.run(plan(&world, sources("file:///nowhere/at/all", &"0".repeat(40)), "true"));
    assert_eq!((closed.verdict.exit_code, closed.verdict.reason), (Some(128), Some(FailureReason::ScriptFailure)));
    assert!(log.contains("fatal: ") && log.contains("git fetch ended with exit code 128"), "{log}");
}

#[test]
fn a_path_that_hides_git_is_the_jobs_fault() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    let mut plan = plan(&world, sources(&url(&origin), &sha), "true");
    plan.environment = vec![variable("PATH", "/opt/tool/bin:")];
    fs::create_dir_all(world.path("/builds/g")).unwrap();
    git(&world.path("/builds/g"), &["clone", "-q", &url(&origin), "p"]);
    let (closed, log) = world.run(plan);
    assert!(world.path("/builds/g/p/.git/index").exists(), "{log}");
    assert_eq!((closed.verdict.exit_code, closed.verdict.reason), (Some(127), Some(FailureReason::ScriptFailure)));
    assert!(log.contains("the variable PATH of this job hides git of the helper image"), "{log}");
}

/// The log of a job with these hooks around git.
fn with_hooks(world: &World, before: &str, after: &str) -> (bool, String) {
    let (origin, sha) = repository(world);
    let (pre_script, post_script) = (Some(script(before)), Some(script(after)));
    let mut plan = plan(world, Sources { pre_script, post_script, ..sources(&url(&origin), &sha) }, "cat a.txt");
    plan.environment = vec![variable("GONE", "1"), variable("STAYS", "2"), variable("LARGE", &"x".repeat(200_000))];
    let (closed, log) = world.run(plan);
    (closed.verdict.success, log)
}

#[test]
fn what_a_hook_exports_reaches_git_and_the_hook_behind_it() {
    let export =
        "export TRACED=\"$PWD/../traced\" GIT_TRACE=\"$PWD/../traced\" LINES_OF='a\n b=c'; unset GONE; NOT=exported";
    let after =
        "echo \"[$LINES_OF] [${GONE-unset}] [$STAYS] [${NOT-unset}] [${#LARGE}]\"; grep -c 'git fetch' \"$TRACED\"
        git config --get-all http.extraHeader | sort | uniq -c; [ -e nowhere ] && true";
    for end in [
        "",
        "set -e; exit 0",
        "trap 'echo ended' EXIT",
        "set -x; set -u",
        "[ -e nowhere ] && . nowhere",
        "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=x",
        "unset GIT_CONFIG_COUNT",
    ] {
        let (success, log) = with_hooks(&World::new(), &format!("set -e\n{export}\n{end}"), after);
        assert!(success && !log.contains("is not known"), "{end}: {log}");
        assert!(log.contains("[a\n b=c] [unset] [2] [unset] [200000]\n1\n"), "{end}: {log}");
        assert!(log.contains("      1 X-Gitaly-Correlation-ID: 1\n") && log.contains("one\n"), "{end}: {log}");
        assert!(!log.contains("environment /"), "{end}: {log}");
    }
}

#[test]
fn a_hook_that_fails_ends_the_stage_and_one_that_leaves_nothing_is_named() {
    let (success, log) = with_hooks(&World::new(), "set -e; export A=1; (exit 3); echo on", "true");
    assert!(!success && log.contains("ended with exit code 3") && !log.contains("on\n"), "{log}");
    let (success, log) = with_hooks(&World::new(), "export GONE=3; exec true", "echo [$GONE]");
    assert!(success && log.contains("[1]\n") && log.contains("WARNING: what the hook before"), "{log}");
    let (success, log) = with_hooks(&World::new(), "export PATH=/nowhere", "true");
    assert!(!success && log.contains("by the PATH that the hook before getting the sources has exported"), "{log}");
}

#[test]
fn what_a_hook_has_started_goes_on_while_git_runs() {
    let before = "sleep 600 > /dev/null 2>&1 & export OF_HOOK=$!";
    let (success, log) = with_hooks(&World::new(), before, "kill $OF_HOOK && echo was there");
    assert!(success && log.contains("was there\n"), "{log}");
}

#[test]
fn a_second_try_starts_from_nothing() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    // A hook that spoils the first try.
    let hook = "[ -e ../spoiled ] || { touch ../spoiled untracked; exit 3; }";
    let sources = Sources { pre_script: Some(script(hook)), ..sources(&url(&origin), &sha) };
    let mut plan = plan(&world, sources, "cat a.txt");
    plan.stages[1].attempts = 2;
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    for text in
        ["WARNING: Retrying...", "Deleting all tracked and untracked files due to source fetch failure", "one\n"]
    {
        assert!(log.contains(text), "{text:?} is not in {log}");
    }
}

#[test]
fn what_a_job_asks_for_in_vain_costs_no_repository() {
    type Ask = fn(&mut Sources, Vec<String>);
    let asks: [(&str, Ask); 4] = [
        ("--nope", |sources, flags| sources.fetch_flags = flags),
        ("--nope", |sources, flags| sources.clean_flags = Some(flags)),
        ("-d", |sources, flags| sources.clean_flags = Some(flags)),
        ("0123456789012345678901234567890123456789", |sources, mut flags| sources.sha = flags.remove(0)),
    ];
    for (number, (what, ask)) in asks.into_iter().enumerate() {
        let world = World::new();
        let (origin, sha) = repository(&world);
        let mut sources = sources(&url(&origin), &sha);
        ask(&mut sources, vec![what.to_owned()]);
        let plan = plan(&world, sources, "true");
        fs::create_dir_all(world.path("/builds/g")).unwrap();
        git(&world.path("/builds/g"), &["clone", "-q", &url(&origin), "p"]);
        let kept = world.path("/builds/g/p/.git/objects/kept");
        fs::write(&kept, "").unwrap();
        let (closed, log) = world.run(plan);
        assert!(!closed.verdict.success && kept.exists(), "{number}: {log}");
        assert!(!log.contains("starting without it"), "{number}: {log}");
    }
}

/// What an earlier job may leave where the builds directory lasts: how it is made below `p`, the
/// project's directory.
const PLANTS: [(&str, &str); 20] = [
    ("a linked repository", "mv .git ../evil.git; ln -s ../evil.git .git"),
    ("a repository elsewhere", "mv .git ../evil.git; echo gitdir: $PWD/../evil.git > .git"),
    ("a common directory", "cp -r .git ../evil.git; echo $PWD/../evil.git > .git/commondir"),
    ("configuration", "true"),
    ("a configuration that is a directory", "rm .git/config; mkdir -p .git/config/x"),
    ("a work tree that is a file", "cd ..; mv p q; touch p"),
    ("a work tree that is a link", "cd ..; mv p q; ln -s q p"),
    ("a parent that is a link", "cd ../..; mv g h; ln -s h g"),
    ("an empty HEAD", ": > .git/HEAD"),
    (
        "locks",
        "touch .git/index.lock .git/HEAD.lock .git/shallow.lock .git/refs/remotes/origin/main.lock .git/packed-refs.lock",
    ),
    ("alternates", "echo $PWD/../nowhere > .git/objects/info/alternates"),
    ("attributes", "echo '* filter=evil' > .git/info/attributes; touch a.txt"),
    ("a broken index", "echo garbage > .git/index"),
    ("a sparse checkout", "git sparse-checkout set nowhere; rm -f a.txt b.txt"),
    ("files that git does not look at", "git update-index --assume-unchanged a.txt; echo other > a.txt"),
    ("no objects", "rm -rf .git/objects; mkdir .git/objects"),
    ("an empty ref", ": > .git/refs/remotes/origin/main"),
    ("a pipe", "rm .git/packed-refs; mkfifo .git/packed-refs .gitattributes"),
    ("a link for what git writes", "ln -sf $PWD/../victim .git/FETCH_HEAD; ln -s $PWD/../victim .git/ORIG_HEAD"),
    ("a work tree configuration", "git config extensions.worktreeConfig true; cp .git/config .git/config.worktree"),
];

/// Settings that run a program, in a repository's own configuration and hooks.
const EVIL: &str = "evil() { echo ran > \"$MARK\"; }
    for key in core.fsmonitor core.sshCommand core.pager core.editor diff.external credential.helper filter.evil.smudge \
        filter.evil.clean core.alternateRefsCommand core.askPass uploadpack.packObjectsHook; do
        git config --file .git/config $key \"echo ran $key >> $MARK; true\"
    done
    mkdir -p .git/hooks .git/info
    for hook in post-checkout reference-transaction pre-auto-gc post-index-change; do
        printf '#!/bin/sh\\necho ran %s >> %s\\n' $hook $MARK > .git/hooks/$hook; chmod 755 .git/hooks/$hook
    done
    git config --file .git/config core.hooksPath $PWD/.git/hooks\n";

#[test]
fn nothing_that_an_earlier_job_left_runs_or_is_in_the_way() {
    for (what, plant) in PLANTS {
        let world = World::new();
        let (origin, sha) = repository(&world);
        let mut plan = plan(&world, sources(&url(&origin), &sha), "cat a.txt b.txt; git status --short; git fsck");
        plan.stages.push(stage("cleanup_file_variables", Action::Cleanup));
        let project = world.path("/builds/g/p");
        fs::create_dir_all(world.path("/builds/g")).unwrap();
        git(&world.path("/builds/g"), &["clone", "-q", &url(&origin), "p"]);
        fs::write(world.path("/builds/g/victim"), "").unwrap();
        let mark = world.path("/mark");
        let planted = std::process::Command::new("sh")
            .args(["-c", &format!("{EVIL}{plant}")])
            .env("MARK", &mark)
            .current_dir(&project)
            .output()
            .unwrap();
        assert!(planted.status.success(), "{what}: {planted:?}");
        let _ = fs::remove_file(&mark);
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success && log.contains("one\ntwo\n"), "{what}: {log}");
        assert!(!mark.exists(), "{what}: {}: {log}", fs::read_to_string(&mark).unwrap_or_default());
        assert!(!log.contains("Retrying"), "{what}: {log}");
        assert_eq!(fs::read_to_string(world.path("/builds/g/victim")).unwrap_or_default(), "", "{what}");
    }
}

#[test]
fn a_server_that_does_not_answer_costs_no_repository() {
    let world = World::new();
    let (origin, sha) = repository(&world);
    let plan = plan(&world, sources("file:///nowhere/at/all", &sha), "true");
    fs::create_dir_all(world.path("/builds/g")).unwrap();
    git(&world.path("/builds/g"), &["clone", "-q", &url(&origin), "p"]);
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.exit_code, Some(128), "{log}");
    assert!(world.path("/builds/g/p/.git/index").exists() && !log.contains("starting without it"), "{log}");
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
