//! The command line of the official helper, as the official runner's scripts call it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::artifacts::server;
use crate::caches::Store;
use crate::world::helper;

pub(crate) fn official(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = helper();
    command.arg0("gitlab-runner-helper").current_dir(directory).args(arguments);
    for name in ["CI_JOB_ID", "CI_JOB_TOKEN", "CI_SERVER_URL"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_cache_goes_into_its_file_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let project = root.path().join("builds/g/p");
    fs::create_dir_all(project.join("vendor/deep")).unwrap();
    fs::write(project.join("vendor/deep/file"), "kept").unwrap();
    let file = "../../../cache/g/p/key/cache.zip";
    let save = official(
        &project,
        &["cache-archiver", "--file", file, "--timeout", "10", "--path", "vendor/", "--newer-flag", "x"],
    );
    assert!(save.status.success() && root.path().join("cache/g/p/key/cache.zip").exists(), "{}", text(&save));
    assert!(
        text(&save).contains("--newer-flag is no flag") && !text(&save).contains("Created cache"),
        "{}",
        text(&save)
    );
    fs::remove_dir_all(project.join("vendor")).unwrap();
    let restore = official(&project, &["cache-extractor", "--file", file, "--timeout", "10"]);
    assert!(restore.status.success(), "{}", text(&restore));
    assert_eq!(fs::read_to_string(project.join("vendor/deep/file")).unwrap(), "kept");
    let missing = official(&project, &["cache-extractor", "--file", "../../../cache/other/cache.zip"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
    assert!(text(&missing).contains("Cache file does not exist"), "{}", text(&missing));
}

#[test]
fn what_was_restored_and_has_not_changed_is_not_sent() {
    let (url, store) = Store::start();
    let url = format!("{url}/key");
    let root = tempfile::tempdir().unwrap();
    let (project, scratch) = (root.path().join("project"), root.path().join("tmp"));
    for directory in [project.join("deps"), scratch.clone()] {
        fs::create_dir_all(directory).unwrap();
    }
    for name in ["deps/a", "deps/b.log", "deps/c"] {
        fs::write(project.join(name), name).unwrap();
    }
    let call = |words: &str| {
        let arguments: Vec<&str> = words.split(' ').chain(["--url", &url]).collect();
        let output = command(&project, &arguments).env("TMPDIR", &scratch).output().unwrap();
        assert!(output.status.success(), "{words}: {}", text(&output));
        text(&output)
    };
    let save = "cache-archiver --file ../cache/key/cache.zip --path deps --exclude deps/*.log";
    let restore = "cache-extractor --file ../cache/key/cache.zip";
    let said = call(save);
    assert!(said.contains("deps/*.log: excluded 1 files") && store.asked("PUT") == 1, "{said}");
    fs::remove_dir_all(project.join("deps")).unwrap();
    call(restore);
    assert!(project.join("deps/a").exists() && !project.join("deps/b.log").exists());
    let said = call(save);
    assert!(said.contains("Archive is up to date!") && store.asked("PUT") == 1, "{said}");
    fs::write(project.join("deps/c"), "changed").unwrap();
    call(save);
    assert_eq!(store.asked("PUT"), 2);
}

#[test]
fn flags_say_how_a_cache_is_packed() {
    let root = tempfile::tempdir().unwrap();
    let project = root.path().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("file"), "kept").unwrap();
    nix::unistd::mkfifo(&project.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (format, start) in [("zip", &b"PK"[..]), ("tarzstd", b"\x28\xb5\x2f\xfd")] {
        let save = ["cache-archiver", "--file", "../cache.zip", "--path", "*", "--compression-format", format];
        let save = official(&project, &save);
        let file = root.path().join("cache.zip");
        assert!(save.status.success() && fs::read(&file).unwrap().starts_with(start), "{format}: {}", text(&save));
        assert!(text(&save).contains("WARNING: File ignored: pipe"), "{format}: {}", text(&save));
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn artifacts_go_with_a_statement_of_where_they_come_from() {
    let (url, kept) = server();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("out")).unwrap();
    fs::write(root.path().join("out/a"), "one\n").unwrap();
    let access = ["--url", url.as_str(), "--token", "job-token", "--id", "12"];
    let about = "--name things --path out --generate-artifacts-metadata --runner-id 7 --repo-url https://gitlab.example/g/p \
        --repo-digest 0123 --job-name build --executor-name kubernetes --runner-name cluster \
        --started-at 2026-01-02T03:04:05Z --ended-at 2026-01-02T03:05:05Z --schema-version v1 --metadata-parameter CI";
    let arguments: Vec<&str> =
        ["artifacts-uploader"].into_iter().chain(access).chain(about.split_whitespace()).collect();
    let upload = official(root.path(), &arguments);
    assert!(upload.status.success() && !text(&upload).contains("WARNING"), "{}", text(&upload));
    let to = tempfile::tempdir().unwrap();
    let download = official(to.path(), &[&["artifacts-downloader"], access.as_slice()].concat());
    assert!(download.status.success() && kept.lock().unwrap().contains_key(&12), "{}", text(&download));
    assert_eq!(fs::read_to_string(to.path().join("out/a")).unwrap(), "one\n");
    let statement = fs::read_to_string(to.path().join("things-metadata.json")).unwrap();
    for said in ["https://gitlab.example/g/p/-/runners/7", "\"2026-01-02T03:04:05Z\"", "\"out/a\"", "\"CI\": \"\""] {
        assert!(statement.contains(said), "{said} is not in {statement}");
    }
    let late = official(root.path(), &[&arguments[..], &["--started-at", "soon"]].concat());
    assert!(late.status.code() == Some(1) && text(&late).contains("FATAL: --started-at: "), "{}", text(&late));
}

/// What a stage does: a script as GitLab Runner 17.9 writes them, on standard input of the shell
/// that it calls in the helper container, where nothing but `PATH` is set.
fn stage(tools: &Path, builds: &Path, body: &str) -> Output {
    let script = format!(
        "trap \"exit 1\" TERM\n\nif set -o | grep pipefail > /dev/null; then set -o pipefail; fi; set -o errexit\n\
         set +o noclobber\n: | eval '{body}'\nexit 0\n"
    );
    let path = std::env::join_paths([tools, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let mut shell = Command::new(tools.join("gitlab-runner-build"));
    shell.env_clear().env("PATH", path).env("TMPDIR", tools).current_dir(builds).stdin(Stdio::piped());
    let mut shell = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    shell.wait_with_output().unwrap()
}

#[test]
fn the_stages_of_a_job_of_the_official_runner_find_what_they_call() {
    let (url, _) = server();
    let root = tempfile::tempdir().unwrap();
    let (tools, builds) = (root.path().join("bin"), root.path().join("builds"));
    for directory in [&tools, &builds.join("g/p/deps"), &builds.join("g/p/out"), &root.path().join("cache")] {
        fs::create_dir_all(directory).unwrap();
    }
    for name in ["gitlab-runner-build", "gitlab-runner-helper"] {
        symlink(helper().get_program(), tools.join(name)).unwrap();
    }
    let stage = |body: &str| stage(&tools, &builds, body);
    let caches = |action: &str| {
        format!(
            "cd \"g/p\"\nif gitlab-runner-helper --version >/dev/null 2>/dev/null; then\n  {action}\nelse\n  \
             echo \"Missing gitlab-runner-helper.\"\nfi\n"
        )
    };
    let restore = caches(
        "if gitlab-runner-helper \"cache-extractor\" \"--file\" \"../../../cache/g/p/one/cache.zip\" \"--timeout\" \"10\"; \
         then echo \"Successfully extracted cache\"; else echo \"Failed to extract cache\"; fi",
    );
    let save = caches(
        "if gitlab-runner-helper \"cache-archiver\" \"--file\" \"../../../cache/g/p/one/cache.zip\" \"--timeout\" \"10\" \
         \"--path\" \"deps/\"; then echo \"Created cache\"; else echo \"Failed to create cache\"; fi",
    );
    let artifacts = |command: &str| {
        format!("cd \"g/p\"\ngitlab-runner-helper \"{command}\" --url \"{url}\" --token \"job-token\" --id \"12\"")
    };
    let none = stage(&restore);
    let said = text(&none);
    assert!(none.status.success() && said.contains("Failed to extract cache"), "{said}");
    let script = stage("cd \"g/p\"\necho kept >deps/file\necho made >out/file\n");
    assert!(script.status.success(), "{}", text(&script));
    let mode = fs::metadata(builds.join("g/p/deps/file")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "whoever the build container runs as writes to what the helper has made");
    let saved = stage(&save);
    assert!(text(&saved).contains("Created cache"), "{}", text(&saved));
    let upload = artifacts("artifacts-uploader") + " --path out --artifact-format zip --artifact-type archive";
    let sent = stage(&upload);
    assert!(sent.status.success() && text(&sent).contains("201 Created"), "{}", text(&sent));
    fs::remove_dir_all(builds.join("g/p")).unwrap();
    fs::create_dir(builds.join("g/p")).unwrap();
    let restored = stage(&restore);
    let said = text(&restored);
    assert!(said.contains("Successfully extracted cache") && !said.contains("Failed"), "{said}");
    let fetched = stage(&artifacts("artifacts-downloader"));
    assert!(fetched.status.success(), "{}", text(&fetched));
    let kept = |name: &str| fs::read_to_string(builds.join("g/p").join(name)).unwrap();
    assert_eq!((kept("deps/file").as_str(), kept("out/file").as_str()), ("kept\n", "made\n"));
    let failed = stage("cd \"g/p\"\nfalse\necho never\n");
    assert!(failed.status.code() == Some(1) && !text(&failed).contains("never"), "{}", text(&failed));
}

#[test]
fn a_port_that_answers_is_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let root = tempfile::tempdir().unwrap();
    let output = official(root.path(), &["health-check", "--port", &port]);
    let expected = format!(
        "waiting for TCP connection to localhost on [{port}]...\ndialing localhost:{port}...\ndial succeeded on localhost:{port}. Exiting...\n"
    );
    assert!(output.status.success() && text(&output).ends_with(&expected), "{}", text(&output));
}

#[test]
fn a_log_is_read_from_a_place_until_it_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let log = root.path().join("output.log");
    fs::write(&log, "one\ntwo\nthree").unwrap();
    let path = log.to_string_lossy();
    let mut reading =
        command(root.path(), &["read-logs", "--path", &path, "--offset", "4", "--wait-file-timeout", "1m0s"]);
    let mut reading = reading.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reading.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!([lines.next(), lines.next()].map(Option::unwrap), ["8 two", "13 three"]);
    fs::remove_file(&log).unwrap();
    assert_eq!((reading.wait().unwrap().code(), lines.next()), (Some(100), None));
    let missing = official(root.path(), &["read-logs", "--path", "absent", "--wait-file-timeout", "1s"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("timeout waiting for file to be created"));
}

#[test]
fn what_is_missing_is_said_and_the_version_is_known() {
    let root = tempfile::tempdir().unwrap();
    let upload = official(root.path(), &["artifacts-uploader", "--path", "x"]);
    assert!(upload.status.code() == Some(1) && text(&upload).contains("FATAL: Missing runner credentials"));
    let version = official(root.path(), &["--version"]);
    assert!(version.status.success() && text(&version).starts_with("Version:"));
    let help = official(root.path(), &["cache-archiver", "--help"]);
    assert!(help.status.success() && text(&help).starts_with("usage: gitlab-runner-helper cache-archiver"));
    assert!(text(&help).contains("\n  --path VALUE (again for more)\n") && !text(&help).contains("WARNING"));
}
