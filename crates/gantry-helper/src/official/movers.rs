//! Artifacts and caches as the official runner's scripts ask for them. Each is described to the
//! program that moves for our own agent too, in the current directory, which is the project's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use gantry_core::go_duration;
use gantry_storage::Access;
use jiff::Timestamp;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::geteuid;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Fatal, Flags, stores};

pub(super) fn upload_artifacts(flags: &Flags) -> Result<ExitCode, Fatal> {
    let format = flags.get("artifact-format").unwrap_or("zip");
    if !matches!(format, "zip" | "gzip" | "raw") {
        return Err(format!("artifacts of the format {format:?} cannot be made by this helper: use zip, gzip or raw"));
    }
    let upload = json!({
        "name": flags.get("name").unwrap_or("artifacts"),
        "paths": flags.all("path"),
        "exclude": flags.all("exclude"),
        "untracked": flags.is_on("untracked"),
        "artifact_type": flags.get("artifact-type").unwrap_or_default(),
        "format": format,
        "expire_in": flags.get("expire-in").unwrap_or_default(),
        "provenance": provenance(flags, format)?,
    });
    let status = moved("move", &artifacts(flags, &json!({ "upload": upload }))?, flags)?;
    Ok(code(status))
}

/// What the archive shall say of where it comes from, if it shall: only zip archives do.
fn provenance(flags: &Flags, format: &str) -> Result<Option<Value>, Fatal> {
    if !flags.is_on("generate-artifacts-metadata") || format != "zip" {
        return Ok(None);
    }
    let text = |name: &str| flags.get(name).unwrap_or_default();
    let schema = text("schema-version");
    if schema != "v1" {
        eprintln!("\x1b[0;33mWARNING: Unknown SLSA provenance version {schema}, defaulting to v1\x1b[0;m");
    }
    let started: Timestamp = text("started-at").parse().map_err(|error| format!("--started-at: {error}"))?;
    Ok(Some(json!({
        "repo_url": text("repo-url"),
        "sha": text("repo-digest"),
        "job_name": text("job-name"),
        "runner_id": text("runner-id"),
        "runner_name": text("runner-name"),
        "executor": text("executor-name"),
        "version": gantry_gitlab::PROTOCOL_VERSION,
        "revision": crate::VERSION,
        "started_unix_ms": started.as_millisecond().max(0),
        "parameters": flags.all("metadata-parameter"),
    })))
}

pub(super) fn download_artifacts(flags: &Flags) -> Result<ExitCode, Fatal> {
    moved("move", &artifacts(flags, &json!("download"))?, flags).map(code)
}

fn artifacts(flags: &Flags, direction: &Value) -> Result<Value, Fatal> {
    let url = flags.get("url").map(str::to_owned).or_else(|| std::env::var("CI_SERVER_URL").ok());
    let (Some(url), Some(token)) = (url.filter(|url| !url.is_empty()), flags.get("token")) else {
        return Err("Missing runner credentials".to_owned());
    };
    let id: i64 = flags.get("id").and_then(|id| id.parse().ok()).ok_or("Missing build ID")?;
    let text = |name: &str| {
        let text = flags.get(name).filter(|path| !path.is_empty()).map(fs::read_to_string).transpose();
        text.map_err(|error| format!("the file of --{name} cannot be read: {error}"))
    };
    let identity = text("tls-cert-file")?.zip(text("tls-key-file")?);
    let millis = |name: &str, default: Duration| {
        let limit = flags.get(name).map_or(Ok(default), go_duration::parse);
        limit.map(|limit| limit.as_millis()).map_err(|error| format!("--{name}: {error}"))
    };
    Ok(json!({
        "coordinator": {
            "url": url.trim_end_matches('/').trim_end_matches("/ci"),
            "ca_pem": text("tls-ca-file")?,
            "identity": identity.map(|(cert_pem, key_pem)| json!({"cert_pem": cert_pem, "key_pem": key_pem})),
            "upload_timeout_ms": millis("timeout", Duration::from_hours(1))?,
            "response_header_timeout_ms": millis("response-header-timeout", Duration::from_mins(10))?,
        },
        "builds_dir": here()?,
        "project_dir": here()?,
        "object_format": "",
        "tool_path": std::env::var("PATH").unwrap_or_default(),
        "scratch_dir": std::env::temp_dir(),
        "job_id": id,
        "token": token,
        "direction": direction,
    }))
}

pub(super) fn save_cache(flags: &Flags) -> Result<ExitCode, Fatal> {
    let file = flags.get("file").ok_or("Missing --file")?;
    let (volume, path) = place(file)?;
    fs::create_dir_all(&volume)
        .map_err(|error| format!("the directory {} cannot be made: {error}", volume.display()))?;
    let mut places = Vec::new();
    if let Some(url) = flags.get("url") {
        places.push(json!({"store": {"url": url, "headers": headers(flags)}}));
    } else if let Some(request) = stores::request(flags, "gocloud-url", Access::Write)? {
        places.push(json!({"store": request}));
    }
    places.push(json!({"file": {"volume": volume, "path": path}}));
    let work = json!({"save": {
        "on_success": true,
        "caches": [{
            "remarks": [],
            "key": file,
            "places": places,
            "paths": flags.all("path"),
            "untracked": flags.is_on("untracked"),
        }],
        "transfer": transfer(flags),
    }});
    let said = caches(&work, flags)?;
    Ok(if said.contains(&FAILED) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Ends with 1 where there is no cache: the runner's script then tries the next key.
pub(super) fn restore_cache(flags: &Flags) -> Result<ExitCode, Fatal> {
    let file = flags.get("file").ok_or("Missing --file")?;
    let (volume, path) = place(file)?;
    let urls = ["url", "alternate-url"].into_iter().filter_map(|name| flags.get(name));
    let mut places: Vec<Value> = urls.map(|url| json!({"store": {"url": url, "headers": []}})).collect();
    for name in ["gocloud-url", "alternate-gocloud-url"] {
        places.extend(stores::request(flags, name, Access::Read)?.map(|request| json!({"store": request})));
    }
    if volume.is_dir() {
        places.push(json!({"file": {"volume": volume, "path": path}}));
    }
    let work = json!({"restore": {
        "caches": [{
            "remarks": [],
            "sources": [{"key": file, "places": places}],
            "paths": [],
            "untracked": false,
        }],
        "transfer": transfer(flags),
    }});
    Ok(if caches(&work, flags)?.contains(&EXTRACTED) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn init_caches(flags: &Flags) -> Result<ExitCode, Fatal> {
    if flags.words.is_empty() {
        return Err("No arguments passed, at least 1 path is required.".to_owned());
    }
    for path in &flags.words {
        if let Err(error) = fs::set_permissions(path, Permissions::from_mode(0o777)) {
            eprintln!("failed to chmod path {path}: {error}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn transfer(flags: &Flags) -> Value {
    let minutes = flags.get("timeout").and_then(|minutes| minutes.parse::<u64>().ok()).filter(|minutes| *minutes > 0);
    let most = flags.get("max-uploaded-archive-size").and_then(|bytes| bytes.parse::<u64>().ok());
    json!({
        "store": "the store",
        "timeout_ms": minutes.unwrap_or(10).saturating_mul(60_000),
        "max_bytes": most.filter(|most| *most > 0),
    })
}

fn headers(flags: &Flags) -> Vec<(String, String)> {
    let pair = |header: &String| {
        let (name, value) = header.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    // The client sends the host by itself, and once.
    flags.all("header").iter().filter_map(pair).filter(|(name, _)| !name.eq_ignore_ascii_case("host")).collect()
}

/// What the mover says of a cache as a whole. The runner's own script says the same, by the exit
/// code.
const EXTRACTED: &str = "\u{1b}[32;1mSuccessfully extracted cache\u{1b}[0;m";
const FAILED: &str = "\u{1b}[0;33mFailed to create cache\u{1b}[0;m";
const OTHERS: [&str; 2] = ["\u{1b}[32;1mCreated cache\u{1b}[0;m", "\u{1b}[0;33mFailed to extract cache\u{1b}[0;m"];
const BEGINNINGS: [&str; 2] = ["\u{1b}[32;1mChecking cache for ", "\u{1b}[32;1mCreating cache "];

/// Moves caches, and passes on what the mover says but for those lines, of which the first two are
/// given.
fn caches(work: &Value, flags: &Flags) -> Result<Vec<&'static str>, Fatal> {
    let scratch = memory(flags).map_err(|error| format!("no temporary directory can be made: {error}"))?;
    let job = json!({
        "builds_dir": here()?,
        "project_dir": here()?,
        "object_format": "",
        "tool_path": std::env::var("PATH").unwrap_or_default(),
        "scratch_dir": scratch,
        "exclude": flags.all("exclude"),
        "work": work,
    });
    let mut mover = start("move-caches", &job, Stdio::piped(), flags)?;
    let mut said = Vec::new();
    for line in mover.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')).map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        match [EXTRACTED, FAILED].into_iter().find(|known| *known == line) {
            Some(known) => said.push(known),
            None if OTHERS.contains(&line.as_ref()) || BEGINNINGS.iter().any(|start| line.starts_with(start)) => {}
            None => println!("{line}"),
        }
    }
    let status = mover.wait().map_err(|error| format!("the mover's end cannot be seen: {error}"))?;
    if status.success() { Ok(said) } else { Err(format!("the mover ended with {status}")) }
}

/// A directory that only this user has, and that stays in the container between the calls for one
/// cache: what one of them has restored and nobody has changed, the other need not send.
fn memory(flags: &Flags) -> io::Result<PathBuf> {
    let cache = std::env::current_dir()?.join(flags.get("file").unwrap_or_default());
    let digest = Sha256::digest(cache.as_os_str().as_bytes());
    let name = digest.as_slice().first_chunk().map_or(0, |start| u128::from_be_bytes(*start));
    let all = std::env::temp_dir().join(format!("gantry-caches-{}", geteuid()));
    let own = all.join(format!("{name:032x}"));
    for directory in [&all, &own] {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let there = fs::symlink_metadata(directory)?;
        if !there.is_dir() || there.uid() != geteuid().as_raw() || there.mode() & 0o077 != 0 {
            let text = format!("{} is not a directory of this user alone", directory.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(own)
}

/// Flags that stand for variables which the mover reads: scripts of the runner set those, people
/// the flags.
const FOR_VARIABLES: [(&str, &str); 5] = [
    ("compression-format", "CACHE_COMPRESSION_FORMAT"),
    ("compression-level", "CACHE_COMPRESSION_LEVEL"),
    ("compression-level", "ARTIFACT_COMPRESSION_LEVEL"),
    ("transfer-meter-frequency", "TRANSFER_METER_FREQUENCY"),
    ("direct-download", "FF_USE_DIRECT_DOWNLOAD"),
];

/// Starts the mover with its description on standard input: it holds tokens and signatures.
fn start(command: &str, description: &Value, output: Stdio, flags: &Flags) -> Result<Child, Fatal> {
    let start = || {
        let mut memory = fs::File::from(memfd_create(c"move", MFdFlags::MFD_CLOEXEC)?);
        memory.write_all(&serde_json::to_vec(description)?)?;
        memory.rewind()?;
        let mut mover = Command::new("/proc/self/exe");
        // The program may be one of several under other names.
        mover.arg0("gantry-helper").arg(command).stdin(Stdio::from(OwnedFd::from(memory))).stdout(output);
        mover.envs(FOR_VARIABLES.iter().filter_map(|(flag, variable)| Some((variable, flags.get(flag)?))));
        mover.spawn()
    };
    start().map_err(|error: io::Error| format!("the mover cannot be started: {error}"))
}

fn moved(command: &str, description: &Value, flags: &Flags) -> Result<ExitStatus, Fatal> {
    let mut mover = start(command, description, Stdio::inherit(), flags)?;
    mover.wait().map_err(|error| format!("the mover's end cannot be seen: {error}"))
}

fn code(status: ExitStatus) -> ExitCode {
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn here() -> Result<PathBuf, Fatal> {
    std::env::current_dir().map_err(|error| format!("the current directory is gone: {error}"))
}

/// The directory and the name of an archive, whose path may be relative and lead out of the
/// project.
fn place(file: &str) -> Result<(PathBuf, String), Fatal> {
    let mut clean = PathBuf::new();
    for part in here()?.join(file).components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    let name = clean.file_name().map(|name| name.to_string_lossy().into_owned());
    let directory = clean.parent().map(Path::to_owned);
    directory.zip(name).ok_or_else(|| format!("{file:?} is no path of a file"))
}
