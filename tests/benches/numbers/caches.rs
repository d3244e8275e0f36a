//! How fast caches are packed, unpacked, sent and fetched, by the process that does it in a pod,
//! started here as the agent starts it. The floor is what the system's own tools take for the same
//! in the same run: `tar` and `zstd -T0` at the same level, and a plain HTTP client for the way to
//! a store and back. Needs no cluster.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse as _;
use gantry_tests::numbers::{Row, Unit};
use gantry_wire::cache::{
    CacheFile, CachePlace, CacheRestore, CacheSave, CacheSource, CacheTransfer, RestoreCaches, SaveCaches,
    SignedRequest,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, progress, row, size};

const KIND: &str = "caches";

/// Between two looks at the memory of a process; the kernel keeps the largest value.
const PERIOD: Duration = Duration::from_millis(20);

/// Directories that small files are spread over.
const DIRECTORIES: usize = 500;

/// What the mover is told and shows of itself.
struct Ground {
    helper: PathBuf,
    root: tempfile::TempDir,
}

/// What one run of the mover took.
struct Took {
    seconds: f64,
    /// Largest resident memory, MiB.
    memory: f64,
    log: String,
}

/// Samples of one kind of tree.
#[derive(Default)]
struct Samples {
    pack: (Vec<f64>, Vec<f64>),
    unpack: (Vec<f64>, Vec<f64>),
    unchanged: Vec<f64>,
    remade: Vec<f64>,
    memory: [f64; 2],
}

pub(crate) async fn measure(bench: &Bench, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let helper = bench.world.binaries().gantry.with_file_name("gantry-helper");
    let (files, bytes) = (bench.sizes.moved_files, bench.sizes.moved_bytes);
    for (name, make) in [
        (format!("{files} files"), Box::new(move |deps: &Path| many_small(deps, files)) as Make),
        (format!("{} mixed", size(bytes)), Box::new(move |deps: &Path| mixed(deps, bytes))),
    ] {
        let ground = Ground::new(helper.clone(), &make)?;
        let mut samples = Samples::default();
        for number in 1..=bench.sizes.repeats {
            ground.sample(&mut samples).await?;
            progress(&format!("{KIND}, {name}"), number, bench.sizes.repeats);
        }
        let named = |what: &str| format!("{name}: {what}");
        let [up, down] = samples.memory;
        rows.extend([
            row(KIND, named("packed"), Unit::Seconds, samples.pack.0, &samples.pack.1),
            row(KIND, named("unpacked"), Unit::Seconds, samples.unpack.0, &samples.unpack.1),
            row(KIND, named("saved again, unchanged"), Unit::Seconds, samples.unchanged, &[]),
            row(KIND, named("saved again, made anew and the same"), Unit::Seconds, samples.remade, &[]),
            row(KIND, named("packed: most resident memory"), Unit::Mebibytes, vec![up], &[]),
            row(KIND, named("unpacked: most resident memory"), Unit::Mebibytes, vec![down], &[]),
        ]);
    }
    rows.extend(through_a_store(bench, helper, bytes / 4).await?);
    Ok(())
}

type Make = Box<dyn Fn(&Path) -> anyhow::Result<()>>;

/// Bytes that do not shrink, the same every time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(count).collect()
    }

    /// Text that shrinks as sources do: words of a small language.
    fn text(&mut self, count: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "return ",
            "const ",
            "let value = ",
            "if (",
            ") {\n",
            "}\n",
            "export ",
            "function ",
            "this.",
            "module",
            "require(\"",
            "\");\n",
            " => ",
            "undefined",
            "length",
            "  // ",
        ];
        let mut text = Vec::with_capacity(count + 64);
        while text.len() < count {
            let number = self.next();
            text.extend_from_slice(WORDS.get(usize::try_from(number % 16).unwrap_or(0)).unwrap_or(&"").as_bytes());
            if number.is_multiple_of(3) {
                text.extend_from_slice(format!("{:x}", number >> 44).as_bytes());
            }
        }
        text.truncate(count);
        text
    }
}

fn many_small(deps: &Path, files: usize) -> anyhow::Result<()> {
    let mut noise = Noise(1);
    for number in 0..files {
        let directory = deps.join(format!("package-{}", number % DIRECTORIES));
        if number < DIRECTORIES {
            fs::create_dir_all(&directory)?;
        }
        let length = 200 + usize::try_from(noise.next() % 4000)?;
        fs::write(directory.join(format!("file-{number}.js")), noise.text(length))?;
    }
    Ok(())
}

/// Files of up to 16 MB, half of them text.
fn mixed(deps: &Path, bytes: usize) -> anyhow::Result<()> {
    let (mut noise, mut left, mut number) = (Noise(2), bytes, 0);
    fs::create_dir_all(deps)?;
    while left > 0 {
        let length = usize::try_from(noise.next() % 16_000_000)?.min(left).max(1);
        let content = if number % 2 == 0 { noise.text(length) } else { noise.bytes(length) };
        fs::write(deps.join(format!("file-{number}")), content)?;
        (left, number) = (left - length, number + 1);
    }
    Ok(())
}

impl Ground {
    fn new(helper: PathBuf, make: &Make) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("gantry-caches-").tempdir()?;
        for directory in ["builds/p", "scratch", "volume", "tools"] {
            fs::create_dir_all(root.path().join(directory))?;
        }
        make(&root.path().join("builds/p/deps"))?;
        Ok(Self { helper, root })
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).display().to_string()
    }

    async fn sample(&self, samples: &mut Samples) -> anyhow::Result<()> {
        let place = || CachePlace::File(CacheFile { volume: self.path("volume"), path: "k/cache.zip".into() });
        let (builds, tools, volume) = (self.path("builds/p"), self.path("tools"), self.path("volume"));
        let _ = fs::remove_dir_all(self.root.path().join("volume/k"));
        let packed = self.save(place(), None).await?;
        ensure!(packed.log.contains("Created cache"), "{}", packed.log);
        let archive = format!("{tools}/all.tar.zst");
        let tar = format!("tar -C {builds} -cf - deps | zstd -q -f -3 -T0 -o {archive} && sync -d {archive}");
        samples.pack.1.push(shell(&tar).await?);
        samples.pack.0.push(packed.seconds);
        // A file system that has just removed many files makes new ones slowly (ext4), so both come
        // right after a removal.
        let remove = format!("rm -rf {builds}/deps");
        shell(&remove).await?;
        let unpacked = self.restore(place()).await?;
        ensure!(unpacked.log.contains("Successfully extracted"), "{}", unpacked.log);
        samples.unpack.0.push(unpacked.seconds);
        shell(&format!("zstd -q -dc {archive} | tar -C {builds} -df -")).await?;
        for (list, forget) in [(&mut samples.unchanged, false), (&mut samples.remade, true)] {
            if forget {
                shell(&format!("rm -f {}/cache-state-*", self.path("scratch"))).await?;
            }
            let again = self.save(place(), None).await?;
            ensure!(again.log.contains("Archive is up to date!"), "{}", again.log);
            list.push(again.seconds);
        }
        shell(&remove).await?;
        samples.unpack.1.push(shell(&format!("zstd -q -dc {archive} | tar -C {builds} -xf -")).await?);
        for (most, took) in samples.memory.iter_mut().zip([packed, unpacked]) {
            *most = most.max(took.memory);
        }
        ensure!(Path::new(&volume).join("k/cache.zip").exists(), "no cache on the volume");
        Ok(())
    }

    async fn save(&self, place: CachePlace, now: Option<SignedRequest>) -> anyhow::Result<Took> {
        let (paths, places) = (vec!["deps".to_owned()], vec![place]);
        let caches = vec![CacheSave {
            remarks: Vec::new(),
            key: "k".into(),
            places,
            now,
            object: None,
            paths,
            untracked: false,
        }];
        let save = SaveCaches { on_success: true, caches, transfer: transfer() };
        self.mover(&json!({ "save": save })).await
    }

    async fn restore(&self, place: CachePlace) -> anyhow::Result<Took> {
        let sources = vec![CacheSource { key: "k".into(), places: vec![place] }];
        let paths = vec!["deps".to_owned()];
        let caches = vec![CacheRestore { remarks: Vec::new(), sources, paths, untracked: false }];
        self.mover(&json!({ "restore": RestoreCaches { caches, transfer: transfer() } })).await
    }

    /// Runs the mover as the agent does.
    async fn mover(&self, work: &Value) -> anyhow::Result<Took> {
        let job = json!({
            "builds_dir": self.path("builds"),
            "project_dir": self.path("builds/p"),
            "object_format": "",
            "tool_path": "",
            "scratch_dir": self.path("scratch"),
            "work": work,
        });
        let began = Instant::now();
        let mut child = Command::new(&self.helper)
            .arg("move-caches")
            .env_remove("CACHE_COMPRESSION_FORMAT")
            .env_remove("CACHE_COMPRESSION_LEVEL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let status = format!("/proc/{}/status", child.id().context("it has ended already")?);
        let mut stdin = child.stdin.take().context("no input")?;
        stdin.write_all(job.to_string().as_bytes()).await?;
        drop(stdin);
        let mut memory: f64 = 0.0;
        let looking = async {
            loop {
                memory = resident(&status).unwrap_or(0.0).max(memory);
                sleep(PERIOD).await;
            }
        };
        let output = tokio::select! {
            output = child.wait_with_output() => output?,
            () = looking => anyhow::bail!("nobody ends the looking"),
        };
        let seconds = began.elapsed().as_secs_f64();
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && !log.contains("WARNING"), "{log}");
        Ok(Took { seconds, memory, log })
    }
}

/// The largest memory of a process so far, in MiB.
fn resident(status: &str) -> Option<f64> {
    let text = fs::read_to_string(status).ok()?;
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

fn transfer() -> CacheTransfer {
    let store = "the local store".into();
    CacheTransfer { store, timeout_ms: 600_000, ca_pem: None, max_bytes: None, clean_up: false }
}

/// Seconds that a script takes which must work.
async fn shell(script: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let status = Command::new("bash").args(["-o", "pipefail", "-c", script]).status().await?;
    ensure!(status.success(), "{script}: {status}");
    Ok(began.elapsed().as_secs_f64())
}

/// One file that nothing makes smaller, to a store on this machine and back.
async fn through_a_store(bench: &Bench, helper: PathBuf, bytes: usize) -> anyhow::Result<Vec<Row>> {
    let make: Make = Box::new(move |deps| {
        fs::create_dir_all(deps)?;
        Ok(fs::write(deps.join("large"), Noise(3).bytes(bytes))?)
    });
    let ground = Ground::new(helper, &make)?;
    let address = open_store()?;
    let file = ground.path("builds/p/deps/large");
    let [mut up, mut up_floor, mut down, mut down_floor] = [const { Vec::new() }; 4];
    for number in 1..=bench.sizes.repeats {
        // Of a cache that is there already, or that this pod has saved, nothing is sent.
        shell(&format!("rm -f {}/cache-state-*", ground.path("scratch"))).await?;
        let url = format!("http://{address}/{BUCKET}/open-{number}");
        let request = || SignedRequest { url: url.clone().into(), ..SignedRequest::default() };
        let sent = ground.save(CachePlace::Store(request()), None).await?;
        ensure!(sent.log.contains("Created cache") && !sent.log.contains("up to date"), "{}", sent.log);
        up.push(sent.seconds);
        let got = ground.restore(CachePlace::Store(request())).await?;
        ensure!(got.log.contains("Successfully extracted"), "{}", got.log);
        down.push(got.seconds);
        let other = format!("http://{address}/{BUCKET}/plain");
        up_floor.push(shell(&format!("curl -sSf -T {file} '{other}'")).await?);
        down_floor.push(shell(&format!("curl -sSf -o {} '{other}'", ground.path("tools/large"))).await?);
        progress(&format!("{KIND}, through a store"), number, bench.sizes.repeats);
    }
    let name = |what: &str| format!("{}, one file, {what} a local store", size(bytes));
    Ok(vec![
        row(KIND, name("to"), Unit::Seconds, up, &up_floor),
        row(KIND, name("from"), Unit::Seconds, down, &down_floor),
    ])
}

const BUCKET: &str = "numbers";

type Objects = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// As much of a store as is needed, in a thread of its own, so that it is beside the mover as it is
/// beside the plain client. It ends with the process.
fn open_store() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        runtime.block_on(async move {
            let router = Router::new().fallback(serve).with_state(Objects::default());
            let router = router.layer(axum::extract::DefaultBodyLimit::disable());
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let _ = axum::serve(listener, router).await;
            }
        });
    });
    Ok(address)
}

async fn serve(
    State(objects): State<Objects>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> axum::response::Response {
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    if method == Method::PUT {
        objects.insert(uri.path().to_owned(), body);
        return StatusCode::OK.into_response();
    }
    let Some(object) = objects.get(uri.path()) else { return StatusCode::NOT_FOUND.into_response() };
    let range =
        headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let Some((Ok(start), Ok(end))) = range.map(|(start, end)| (start.parse::<usize>(), end.parse::<usize>())) else {
        return object.clone().into_response();
    };
    let end = end.saturating_add(1).min(object.len());
    let range = format!("bytes {start}-{}/{}", end.saturating_sub(1), object.len());
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, range)], object.slice(start.min(end)..end)).into_response()
}
