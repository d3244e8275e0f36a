//! Artifacts, to and from a server that keeps what it is sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use gantry_core::FailureReason;
use gantry_wire::plan::{Action, ArtifactDownload, ArtifactFormat, ArtifactUpload, PodPlan};

use crate::http::{head, listen};
use crate::world::{World, stage, variable};

/// Uploads by job, with the head of their requests. The heads of downloads are under [`DOWNLOADS`],
/// those of refused reports under [`REFUSED`].
pub(crate) type Kept = Arc<Mutex<BTreeMap<i64, (String, Vec<u8>)>>>;

const DOWNLOADS: i64 = -1;
const REFUSED: i64 = -2;

/// As much of GitLab as artifacts need: it takes an upload, checks the token, and gives it back.
pub(crate) fn server() -> (String, Kept) {
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    let address = listen(move |stream| serve(stream, &shared));
    (format!("http://{address}/"), kept)
}

fn serve(stream: TcpStream, kept: &Kept) {
    let mut reader = BufReader::new(stream);
    let head = head(&mut reader);
    let Some(id) = head.split("/jobs/").nth(1).and_then(|rest| rest.split('/').next()) else { return };
    let id: i64 = id.parse().unwrap();
    let lower = head.to_lowercase();
    let body = if lower.contains("transfer-encoding: chunked") { chunks(&mut reader) } else { Vec::new() };
    let mut stream = reader.into_inner();
    if !lower.contains("job-token: job-token") {
        return reply(&mut stream, "403 Forbidden", b"{\"message\":\"403 Forbidden\"}");
    }
    if head.contains("artifact_type=dotenv") {
        kept.lock().unwrap().entry(REFUSED).or_default().0.push_str(&head);
        return reply(&mut stream, "400 Bad Request", b"{\"message\":\"Invalid Format\"}");
    }
    if head.starts_with("POST") {
        kept.lock().unwrap().insert(id, (head, part(&body)));
        return reply(&mut stream, "201 Created", b"{}");
    }
    let mut kept = kept.lock().unwrap();
    kept.entry(DOWNLOADS).or_default().0.push_str(&head);
    if head.contains("direct_download=true") && id == 9 {
        return reply(&mut stream, "400 Bad Request", b"{\"message\":\"the store knows better\"}");
    }
    if head.contains("direct_download=true") && id == 10 {
        return reply(&mut stream, "403 Forbidden", b"{\"message\":\"the signature is too old\"}");
    }
    match kept.get(&id) {
        Some((_, file)) => reply(&mut stream, "200 OK", file),
        None => reply(&mut stream, "404 Not Found", b"{}"),
    }
}

fn chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

/// The content of the one part of a multipart body.
fn part(body: &[u8]) -> Vec<u8> {
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|part| part == what).unwrap();
    let end_of_line = find(body, b"\r\n");
    let boundary = [b"\r\n", &body[..end_of_line]].concat();
    let start = find(body, b"\r\n\r\n") + 4;
    let rest = &body[start..];
    rest[..find(rest, &boundary)].to_vec()
}

fn reply(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let kind = if body.starts_with(b"{") { "application/json" } else { "application/octet-stream" };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn upload(name: &str, paths: &[&str], format: ArtifactFormat) -> ArtifactUpload {
    ArtifactUpload {
        name: name.into(),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        exclude: vec!["**/*.tmp".into()],
        untracked: false,
        artifact_type: "archive".into(),
        format,
        expire_in: "1 week".into(),
        provenance: None,
    }
}

fn uploading(world: &World, url: &str, script: &str, artifact: ArtifactUpload) -> PodPlan {
    let mut plan = world.plan(&[script]);
    plan.coordinator.url = url.into();
    let action = Action::UploadArtifacts { on_success: true, artifacts: vec![artifact] };
    plan.stages.push(stage("upload_artifacts_on_success", action));
    plan
}

#[test]
fn what_one_job_uploads_another_finds() {
    let (url, kept) = server();
    let first = World::new();
    let text = "mkdir -p dist/empty; echo content > dist/a; chmod 751 dist/a; ln -s a dist/link; touch dist/x.tmp";
    let mut plan = uploading(&first, &url, text, upload("$CI_JOB_NAME", &["dist"], ArtifactFormat::Zip));
    plan.environment = vec![variable("CI_JOB_NAME", "my-job")];
    let (closed, log) = first.run(plan);
    assert!(closed.verdict.success, "{log}");
    for text in [
        "\x1b[32;1mUploading artifacts...\x1b[0;m\n",
        "dist: found 4 matching artifact files and directories",
        "**/*.tmp: excluded 1 files",
        "Uploading artifacts as \"archive\" to coordinator... 201 Created",
    ] {
        assert!(log.contains(text), "{text:?} is not in {log}");
    }
    let head = kept.lock().unwrap()[&7].0.clone();
    assert!(head.contains("artifact_format=zip&artifact_type=archive&expire_in=1"), "{head}");

    let second = World::new();
    let mut plan = second.plan(&["cat dist/link; stat -c %a dist/a; ls -d dist/empty; ls dist"]);
    plan.coordinator.url = url;
    let download = ArtifactDownload { job_id: 7, job_name: "my-job".into(), token: "job-token".into() };
    plan.stages.insert(1, stage("download_artifacts", Action::DownloadArtifacts(vec![download])));
    let (closed, log) = second.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert!(log.contains("Downloading artifacts for my-job (7)..."), "{log}");
    assert!(log.contains("content\n751\ndist/empty\na\nempty\nlink\n"), "{log}");
    let mode = fs::metadata(second.path("/builds/g/p/dist/a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o751);
}

#[test]
fn reports_are_sent_as_they_are() {
    let (url, kept) = server();
    for (format, bytes) in [(ArtifactFormat::Raw, Some(&b"<xml/>"[..])), (ArtifactFormat::Gzip, None)] {
        let world = World::new();
        let plan = uploading(&world, &url, "printf '<xml/>' > report.xml", upload("", &["*.xml"], format));
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        let kept = kept.lock().unwrap();
        match bytes {
            Some(bytes) => assert_eq!(kept[&7].1, bytes),
            None => assert_eq!(kept[&7].1[..2], [0x1f, 0x8b]),
        }
    }
}

#[test]
fn nothing_to_upload_is_no_failure() {
    let (url, kept) = server();
    let world = World::new();
    let (closed, log) =
        world.run(uploading(&world, &url, "true", upload("", &["nothing", "../x"], ArtifactFormat::Zip)));
    assert!(closed.verdict.success && log.contains("ERROR: No files to upload"), "{log}");
    assert!(log.contains("nothing: no matching files") && log.contains("not a subpath of project directory: ../x"));
    assert!(kept.lock().unwrap().is_empty());
}

#[test]
fn what_gitlab_refuses_fails_the_job_and_tokens_stay_secret() {
    let (url, _) = server();
    let world = World::new();
    let mut plan = uploading(&world, &url, "echo > a", upload("", &["a"], ArtifactFormat::Zip));
    plan.job_token = "wrong-token".into();
    let (closed, log) = world.run(plan);
    assert_eq!(closed.verdict.reason, Some(FailureReason::ScriptFailure), "{log}");
    assert!(log.contains("permission denied") && !log.contains("wrong-token"), "{log}");

    let world = World::new();
    let mut plan = world.plan(&["true"]);
    plan.coordinator.url = url;
    let download = ArtifactDownload { job_id: 8, job_name: "gone".into(), token: "job-token".into() };
    plan.stages.insert(1, stage("download_artifacts", Action::DownloadArtifacts(vec![download])));
    let (closed, log) = world.run(plan);
    assert!(!closed.verdict.success && log.contains("expired or been erased"), "{log}");
}

#[test]
fn a_report_that_gitlab_does_not_take_is_sent_once() {
    let (url, kept) = server();
    let world = World::new();
    let report = ArtifactUpload { artifact_type: "dotenv".into(), ..upload("", &["a"], ArtifactFormat::Gzip) };
    let (closed, log) = world.run(uploading(&world, &url, "echo no dotenv > a", report));
    assert_eq!(closed.verdict.reason, Some(FailureReason::ScriptFailure), "{log}");
    let words =
        "GitLab refused the artifacts as \"dotenv\" (status 400): Invalid Format; a dotenv report has one NAME=value";
    assert!(log.contains(words), "{log}");
    assert_eq!(kept.lock().unwrap()[&REFUSED].0.matches("POST ").count(), 1);
}

#[test]
fn artifacts_come_directly_unless_that_is_refused_or_not_wanted() {
    let (url, kept) = server();
    let world = World::new();
    let (closed, log) = world.run(uploading(&world, &url, "echo 1 > a", upload("", &["a"], ArtifactFormat::Zip)));
    assert!(closed.verdict.success, "{log}");
    let archive = kept.lock().unwrap()[&7].clone();
    let cases = [
        (7, "true", "false", &[true][..]),
        (7, "false", "false", &[false]),
        (9, "true", "false", &[true, false]),
        (10, "true", "false", &[true, false]),
        // A server that gives no parts gives all of it.
        (7, "true", "true", &[true]),
    ];
    for (id, flag, in_parts, asked) in cases {
        *kept.lock().unwrap() = [(id, archive.clone())].into();
        let world = World::new();
        let mut plan = world.plan(&["cat a"]);
        plan.coordinator.url.clone_from(&url);
        plan.environment =
            vec![variable("FF_USE_DIRECT_DOWNLOAD", flag), variable("FF_USE_PARALLEL_ARTIFACT_TRANSFER", in_parts)];
        let download = ArtifactDownload { job_id: id, job_name: "first".into(), token: "job-token".into() };
        plan.stages.insert(1, stage("download_artifacts", Action::DownloadArtifacts(vec![download])));
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        let heads = kept.lock().unwrap()[&DOWNLOADS].0.clone();
        let lines = heads.lines().filter(|line| line.starts_with("GET "));
        assert_eq!(lines.map(|line| line.contains("direct_download=true")).collect::<Vec<_>>(), asked, "{heads}");
    }
}

/// Names in the archive that the job has uploaded; `None` without one.
fn names(kept: &Kept) -> Option<Vec<String>> {
    let bytes = kept.lock().unwrap().remove(&7)?.1;
    let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    Some(names)
}

#[test]
fn files_are_found_through_linked_directories() {
    let (url, kept) = server();
    let text = "mkdir -p build/2024 .build/x86_64/release; echo r > build/2024/report.xml; ln -s 2024 build/latest
        echo a > .build/x86_64/release/app; ln -s $PWD/.build/x86_64/release .build/release; ln -s / build/out";
    for (path, found) in [
        ("build/latest/report.xml", Some("build/latest/report.xml")),
        ("build/latest/*.xml", Some("build/latest/report.xml")),
        (".build/release/app", Some(".build/release/app")),
        ("build/out/etc/hostname", None),
        ("build/*/etc/hostname", None),
    ] {
        let world = World::new();
        let (closed, log) = world.run(uploading(&world, &url, text, upload("", &[path], ArtifactFormat::Zip)));
        assert!(closed.verdict.success, "{log}");
        assert_eq!(names(&kept), found.map(|name| vec![name.to_owned()]), "{path}: {log}");
    }
}

#[test]
fn a_project_directory_that_is_gone_or_replaced_gives_no_artifacts() {
    let (url, kept) = server();
    for (text, reason, sentence) in [
        ("true", None, "is not there any more: the job has removed it"),
        ("touch $CI_PROJECT_DIR", Some(FailureReason::ScriptFailure), "is no directory now"),
        ("ln -s / $CI_PROJECT_DIR", Some(FailureReason::ScriptFailure), "is a link now"),
        (
            "mv ${CI_PROJECT_DIR%/*} /tmp/$$; ln -s / ${CI_PROJECT_DIR%/*}; rm -rf /tmp/$$",
            Some(FailureReason::ScriptFailure),
            "is a link now",
        ),
    ] {
        let world = World::new();
        let text = format!("cd /; rm -rf $CI_PROJECT_DIR; {text}");
        let mut plan = uploading(&world, &url, &text, upload("", &["etc/hostname", "*"], ArtifactFormat::Zip));
        plan.environment = vec![variable("CI_PROJECT_DIR", &plan.paths.project_dir)];
        let (closed, log) = world.run(plan);
        assert_eq!(closed.verdict.reason, reason, "{log}");
        assert!(log.contains(sentence), "{sentence:?} is not in {log}");
        assert_eq!(names(&kept), None, "{log}");
    }
}

#[test]
fn untracked_files_are_listed_without_the_jobs_git_configuration() {
    let (url, kept) = server();
    let world = World::new();
    let text = "git init -q .; echo t > tracked; echo i > ignored; echo u > 'un tracked'; echo ignored > .gitignore
        git add tracked .gitignore; git config core.fsmonitor \"touch $MARK; true\"; git config alias.ls-files '!touch $MARK'
        rm -f $MARK; : > $MARK.kept";
    let mut plan = uploading(
        &world,
        &url,
        text,
        ArtifactUpload { untracked: true, exclude: vec![".git/**".into()], ..upload("", &[], ArtifactFormat::Zip) },
    );
    let mark = world.path("/mark");
    plan.environment = vec![variable("MARK", &mark.to_string_lossy())];
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success && log.contains("untracked: found 2 files"), "{log}");
    assert_eq!(names(&kept), Some(vec!["ignored".to_owned(), "un tracked".to_owned()]), "{log}");
    assert!(!mark.exists() && world.path("/mark.kept").exists(), "{log}");
}

#[test]
fn untracked_files_of_a_sparse_work_tree() {
    let (url, kept) = server();
    let world = World::new();
    let text = "git init -q .; mkdir a b; echo t > a/t; echo t > b/t; git add .
        git -c user.name=x -c user.email=x commit -q -m x; git sparse-checkout set --cone --sparse-index a; echo u > a/u";
    let artifact = ArtifactUpload { untracked: true, exclude: Vec::new(), ..upload("", &[], ArtifactFormat::Zip) };
    let (closed, log) = world.run(uploading(&world, &url, text, artifact));
    assert!(closed.verdict.success, "{log}");
    assert_eq!(names(&kept), Some(vec!["a/u".to_owned()]), "{log}");
}

#[test]
fn without_a_repository_nothing_is_untracked() {
    let (url, kept) = server();
    for text in ["true", "ln -s / .git", "echo gitdir: / > .git", "mkdir .git; mkfifo .git/index"] {
        let world = World::new();
        let artifact = ArtifactUpload { untracked: true, ..upload("", &[], ArtifactFormat::Zip) };
        let (closed, log) = world.run(uploading(&world, &url, text, artifact));
        assert!(closed.verdict.success && log.contains("WARNING: untracked: "), "{text}: {log}");
        assert_eq!(names(&kept), None, "{log}");
    }
}
