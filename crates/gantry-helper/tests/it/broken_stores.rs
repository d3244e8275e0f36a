//! A store that breaks off while a cache is sent, in the part of it that is read meanwhile and lies
//! in no file of ours: it is tried again, nothing half-stored is believed, and the job goes on.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use gantry_wire::cache::{CachePlace, CacheTransfer, PartsUpload, S3Parts, SignedRequest};

use crate::caches::{assert_said, object, restoring, saving, source, transfer};
use crate::http::{head, listen};
use crate::world::World;

/// What nothing makes smaller. What the store does not take of it is far more than fits between two
/// ends of a connection, of which Linux gives the sender 4 MiB at most.
const NOISE: usize = 12_000_000;

/// Which part of an object the store takes before it breaks off.
const TAKEN: usize = 16;

/// How often an object was put, and what is kept of it.
#[derive(Default)]
struct Kept {
    puts: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Default)]
struct Store {
    /// By path.
    objects: Arc<Mutex<BTreeMap<String, Kept>>>,
    /// Connections on which something was said that must be heard: one that is closed with bytes
    /// on their way takes its last words along.
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Store {
    fn start() -> (String, Self) {
        let store = Self::default();
        let shared = store.clone();
        let address = listen(move |stream| shared.serve(stream));
        (format!("http://{address}"), store)
    }

    /// Breaks off in the middle of an object as its name says.
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader);
        let path = head.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
        if !head.starts_with("PUT") {
            let object = self.objects.lock().unwrap().get(&path).map(|kept| kept.bytes.clone()).unwrap_or_default();
            let status = if object.is_empty() { "404 Not Found" } else { "200 OK" };
            return answer(&mut stream, status, &object);
        }
        let lower = head.to_lowercase();
        let length = lower.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next());
        let length: usize = length.unwrap().parse().unwrap();
        let number = {
            let mut objects = self.objects.lock().unwrap();
            let kept = objects.entry(path.clone()).or_default();
            kept.puts += 1;
            kept.puts
        };
        let breaks = !path.contains("twice") || number <= 2;
        let mut object = vec![0; if breaks { length / TAKEN } else { length }];
        reader.read_exact(&mut object).unwrap();
        if !breaks || path.contains("kept") {
            self.objects.lock().unwrap().entry(path.clone()).or_default().bytes = object;
        }
        if !breaks || path.contains("early") {
            answer(&mut stream, "200 OK", b"");
        } else if path.contains("busy") {
            answer(&mut stream, "503 Slow Down", b"<Error><Code>SlowDown</Code><Message>words</Message></Error>");
        } else {
            return;
        }
        self.held.lock().unwrap().push(stream);
    }
}

fn answer(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn save(url: &str, name: &str) -> String {
    let world = World::new();
    let text = format!("mkdir deps; head -c {NOISE} /dev/urandom > deps/noise; seq 99999 > deps/text; cksum deps/*");
    let mut plan = world.plan(&[&text]);
    saving(&mut plan, &["deps"], "k", vec![object(url, name)], transfer());
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success && !log.contains("5ecret"), "{name}: {log}");
    log
}

#[test]
fn an_upload_in_parts_that_takes_too_long_is_given_up() {
    let given_up = Arc::new(Mutex::new(0));
    let count = Arc::clone(&given_up);
    let address = listen(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if head(&mut reader).starts_with("DELETE /k?uploadId=u ") {
            *count.lock().unwrap() += 1;
            return answer(&mut stream, "204 No Content", b"");
        }
        // Parts are taken, and never answered.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let url = format!("http://{address}");
    let CachePlace::Store(request) = object(&url, "k") else { unreachable!("an object of a store") };
    let parts = PartsUpload::S3(S3Parts {
        before_number: format!("{url}/k?uploadId=u&partNumber=").into(),
        after_number: "&X-Amz-Signature=".into(),
        signatures: "0".repeat(64 * 4).into(),
        complete: format!("{url}/k?uploadId=u&complete").into(),
        abort: format!("{url}/k?uploadId=u").into(),
    });
    let place = CachePlace::Store(SignedRequest { parts: Some(parts), ..request });
    let world = World::new();
    let mut plan = world.plan(&[&format!("mkdir deps; head -c {NOISE} /dev/urandom > deps/noise")]);
    saving(&mut plan, &["deps"], "k", vec![place], CacheTransfer { timeout_ms: 1500, ..transfer() });
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success && log.contains("Failed to create cache"), "{log}");
    assert_eq!(*given_up.lock().unwrap(), 1, "{log}");
}

fn restore(url: &str, name: &str) -> String {
    let world = World::new();
    let mut plan = world.plan(&["ls; cksum deps/* || true; echo then"]);
    restoring(&mut plan, &["deps"], vec![source("k", object(url, name))], transfer());
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success, "{name}: {log}");
    log
}

/// The lines of `cksum` in a log.
fn sums(log: &str) -> Vec<&str> {
    log.lines()
        .filter(|line| line.contains(" deps/") && line.starts_with(|digit: char| digit.is_ascii_digit()))
        .collect()
}

#[test]
fn what_breaks_off_twice_arrives_the_third_time() {
    let (url, store) = Store::start();
    for name in ["cut-twice", "busy-twice", "early-twice"] {
        let saved = save(&url, name);
        assert_said(&saved, &["; retrying...", "; retrying...", "Created cache"]);
        assert_eq!(store.objects.lock().unwrap()[&format!("/{name}")].puts, 3, "{saved}");
        let restored = restore(&url, name);
        assert_said(&restored, &["Successfully extracted cache", "deps\n", "then\n"]);
        assert_eq!((sums(&restored), sums(&restored).len()), (sums(&saved), 2), "{name}");
    }
}

#[test]
fn what_never_arrives_is_a_warning_and_no_cache() {
    let (url, store) = Store::start();
    for (name, words) in [
        ("cut", "the S3 bucket \"caches\" cannot be reached: the connection broke"),
        ("cut-and-kept", "cannot be reached: the connection broke"),
        ("busy", "has trouble (503 SlowDown: words)"),
        ("early-and-kept", "answered (200 OK) before it had taken all of the archive"),
    ] {
        let saved = save(&url, name);
        let tries = ["WARNING: ", words, "; retrying...", words, "; retrying...", "WARNING: ", words];
        assert_said(&saved, &[&tries[..], &["Failed to create cache"]].concat());
        assert_eq!(store.objects.lock().unwrap()[&format!("/{name}")].puts, 3, "{saved}");
        let restored = restore(&url, name);
        let cause = if name.contains("kept") { "cannot be unpacked" } else { "Cache file does not exist" };
        assert_said(&restored, &["WARNING: ", cause, "Failed to extract cache", "then\n"]);
        assert!(sums(&restored).is_empty() && !restored.contains("deps\n"), "{name}: {restored}");
    }
}
