//! Restores and saves caches, in a child process of the agent. Whatever goes wrong is said in the
//! job log with its cause, and fails no job: what a cache does not give, the job makes anew.

mod archive;
mod cut;
mod eager;
mod fetch;
mod files;
mod gate;
pub(crate) mod job;
mod memory;
mod parts;
mod restore;
mod save;
mod send;
mod staging;
mod trouble;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_http::{HttpTransport, Options, Transport};
use gantry_wire::cache::{CachePlace, CacheRemark, CacheTransfer, SignedRequest};
use url::Url;

use self::job::{CacheJob, CacheWork};
use self::trouble::CacheTrouble;
use super::root::{ProjectRoot, Root};
use super::select::{Remark, SelectRules, select};
use super::untracked::Tool;
use super::{AnyError, expand, say, warn};

/// Does what `text` says, which is the JSON of a [`CacheJob`].
pub(super) async fn carry_out(text: &[u8]) -> Result<(), AnyError> {
    // Without the parser's own words, which may quote a signature.
    let job: CacheJob = serde_json::from_slice(text).map_err(|_| "the agent sent a description that cannot be read")?;
    match &job.work {
        CacheWork::Restore(work) => restore::all(&job, work).await,
        CacheWork::Save(work) => save::all(&job, work).await,
    }
    Ok(())
}

/// A green line.
fn notice(text: &str) {
    say(&format!("\x1b[32;1m{text}\x1b[0;m"));
}

/// A yellow line without the word for it, as the scripts of the reference print what did not work.
fn yellow(text: &str) {
    say(&format!("\x1b[0;33m{text}\x1b[0;m"));
}

fn remark(remarks: &[CacheRemark]) {
    for remark in remarks {
        match remark {
            CacheRemark::Notice(text) => notice(text),
            CacheRemark::Warning(text) => warn(text),
        }
    }
}

/// Connections to the server of a signed request.
fn connect(url: &Url, transfer: &CacheTransfer) -> Result<Arc<dyn Transport>, CacheTrouble> {
    let options = Options { ca_pem: transfer.ca_pem.clone(), ..Options::default() };
    let transport = HttpTransport::new(url, options).map_err(CacheTrouble::Setup)?;
    Ok(Arc::new(transport))
}

/// A URL for people: what is behind the question mark is a signature.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// What tells the places of caches apart: the object or the file, without a signature.
fn name_of(place: &CachePlace) -> String {
    match place {
        CachePlace::Store(request) => name_of_object(request),
        CachePlace::File(file) => format!("{}/{}", file.volume, file.path),
        _ => String::new(),
    }
}

fn name_of_object(request: &SignedRequest) -> String {
    Url::parse(request.url.expose()).map(|url| shown(&url)).unwrap_or_default()
}

fn limit(transfer: &CacheTransfer) -> Duration {
    Duration::from_millis(transfer.timeout_ms)
}

/// What a cache holds now: the project, held open, and the chosen paths in it.
struct Chosen {
    root: Arc<Root>,
    paths: Arc<BTreeSet<PathBuf>>,
    remarks: Vec<Remark>,
}

/// The project's directory, if it is there.
fn root(job: &CacheJob) -> Result<Option<Root>, CacheTrouble> {
    let place = Root::open(Path::new(&job.builds_dir), Path::new(&job.project_dir)).map_err(CacheTrouble::Project)?;
    match place {
        ProjectRoot::Directory(root) => Ok(Some(root)),
        ProjectRoot::Missing => Ok(None),
        ProjectRoot::Other(what) => Err(CacheTrouble::Replaced { path: job.project_dir.clone(), what }),
    }
}

/// Chooses the files of a cache. No project, no files.
fn choose(job: &CacheJob, paths: &[String], untracked: bool) -> Result<Option<Chosen>, CacheTrouble> {
    let Some(root) = root(job)? else { return Ok(None) };
    let project = Path::new(&job.project_dir);
    let variable = |name: &str| std::env::var(name).ok();
    let expanded = |list: &[String]| list.iter().map(|path| expand::expand(path, variable)).collect::<Vec<_>>();
    let (paths, exclude) = (expanded(paths), expanded(&job.exclude));
    let tool = Tool { path: &job.tool_path, object_format: &job.object_format, scratch: Path::new(&job.scratch_dir) };
    let untracked = untracked.then_some(tool);
    let (paths, remarks) = select(&SelectRules { project, root: &root, paths: &paths, exclude: &exclude, untracked });
    Ok(Some(Chosen { root: Arc::new(root), paths: Arc::new(paths), remarks }))
}
