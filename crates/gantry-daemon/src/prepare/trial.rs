//! Tries the cache store of an entry, for whoever looks for what is wrong with it. It is tried from
//! here; pods reach it over their own network.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use gantry_config::RunnerSettings;
use gantry_core::error_chain::chain;
use gantry_http::retry::Idempotency;
use gantry_http::{HttpTransport, Options, Timeouts, TlsFiles, read, send};
use gantry_storage::refusal::{self, Refusal, Wish};
use gantry_storage::{Access, ObjectRequest, Store};
use http::{Method, Request};
use tokio::time::timeout;
use url::Url;

use super::settings;

/// For one request, keys included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long its signature lives.
const VALID: Duration = Duration::from_mins(5);

/// The object that is put, below `Path`: always the same one, because a runner has no way to remove
/// it.
const OBJECT: &str = "gantry-doctor";
const CONTENT: &[u8] = b"Put here by `gantry doctor --cache`, which reads it again. It may be removed.\n";

/// Longest answer that is read.
const ANSWER: usize = 64 << 10;

/// What was found of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFound {
    /// It cannot be used, and why.
    Unusable(String),
    /// What it answers to a look at an object that is not there may be a refusal, or not.
    Doubtful(String),
    /// It can be read; this is what it is.
    Readable(String),
    /// It takes an object and gives it back.
    Works(String),
}

/// Tries the store of an entry, where it has one: reads, and writes too if it may. `directories`
/// have certificates by host, `ca_pem` is what is trusted beside the usual authorities.
pub async fn try_cache(
    runner: &RunnerSettings,
    directories: &[PathBuf],
    ca_pem: Option<String>,
    writes: bool,
) -> Option<CacheFound> {
    let settings = match settings::of(&runner.cache)? {
        Ok(settings) => settings,
        Err(problem) => return Some(CacheFound::Unusable(problem)),
    };
    let store = Store::new(settings, super::world(directories.to_vec(), ca_pem.clone(), None));
    let path = runner.cache.path.trim_matches('/');
    let name = if path.is_empty() { OBJECT.to_owned() } else { format!("{path}/{OBJECT}") };
    let files = TlsFiles { directories: directories.to_vec(), ..TlsFiles::default() };
    let trial = Trial { store, name, options: Options { ca_pem, files, ..Options::default() } };
    Some(if writes { trial.there_and_back().await } else { trial.look().await })
}

struct Trial {
    store: Store,
    name: String,
    options: Options,
}

impl Trial {
    async fn look(&self) -> CacheFound {
        let store = self.store.describe();
        match self.ask(Access::Read).await {
            Ok(_) | Err(Refusal::Missing) => CacheFound::Readable(store),
            Err(Refusal::Refused(said)) if said.contains("does not let the runner read") => CacheFound::Doubtful(said),
            Err(Refusal::Refused(said) | Refusal::Trouble(said)) => CacheFound::Unusable(said),
        }
    }

    async fn there_and_back(&self) -> CacheFound {
        let store = self.store.describe();
        let answer = match self.ask(Access::Write).await {
            Ok(_) => self.ask(Access::Read).await,
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(bytes) if bytes == CONTENT => CacheFound::Works(store),
            Ok(_) => CacheFound::Unusable(format!("{store} gives back something else than was put there")),
            Err(Refusal::Missing) => CacheFound::Unusable(format!("{store} has lost what was put there a moment ago")),
            Err(Refusal::Refused(said) | Refusal::Trouble(said)) => CacheFound::Unusable(said),
        }
    }

    /// One request, with whatever it takes to sign it.
    async fn ask(&self, access: Access) -> Result<Bytes, Refusal> {
        let late = |_| Refusal::Trouble(format!("no answer within {} s", TIMEOUT.as_secs()));
        timeout(TIMEOUT, self.ask_for(access)).await.map_err(late)?
    }

    async fn ask_for(&self, access: Access) -> Result<Bytes, Refusal> {
        let store = self.store.describe();
        let wanted =
            ObjectRequest { name: self.name.clone(), access, valid_for: VALID, key: OBJECT.to_owned(), most: None };
        let link = self.store.sign(&wanted).await.map_err(|error| Refusal::Refused(chain(&error)))?;
        let (wish, method, body) = match access {
            Access::Read => (Wish::Get, Method::GET, Bytes::new()),
            Access::Write => (Wish::Put, Method::PUT, Bytes::from_static(CONTENT)),
        };
        let refused = |why: String| Refusal::Refused(format!("{store} cannot be reached: {why}"));
        let url = Url::parse(link.url.expose()).map_err(|error| refused(error.to_string()))?;
        let mut request = Request::builder().method(method).uri(url.as_str());
        for (name, value) in &link.headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| refused(error.to_string()))?;
        let transport = HttpTransport::new(&url, self.options.clone()).map_err(|error| refused(chain(&error)))?;
        let timeouts = Timeouts { head: TIMEOUT, idle: TIMEOUT };
        let sent = send(&transport, request, &[], timeouts, Idempotency::Idempotent).await;
        let (head, body) = sent.answer.map_err(|error| refused(chain(&error)))?.into_parts();
        let content = read(body, ANSWER, TIMEOUT).await.bytes;
        if head.status.is_success() {
            return Ok(content);
        }
        Err(refusal::read(&store, wish, head.status, &String::from_utf8_lossy(&content)))
    }
}
