//! Caches, to and from a store and a volume.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gantry_wire::cache::{
    CacheFile, CachePlace, CacheRemark, CacheRestore, CacheSave, CacheSource, CacheTransfer, RestoreCaches, SaveCaches,
    SignedRequest,
};
use gantry_wire::plan::{Action, PodPlan};

use crate::http::{head, listen};
use crate::world::{World, stage, variable};

/// Objects by path, and the heads of all requests.
#[derive(Clone, Default)]
pub(crate) struct Store {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Store {
    /// As much of a store as caches need. Names say what goes wrong with an object.
    pub(crate) fn start() -> (String, Self) {
        let store = Self::default();
        let shared = store.clone();
        let address = listen(move |stream| shared.serve(stream));
        (format!("http://{address}"), store)
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let head = head(&mut reader);
        let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        let field = |name: &str| {
            let lower = head.to_lowercase();
            lower.split_once(&format!("{name}: ")).map(|(_, rest)| rest.lines().next().unwrap().to_owned())
        };
        let (length, range) = (field("content-length"), field("range"));
        self.heads.lock().unwrap().push(head.clone());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let mut stream = reader.into_inner();
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>words</Message></Error>");
        if path.contains("denied") {
            return reply(&mut stream, "403 Forbidden", "", error("SignatureDoesNotMatch").as_bytes());
        }
        if path.contains("proxied") {
            return reply(&mut stream, "403 Forbidden", "", b"<!DOCTYPE html><html>Blocked by your company</html>");
        }
        if path.contains("busy") {
            return reply(&mut stream, "503 Slow Down", "Retry-After: 1\r\n", error("SlowDown").as_bytes());
        }
        if path.contains("hangs-up") && head.starts_with("GET") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n\x28\xb5\x2f\xfd");
            return;
        }
        if path.contains("page") {
            return reply(&mut stream, "200 OK", "", b"<html>sign in first</html>");
        }
        if head.starts_with("PUT") {
            self.objects.lock().unwrap().insert(path, body);
            return reply(&mut stream, "200 OK", "", b"");
        }
        let objects = self.objects.lock().unwrap();
        let Some(object) = objects.get(&path) else {
            return reply(&mut stream, "404 Not Found", "", error("NoSuchKey").as_bytes());
        };
        let Some(range) = range.filter(|_| !path.contains("stream")) else {
            return reply(&mut stream, "200 OK", "", object);
        };
        let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        let end = (end + 1).min(object.len());
        let is_later = start > 0;
        let (said, length) = match path.as_str() {
            // As a cache in between does that keeps answers without a thought of their ranges.
            "/other-place" if is_later => (0, object.len()),
            "/other-length" if is_later => (start, object.len() + 1),
            "/late-beginning" => (start + 1, object.len()),
            _ => (start, object.len()),
        };
        let mut headers = format!("Content-Range: bytes {said}-{}/{length}\r\nETag: \"1\"\r\n", end - 1);
        if is_later && path == "/no-word" {
            headers.clear();
        }
        reply(&mut stream, "206 Partial Content", &headers, &object[start..end]);
    }

    pub(crate) fn asked(&self, method: &str) -> usize {
        self.heads.lock().unwrap().iter().filter(|head| head.starts_with(method)).count()
    }
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

pub(crate) fn transfer() -> CacheTransfer {
    CacheTransfer {
        store: "the S3 bucket \"caches\"".into(),
        timeout_ms: 30_000,
        ca_pem: None,
        max_bytes: None,
        clean_up: false,
    }
}

pub(crate) fn object(url: &str, name: &str) -> CachePlace {
    let url = format!("{url}/{name}?X-Amz-Signature=5ecret51gnature").into();
    let headers = vec![("x-amz-meta-cachekey".into(), name.into())];
    CachePlace::Store(SignedRequest { url, headers, ..SignedRequest::default() })
}

pub(crate) fn file(volume: &Path, key: &str) -> CachePlace {
    CachePlace::File(CacheFile { volume: volume.display().to_string(), path: format!("g/p/{key}/cache.zip") })
}

pub(crate) fn source(key: &str, place: CachePlace) -> CacheSource {
    CacheSource { key: key.into(), places: vec![place] }
}

pub(crate) fn restoring(plan: &mut PodPlan, paths: &[&str], sources: Vec<CacheSource>, transfer: CacheTransfer) {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let caches = vec![CacheRestore { remarks: Vec::new(), sources, paths, untracked: false }];
    plan.stages.insert(1, stage("restore_cache", Action::RestoreCache(RestoreCaches { caches, transfer })));
}

pub(crate) fn saving(plan: &mut PodPlan, paths: &[&str], key: &str, places: Vec<CachePlace>, transfer: CacheTransfer) {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let remarks = vec![CacheRemark::Notice("a remark".into())];
    let caches = vec![CacheSave { remarks, key: key.into(), places, now: None, object: None, paths, untracked: false }];
    let save = SaveCaches { on_success: true, caches, transfer };
    plan.stages.push(stage("archive_cache", Action::SaveCache(save)));
}

pub(crate) fn assert_said(log: &str, lines: &[&str]) {
    let mut rest = log;
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line:?} is not in its place in\n{log}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn what_one_job_saves_another_finds() {
    let volume = tempfile::tempdir().unwrap();
    for format in ["", "zip", "zipzstd", "tarzstd", "ZIP"] {
        for name in ["ranges", "stream", "volume"] {
            let (url, store) = Store::start();
            let place = || if name == "volume" { file(volume.path(), "k") } else { object(&url, name) };
            let world = World::new();
            let text = "mkdir -p deps/empty; head -c 9000000 /dev/urandom > deps/large; echo content > deps/a
                chmod 751 deps/a; ln -s a deps/link; cksum < deps/large > $CI_PROJECT_DIR.sum";
            let mut plan = world.plan(&[text]);
            plan.environment =
                vec![variable("CACHE_COMPRESSION_FORMAT", format), variable("CI_PROJECT_DIR", &plan.paths.project_dir)];
            saving(&mut plan, &["deps", "nothing"], "k", vec![place()], transfer());
            let (closed, log) = world.run(plan);
            assert!(closed.verdict.success, "{log}");
            assert_said(
                &log,
                &[
                    "\x1b[32;1ma remark\x1b[0;m",
                    "\x1b[32;1mCreating cache k...\x1b[0;m",
                    "deps: found 5 matching artifact files and directories",
                    "WARNING: nothing: no matching files",
                    "\x1b[32;1mCreated cache\x1b[0;m",
                ],
            );
            assert!(!log.contains("5ecret"), "{log}");
            let sum = fs::read_to_string(world.path("/builds/g/p.sum")).unwrap();

            let world = World::new();
            let mut plan =
                world.plan(&["cat deps/link; stat -c %a deps/a; ls deps; cksum < deps/large; touch deps/new"]);
            plan.environment = vec![variable("CACHE_COMPRESSION_FORMAT", format)];
            restoring(&mut plan, &["deps"], vec![source("k", place())], transfer());
            let (closed, log) = world.run(plan);
            assert!(closed.verdict.success, "{log}");
            let (checking, got) = ("\x1b[32;1mChecking cache for k...\x1b[0;m", "Successfully extracted cache");
            let listing = format!("content\n751\na\nempty\nlarge\nlink\n{sum}");
            assert_said(&log, &[checking, got, &listing]);
            assert!(!log.contains("5ecret"), "{log}");
            let left: Vec<_> = fs::read_dir(world.path("/builds/g")).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.iter().all(|name| !name.to_string_lossy().contains("gantry-cache")), "{left:?}");
            if name == "ranges" {
                assert_eq!(store.asked("GET"), 3, "nine megabytes are three ranges");
                let heads = store.heads.lock().unwrap();
                let put = heads.iter().find(|head| head.starts_with("PUT")).unwrap().to_lowercase();
                assert!(put.contains("x-amz-meta-cachekey: ranges") && !put.contains("chunked"), "{put}");
            }
        }
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let (url, store) = Store::start();
    let run = |text: &str| {
        let world = World::new();
        let mut plan = world.plan(&[text]);
        restoring(&mut plan, &["deps"], vec![source("k", object(&url, "k"))], transfer());
        saving(&mut plan, &["deps"], "k", vec![object(&url, "k")], transfer());
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        log
    };
    let log = run("mkdir -p deps/sub; echo 1 > deps/a; echo 2 > deps/sub/b");
    assert_said(&log, &["Cache file does not exist", "Failed to extract cache", "Created cache"]);
    let log = run("cat deps/a deps/sub/b; ls -l deps; touch elsewhere");
    assert_said(&log, &["Successfully extracted cache", "Archive is up to date!", "Created cache"]);
    assert_eq!(store.asked("PUT"), 1, "{log}");
    for change in ["echo 3 > deps/c", "rm deps/sub/b", "echo 4 > deps/a", "chmod 700 deps/a", "mv deps/a deps/b"] {
        let before = store.asked("PUT");
        let log = run(change);
        assert!(!log.contains("up to date") && store.asked("PUT") == before + 1, "{change}: {log}");
        run("mkdir -p deps/sub; rm -f deps/b deps/c; echo 1 > deps/a; echo 2 > deps/sub/b");
    }
}

#[test]
fn what_another_name_had_is_saved_under_its_own() {
    let (url, store) = Store::start();
    let run = |text: &str, places: Vec<CachePlace>, own: &str| {
        let world = World::new();
        let mut plan = world.plan(&[text]);
        restoring(&mut plan, &["deps"], vec![CacheSource { key: "k".into(), places }], transfer());
        saving(&mut plan, &["deps"], "k", vec![object(&url, own)], transfer());
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        log
    };
    run("mkdir deps; echo 1 > deps/a", vec![object(&url, "k")], "k");
    let both = || vec![object(&url, "hashed"), object(&url, "k")];
    let log = run("cat deps/a", both(), "hashed");
    assert_said(&log, &["Successfully extracted cache", "from another place than its own", "Created cache"]);
    assert!(store.objects.lock().unwrap().contains_key("/hashed") && !log.contains("up to date"), "{log}");
    let log = run("cat deps/a", both(), "hashed");
    assert_said(&log, &["Successfully extracted cache", "Archive is up to date!"]);
    assert_eq!(store.asked("PUT"), 2, "{log}");
}

#[test]
fn a_fallback_is_found_and_the_key_itself_saved() {
    let (url, store) = Store::start();
    let world = World::new();
    let mut plan = world.plan(&["mkdir deps; echo old > deps/a"]);
    saving(&mut plan, &["deps"], "main", vec![object(&url, "main")], transfer());
    let (_, log) = world.run(plan);
    assert_said(&log, &["Created cache"]);
    let world = World::new();
    let mut plan = world.plan(&["cat deps/a"]);
    let sources = vec![source("branch", object(&url, "branch")), source("main", object(&url, "main"))];
    restoring(&mut plan, &["deps"], sources, transfer());
    saving(&mut plan, &["deps"], "branch", vec![object(&url, "branch")], transfer());
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert_said(
        &log,
        &[
            "Checking cache for branch...",
            "Failed to extract cache",
            "Checking cache for main...",
            "Successfully extracted cache",
            "old\n",
            "Creating cache branch...",
            "Created cache",
        ],
    );
    assert!(store.objects.lock().unwrap().contains_key("/branch"));
}

#[test]
fn trouble_is_named_and_fails_no_job() {
    let (url, store) = Store::start();
    store.objects.lock().unwrap().insert("/cut".into(), zstd_of(b"no tar archive")[..9].to_vec());
    store.objects.lock().unwrap().insert("/other".into(), b"something else".to_vec());
    store.objects.lock().unwrap().insert("/gzip".into(), b"\x1f\x8b\x08\0".to_vec());
    for (place, words) in [
        (object(&url, "denied"), "SecretKey"),
        (object(&url, "page"), "is no archive but a page"),
        (object(&url, "proxied"), "proxy or portal"),
        (object(&url, "busy"), "has trouble (503 SlowDown"),
        (object(&url, "hangs-up"), "cannot be reached: the connection broke"),
        (object(&url, "cut"), "cannot be unpacked"),
        (object(&url, "other"), "is not a zip archive"),
        (object(&url, "gzip"), "is gzip"),
        (object("http://127.0.0.1:1", "k"), "cannot be reached"),
        (object("http://no-such-host.invalid", "k"), "no-such-host.invalid"),
    ] {
        let world = World::new();
        let mut plan = world.plan(&["ls; mkdir deps; touch deps/a"]);
        restoring(&mut plan, &["deps"], vec![source("k", place.clone())], transfer());
        saving(&mut plan, &["deps"], "k", vec![place.clone()], transfer());
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        assert_said(
            &log,
            &["Checking cache for k...", "WARNING: ", words, "Failed to extract cache", "Creating cache"],
        );
        assert!(!log.contains("5ecret"), "{log}");
        let kept = ["cannot be unpacked", "is not a zip archive", "is gzip", "cannot be reached: the connection broke"];
        let refused = !kept.contains(&words);
        assert_eq!(log.contains("Failed to create cache"), refused, "{log}");
    }
}

/// Whatever the bytes are: if they are not said to be those that were asked for, the others of the
/// cache may be wrong too.
#[test]
fn what_a_store_gives_in_place_of_a_range_is_no_cache() {
    let (url, store) = Store::start();
    let world = World::new();
    let mut plan = world.plan(&["mkdir deps; head -c 9000000 /dev/urandom > deps/a"]);
    saving(&mut plan, &["deps"], "k", vec![object(&url, "honest")], transfer());
    world.run(plan);
    for (name, words) in [
        ("other-place", "begin at 0"),
        ("other-length", "of a whole of 9"),
        ("no-word", "without a word of which they are"),
        ("late-beginning", "begin at 1"),
    ] {
        let archive = store.objects.lock().unwrap()["/honest"].clone();
        store.objects.lock().unwrap().insert(format!("/{name}"), archive);
        let world = World::new();
        let mut plan = world.plan(&["ls; echo then"]);
        restoring(&mut plan, &["deps"], vec![source("k", object(&url, name))], transfer());
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        let asked = "gives other bytes than it was asked for";
        assert_said(&log, &["WARNING: ", asked, words, "Failed to extract cache", "then\n"]);
        assert!(!log.contains("deps\nthen"), "{log}");
    }
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

/// A volume that has no room for a cache says so, and keeps nothing of it.
#[test]
fn a_full_disk_is_said() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can mount a small disk");
        return;
    }
    let (url, _) = Store::start();
    let world = World::new();
    let mut plan = world.plan(&["mkdir deps; head -c 6000000 /dev/urandom > deps/a; echo x > deps/b"]);
    saving(&mut plan, &["deps"], "k", vec![object(&url, "k")], transfer());
    world.run(plan);
    let world = World::new();
    let builds = world.path("/builds");
    fs::create_dir_all(&builds).unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0]).args(&arguments[1..]).arg(&builds).status().unwrap();
        assert!(done.success(), "{arguments:?}");
    };
    mount(&["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs"]);
    let mut plan = world.plan(&["ls -A . ..; df . | tail -n 1 | awk '{print \"used\", ($3 < 500)}'"]);
    restoring(&mut plan, &["deps"], vec![source("k", object(&url, "k"))], transfer());
    let (closed, log) = world.run(plan);
    mount(&["umount", "-l"]);
    assert!(closed.verdict.success, "{log}");
    assert_said(&log, &["WARNING: ", "would fill the volume of the project", "Failed to extract cache", "used 1"]);
    assert!(!log.contains("deps\n"), "{log}");
}

/// A cache whose end is missing, or that leads out, leaves the tree as it was.
#[test]
fn no_half_of_a_cache_is_left() {
    let (url, store) = Store::start();
    let world = World::new();
    let mut plan = world.plan(&["mkdir deps; echo new > deps/a; head -c 300000 /dev/urandom > deps/b"]);
    saving(&mut plan, &["deps"], "whole", vec![object(&url, "whole")], transfer());
    world.run(plan);
    let mut bytes = store.objects.lock().unwrap()["/whole"].clone();
    bytes.truncate(bytes.len() - 100);
    store.objects.lock().unwrap().insert("/cut".into(), bytes);
    let world = World::new();
    let mut plan = world.plan(&["cat deps/a; ls deps"]);
    fs::create_dir_all(world.path("/builds/g/p/deps")).unwrap();
    fs::write(world.path("/builds/g/p/deps/a"), "mine\n").unwrap();
    restoring(&mut plan, &["deps"], vec![source("k", object(&url, "cut"))], transfer());
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{log}");
    assert_said(&log, &["Failed to extract cache", "mine\na\n"]);
    let mut left: Vec<_> = fs::read_dir(world.path("/builds/g")).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("cache")), "{left:?}");
}

#[test]
fn what_failed_is_cleaned_up_where_that_is_asked_for() {
    let (url, _) = Store::start();
    let world = World::new();
    let mut plan = world.plan(&["ls deps kept"]);
    for path in ["deps", "kept"] {
        fs::create_dir_all(world.path("/builds/g/p").join(path)).unwrap();
        fs::write(world.path("/builds/g/p").join(path).join("a"), "x").unwrap();
    }
    let transfer = CacheTransfer { clean_up: true, ..transfer() };
    restoring(&mut plan, &["deps"], vec![source("k", object(&url, "missing"))], transfer);
    let (_, log) = world.run(plan);
    assert_said(&log, &["Failed to extract cache", "Removing deps"]);
    assert!(!world.path("/builds/g/p/deps").exists() && world.path("/builds/g/p/kept/a").exists(), "{log}");
}

#[test]
fn what_is_too_large_goes_to_the_volume_or_nowhere() {
    let (url, store) = Store::start();
    let volume = tempfile::tempdir().unwrap();
    for (places, words) in [
        (vec![object(&url, "k")], "It is not kept."),
        (vec![object(&url, "k"), file(volume.path(), "k")], "Cache will be stored only locally."),
    ] {
        let world = World::new();
        let mut plan = world.plan(&["mkdir deps; head -c 5000 /dev/urandom > deps/a"]);
        let transfer = CacheTransfer { max_bytes: Some(1000), ..transfer() };
        saving(&mut plan, &["deps"], "k", places, transfer);
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        assert_said(&log, &["is too big (Limit is set to 1000)", words]);
        assert_eq!(store.asked("PUT"), 0);
    }
    assert!(volume.path().join("g/p/k/cache.zip").exists());
    // Such a cache is not packed again for a store that will not take it.
    let world = World::new();
    let mut plan = world.plan(&["ls deps"]);
    let places = || vec![object(&url, "k"), file(volume.path(), "k")];
    restoring(&mut plan, &["deps"], vec![CacheSource { key: "k".into(), places: places() }], transfer());
    saving(&mut plan, &["deps"], "k", places(), CacheTransfer { max_bytes: Some(1000), ..transfer() });
    let (_, log) = world.run(plan);
    assert_said(&log, &["Successfully extracted cache", "Archive is up to date!"]);
}

#[test]
fn nothing_to_cache_is_said() {
    let (url, store) = Store::start();
    for script in ["true", "cd /; rm -rf $CI_PROJECT_DIR"] {
        let world = World::new();
        let mut plan = world.plan(&[script]);
        plan.environment = vec![variable("CI_PROJECT_DIR", &plan.paths.project_dir)];
        saving(&mut plan, &["deps"], "k", vec![object(&url, "k")], transfer());
        let (closed, log) = world.run(plan);
        assert!(closed.verdict.success, "{log}");
        assert_said(&log, &["Creating cache k...", "No files to cache."]);
    }
    assert_eq!(store.asked("PUT"), 0);
}
